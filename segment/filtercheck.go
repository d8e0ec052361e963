package segment

import (
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
)

// checkFilter compares FILTERS with all values and lines of the blocks: what is there must
// not be ruled out. What is ruled out too little is no fault.
func (s *Segment) checkFilter() error {
	file := s.Blocks[0].file
	f := file.filter
	if f == nil {
		return nil
	}
	fault := func(err error) error {
		return &CorruptError{Path: s.path, Offset: int64(s.end.Extents[extentFilters].Offset), What: "FILTERS chunk", Err: err}
	}
	b := newFilterBuilder(s.Blocks, file.templates)
	for _, block := range s.Blocks {
		if err := b.block(block); err != nil {
			return err
		}
	}
	most := gramClass(0)
	for id := range b.slots {
		for slot := range b.slots[id] {
			found, said := &b.slots[id][slot], f.slot(uint32(id), slot)
			if found.seen && (!found.mask.without(said.mask).empty() || found.shortest < said.shortest || min(found.longest, unbounded) > said.longest) {
				return fault(fmt.Errorf("template %d, slot %d: values are not what it says", id, slot))
			}
			found.listed = said.listed
			if said.grammed {
				most = max(most, found.gram+1)
			}
		}
	}
	if f.grams != nil && most <= gramNever {
		for _, g := range []*gramFilter{b.bare, b.dicts, b.texts}[:most+1] {
			if !g.within(f.grams) {
				return fault(errors.New("it lacks grams"))
			}
		}
	}
	if most > gramNever {
		return fault(errors.New("grams of numbers"))
	}
	parts := make([]*fuseFilter, len(f.parts))
	for i := range parts {
		var err error
		if parts[i], err = f.part(i); err != nil {
			return err
		}
	}
	lacks := 0
	b.restart()
	for _, block := range s.Blocks {
		err := b.list(block, func(value []byte) {
			key := xxhash.Sum64(value)
			if len(parts) == 0 || !parts[partOf(key, len(parts))].has(key) {
				lacks++
			}
		})
		if err != nil {
			return err
		}
	}
	if lacks > 0 {
		return fault(fmt.Errorf("it lacks %d values", lacks))
	}
	return nil
}
