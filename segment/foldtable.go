package segment

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
)

// foldTable is the folds of a segment that grows.
type foldTable struct {
	folds  []*fold
	latest []uint32 // of each template: 1 + number of its newest fold; 0: none
	tried  []uint32 // of each template: the rows that a fold was last chosen for, or in vain
	bytes  int

	// Where variants and values are, by their hashes; of those with the same hash each
	// has the next free one.
	variants map[uint64]uint32
	values   map[uint64]uint32
	seed     maphash.Seed // so that nobody can choose lines whose hashes are the same
	key      []byte
}

// find returns the newest fold of a template.
func (t *foldTable) find(template uint32) (number int, f *fold) {
	if int(template) >= len(t.latest) || t.latest[template] == 0 {
		return 0, nil
	}
	number = int(t.latest[template]) - 1
	return number, t.folds[number]
}

// try reports whether it is worth to choose how so many rows of a template are folded:
// not if it was done for about as many.
func (t *foldTable) try(template uint32, rows int) bool {
	for len(t.tried) <= int(template) {
		t.tried = append(t.tried, 0)
	}
	if rows < 2*int(t.tried[template]) {
		return false
	}
	t.tried[template] = uint32(rows)
	return true
}

// full reports whether nothing may be added any more.
func (t *foldTable) full() bool { return t.bytes > maxFoldBytes || len(t.folds) >= maxFolds }

// begin adds a fold without variants.
func (t *foldTable) begin(template uint32, slots []foldSlot) (int, *fold) {
	number := len(t.folds)
	t.put(number, &fold{template: template, slots: slots})
	t.bytes += 8 + 2*len(slots)
	return number, t.folds[number]
}

// put makes f the fold of a number.
func (t *foldTable) put(number int, f *fold) {
	if number == len(t.folds) {
		t.folds = append(t.folds, f)
	} else {
		t.folds[number] = f
	}
	for len(t.latest) <= int(f.template) {
		t.latest = append(t.latest, 0)
	}
	t.latest[f.template] = uint32(number) + 1
}

// take makes f the fold of a number and lists what it has that the one before had not.
func (t *foldTable) take(number int, f *fold) {
	from := 0
	old := make([]int, len(f.slots))
	if number < len(t.folds) {
		before := t.folds[number]
		from = before.variants
		for i := range before.slots {
			old[i] = len(before.slots[i].values)
		}
	} else {
		t.bytes += 8 + 2*len(f.slots)
	}
	t.put(number, f)
	parts := make([][]byte, len(f.slots))
	cuts := make([]uint8, len(f.slots))
	for i := range f.slots {
		s := &f.slots[i]
		for id := old[i]; id < len(s.values); id++ {
			_, free := t.findValue(number, i, s.values[id], s.cuts[id])
			t.addValue(free, uint32(id), s.values[id])
		}
	}
	for v := from; v < f.variants; v++ {
		for i := range f.slots {
			id := f.slots[i].id(uint32(v))
			parts[i], cuts[i] = f.slots[i].values[id], f.slots[i].cuts[id]
		}
		_, free := t.findVariant(number, f, parts, cuts)
		t.addVariant(free, uint32(v), f)
	}
}

func (t *foldTable) hash() uint64 {
	if t.variants == nil {
		t.variants, t.values, t.seed = map[uint64]uint32{}, map[uint64]uint32{}, maphash.MakeSeed()
	}
	return maphash.Bytes(t.seed, t.key)
}

func (t *foldTable) addValue(hash uint64, id uint32, value []byte) {
	t.values[hash] = id
	t.bytes += 2 + len(value)
}

func (t *foldTable) addVariant(hash uint64, id uint32, f *fold) {
	t.variants[hash] = id
	t.bytes += len(f.slots)
}

// findValue returns the number of a slot's value, or -1 and the hash under which to
// list it.
func (t *foldTable) findValue(number, slot int, value []byte, cut uint8) (int, uint64) {
	s := &t.folds[number].slots[slot]
	t.key = binary.LittleEndian.AppendUint32(t.key[:0], uint32(number))
	t.key = append(append(t.key, byte(slot), cut), value...)
	for h := t.hash(); ; h++ {
		id, ok := t.values[h]
		if !ok {
			return -1, h
		}
		// Values of other folds may have the same hash.
		if int(id) < len(s.values) && s.cuts[id] == cut && string(s.values[id]) == string(value) {
			return int(id), h
		}
	}
}

// findVariant returns the number of the variant with the given parts, or -1 and the
// hash under which to list it.
func (t *foldTable) findVariant(number int, f *fold, parts [][]byte, cuts []uint8) (int, uint64) {
	t.key = binary.LittleEndian.AppendUint32(t.key[:0], uint32(number))
	for i, p := range parts {
		t.key = append(t.key, cuts[i], byte(len(p)))
		t.key = append(t.key, p...)
	}
	for h := t.hash(); ; h++ {
		id, ok := t.variants[h]
		if !ok {
			return -1, h
		}
		if int(id) < f.variants && f.is(id, parts, cuts) {
			return int(id), h
		}
	}
}

// is reports whether a variant has the given parts.
func (f *fold) is(variant uint32, parts [][]byte, cuts []uint8) bool {
	for i := range f.slots {
		s := &f.slots[i]
		id := s.id(variant)
		if s.cuts[id] != cuts[i] || string(s.values[id]) != string(parts[i]) {
			return false
		}
	}
	return true
}

// fork makes a copy of a fold that variants can be added to: readers have the old one.
func (t *foldTable) fork(number int) *fold {
	before := t.folds[number]
	f := &fold{template: before.template, variants: before.variants, slots: append([]foldSlot(nil), before.slots...)}
	t.folds[number] = f
	return f
}

// add adds a variant to a fold that was forked for this block, or finds it there.
func (t *foldTable) add(number int, f *fold, parts [][]byte, cuts []uint8) uint32 {
	known, free := t.findVariant(number, f, parts, cuts)
	if known >= 0 {
		return uint32(known)
	}
	for i := range f.slots {
		s := &f.slots[i]
		id, hash := t.findValue(number, i, parts[i], cuts[i])
		if id < 0 {
			id = len(s.values)
			s.values, s.cuts = append(s.values, append([]byte(nil), parts[i]...)), append(s.cuts, cuts[i])
			t.addValue(hash, uint32(id), parts[i])
			if id == 1 {
				s.ids = make([]uint32, f.variants)
			}
		}
		if s.ids != nil {
			s.ids = append(s.ids, uint32(id))
		}
	}
	variant := uint32(f.variants)
	t.addVariant(free, variant, f)
	f.variants++
	return variant
}

// appendAdditions encodes what a block added to the folds.
func (t *foldTable) appendAdditions(dst []byte, added []foldAddition) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(added)))
	for _, a := range added {
		dst = binary.AppendUvarint(dst, uint64(a.number))
		dst = t.folds[a.number].append(dst, a.before)
	}
	return dst
}

// parseAdditions decodes what appendAdditions encoded. It returns all folds as they are
// with the additions, and the numbers of those that have some; the table does not change.
func (t *foldTable) parseAdditions(r *reader, templates []*Template) ([]*fold, []int, error) {
	folds := slices.Clone(t.folds)
	changed := make([]int, r.uvarint(min(maxFolds, uint64(len(r.b)))))
	for i := range changed {
		number := int(r.uvarint(uint64(min(len(folds), maxFolds-1))))
		if slices.Contains(changed[:i], number) {
			return nil, nil, fmt.Errorf("fold %d is added to twice", number)
		}
		var before *fold
		if number < len(folds) {
			before = folds[number]
		}
		f, err := parseFold(r, templates, before)
		if err != nil {
			return nil, nil, err
		}
		if before == nil {
			folds = append(folds, f)
		} else {
			folds[number] = f
		}
		changed[i] = number
	}
	return folds, changed, r.err
}
