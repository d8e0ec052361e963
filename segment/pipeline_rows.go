package segment

// A rowSink gathers what single rows add to a Partial: those of queries whose series or
// values depend on the line. It is a part of sums, and for one goroutine. Of a unit,
// rows are staged until all of it has been read.
type rowSink struct {
	q        *Query
	a        *Aggregation
	p        *Partial
	pipeline *Pipeline // narrowed to what counts; may be nil

	row    PipelineRow
	groups map[string]int32 // number of a series, by its key
	series []rowSeries
	staged []stagedRow
	err    error // that ends the aggregation

	known map[*Template]*fieldsOf // which slots are which fields, by template
}

type rowSeries struct {
	key     string
	partial *PartialSeries // nil until a row of it is committed
}

// A stagedRow is one row or, of counts, some that follow each other.
type stagedRow struct {
	series, lo, hi int32
	timestamp      int64
	value          float64
	sum, entries   uint64
}

// newRowSink returns nil for an aggregation that needs no more of a row than its stream,
// its time and its length.
func newRowSink(q *Query, a *Aggregation, p *Partial) *rowSink {
	if q.Pipeline == nil && a.Measure <= MeasureBytes {
		return nil
	}
	return &rowSink{q: q, a: a, p: p, pipeline: q.Pipeline.needs(a), groups: map[string]int32{}}
}

// add counts one line. The metadata is looked at, and kept, by nobody after the call.
func (s *rowSink) add(stream *Stream, timestamp int64, metadata Labels, line []byte) {
	lo, hi := s.a.Span(timestamp)
	if lo >= hi || s.err != nil || s.pipeline == nil || !s.pipeline.Run(&s.row, stream, metadata, line) {
		return
	}
	if s.err = s.row.Err(); s.err != nil {
		return
	}
	n, ok := s.number(s.row.group(&s.a.Grouping))
	if !ok {
		return
	}
	switch s.a.Measure {
	case MeasureCount:
		s.count(n, lo, hi, 1, 1)
	case MeasureBytes:
		s.count(n, lo, hi, uint64(len(line)), 1)
	default:
		s.observe(n, lo, hi, timestamp, s.row.value, 1)
	}
}

// number returns the number of the series whose labels have the key. ok is false if there
// are too many.
func (s *rowSink) number(key []byte) (n int32, ok bool) {
	if n, ok = s.groups[string(key)]; ok {
		return n, true
	}
	if limit := s.a.MaxSeries; limit > 0 && len(s.series) >= limit {
		s.err = ErrTooManySeries
		return 0, false
	}
	n = int32(len(s.series))
	own := string(key)
	s.groups[own] = n
	s.series = append(s.series, rowSeries{key: own})
	return n, true
}

// count adds sum, from some entries, to a series at the points [lo, hi).
func (s *rowSink) count(series int32, lo, hi int, sum, entries uint64) {
	if n := len(s.staged); n > 0 {
		if last := &s.staged[n-1]; last.series == series && last.lo == int32(lo) && last.hi == int32(hi) {
			last.sum += sum
			last.entries += entries
			return
		}
	}
	s.staged = append(s.staged, stagedRow{series: series, lo: int32(lo), hi: int32(hi), sum: sum, entries: entries})
}

// observe adds a value, which some entries of one time have, to a series at the points
// [lo, hi).
func (s *rowSink) observe(series int32, lo, hi int, timestamp int64, value float64, entries uint64) {
	s.staged = append(s.staged, stagedRow{series: series, lo: int32(lo), hi: int32(hi), timestamp: timestamp, value: value, entries: entries})
}

// begin forgets what was staged.
func (s *rowSink) begin() { s.staged = s.staged[:0] }

// commit hands on what was staged, or returns why the aggregation has no answer.
func (s *rowSink) commit() error {
	if s.err != nil {
		return s.err
	}
	for i := range s.staged {
		st := &s.staged[i]
		series := &s.series[st.series]
		if series.partial == nil {
			series.partial = s.p.series(series.key)
		}
		if s.a.Measure <= MeasureBytes {
			series.partial.Add(int(st.lo), int(st.hi), st.sum, st.entries)
		} else if err := s.p.observe(series.partial, s.a, int(st.lo), int(st.hi), st.timestamp, st.value, st.entries); err != nil {
			return err
		}
	}
	return nil
}
