package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
)

// A segmentFilter is what FILTERS says: facts of each slot of each template, the grams of
// lines and values, and where the filter of values stands. It is immutable.
type segmentFilter struct {
	masks    []byteMask
	slots    []packedFacts
	first    []uint32 // of each template, in slots; and the end
	union    []uint16 // of each template: what its values hold, in unions
	unions   []byteMask
	grams    *gramFilter         // nil: they took too much room
	parts    []ChunkRef          // the filter of values, by the keys' upper bits
	known    map[byteMask]uint16 // while it is built
	empties  []bool              // of each template: a value may be empty
	file     chunkReader
	literals func() *gramFilter // made when it is first needed
}

// packedFacts is slotFacts in the memory of an open segment, which has many.
type packedFacts struct {
	mask              uint16
	shortest, longest uint16
	flags             uint8
}

const (
	factListed  = 1
	factGrammed = 2

	maxMasks = 1 << 16
	maxParts = 1 << 10
)

// begin makes the filter ready for add. The first mask is that of all bytes.
func (f *segmentFilter) begin() {
	f.masks, f.known = []byteMask{allMask}, map[byteMask]uint16{allMask: 0}
}

// add appends the facts of the next slot.
func (f *segmentFilter) add(s slotFacts) {
	id, ok := f.known[s.mask]
	if !ok && len(f.masks) < maxMasks {
		id = uint16(len(f.masks))
		f.masks = append(f.masks, s.mask)
		f.known[s.mask] = id
	}
	p := packedFacts{mask: id, shortest: uint16(min(s.shortest, unbounded)), longest: uint16(min(s.longest, unbounded))}
	if s.listed {
		p.flags |= factListed
	}
	if s.grammed {
		p.flags |= factGrammed
	}
	f.slots = append(f.slots, p)
}

// index finds where the facts of each template begin.
func (f *segmentFilter) index(templates []*Template) {
	f.known = nil
	f.first, f.union, f.empties = make([]uint32, 0, len(templates)+1), make([]uint16, len(templates)), make([]bool, len(templates))
	at := uint32(0)
	known := map[byteMask]uint16{}
	for i, t := range templates {
		f.first = append(f.first, at)
		var all byteMask
		for range t.slots() {
			all = all.or(f.masks[f.slots[at].mask])
			f.empties[i] = f.empties[i] || f.slots[at].shortest == 0
			at++
		}
		id, ok := known[all]
		if !ok { // there are fewer of them than templates
			id = uint16(len(f.unions))
			known[all] = id
			f.unions = append(f.unions, all)
		}
		f.union[i] = id
	}
	f.first = append(f.first, at)
	f.literals = sync.OnceValue(func() *gramFilter { return literalGrams(templates) })
}

// literalGrams is the grams of all literals. They are not in the file: TEMPLATES has them.
func literalGrams(templates []*Template) *gramFilter {
	g := newGrams()
	for _, t := range templates {
		for _, l := range t.literals {
			g.add(l)
		}
	}
	return g.shrink()
}

// slot returns the facts of a slot.
func (f *segmentFilter) slot(id uint32, slot int) slotFacts {
	p := &f.slots[f.first[id]+uint32(slot)]
	return slotFacts{mask: f.masks[p.mask], shortest: int(p.shortest), longest: int(p.longest), listed: p.flags&factListed != 0, grammed: p.flags&factGrammed != 0}
}

// partOf is the part of the filter of values that a key is in.
func partOf(key uint64, parts int) int {
	hi, _ := bits.Mul64(key, uint64(parts))
	return int(hi)
}

// hasValue reports whether a key may be among the listed values'.
func (f *segmentFilter) hasValue(key uint64) (bool, error) {
	if len(f.parts) == 0 {
		return true, nil
	}
	part, err := f.part(partOf(key, len(f.parts)))
	return err == nil && part.has(key), err
}

// part reads a part of the filter of values.
func (f *segmentFilter) part(i int) (*fuseFilter, error) {
	ref := &f.parts[i]
	raw, err := f.file.read(ref, 0)
	if err != nil {
		return nil, err
	}
	part, err := parseFuse(raw)
	if err != nil {
		return nil, f.file.damage(ref, err)
	}
	return part, nil
}

// append appends FILTERS; parts are relative to base, where the file's first stands.
func (f *segmentFilter) append(dst []byte, base uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(f.masks)))
	for _, m := range f.masks {
		dst = binary.LittleEndian.AppendUint64(dst, m[0])
		dst = binary.LittleEndian.AppendUint64(dst, m[1])
	}
	dst = binary.AppendUvarint(dst, uint64(len(f.slots)))
	// One field after the other: like ones compress better side by side.
	for _, s := range f.slots {
		dst = binary.AppendUvarint(dst, uint64(s.mask))
	}
	for _, s := range f.slots {
		dst = binary.AppendUvarint(dst, uint64(s.shortest))
	}
	for _, s := range f.slots {
		dst = binary.AppendUvarint(dst, uint64(s.longest-s.shortest))
	}
	for _, s := range f.slots {
		dst = append(dst, s.flags)
	}
	var grams []byte
	if f.grams != nil {
		grams = f.grams.bits
	}
	dst = binary.AppendUvarint(dst, uint64(len(grams)))
	dst = append(dst, grams...)
	dst = binary.AppendUvarint(dst, uint64(len(f.parts)))
	for _, p := range f.parts {
		dst = binary.AppendUvarint(dst, p.Offset-base)
		dst = binary.AppendUvarint(dst, uint64(p.Encoded))
		dst = binary.AppendUvarint(dst, uint64(p.Raw))
	}
	return dst
}

// parseFilter decodes FILTERS of a segment with these templates. The parts must stand one
// behind the other, from base to end.
func parseFilter(raw []byte, templates []*Template, base, end uint64) (*segmentFilter, error) {
	r := reader{b: raw}
	f := &segmentFilter{masks: make([]byteMask, r.uvarint(min(maxMasks, uint64(len(r.b)/16))))}
	for i := range f.masks {
		f.masks[i] = byteMask{r.u64(), r.u64()}
	}
	slots := 0
	for _, t := range templates {
		slots += t.slots()
	}
	if n := r.uvarint(uint64(len(r.b))); r.err == nil && n != uint64(slots) {
		return nil, fmt.Errorf("facts of %d slots, want %d", n, slots)
	}
	if slots > len(r.b) || r.err != nil {
		return nil, errors.Join(errShort, r.err)
	}
	f.slots = make([]packedFacts, slots)
	for i := range f.slots {
		f.slots[i].mask = uint16(r.uvarint(uint64(max(len(f.masks), 1) - 1)))
	}
	for i := range f.slots {
		f.slots[i].shortest = uint16(r.uvarint(unbounded))
	}
	for i := range f.slots {
		f.slots[i].longest = f.slots[i].shortest + uint16(r.uvarint(uint64(unbounded-f.slots[i].shortest)))
	}
	for i := range f.slots {
		f.slots[i].flags = uint8(r.uvarint(factListed | factGrammed))
	}
	if slots > 0 && len(f.masks) == 0 {
		return nil, errors.New("slots without a mask")
	}
	if grams := r.bytes(uint64(len(r.b))); len(grams) > 0 && r.err == nil {
		var err error
		if f.grams, err = parseGrams(slices.Clone(grams)); err != nil {
			return nil, err
		}
	}
	n := r.uvarint(min(maxParts, uint64(len(r.b))))
	at := base
	for range n {
		p := ChunkRef{Kind: ChunkFilters, Offset: base + r.uvarint(maxFile), Encoded: uint32(r.uvarint(maxChunk)), Raw: uint32(r.uvarint(maxChunk))}
		if r.err == nil && p.Offset != at {
			return nil, fmt.Errorf("part at %d, want %d", p.Offset, at)
		}
		at += p.size()
		f.parts = append(f.parts, p)
	}
	if r.err == nil && at != end {
		return nil, fmt.Errorf("parts end at %d, want %d", at, end)
	}
	if err := r.done(); err != nil {
		return nil, err
	}
	for i := range f.slots {
		if f.slots[i].flags&factGrammed != 0 && f.grams == nil || f.slots[i].flags&factListed != 0 && len(f.parts) == 0 {
			return nil, errors.New("slots in filters that are not there")
		}
	}
	f.index(templates)
	return f, nil
}
