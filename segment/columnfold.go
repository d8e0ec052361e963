package segment

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"slices"
)

// foldRows finds or makes the fold of a template's rows, and the variant of each row. It
// returns nil if the rows are better stored without.
func (w *columnWriter) foldRows(t *foldTable, template uint32, slots int, s *foldSource) (int, *fold) {
	number, f := t.find(template)
	n := len(s.at)
	w.variants = w.variants[:0]
	if f != nil {
		missing := w.findVariants(t, number, f, s)
		if missing == 0 {
			return number, f
		}
		if t.full() || f.variants+missing > maxVariants {
			return 0, nil
		}
		switch {
		case missing > n/3 && n >= 8 && t.try(template, n):
			// The rows are not like those that the fold was chosen for.
			chosen := w.chooser.choose(s, slots)
			if chosen == nil {
				return 0, nil
			}
			if !slices.EqualFunc(chosen, f.slots, func(a, b foldSlot) bool { return a.slot == b.slot && a.digits == b.digits }) {
				number, f = t.begin(template, chosen)
				w.variants = w.variants[:0]
			}
		case missing > n-n/3 && (missing >= fewVariants || f.variants >= manyVariants):
			// They have little in common with what is there, and may with each other: that is
			// not worth a variant for each of them.
			return 0, nil
		}
	} else {
		if t.full() || n > maxVariants || !t.try(template, n) {
			return 0, nil
		}
		chosen := w.chooser.choose(s, slots)
		if chosen == nil {
			return 0, nil
		}
		number, f = t.begin(template, chosen)
	}
	before := f
	if f = t.fork(number); before.variants == 0 {
		before = nil
	}
	w.added = append(w.added, foldAddition{number, before})
	if len(w.variants) == 0 {
		w.variants = slices.Grow(w.variants, n)[:n]
		for row := range w.variants {
			w.variants[row] = noVariant
		}
	}
	for row, known := range w.variants {
		if known == noVariant {
			w.cutParts(f, s, row)
			w.variants[row] = t.add(number, f, w.parts, w.cuts)
		}
	}
	return number, f
}

// A block whose rows are mostly new to a fold may add fewVariants to it, and none once it
// has manyVariants.
const (
	fewVariants  = 64
	manyVariants = 1024
)

// noVariant stands for one that is not there yet.
const noVariant = math.MaxUint32

// A foldAddition is a fold that has variants which were not there before the block.
type foldAddition struct {
	number int
	before *fold // nil: it is new
}

// findVariants finds the variant of each row and returns how many rows have none.
func (w *columnWriter) findVariants(t *foldTable, number int, f *fold, s *foldSource) (missing int) {
	w.variants = w.variants[:0]
	for row := range s.at {
		w.cutParts(f, s, row)
		v, _ := t.findVariant(number, f, w.parts, w.cuts)
		if v < 0 {
			missing++
			w.variants = append(w.variants, noVariant)
			continue
		}
		w.variants = append(w.variants, uint32(v))
	}
	return missing
}

// cutParts cuts the values of a row into what variants say and last digits.
func (w *columnWriter) cutParts(f *fold, s *foldSource, row int) {
	w.parts, w.cuts = w.parts[:0], w.cuts[:0]
	for i := range f.slots {
		v := s.value(row, f.slots[i].slot)
		cut := f.slots[i].digits
		if cut > 0 && (len(v) < cut || !allDigits(v[len(v)-cut:])) {
			cut = 0
		}
		w.parts, w.cuts = append(w.parts, v[:len(v)-cut]), append(w.cuts, uint8(cut))
	}
}

func allDigits(v []byte) bool {
	for _, d := range v {
		if d-'0' > 9 {
			return false
		}
	}
	return true
}

// addFold writes the variants of the rows.
func (w *columnWriter) addFold(number int) {
	count := slices.Max(w.variants) + 1
	w.directory = append(w.directory, byte(columnFold))
	w.directory = binary.AppendUvarint(w.directory, uint64(number))
	w.directory = binary.AppendUvarint(w.directory, uint64(count))
	w.putIDs(w.variants, int(count))
}

// addLow writes the last digits of a folded slot's values.
func (w *columnWriter) addLow(slot *foldSlot, s *foldSource) {
	if slot.digits == 0 {
		return
	}
	width := lowWidth(slot.digits)
	for row, variant := range w.variants {
		v := s.value(row, slot.slot)
		cut := int(slot.cuts[slot.id(variant)])
		w.packed.put(parseDigits(v[len(v)-cut:]), width)
	}
	w.packed.flush()
}

// putIDs writes numbers below count.
func (w *columnWriter) putIDs(ids []uint32, count int) {
	width := uint(bits.Len(uint(count - 1)))
	if len(ids) < planesFrom {
		w.directory = append(w.directory, byte(idsPacked))
		for _, id := range ids {
			w.packed.put(uint64(id), width)
		}
		w.packed.flush()
		return
	}
	w.directory = append(w.directory, byte(idsPlanes))
	for plane := uint(0); plane < width; plane += 8 {
		for _, id := range ids {
			w.streams[streamIDs] = append(w.streams[streamIDs], byte(id>>plane))
		}
	}
}

// A foldUse is a fold as one template's rows in a block use it.
type foldUse struct {
	number   int
	fold     *fold
	variants column // its ids are those of variants
}

// parseFoldUse reads the fold of a template's rows, if they have one.
func (c *blockColumns) parseFoldUse(r *reader, t *blockTemplate, template uint32, at *[streamCount]int) (*foldUse, error) {
	if len(r.b) == 0 || r.b[0] != byte(columnFold) {
		return nil, nil
	}
	r.b = r.b[1:]
	file := c.block.file
	number := r.uvarint(maxFolds)
	if r.err == nil && number >= uint64(len(file.folds)) {
		return nil, fmt.Errorf("fold %d of %d", number, len(file.folds))
	}
	if r.err != nil {
		return nil, r.err
	}
	f, err := file.folds[number].decoded(file.templates)
	if err != nil {
		return nil, fmt.Errorf("fold %d: %w", number, err)
	}
	if f.template != template {
		return nil, fmt.Errorf("fold %d is of template %d, want %d", number, f.template, template)
	}
	u := &foldUse{number: int(number), fold: f}
	count := int(r.uvarint(uint64(f.variants)))
	u.variants = column{encoding: columnDict, rows: t.rows, at: *at}
	if err := u.variants.parseIDs(r, t.rows, count, nil, at); err != nil {
		return nil, fmt.Errorf("variants: %w", err)
	}
	return u, nil
}

// slot returns what the fold says of a slot, or nil.
func (u *foldUse) slot(slot int) *foldSlot {
	if u == nil {
		return nil
	}
	i, ok := slices.BinarySearchFunc(u.fold.slots, slot, func(s foldSlot, slot int) int { return s.slot - slot })
	if !ok {
		return nil
	}
	return &u.fold.slots[i]
}

// folded makes the column of a slot whose values follow from variants: a constant, a
// dictionary, or with last digits of its own.
func (u *foldUse) folded(s *foldSlot, rows int, at *[streamCount]int) column {
	col := column{rows: rows, at: *at, entries: s.values, use: u, slot: s}
	switch {
	case s.digits > 0:
		col.encoding, col.width = columnFold, lowWidth(s.digits)
		at[streamBits] += packedSize(rows, col.width)
	case len(s.values) == 1:
		col.encoding = columnConst
	default:
		col.encoding, col.storage, col.count = columnDict, idsVariants, len(s.values)
	}
	return col
}

// foldIDs sets which of its values each row of a folded column has.
func (c *blockColumns) foldIDs(t *blockTemplate, col *column) error {
	if err := c.load(t, &col.use.variants); err != nil {
		return err
	}
	col.ids = make([]uint32, col.rows)
	if col.slot.ids != nil {
		for i, v := range col.use.variants.ids {
			col.ids[i] = col.slot.ids[v]
		}
	}
	return nil
}

// checkLow refuses last digits that are more than there can be.
func (col *column) checkLow() error {
	for i, low := range col.numbers {
		if cut := col.slot.cuts[col.ids[i]]; low >= uint64(powersOf10[cut]) {
			return fmt.Errorf("last digits %d, there are %d of them", low, cut)
		}
	}
	return nil
}

// mayFold reports whether any value of a folded column can satisfy a condition.
func (col *column) mayFold(c *slotCondition) bool {
	s := col.slot
	for i, v := range s.values {
		if c.testBegin(v, int(s.cuts[i])) {
			return true
		}
	}
	return false
}

// testBegin reports whether a value that begins with the given bytes and goes on with so
// many digits can satisfy the condition. If there are none it is exact.
func (c *slotCondition) testBegin(begin []byte, digits int) bool {
	if digits == 0 {
		return c.test(begin)
	}
	n, k := planNeedle{fold: c.fold}, len(c.text)
	last := trailingDigits(c.text)
	// at reports whether the text can stand at a place of the value.
	at := func(i int) bool {
		if i+k > len(begin)+digits {
			return false
		}
		inside := min(max(len(begin)-i, 0), k)
		return k-inside <= last && (inside == 0 || n.equal(begin[i:i+inside], c.text[:inside]))
	}
	whole := len(begin) + digits
	switch c.kind {
	case valueBegins:
		return at(0)
	case valueEnds:
		return k <= whole && at(whole-k)
	case valueEquals:
		return k == whole && at(0)
	}
	for i := 0; i+k <= whole; i++ {
		if at(i) {
			return true
		}
	}
	return false
}

// keepFold narrows keep to the rows whose values can satisfy a condition, by what their
// variants say.
func (col *column) keepFold(c *slotCondition, keep []bool) {
	holds := make([]bool, len(col.slot.values))
	for i, v := range col.slot.values {
		holds[i] = c.testBegin(v, int(col.slot.cuts[i]))
	}
	for i, id := range col.ids {
		keep[i] = keep[i] && holds[id]
	}
}
