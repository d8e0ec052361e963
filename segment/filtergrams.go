package segment

import (
	"errors"
	"fmt"
	"math/bits"
)

// A gram is four bytes that follow each other. A gramFilter holds those of some texts, by
// one bit each: a text of which a gram is missing is in none of them.
type gramFilter struct {
	bits []byte // 2^k of them, k at least 3
}

const (
	gramSize     = 4
	maxGramBits  = 22 // as a power of two
	gramsPerByte = 1  // how many a filter is made for: an eighth of the bits is set at most
)

func gramAt(text []byte, i int) uint32 {
	return uint32(text[i]) | uint32(text[i+1])<<8 | uint32(text[i+2])<<16 | uint32(text[i+3])<<24
}

// place is the bit of a gram in a filter of 2^k bits, which is a part of that in a larger one.
func (g *gramFilter) place(gram uint32) uint32 {
	h := gram * 0x9e3779b1
	h ^= h >> 15
	h *= 0x85ebca6b
	return h >> 8 & uint32(len(g.bits)*8-1)
}

func (g *gramFilter) add(text []byte) {
	for i := 0; i+gramSize <= len(text); i++ {
		p := g.place(gramAt(text, i))
		g.bits[p>>3] |= 1 << (p & 7)
	}
}

func (g *gramFilter) has(gram uint32) bool {
	p := g.place(gram)
	return g.bits[p>>3]>>(p&7)&1 != 0
}

// hasFolded is has for a gram in small letters, of which each may be a capital one.
func (g *gramFilter) hasFolded(gram uint32) bool {
	letters := [gramSize]int{}
	n := 0
	for i := range gramSize {
		if c := byte(gram >> (8 * i)); c >= 'a' && c <= 'z' {
			letters[n] = i
			n++
		}
	}
	for choice := range 1 << n {
		variant := gram
		for k := range n {
			if choice>>k&1 != 0 {
				variant &^= 0x20 << (8 * letters[k])
			}
		}
		if g.has(variant) {
			return true
		}
	}
	return false
}

// newGrams is a filter to gather grams in.
func newGrams() *gramFilter { return &gramFilter{bits: make([]byte, 1<<(maxGramBits-3))} }

// shrink returns the filter in as few bytes as its grams need.
func (g *gramFilter) shrink() *gramFilter {
	set := 0
	for _, b := range g.bits {
		set += bits.OnesCount8(b)
	}
	small := g.bits
	for len(small) > 1 && len(small)/2*gramsPerByte >= set {
		half := make([]byte, len(small)/2)
		for i := range half {
			half[i] = small[i] | small[i+len(half)]
		}
		small = half
	}
	return &gramFilter{bits: small}
}

// within reports whether a filter of no more bits, made from this one's grams and perhaps
// others, holds all of them.
func (g *gramFilter) within(smaller *gramFilter) bool {
	for i, b := range g.bits {
		if b&^smaller.bits[i%len(smaller.bits)] != 0 {
			return false
		}
	}
	return true
}

func parseGrams(b []byte) (*gramFilter, error) {
	if len(b) == 0 {
		return nil, errors.New("filter of grams without a bit")
	}
	if bits.OnesCount(uint(len(b))) != 1 || len(b) > 1<<(maxGramBits-3) {
		return nil, fmt.Errorf("filter of grams of %d bytes", len(b))
	}
	return &gramFilter{bits: b}, nil
}

// missing returns for each byte of a text where the next gram begins that the filter
// lacks; the length of the text if there is none.
func (g *gramFilter) missing(n *planNeedle) []int {
	out := make([]int, len(n.text)+1)
	next := len(n.text)
	out[len(n.text)] = next
	for i := len(n.text) - 1; i >= 0; i-- {
		if i+gramSize <= len(n.text) {
			gram := gramAt(n.text, i)
			if n.fold && !g.hasFolded(gram) || !n.fold && !g.has(gram) {
				next = i
			}
		}
		out[i] = next
	}
	return out
}
