package segment

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unsafe"

	"github.com/logcluster/logcluster/segment/field"
)

// An aggregation over fields is answered from the columns of the fields it looks at,
// where that gives just what Pipeline.Run gives for the line:
//
//   - The parser is the first stage and the only one, and extracts what was asked for only.
//   - Which slot is which field is found by the parser itself, on a line of the template
//     whose values are marks. A template in which that depends on the values, since a name
//     occurs twice, say, is left to the lines.
//   - Whether the line is right is the same for all lines of the template, given values
//     that are right by themselves: those are looked at once, by column.
//
// The stages behind the parser then run on the values, once for each combination of
// values out of dictionaries, and once a row where a field has no dictionary.

// fieldsOf is which slots of a template hold which fields.
type fieldsOf struct {
	slots []int
	names []string
}

// parserOnly returns p's parser if it is the first stage and no other is a parser.
func (p *Pipeline) parserOnly() PipelineStage {
	if !p.finite || len(p.Stages) == 0 {
		return nil
	}
	for i, stage := range p.Stages {
		switch stage.(type) {
		case *JSONStage, *LogfmtStage:
			if i > 0 {
				return nil
			}
		default:
			if i == 0 {
				return nil
			}
		}
	}
	return p.Stages[0]
}

// fieldsOf finds the fields of a template; nil if its lines must be looked at.
func (p *Pipeline) fieldsOf(t *Template) *fieldsOf {
	stage := p.parserOnly()
	var scan func(line []byte, to *field.Fields) error
	switch s := stage.(type) {
	case *JSONStage:
		if t.kind != templateJSON {
			return nil
		}
		if s.all != nil {
			scan = s.all.Scan
		} else {
			for _, k := range t.kinds {
				if k == slotAny { // a path may lead into the array
					return nil
				}
			}
			scan = s.paths.Scan
		}
	case *LogfmtStage:
		if t.kind != templateLogfmt {
			return nil
		}
		scan = s.parser.Scan
	default:
		return nil
	}
	var found field.Fields
	if scan(t.probe(nil), &found) != nil {
		return nil
	}
	f := &fieldsOf{}
	used := make([]bool, t.slots())
	for _, x := range found.List {
		slot, ok := markedSlot(x.Value)
		if !ok || slot >= t.slots() || used[slot] {
			return nil // an object as a whole, or one slot under two names
		}
		used[slot] = true
		f.slots = append(f.slots, slot)
		f.names = append(f.names, x.Name)
	}
	// Without the values of these fields no other may take their place.
	var second field.Fields
	if scan(t.probe(used), &second) != nil {
		return nil
	}
	for _, x := range second.List {
		if x.Value != "" {
			return nil
		}
	}
	return f
}

// markBase makes marks that are right as numbers and as strings.
const markBase = 7_340_000_000

// probe is a line of the template with a mark in each slot, or nothing where empty says.
func (t *Template) probe(empty []bool) []byte {
	var line []byte
	for i, kind := range t.kinds {
		line = append(line, t.literals[i]...)
		switch {
		case empty != nil && empty[i] && kind == slotBare && t.kind == templateJSON:
			line = append(line, "null"...)
		case empty != nil && empty[i]:
		case kind == slotAny:
			line = append(line, "[]"...)
		default:
			line = strconv.AppendInt(line, markBase+int64(i), 10)
		}
	}
	return append(line, t.literals[len(t.kinds)]...)
}

func markedSlot(value string) (int, bool) {
	n, err := strconv.ParseInt(value, 10, 64)
	return int(n - markBase), err == nil && n >= markBase && len(value) == 10
}

// plain reports whether all values of a column are right by themselves in a line of the
// template, and stand there as they are.
func (c *blockColumns) plain(local int, slot int) (bool, error) {
	t := &c.templates[local]
	col, kind := &t.columns[slot], t.template.kinds[slot]
	json := t.template.kind == templateJSON
	check := func(v []byte) bool {
		switch {
		case json && kind == slotQuoted:
			return plainText(v, 0x20, "\\\"")
		case json && kind == slotBare:
			return bareJSON(v)
		case json:
			return false // arrays
		case kind == slotQuoted:
			return plainText(v, 0x20, "\\\"")
		}
		return plainText(v, ' '+1, "\\\"=")
	}
	switch col.encoding {
	case columnConst, columnDict:
		for _, e := range col.entries {
			if !check(e) {
				return false, nil
			}
		}
		return true, nil
	case columnFold:
		// Digits behind what is right by itself are right, but where that is a number.
		for _, e := range col.entries {
			if !check(e) || json && kind != slotQuoted && (len(e) == 0 || e[0] == '0' || !allDigits(e[:1])) {
				return false, nil
			}
		}
		return true, nil
	case columnNumber, columnPlanes, columnSplit:
		canonical := col.format == formatDecimal || col.format == formatPoint
		return canonical || kind == slotQuoted || !json && kind == slotBare, nil
	case columnHex, columnHexPlanes:
		return kind == slotQuoted || !json && kind == slotBare, nil
	}
	if kind != slotQuoted && json {
		return false, nil
	}
	if f := c.block.file.filter; f != nil && kind == slotQuoted &&
		f.slot(c.block.Meta.Templates[local].ID, slot).mask.without(plainMask).empty() {
		return true, nil
	}
	if err := c.load(t, col); err != nil {
		return false, err
	}
	return check(col.payload), nil
}

// plainText reports whether no byte is below a limit, is DEL or beyond ASCII, or is one
// of some others.
func plainText(v []byte, limit byte, but string) bool {
	for _, c := range v {
		if c < limit || c >= 0x7f {
			return false
		}
	}
	return !bytes.ContainsAny(v, but)
}

// bareJSON reports whether v is a number as JSON has it, true, false or null.
func bareJSON(v []byte) bool {
	switch string(v) {
	case "true", "false", "null":
		return true
	}
	digits := func() bool {
		n := 0
		for len(v) > 0 && v[0] >= '0' && v[0] <= '9' {
			v = v[1:]
			n++
		}
		return n > 0
	}
	if len(v) > 0 && v[0] == '-' {
		v = v[1:]
	}
	if len(v) > 1 && v[0] == '0' && v[1] >= '0' && v[1] <= '9' || !digits() {
		return false
	}
	if len(v) > 0 && v[0] == '.' {
		v = v[1:]
		if !digits() {
			return false
		}
	}
	if len(v) > 0 && (v[0] == 'e' || v[0] == 'E') {
		v = v[1:]
		if len(v) > 0 && (v[0] == '+' || v[0] == '-') {
			v = v[1:]
		}
		if !digits() {
			return false
		}
	}
	return len(v) == 0
}

// A fieldReader gives the fields of rows of one template in one block.
type fieldReader struct {
	fields  *fieldsOf
	columns []*column // of the slots of fields
	json    bool
	kinds   []slotKind

	// combinations, if all columns have dictionaries: how many there are; else 0.
	combinations int
	outcomes     []outcome

	list []field.Field
	text []byte
}

// An outcome is what becomes of the rows with one combination of values, in one run.
type outcome struct {
	run    int32 // 0: not known yet
	series int32 // -1: they are dropped
	value  float64
}

const maxCombinations = 1 << 16

// fieldReader prepares a template's rows; nil if their lines must be looked at.
func (r *blockReader) fieldReader(p *Pipeline, local int, known map[*Template]*fieldsOf) (*fieldReader, error) {
	template := r.block.file.templates[r.block.Meta.Templates[local].ID]
	f, ok := known[template]
	if !ok {
		f = p.fieldsOf(template)
		known[template] = f
	}
	if f == nil {
		return nil, nil
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	t, err := r.columns.columnsOf(local)
	if err != nil {
		return nil, err
	}
	for slot := range t.columns {
		if ok, err := r.columns.plain(local, slot); !ok || err != nil {
			return nil, err
		}
	}
	out := &fieldReader{fields: f, json: template.kind == templateJSON, combinations: 1}
	for _, slot := range f.slots {
		col := &t.columns[slot]
		if err := r.columns.load(t, col); err != nil {
			return nil, err
		}
		out.columns = append(out.columns, col)
		out.kinds = append(out.kinds, template.kinds[slot])
		switch {
		case col.encoding == columnConst:
		case col.encoding == columnDict && out.combinations*len(col.entries) <= maxCombinations:
			out.combinations *= len(col.entries)
		default:
			out.combinations = 0
		}
	}
	if out.combinations > 0 {
		out.outcomes = make([]outcome, out.combinations)
	}
	return out, nil
}

// combination numbers the values of a row.
func (f *fieldReader) combination(rank int) int {
	n := 0
	for _, col := range f.columns {
		if col.encoding == columnDict {
			n = n*len(col.entries) + int(col.ids[rank])
		}
	}
	return n
}

// read returns the fields of a row. They are valid until the next call.
func (f *fieldReader) read(rank int, ts int64) []field.Field {
	f.list, f.text = f.list[:0], f.text[:0]
	for i, col := range f.columns {
		from := len(f.text)
		f.text = col.append(f.text, rank, ts)
		value := f.text[from:len(f.text):len(f.text)]
		if len(value) == 0 || f.json && f.kinds[i] == slotBare && string(value) == "null" {
			continue // no field
		}
		f.list = append(f.list, field.Field{Name: f.fields.names[i], Value: unsafe.String(unsafe.SliceData(value), len(value))})
	}
	return f.list
}

// A columnSum adds the rows of one block that columns can answer for.
type columnSum struct {
	*rowSink
	r       *blockReader
	readers []*fieldReader
	tried   []bool
	run     *BlockRun
	number  int32 // of run
	counts  []uint32
	line    func(run *BlockRun, row int) error // for rows that columns cannot answer for
}

func newColumnSum(s *rowSink, r *blockReader, line func(run *BlockRun, row int) error) *columnSum {
	if s.known == nil {
		s.known = map[*Template]*fieldsOf{}
	}
	n := len(r.block.Meta.Templates)
	return &columnSum{rowSink: s, r: r, readers: make([]*fieldReader, n), tried: make([]bool, n), line: line}
}

// reader returns the reader of a template's fields, or nil.
func (c *columnSum) reader(local uint16) (*fieldReader, error) {
	if !c.tried[local] {
		f, err := c.r.fieldReader(c.pipeline, int(local), c.known)
		if err != nil {
			return nil, err
		}
		c.readers[local], c.tried[local] = f, true
	}
	return c.readers[local], nil
}

func (c *columnSum) begin(run *BlockRun) {
	if run != c.run {
		c.run = run
		c.number++
	}
}

// add adds one row. The block must be ranked and its timestamps loaded.
func (c *columnSum) add(run *BlockRun, row int) error {
	r := c.r
	if r.ids == nil || r.ids[row] == fallbackID {
		return c.line(run, row)
	}
	f, err := c.reader(r.ids[row])
	if err != nil {
		return err
	}
	if f == nil {
		return c.line(run, row)
	}
	c.begin(run)
	lo, hi := c.a.Span(r.times[row])
	if lo >= hi {
		return nil
	}
	rank := int(r.ranks[row])
	c.put(c.outcome(f, rank, r.times[row]), lo, hi, r.times[row], 1)
	return c.err
}

// outcome decides on a row, or remembers what was decided for its values.
func (c *columnSum) outcome(f *fieldReader, rank int, ts int64) outcome {
	if f.combinations == 0 {
		return c.decide(c.r.block.Stream(c.run), f.read(rank, ts))
	}
	at := &f.outcomes[f.combination(rank)]
	if at.run != c.number {
		*at = c.decide(c.r.block.Stream(c.run), f.read(rank, ts))
		at.run = c.number
	}
	return *at
}

func (c *columnSum) put(o outcome, lo, hi int, ts int64, rows uint64) {
	switch {
	case o.series < 0:
	case c.a.Measure == MeasureCount:
		c.count(o.series, lo, hi, rows, rows)
	default:
		c.observe(o.series, lo, hi, ts, o.value, rows)
	}
}

// wholeBlock adds all rows of a block that lies in one window, if columns can answer for
// each and it does not matter which stream a row is of. If not, it adds nothing.
func (c *columnSum) wholeBlock(q *Query, runs []*BlockRun) (done bool, err error) {
	meta := c.r.block.Meta
	lo, hi := c.a.Span(meta.MinTimestamp)
	lo2, hi2 := c.a.Span(meta.MaxTimestamp)
	if len(runs) != len(meta.Runs) || !q.covers(meta.MinTimestamp, meta.MaxTimestamp) || lo != lo2 || hi != hi2 ||
		c.a.Measure == MeasureFirst || c.a.Measure == MeasureLast || c.r.bareRows() > 0 || c.a.Grouping.Without {
		return false, nil
	}
	for _, run := range runs {
		if !c.neutral(c.r.block.Stream(run)) {
			return false, nil
		}
	}
	for i := range meta.Templates {
		f, err := c.reader(uint16(i))
		if err != nil || f == nil || f.combinations == 0 {
			return false, err
		}
	}
	if lo >= hi {
		return true, nil
	}
	staged := len(c.staged)
	c.begin(runs[0])
	for i, u := range meta.Templates {
		c.wholeTemplate(c.readers[i], 0, int(u.Rows), lo, hi)
	}
	var failed *PipelineError
	if errors.As(c.err, &failed) { // it names the labels of the row, which only its run knows
		c.staged, c.err = c.staged[:staged], nil
		for _, f := range c.readers {
			clear(f.outcomes)
		}
		c.run = nil
		return false, nil
	}
	return true, c.err
}

// neutral reports whether no label of a stream has a name that the pipeline or the
// grouping looks at, so that its rows fare as those of any other such stream.
func (c *columnSum) neutral(s *Stream) bool {
	for _, names := range [][]string{c.pipeline.names, c.a.Grouping.Names} {
		for _, n := range names {
			base, _ := strings.CutSuffix(n, extractedSuffix)
			if s.Labels.Get(n) != "" || s.Labels.Get(base) != "" {
				return false
			}
		}
	}
	return true
}

// wholeRun adds all rows of a run that lies in one window: of each template its rows one
// behind the other, and of rows with the same values only their number.
func (c *columnSum) wholeRun(run *BlockRun, lo, hi int) error {
	r := c.r
	c.begin(run)
	type part struct{ first, rows uint32 }
	parts := map[uint16]*part{}
	var last *part
	lastID := uint16(fallbackID)
	for row := run.FirstRow; row < run.FirstRow+run.Rows; row++ {
		id := uint16(fallbackID)
		if r.ids != nil {
			id = r.ids[row]
		}
		if id == fallbackID {
			if err := c.line(run, int(row)); err != nil {
				return err
			}
			continue
		}
		if id != lastID || last == nil {
			if last = parts[id]; last == nil {
				last = &part{first: r.ranks[row]}
				parts[id] = last
			}
			lastID = id
		}
		last.rows++
	}
	for id, p := range parts {
		f, err := c.reader(id)
		if err != nil {
			return err
		}
		if f == nil {
			for _, row := range r.rowsOf(int(id))[p.first : p.first+p.rows] {
				if err := c.line(run, int(row)); err != nil {
					return err
				}
			}
			continue
		}
		if f.combinations == 0 {
			if err := r.loadTimes(); err != nil {
				return err
			}
			rows := r.rowsOf(int(id))
			for rank := p.first; rank < p.first+p.rows && c.err == nil; rank++ {
				ts := r.times[rows[rank]]
				c.put(c.outcome(f, int(rank), ts), lo, hi, ts, 1)
			}
		} else {
			c.wholeTemplate(f, int(p.first), int(p.first+p.rows), lo, hi)
		}
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

// wholeTemplate adds rows of one template by how often each combination of values is
// among them.
func (c *columnSum) wholeTemplate(f *fieldReader, from, to, lo, hi int) {
	if cap(c.counts) < f.combinations {
		c.counts = make([]uint32, f.combinations)
	}
	counts := c.counts[:f.combinations]
	clear(counts)
	var dict *column
	dicts := 0
	for _, col := range f.columns {
		if col.encoding == columnDict {
			dict = col
			dicts++
		}
	}
	switch dicts {
	case 0:
		counts[0] = uint32(to - from)
	case 1:
		for _, id := range dict.ids[from:to] {
			counts[id]++
		}
	default:
		for rank := from; rank < to; rank++ {
			counts[f.combination(rank)]++
		}
	}
	left := 0
	for _, n := range counts {
		if n > 0 {
			left++
		}
	}
	for rank := from; left > 0; rank++ {
		n := f.combination(rank)
		if counts[n] > 0 {
			left--
			c.put(c.outcome(f, rank, 0), lo, hi, 0, uint64(counts[n]))
			counts[n] = 0
		}
	}
}

// decide runs the stages behind the parser on the fields of a row.
func (s *rowSink) decide(stream *Stream, fields []field.Field) outcome {
	drop := outcome{series: -1}
	if s.err != nil || !s.pipeline.runExtracted(&s.row, stream, fields) {
		return drop
	}
	if s.err = s.row.Err(); s.err != nil {
		return drop
	}
	n, ok := s.number(s.row.group(&s.a.Grouping))
	if !ok {
		return drop
	}
	return outcome{series: n, value: s.row.value}
}
