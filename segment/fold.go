package segment

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
)

// A fold is what the values of some slots of a template come to together: each
// combination of values, or of their leading parts, that occurs in the segment is a
// variant. A block then has for each row the number of its variant, and of each value
// the last digits only, if the variant does not say it whole.
//
// A fold does not change once it can be seen: one with more variants is another fold,
// of the same number, that shares their memory.
type fold struct {
	template uint32
	slots    []foldSlot
	variants int

	// A fold of a sealed file is decoded when it is first needed.
	once sync.Once
	raw  []byte
	err  error
}

// A foldSlot is what a fold's variants say of one slot.
type foldSlot struct {
	slot   int
	digits int      // how many digits of a value stand in the block, at most
	values [][]byte // what the variants say: a value, or what is before its last digits
	cuts   []uint8  // how many digits are behind each of values
	ids    []uint32 // of each variant: which of values; nil: the only one
}

const (
	maxFolds      = 1 << 16 // of a segment
	maxVariants   = 1 << 16 // of a fold
	maxFoldBytes  = 8 << 20 // of the folds of a segment, encoded, about
	maxFoldSlots  = 64      // of a template that is folded
	maxFoldDigits = maxDigits
)

// id returns which of a slot's values a variant has.
func (s *foldSlot) id(variant uint32) uint32 {
	if s.ids == nil {
		return 0
	}
	return s.ids[variant]
}

// append encodes the fold, or with what it was before, what was added to it.
func (f *fold) append(dst []byte, before *fold) []byte {
	u := func(v int) { dst = binary.AppendUvarint(dst, uint64(v)) }
	if before == nil {
		u(int(f.template))
		u(len(f.slots))
		next := 0
		for i := range f.slots {
			u(f.slots[i].slot - next)
			u(f.slots[i].digits)
			next = f.slots[i].slot + 1
		}
		before = &fold{slots: make([]foldSlot, len(f.slots))}
	}
	u(f.variants - before.variants)
	for i := range f.slots {
		s, old := &f.slots[i], len(before.slots[i].values)
		u(len(s.values) - old)
		for k := old; k < len(s.values); k++ {
			u(s.digits - int(s.cuts[k]))
			u(len(s.values[k]))
		}
		for _, v := range s.values[old:] {
			dst = append(dst, v...)
		}
		if len(s.values) > 1 {
			for v := before.variants; v < f.variants; v++ {
				u(int(s.id(uint32(v))))
			}
		}
	}
	return dst
}

// parseFold decodes what append encoded, of a segment with so many templates.
func parseFold(r *reader, templates []*Template, before *fold) (*fold, error) {
	f := &fold{}
	if before == nil {
		id := r.uvarint(maxTemplates)
		if r.err == nil && id >= uint64(len(templates)) {
			return nil, fmt.Errorf("fold of template %d, out of %d", id, len(templates))
		}
		f.template = uint32(id)
		f.slots = make([]foldSlot, r.uvarint(maxFoldSlots))
		next := 0
		for i := range f.slots {
			f.slots[i].slot = next + int(r.uvarint(maxSlots))
			f.slots[i].digits = int(r.uvarint(maxFoldDigits))
			next = f.slots[i].slot + 1
		}
		if r.err == nil && (len(f.slots) == 0 || next > templates[id].slots()) {
			return nil, fmt.Errorf("fold of %d slots of template %d, which has %d", len(f.slots), id, templates[id].slots())
		}
	} else {
		f.template, f.variants = before.template, before.variants
		f.slots = append(f.slots, before.slots...)
	}
	added := int(r.uvarint(uint64(maxVariants - f.variants)))
	f.variants += added
	for i := range f.slots {
		if err := f.slots[i].parse(r, f.variants, added); err != nil {
			return nil, fmt.Errorf("fold of template %d, slot %d: %w", f.template, f.slots[i].slot, err)
		}
	}
	if r.err == nil && f.variants == 0 {
		return nil, errors.New("fold without variants")
	}
	return f, r.err
}

// parse reads the values and ids that were added to a slot.
func (s *foldSlot) parse(r *reader, variants, added int) error {
	// A value takes at least two bytes.
	n := int(r.uvarint(min(maxVariants, uint64(len(r.b))/2)))
	lengths := make([]int, n)
	s.cuts, s.values = slices.Grow(s.cuts, n), slices.Grow(s.values, n)
	for i := range lengths {
		s.cuts = append(s.cuts, uint8(s.digits-int(r.uvarint(uint64(s.digits)))))
		lengths[i] = int(r.uvarint(maxShredLine))
	}
	for _, length := range lengths {
		s.values = append(s.values, r.take(uint64(length)))
	}
	switch {
	case r.err != nil:
		return r.err
	case len(s.values) == 0 || len(s.values) > variants:
		return fmt.Errorf("%d values of %d variants", len(s.values), variants)
	case !s.distinct():
		return errors.New("a value stands there twice")
	case len(s.values) == 1:
		return nil
	case added > len(r.b):
		return errShort
	}
	if s.ids == nil {
		s.ids = make([]uint32, variants-added, variants)
	}
	s.ids = slices.Grow(s.ids, added)
	for range added {
		s.ids = append(s.ids, uint32(r.uvarint(uint64(len(s.values)-1))))
	}
	return r.err
}

// distinct reports whether each of the values is there once. So what a fold takes in memory
// is a small multiple of what it takes in the file.
func (s *foldSlot) distinct() bool {
	order := make([]uint32, len(s.values))
	for i := range order {
		order[i] = uint32(i)
	}
	compare := func(a, b uint32) int {
		return cmp.Or(cmp.Compare(s.cuts[a], s.cuts[b]), bytes.Compare(s.values[a], s.values[b]))
	}
	slices.SortFunc(order, compare)
	for i := range order {
		if i > 0 && compare(order[i-1], order[i]) == 0 {
			return false
		}
	}
	return true
}

// decoded returns the fold itself, decoding it if that was not done yet.
func (f *fold) decoded(templates []*Template) (*fold, error) {
	if f.raw == nil {
		return f, nil
	}
	f.once.Do(func() {
		r := reader{b: f.raw}
		var d *fold
		if d, f.err = parseFold(&r, templates, nil); f.err == nil {
			f.err = r.done()
		}
		if f.err == nil {
			f.template, f.slots, f.variants = d.template, d.slots, d.variants
		}
	})
	return f, f.err
}

// appendFolds encodes DICT: all folds of a segment.
func appendFolds(dst []byte, folds []*fold) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(folds)))
	var one []byte
	for _, f := range folds {
		one = f.append(one[:0], nil)
		dst = binary.AppendUvarint(dst, uint64(len(one)))
		dst = append(dst, one...)
	}
	return dst
}

// parseFolds takes DICT apart. The folds are decoded when they are needed.
func parseFolds(r *reader) []*fold {
	folds := make([]*fold, r.uvarint(min(maxFolds, uint64(len(r.b)))))
	for i := range folds {
		folds[i] = &fold{raw: r.bytes(uint64(len(r.b)))}
		if len(folds[i].raw) == 0 && r.err == nil {
			r.err = errShort
		}
	}
	return folds
}

// lowWidth is the bits of a number of so many digits.
func lowWidth(digits int) uint { return uint(bits.Len64(uint64(powersOf10[digits] - 1))) }
