package segment

import (
	"errors"
	"strings"

	"github.com/logcluster/logcluster/segment/field"
)

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
