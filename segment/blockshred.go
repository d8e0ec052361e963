package segment

import (
	"encoding/binary"
	"slices"
)

// shredScratch is what a BlockEncoder needs to cut lines into templates and columns.
type shredScratch struct {
	shredder shredder
	fresh    map[string]int32 // templates that the segment does not know → place in shapes
	known    []int32          // number in the segment → 1 + place in shapes
	touched  []uint32         // entries of known that are set
	shapes   []blockShape
	shapeOf  []int32 // of each row in block order; -1: none
	values   []slotValue
	valuesAt []uint32 // of each row in values

	ids      []uint16 // of each row: place among the block's templates
	fallback []uint32 // rows without a template
	rows     []uint32 // rows by template
	spans    []slotValue
	at       []uint32 // of each row of a template, in values
	times    []int64
	columns  columnWriter
}

// A blockShape is a template that occurs in the block being encoded.
type blockShape struct {
	key   string // "" if the segment knows it
	id    uint32 // in the segment
	rows  uint32
	local int32 // number among the block's templates; -1: its rows are stored as they are
	at    uint32
}

// streamCut is the size at which a chunk of a packed stream ends.
const streamCut = 256 << 10

// encodeTemplates cuts the block's lines and writes TID, COLUMNS and the packed streams.
// A template that occurs once and was not there before is not worth its place: such
// lines are left to FALLBACK.
func (e *BlockEncoder) encodeTemplates(m *BlockMeta, table *templateTable) error {
	s := &e.shred
	s.columns.added = s.columns.added[:0] // also if no line has a template
	e.cut(m, table)
	locals := e.choose(table)
	s.fallback, s.ids = s.fallback[:0], s.ids[:0]
	for row, shape := range s.shapeOf {
		if shape < 0 || s.shapes[shape].local < 0 {
			s.fallback = append(s.fallback, uint32(row))
			s.ids = append(s.ids, fallbackID)
		} else {
			s.ids = append(s.ids, uint16(s.shapes[shape].local))
		}
	}
	if len(locals) == 0 {
		return nil
	}
	raw := appendTemplateIDs(e.raw[:0], s.ids)
	e.raw = raw
	if err := e.chunk(m, ChunkTemplateIDs, raw, 0, m.Rows); err != nil {
		return err
	}
	return e.encodeColumns(m, table, locals)
}

// cut finds the template of each row in block order.
func (e *BlockEncoder) cut(m *BlockMeta, table *templateTable) {
	s := &e.shred
	for _, id := range s.touched {
		s.known[id] = 0
	}
	if s.fresh == nil {
		s.fresh = map[string]int32{}
	}
	clear(s.fresh)
	if len(s.known) < len(table.templates) {
		s.known = append(s.known, make([]int32, len(table.templates)-len(s.known))...)
	}
	s.touched, s.shapes, s.values = s.touched[:0], s.shapes[:0], s.values[:0]
	s.shapeOf = slices.Grow(s.shapeOf[:0], int(m.Rows))[:m.Rows]
	s.valuesAt = slices.Grow(s.valuesAt[:0], int(m.Rows))[:m.Rows]
	for row := range s.shapeOf {
		from := e.sorted[row]
		start := e.starts[from]
		s.shapeOf[row] = -1
		if !s.shredder.shred(e.text[start:e.ends[from]]) {
			continue
		}
		shape := s.find(table)
		s.shapes[shape].rows++
		s.shapeOf[row] = shape
		s.valuesAt[row] = uint32(len(s.values))
		for _, v := range s.shredder.values {
			s.values = append(s.values, slotValue{start + v.start, start + v.end})
		}
	}
}

// find returns the place in shapes of the template that the shredder has just found.
func (s *shredScratch) find(table *templateTable) int32 {
	if id, ok := table.find(s.shredder.key); ok {
		if at := s.known[id]; at > 0 {
			return at - 1
		}
		s.shapes = append(s.shapes, blockShape{id: id})
		s.known[id] = int32(len(s.shapes))
		s.touched = append(s.touched, id)
		return int32(len(s.shapes)) - 1
	}
	if at, ok := s.fresh[string(s.shredder.key)]; ok {
		return at
	}
	key := string(s.shredder.key)
	at := int32(len(s.shapes))
	s.shapes = append(s.shapes, blockShape{key: key})
	s.fresh[key] = at
	return at
}

// choose numbers the templates that the block uses, and adds the new ones to the
// segment's table while it has room.
func (e *BlockEncoder) choose(table *templateTable) []*blockShape {
	s := &e.shred
	var locals []*blockShape
	for i := range s.shapes {
		shape := &s.shapes[i]
		shape.local = -1
		if shape.key != "" {
			if shape.rows < 2 {
				continue
			}
			id, ok := table.add([]byte(shape.key))
			if !ok {
				continue
			}
			shape.id = id
		}
		shape.local = int32(len(locals))
		locals = append(locals, shape)
	}
	return locals
}

// encodeColumns writes COLUMNS and the packed streams: for each template in turn its
// slots in turn.
func (e *BlockEncoder) encodeColumns(m *BlockMeta, table *templateTable, locals []*blockShape) error {
	s, w := &e.shred, &e.shred.columns
	at := uint32(0)
	for _, shape := range locals {
		shape.at = at
		at += shape.rows
	}
	s.rows = slices.Grow(s.rows[:0], int(at))[:at]
	for row, id := range s.ids {
		if id != fallbackID {
			shape := locals[id]
			s.rows[shape.at] = uint32(row)
			shape.at++
		}
	}
	w.directory = w.directory[:0]
	var heads []byte
	ends := func() [streamCount]int {
		return [streamCount]int{len(w.streams[streamNumbers]), len(w.streams[streamIDs]), len(w.streams[streamText]), len(w.packed.out)}
	}
	w.packed = bitWriter{out: w.packed.out[:0]}
	var cuts [streamCount][]int
	for i := range w.streams {
		w.streams[i] = w.streams[i][:0]
	}
	for _, shape := range locals {
		rows := s.rows[shape.at-shape.rows : shape.at]
		m.Templates = append(m.Templates, TemplateUse{shape.id, shape.rows})
		s.times = s.times[:0]
		for _, row := range rows {
			s.times = append(s.times, e.times[e.sorted[row]])
		}
		w.begin()
		start, before := len(w.directory), ends()
		s.at = s.at[:0]
		for _, row := range rows {
			s.at = append(s.at, s.valuesAt[row])
		}
		source := foldSource{text: e.text, values: s.values, at: s.at}
		slots := table.templates[shape.id].slots()
		number, folded := w.foldRows(&table.folds, shape.id, slots, &source)
		next := 0 // of folded.slots
		if folded != nil {
			w.addFold(number)
		}
		for slot := range slots {
			if folded != nil && next < len(folded.slots) && folded.slots[next].slot == slot {
				w.addLow(&folded.slots[next], &source)
				w.cut(&cuts)
				next++
				continue
			}
			s.spans = s.spans[:0]
			for _, at := range s.at {
				s.spans = append(s.spans, s.values[int(at)+slot])
			}
			w.add(slot, &columnSource{text: e.text, spans: s.spans, times: s.times})
			w.cut(&cuts)
		}
		heads = binary.AppendUvarint(heads, uint64(len(w.directory)-start))
		for i, end := range ends() {
			heads = binary.AppendUvarint(heads, uint64(end-before[i]))
		}
	}
	w.directory = append(heads, w.directory...)
	if err := e.chunk(m, ChunkColumns, w.directory, 0, m.Rows); err != nil {
		return err
	}
	w.streams[streamBits] = w.packed.out
	for i, kind := range streamKinds {
		begin := 0
		for _, end := range append(cuts[i], len(w.streams[i])) {
			if end > begin {
				if err := e.chunk(m, kind, w.streams[i][begin:end], 0, 0); err != nil {
					return err
				}
			}
			begin = end
		}
	}
	w.packed.out, w.streams[streamBits] = w.streams[streamBits], nil
	return nil
}

// cut ends the chunks of the packed streams that are large enough.
func (w *columnWriter) cut(cuts *[streamCount][]int) {
	for i := range w.streams {
		size := len(w.streams[i])
		if i == streamBits {
			size = len(w.packed.out)
		}
		last := 0
		if n := len(cuts[i]); n > 0 {
			last = cuts[i][n-1]
		}
		if size-last >= streamCut {
			cuts[i] = append(cuts[i], size)
		}
	}
}
