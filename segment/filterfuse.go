package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// A fuseFilter answers whether a key may be in a set: always yes for those that are, and
// for one in 256 of the others. It takes about 9 bits a key (Graf, Lemire: Binary Fuse
// Filters: Fast and Smaller Than Xor Filters, 2022). Each key has three places, in
// segments that follow each other; the bytes there give its fingerprint.
type fuseFilter struct {
	seed     uint64
	segment  uint32 // places in a segment, a power of two
	segments uint32 // in which a key's first place may be
	prints   []byte // (segments + 2) · segment
}

const (
	fuseHead    = 16      // bytes of an encoded filter before its fingerprints
	maxFuseKeys = 1 << 20 // of one filter
	fuseTries   = 100     // seeds
)

// errFuse: no seed was found. That never happens for distinct keys.
var errFuse = errors.New("no seed for a filter of values")

// mix spreads a key, which may be a poor hash.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// places returns where a mixed key's fingerprint is, and the fingerprint.
func (f *fuseFilter) places(h uint64) (at [3]uint32, print byte) {
	hi, _ := bits.Mul64(h, uint64(f.segments)*uint64(f.segment))
	at[0] = uint32(hi)
	at[1] = at[0] + f.segment
	at[2] = at[1] + f.segment
	at[1] ^= uint32(h>>18) & (f.segment - 1)
	at[2] ^= uint32(h) & (f.segment - 1)
	return at, byte(h ^ h>>32)
}

func (f *fuseFilter) has(key uint64) bool {
	at, print := f.places(mix(key + f.seed))
	return f.prints[at[0]]^f.prints[at[1]]^f.prints[at[2]] == print
}

// newFuse makes the filter of distinct keys, of which there must be at least one.
func newFuse(keys []uint64) (*fuseFilter, error) {
	n := len(keys)
	if n == 0 || n > maxFuseKeys {
		return nil, fmt.Errorf("filter of %d values", n)
	}
	f := &fuseFilter{segment: 4}
	factor := 2.0
	if n > 1 {
		f.segment = 1 << int(math.Floor(math.Log(float64(n))/math.Log(3.33)+2.25))
		factor = max(1.125, 0.875+0.25*math.Log(1e6)/math.Log(float64(n)))
	}
	capacity := uint32(math.Ceil(float64(n) * factor))
	f.segments = max((capacity+f.segment-1)/f.segment, 3) - 2
	places := (f.segments + 2) * f.segment
	f.prints = make([]byte, places)
	counts, sums := make([]uint8, places), make([]uint64, places)
	type peeled struct {
		hash  uint64
		place uint32
	}
	order, queue := make([]peeled, 0, n), make([]uint32, 0, places)
	for range fuseTries {
		f.seed = mix(f.seed + 0x9e3779b97f4a7c15)
		clear(counts)
		clear(sums)
		full := false
		for _, key := range keys {
			h := mix(key + f.seed)
			at, _ := f.places(h)
			for _, p := range at {
				full = full || counts[p] == math.MaxUint8
				counts[p]++
				sums[p] ^= h
			}
		}
		// A place that one key only has gives that key up; the others then have fewer.
		order, queue = order[:0], queue[:0]
		for p, c := range counts {
			if c == 1 {
				queue = append(queue, uint32(p))
			}
		}
		for len(queue) > 0 {
			p := queue[len(queue)-1]
			queue = queue[:len(queue)-1]
			if counts[p] != 1 {
				continue
			}
			h := sums[p]
			order = append(order, peeled{h, p})
			at, _ := f.places(h)
			for _, o := range at {
				counts[o]--
				sums[o] ^= h
				if counts[o] == 1 {
					queue = append(queue, o)
				}
			}
		}
		if full || len(order) < n {
			continue
		}
		for i := len(order) - 1; i >= 0; i-- {
			at, print := f.places(order[i].hash)
			f.prints[order[i].place] = 0
			f.prints[order[i].place] = print ^ f.prints[at[0]] ^ f.prints[at[1]] ^ f.prints[at[2]]
		}
		return f, nil
	}
	return nil, errFuse
}

// encode returns the filter as it stands in a part.
func (f *fuseFilter) encode() []byte {
	dst := make([]byte, 0, fuseHead+len(f.prints))
	dst = binary.LittleEndian.AppendUint64(dst, f.seed)
	dst = binary.LittleEndian.AppendUint32(dst, f.segment)
	dst = binary.LittleEndian.AppendUint32(dst, f.segments)
	return append(dst, f.prints...)
}

// parseFuse decodes a filter, which shares the memory of b.
func parseFuse(b []byte) (*fuseFilter, error) {
	if len(b) < fuseHead {
		return nil, errShort
	}
	f := &fuseFilter{seed: binary.LittleEndian.Uint64(b), segment: binary.LittleEndian.Uint32(b[8:]), segments: binary.LittleEndian.Uint32(b[12:]), prints: b[fuseHead:]}
	if bits.OnesCount32(f.segment) != 1 || f.segments == 0 || f.segment > maxFuseKeys || f.segments > 2*maxFuseKeys ||
		(uint64(f.segments)+2)*uint64(f.segment) != uint64(len(f.prints)) {
		return nil, fmt.Errorf("filter of %d segments of %d in %d bytes", f.segments, f.segment, len(f.prints))
	}
	return f, nil
}
