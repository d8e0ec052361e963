package segment

import "encoding/binary"

// A bitWriter packs numbers of a fixed number of bits, low bits first, without gaps.
type bitWriter struct {
	out  []byte
	word uint64
	used uint
}

func (w *bitWriter) put(v uint64, bits uint) {
	w.word |= v << w.used
	if w.used+bits < 64 {
		w.used += bits
		return
	}
	w.out = binary.LittleEndian.AppendUint64(w.out, w.word)
	left := 64 - w.used // bits of v that were taken
	w.used += bits - 64
	w.word = 0
	if left < 64 {
		w.word = v >> left
	}
}

// flush ends a column at a whole byte.
func (w *bitWriter) flush() {
	for n := (w.used + 7) / 8; n > 0; n-- {
		w.out = append(w.out, byte(w.word))
		w.word >>= 8
	}
	w.word, w.used = 0, 0
}

// packedSize is the bytes of n numbers of the given bits.
func packedSize(n int, bits uint) int { return (n*int(bits) + 7) / 8 }

// unpack decodes len(out) numbers. b has packedSize bytes.
func unpack(out []uint64, b []byte, bits uint) {
	if bits == 0 {
		clear(out)
		return
	}
	mask := ^uint64(0) >> (64 - bits)
	at := uint(0)
	for i := range out {
		byteAt, shift := at>>3, at&7
		var v uint64
		if int(byteAt)+8 <= len(b) {
			v = binary.LittleEndian.Uint64(b[byteAt:]) >> shift
		} else {
			for k := len(b) - 1; k >= int(byteAt); k-- {
				v = v<<8 | uint64(b[k])
			}
			v >>= shift
		}
		if shift+bits > 64 {
			v |= uint64(b[byteAt+8]) << (64 - shift)
		}
		out[i] = v & mask
		at += bits
	}
}
