package segment

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// RecordType says what a record of a shard's log is.
type RecordType uint8

// The records. Only DATA holds entries.
const (
	RecordData    RecordType = 1 // entries
	RecordBarrier RecordType = 2 // first record of an epoch, or a carrier of FlagRoll
	RecordSeal    RecordType = 3 // a range of the log stands in a segment file
	RecordRetain  RecordType = 4 // the log starts later now
	RecordReplace RecordType = 5 // segment files are replaced by another
	RecordLoss    RecordType = 6 // a range of the log is lost
)

var recordNames = [...]string{"", "DATA", "BARRIER", "SEAL", "RETAIN", "REPLACE", "LOSS"}

func (t RecordType) String() string {
	if t >= 1 && int(t) < len(recordNames) {
		return recordNames[t]
	}
	return fmt.Sprintf("RECORD(%d)", uint8(t))
}

// Codec is how a payload or a chunk is compressed.
type Codec uint8

// The codecs of frames and chunks.
const (
	CodecNone Codec = 0
	CodecS2   Codec = 1
	CodecZstd Codec = 2
)

func (c Codec) String() string {
	if names := [...]string{"none", "s2", "zstd"}; int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("codec(%d)", uint8(c))
}

// FlagRoll: every replica starts a new tail file with this record.
const FlagRoll = 1

// PartLast is set in Header.Part of the last part of a request.
const PartLast = 1 << 15

// Limits of a frame. A payload beyond them is refused before it is allocated.
const (
	MaxFrameRaw     = 4 << 20  // raw payload that a frame of several entries is cut at
	MaxFrameEntries = 65535    // entries in a frame
	MaxLine         = 16 << 20 // bytes in a line, whatever the configured limit
	MaxPayload      = 24 << 20 // bytes of any payload, raw or stored
)

const (
	frameMagic   = 0x5246434c // "LCFR"
	frameVersion = 1
	// HeaderSize and TrailerSize are the bytes of a frame around its payload.
	HeaderSize  = 140
	TrailerSize = 20
)

// FrameMagic is how every frame begins.
func FrameMagic() []byte { return binary.LittleEndian.AppendUint32(nil, frameMagic) }

// Chain is the running hash over a shard's records: the first 16 bytes of SHA-256 over
// the previous record's chain, the shipped header fields and the payload.
type Chain [16]byte

// Header is the shipped part of a frame: identical on all replicas.
type Header struct {
	Type          RecordType
	Codec         Codec
	Flags         uint8
	Part          uint16 // number of the part of the request, from 0; PartLast
	PayloadLength uint32 // stored bytes
	RawLength     uint32 // bytes once decompressed
	Count         uint32 // entries
	Streams       uint32 // streams defined in the payload
	LogID         uint64
	Index         uint64 // place in the log, dense
	Offset        uint64 // of the first entry; of the next one for control records
	Epoch         uint64
	PreviousEpoch uint64 // of the record before
	MinTimestamp  int64  // of the entries; 0 if there are none
	MaxTimestamp  int64
	Key           Key
	DigestA       uint64 // Σ hᵢ
	DigestB       uint64 // Σ hᵢ·(i+1)
	PayloadCRC    uint32 // CRC32C
	Chain         Chain
}

// Size returns the bytes of the whole frame: header, payload and trailer.
func (h *Header) Size() int { return HeaderSize + int(h.PayloadLength) + TrailerSize }

// RangeDigest is what the record adds to the digest of its log range: Σ over its
// entries of h·(offset+1), modulo 2⁶⁴.
func (h *Header) RangeDigest() uint64 { return h.Offset*h.DigestA + h.DigestB }

// chainOffset is where the fields that the chain covers end.
const chainOffset = 120

func (h *Header) put(b []byte) {
	le := binary.LittleEndian
	le.PutUint32(b[0:], frameMagic)
	b[4], b[5], b[6], b[7] = frameVersion, byte(h.Type), byte(h.Codec), h.Flags
	le.PutUint16(b[8:], HeaderSize)
	le.PutUint16(b[10:], h.Part)
	le.PutUint32(b[12:], h.PayloadLength)
	le.PutUint32(b[16:], h.RawLength)
	le.PutUint32(b[20:], h.Count)
	le.PutUint32(b[24:], h.Streams)
	le.PutUint64(b[28:], h.LogID)
	le.PutUint64(b[36:], h.Index)
	le.PutUint64(b[44:], h.Offset)
	le.PutUint64(b[52:], h.Epoch)
	le.PutUint64(b[60:], h.PreviousEpoch)
	le.PutUint64(b[68:], uint64(h.MinTimestamp))
	le.PutUint64(b[76:], uint64(h.MaxTimestamp))
	copy(b[84:], h.Key[:])
	le.PutUint64(b[100:], h.DigestA)
	le.PutUint64(b[108:], h.DigestB)
	le.PutUint32(b[116:], h.PayloadCRC)
	copy(b[chainOffset:], h.Chain[:])
}

// NextChain returns the chain value of the record with this header and payload, given
// the chain of the record before it. h.PayloadCRC must be set.
func (h *Header) NextChain(previous Chain, payload []byte) Chain {
	var b [HeaderSize]byte
	h.put(b[:])
	d := sha256.New()
	d.Write(previous[:])
	d.Write(b[:chainOffset])
	d.Write(payload)
	var sum [sha256.Size]byte
	d.Sum(sum[:0])
	return Chain(sum[:16])
}

// AppendHeader appends the encoded header, with its CRC, to dst.
func AppendHeader(dst []byte, h *Header) []byte {
	n := len(dst)
	dst = append(dst, make([]byte, HeaderSize)...)
	h.put(dst[n:])
	binary.LittleEndian.PutUint32(dst[n+136:], Checksum(dst[n:n+136]))
	return dst
}

// ParseHeader decodes and checks a header. It fails with ErrVersion for a later
// version's frame and with ErrCorrupt for anything else that is not a header.
func ParseHeader(b []byte) (Header, error) {
	var h Header
	le := binary.LittleEndian
	if len(b) < HeaderSize {
		return h, corrupt("frame header", "%d bytes, want %d", len(b), HeaderSize)
	}
	if m := le.Uint32(b); m != frameMagic {
		return h, corrupt("frame header", "magic %#08x, want %#08x", m, uint32(frameMagic))
	}
	if sum := Checksum(b[:136]); sum != le.Uint32(b[136:]) {
		return h, corrupt("frame header", "checksum %#08x, want %#08x", sum, le.Uint32(b[136:]))
	}
	if b[4] != frameVersion || le.Uint16(b[8:]) != HeaderSize {
		return h, fmt.Errorf("%w %d of a frame: use a later release", ErrVersion, b[4])
	}
	h = Header{
		Type: RecordType(b[5]), Codec: Codec(b[6]), Flags: b[7], Part: le.Uint16(b[10:]),
		PayloadLength: le.Uint32(b[12:]), RawLength: le.Uint32(b[16:]), Count: le.Uint32(b[20:]), Streams: le.Uint32(b[24:]),
		LogID: le.Uint64(b[28:]), Index: le.Uint64(b[36:]), Offset: le.Uint64(b[44:]),
		Epoch: le.Uint64(b[52:]), PreviousEpoch: le.Uint64(b[60:]),
		MinTimestamp: int64(le.Uint64(b[68:])), MaxTimestamp: int64(le.Uint64(b[76:])),
		DigestA: le.Uint64(b[100:]), DigestB: le.Uint64(b[108:]), PayloadCRC: le.Uint32(b[116:]),
	}
	copy(h.Key[:], b[84:])
	copy(h.Chain[:], b[chainOffset:])
	if h.PayloadLength > MaxPayload || h.RawLength > MaxPayload || h.Count > MaxFrameEntries || h.Streams > h.Count {
		return h, corrupt("frame header", "lengths out of bounds: payload %d, raw %d, entries %d, streams %d", h.PayloadLength, h.RawLength, h.Count, h.Streams)
	}
	return h, nil
}

// Trailer is the local part of a frame: each replica writes its own.
type Trailer struct {
	// Group is the number of the fsync group that the record was written in, in the
	// upper 48 bits, and the record's place in that group in the lower 16. With the
	// place a reader knows of a record that follows an unreadable one whether both
	// were of one group.
	Group  uint64
	Commit uint64 // highest index that the replica knew to be committed
}

// NewGroup composes Trailer.Group.
func NewGroup(number uint64, place int) uint64 { return number<<16 | uint64(place) }

// GroupNumber is the number of the fsync group.
func (t Trailer) GroupNumber() uint64 { return t.Group >> 16 }

// GroupPlace is the record's place in its group, from 0.
func (t Trailer) GroupPlace() uint64 { return t.Group & 0xffff }

// MaxGroupRecords is how many records an fsync group holds at most.
const MaxGroupRecords = 1 << 16

// AppendTrailer appends the encoded trailer of the frame whose encoded header is given.
func AppendTrailer(dst []byte, t Trailer, header []byte) []byte {
	n := len(dst)
	dst = binary.LittleEndian.AppendUint64(dst, t.Group)
	dst = binary.LittleEndian.AppendUint64(dst, t.Commit)
	sum := checksumUpdate(Checksum(dst[n:]), header[136:HeaderSize])
	return binary.LittleEndian.AppendUint32(dst, sum)
}

// ParseTrailer decodes and checks the trailer of the frame whose encoded header is given.
func ParseTrailer(b, header []byte) (Trailer, error) {
	if len(b) < TrailerSize || len(header) < HeaderSize {
		return Trailer{}, corrupt("frame trailer", "%d bytes, want %d", len(b), TrailerSize)
	}
	sum := checksumUpdate(Checksum(b[:16]), header[136:HeaderSize])
	if want := binary.LittleEndian.Uint32(b[16:]); sum != want {
		return Trailer{}, corrupt("frame trailer", "checksum %#08x, want %#08x", sum, want)
	}
	return Trailer{Group: binary.LittleEndian.Uint64(b), Commit: binary.LittleEndian.Uint64(b[8:])}, nil
}

// CheckPayload reports whether the payload is the one that the header was made for.
func (h *Header) CheckPayload(payload []byte) error {
	if len(payload) != int(h.PayloadLength) {
		return corrupt("frame payload", "%d bytes, want %d", len(payload), h.PayloadLength)
	}
	if sum := Checksum(payload); sum != h.PayloadCRC {
		return corrupt("frame payload", "checksum %#08x, want %#08x", sum, h.PayloadCRC)
	}
	return nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum is CRC32C, the checksum of everything that logcluster writes.
func Checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// checksumUpdate goes on with a checksum over further bytes.
func checksumUpdate(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }
