package segment

import (
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Shares of a file that its filters may take. What would take more is left out, and then
// searched in the columns.
const (
	valuesShare = 32  // 1/32 for the filter of values
	gramsShare  = 100 // 1/100 for that of grams, and at least gramsLeast
	gramsLeast  = 4 << 10

	listedHex    = 16 // hex digits from which on values are listed
	listedText   = 8  // bytes of the shortest value of a text column
	listedDigits = 12 // digits of the longest number
	partKeys     = 1 << 15
	partsAtATime = 128
)

// A filterBuilder gathers what a segment's filters say, from its blocks.
type filterBuilder struct {
	blocks []*Block
	slots  [][]slotBuild // by template and slot

	bare, dicts, texts *gramFilter
}

// restart makes fresh begin anew.
func (b *filterBuilder) restart() {
	for i := range b.slots {
		for k := range b.slots[i] {
			b.slots[i][k].foldNumber = 0
		}
	}
}

// fresh returns the entries of a column that were not seen in another block: of a folded
// slot later blocks have the same ones and some more.
func (s *slotBuild) fresh(col *column) [][]byte {
	if col.slot == nil {
		return col.entries
	}
	if s.foldNumber != col.use.number+1 {
		s.foldNumber, s.foldSeen = col.use.number+1, 0
	}
	from := min(s.foldSeen, len(col.entries))
	s.foldSeen = max(from, len(col.entries))
	return col.entries[from:]
}

// A slotBuild is what was found in one slot.
type slotBuild struct {
	slotFacts
	seen  bool // there is a value
	rows  int
	class listClass
	gram  gramClass

	foldNumber, foldSeen int // 1 + the fold, and how many of its values were looked at
}

// listClass orders what is listed in the filter of values: the first as long as there is
// room.
type listClass uint8

const (
	listNothing listClass = iota
	listNumbers
	listTexts
	listHex
	listNever // times, which stand for nothing without their row
)

// gramClass says what is needed to gather a slot's grams.
type gramClass uint8

const (
	gramEntries gramClass = iota // constants and dictionaries
	gramTexts                    // text columns
	gramNever                    // numbers: any digits may follow each other
)

// buildFilters decodes what is needed of the blocks of a segment, which all use the same
// templates.
func buildFilters(blocks []*Block, templates []*Template, fileSize uint64) (*segmentFilter, []*fuseFilter, error) {
	b := newFilterBuilder(blocks, templates)
	for _, block := range blocks {
		if err := b.block(block); err != nil {
			return nil, nil, err
		}
	}
	f := &segmentFilter{}
	f.begin()
	keys := b.chooseListed(fileSize / valuesShare * 8 / 9)
	most := b.chooseGrams(f, int(max(fileSize/gramsShare, gramsLeast)))
	for i := range b.slots {
		for k := range b.slots[i] {
			s := &b.slots[i][k]
			s.grammed = s.seen && s.gram < most
			f.add(s.slotFacts)
		}
	}
	f.index(templates)
	parts, err := b.parts(keys)
	return f, parts, err
}

func newFilterBuilder(blocks []*Block, templates []*Template) *filterBuilder {
	b := &filterBuilder{blocks: blocks, slots: make([][]slotBuild, len(templates)), bare: newGrams(), dicts: newGrams(), texts: newGrams()}
	for i, t := range templates {
		b.slots[i] = make([]slotBuild, t.slots())
	}
	return b
}

// parts makes the filters of values, of about partKeys keys each. The keys of some parts at
// a time are in memory.
func (b *filterBuilder) parts(keys int) ([]*fuseFilter, error) {
	if keys == 0 {
		return nil, nil
	}
	parts := make([]*fuseFilter, min((keys+partKeys-1)/partKeys, maxParts))
	for lo := 0; lo < len(parts); lo += partsAtATime {
		hi := min(lo+partsAtATime, len(parts))
		lists := make([][]uint64, hi-lo)
		b.restart()
		for _, block := range b.blocks {
			err := b.list(block, func(value []byte) {
				key := xxhash.Sum64(value)
				if p := partOf(key, len(parts)); p >= lo && p < hi {
					lists[p-lo] = append(lists[p-lo], key)
				}
			})
			if err != nil {
				return nil, err
			}
		}
		for i, list := range lists {
			slices.Sort(list)
			if list = slices.Compact(list); len(list) == 0 {
				list = []uint64{0} // a filter has a key
			}
			var err error
			if parts[lo+i], err = newFuse(list); err != nil {
				return nil, err
			}
		}
	}
	return parts, nil
}

// block looks at the directories of a block's columns, and at its lines without a template.
func (b *filterBuilder) block(block *Block) error {
	for i := range block.Meta.Chunks {
		ref := &block.Meta.Chunks[i]
		if ref.Kind != ChunkFallback {
			continue
		}
		l, err := block.lines(ref)
		if err != nil {
			return err
		}
		for k := range l.ends {
			b.bare.add(l.line(k))
		}
	}
	return eachColumn(block, nil, func(id uint32, slot int, c *blockColumns, t *blockTemplate) error {
		col, s := &t.columns[slot], &b.slots[id][slot]
		entries := s.fresh(col)
		if err := s.column(c, t, slot, entries); err != nil {
			return err
		}
		switch col.encoding {
		case columnConst, columnDict:
			for _, e := range entries {
				b.dicts.add(e)
			}
		case columnText:
			return eachValue(c, t, slot, b.texts.add)
		}
		return nil
	})
}

// eachColumn calls f for each column of a block, of the templates that are wanted.
func eachColumn(block *Block, wanted func(id uint32) bool, f func(id uint32, slot int, c *blockColumns, t *blockTemplate) error) error {
	c, err := block.columns()
	if err != nil || c == nil {
		return err
	}
	for i, u := range block.Meta.Templates {
		if wanted != nil && !wanted(u.ID) {
			continue
		}
		t, err := c.columnsOf(i)
		if err != nil {
			return err
		}
		for slot := range t.columns {
			if err := f(u.ID, slot, c, t); err != nil {
				return err
			}
		}
		t.columns = nil // it is not asked for again
	}
	return nil
}

// eachValue calls f with the values of a column, in the order of rows. It must not be one
// of times.
func eachValue(c *blockColumns, t *blockTemplate, slot int, f func(value []byte)) error {
	col := &t.columns[slot]
	if err := c.load(t, col); err != nil {
		return err
	}
	var value []byte
	for i := range col.rows {
		value = col.append(value[:0], i, 0)
		f(value)
	}
	return nil
}

// column widens what is known of a slot by the values of one block, of which the entries
// are new.
func (s *slotBuild) column(c *blockColumns, t *blockTemplate, slot int, entries [][]byte) error {
	col := &t.columns[slot]
	s.rows += col.rows
	s.class = max(s.class, col.listClass())
	s.gram = max(s.gram, col.gramClass())
	switch {
	case col.encoding == columnConst || col.encoding == columnDict:
		for _, e := range entries {
			s.take(e)
		}
	case col.encoding == columnFold:
		done := len(col.entries) - len(entries)
		for i, e := range entries {
			f := slotFacts{mask: maskOf(e), shortest: len(e), longest: len(e)}
			if cut := int(col.slot.cuts[done+i]); cut > 0 {
				f.mask = f.mask.or(digitMask)
				f.shortest += cut
				f.longest += cut
			}
			f.shortest, f.longest = min(f.shortest, unbounded), min(f.longest, unbounded)
			s.merge(f)
		}
	case col.encoding == columnHex || col.encoding == columnHexPlanes:
		length, digits := col.hexText()
		s.merge(slotFacts{mask: maskOf([]byte(digits)), shortest: length, longest: length})
	case col.encoding == columnNumber || col.encoding == columnPlanes || col.encoding == columnSplit:
		s.merge(col.numberFacts())
	case col.format == formatTime:
		s.merge(slotFacts{mask: allMask, longest: unbounded})
	default:
		return eachValue(c, t, slot, s.take)
	}
	return nil
}

// take widens what is known by a value.
func (s *slotBuild) take(value []byte) {
	n := min(len(value), unbounded)
	s.merge(slotFacts{mask: maskOf(value), shortest: n, longest: n})
}

func (s *slotBuild) merge(f slotFacts) {
	if !s.seen {
		s.seen, s.slotFacts = true, f
		return
	}
	s.mask = s.mask.or(f.mask)
	s.shortest, s.longest = min(s.shortest, f.shortest), max(s.longest, f.longest)
}

// bounds returns numbers that no value is below or above.
func (col *column) bounds() (first, last int64) {
	if col.encoding != columnSplit {
		span := uint64(1)<<col.width - 1
		if col.width >= 63 || col.smallest > math.MaxInt64-int64(span) {
			return col.smallest, math.MaxInt64
		}
		return col.smallest, col.smallest + int64(span)
	}
	first, last = col.high[0], col.high[0]
	for _, h := range col.high {
		first, last = min(first, h), max(last, h)
	}
	if last >= math.MaxInt64/col.power-1 {
		return first * col.power, math.MaxInt64
	}
	return first * col.power, last*col.power + col.power - 1
}

// numberFacts is what the directory says of the texts of numbers.
func (col *column) numberFacts() slotFacts {
	first, last := col.bounds()
	a, b := len(strconv.FormatInt(first, 10)), len(strconv.FormatInt(last, 10))
	f := slotFacts{mask: digitMask, shortest: min(a, b), longest: max(a, b)}
	if first < 0 {
		f.mask.add('-')
	}
	if first <= 0 && last >= 0 {
		f.shortest = 1
	}
	switch col.format {
	case formatFixed:
		f.shortest, f.longest = int(col.parameter), int(col.parameter)
	case formatDigits:
		f.shortest, f.longest = int(col.lenMin), min(int(col.lenMin)+1<<min(col.lenWidth, 8), maxDigits)
	case formatPoint:
		f.mask.add('.')
		f.shortest = int(col.parameter) + 2
		f.longest = max(f.longest, f.shortest) + 1
	case formatIPv4:
		f.mask.add('.')
		f.shortest, f.longest = len("0.0.0.0"), len("255.255.255.255")
	case formatTime:
		f = slotFacts{mask: digitMask.or(maskOf([]byte("-:.TZ"))), shortest: 1, longest: unbounded}
	}
	return f
}

// listClass says whether the values are worth being listed: those that hardly repeat and
// that people look for.
func (col *column) listClass() listClass {
	switch col.encoding {
	case columnConst, columnDict:
		return listNothing
	case columnHex, columnHexPlanes:
		if col.smallest >= listedHex {
			return listHex
		}
		return listNothing
	case columnFold:
		for i, e := range col.entries {
			if len(e)+int(col.slot.cuts[i]) >= listedDigits {
				return listNumbers
			}
		}
		return listNothing
	case columnText:
		if col.smallest >= listedText {
			return listTexts
		}
		return listNothing
	}
	if col.format == formatTime {
		return listNever
	}
	if _, last := col.bounds(); last >= powersOf10[listedDigits-1] {
		return listNumbers
	}
	return listNothing
}

func (col *column) gramClass() gramClass {
	switch col.encoding {
	case columnConst, columnDict:
		return gramEntries
	case columnText:
		return gramTexts
	}
	return gramNever
}

// chooseListed chooses the slots whose values are listed, as many as there is room for,
// and returns how many values they have.
func (b *filterBuilder) chooseListed(room uint64) (keys int) {
	var all []*slotBuild
	for i := range b.slots {
		for k := range b.slots[i] {
			if s := &b.slots[i][k]; s.class > listNothing && s.class < listNever {
				all = append(all, s)
			}
		}
	}
	// Of equal ones those of the templates that were used first.
	slices.SortStableFunc(all, func(x, y *slotBuild) int {
		return cmp.Or(cmp.Compare(y.class, x.class), cmp.Compare(y.shortest, x.shortest))
	})
	for _, s := range all {
		if uint64(keys+s.rows) <= room {
			keys += s.rows
			s.listed = true
		}
	}
	return keys
}

// list calls f with the values of the slots that were chosen.
func (b *filterBuilder) list(block *Block, f func(value []byte)) error {
	wanted := func(id uint32) bool {
		return slices.ContainsFunc(b.slots[id], func(s slotBuild) bool { return s.listed })
	}
	return eachColumn(block, wanted, func(id uint32, slot int, c *blockColumns, t *blockTemplate) error {
		if !b.slots[id][slot].listed {
			return nil
		}
		if col := &t.columns[slot]; col.encoding == columnConst || col.encoding == columnDict {
			for _, e := range b.slots[id][slot].fresh(col) {
				f(e)
			}
			return nil
		}
		return eachValue(c, t, slot, f)
	})
}

// chooseGrams unites the grams that there is room for. It returns the class from which on
// slots have none.
func (b *filterBuilder) chooseGrams(f *segmentFilter, room int) gramClass {
	most := gramClass(0)
	for i, g := range []*gramFilter{b.bare, b.dicts, b.texts} {
		if i > 0 {
			for k := range g.bits {
				g.bits[k] |= []*gramFilter{b.bare, b.dicts}[i-1].bits[k]
			}
		}
		small := g.shrink()
		if len(small.bits) > room {
			break
		}
		f.grams = small
		most = gramClass(i)
	}
	return most
}
