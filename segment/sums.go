package segment

// A streamCache remembers for one query which of a shard's streams it asks for. It is
// for one goroutine.
type streamCache struct {
	q     *Query
	match map[*Stream]bool
}

func newStreamCache(q *Query) streamCache { return streamCache{q, map[*Stream]bool{}} }

func (c *streamCache) matches(s *Stream) bool {
	m, ok := c.match[s]
	if !ok {
		m = c.q.MatchesStream(s)
		c.match[s] = m
	}
	return m
}

// sums gathers what one unit adds to a Partial, so that a unit that turns out to be
// damaged adds nothing: its share may be asked for elsewhere. It is for one goroutine.
type sums struct {
	streamCache
	a      *Aggregation
	p      *Partial
	series map[*Stream]*PartialSeries
	staged []staged
	rows   *rowSink // nil unless the lines themselves are needed
}

type staged struct {
	stream         *Stream
	lo, hi         int
	value, entries uint64
}

func newSums(q *Query, a *Aggregation, p *Partial) *sums {
	return &sums{streamCache: newStreamCache(q), a: a, p: p, series: map[*Stream]*PartialSeries{}, rows: newRowSink(q, a, p)}
}

// begin forgets what a unit added that was not committed.
func (s *sums) begin() {
	s.staged = s.staged[:0]
	if s.rows != nil {
		s.rows.begin()
	}
}

// entry adds one entry.
func (s *sums) entry(stream *Stream, ts int64, value uint64) {
	lo, hi := s.a.Span(ts)
	s.add(stream, lo, hi, value, 1)
}

// add adds entries that count at the points [lo, hi). Those that count at none make no
// series.
func (s *sums) add(stream *Stream, lo, hi int, value, entries uint64) {
	if lo >= hi {
		return
	}
	// Entries that follow each other mostly count at the same points.
	if n := len(s.staged); n > 0 {
		if last := &s.staged[n-1]; last.stream == stream && last.lo == lo && last.hi == hi {
			last.value += value
			last.entries += entries
			return
		}
	}
	s.staged = append(s.staged, staged{stream, lo, hi, value, entries})
}

// commit hands on what was added since begin, or returns why there is no answer.
func (s *sums) commit() error {
	for i := range s.staged {
		st := &s.staged[i]
		series := s.series[st.stream]
		if series == nil {
			series = s.p.For(s.a.Grouping.Apply(st.stream.Labels))
			s.series[st.stream] = series
		}
		series.Add(st.lo, st.hi, st.value, st.entries)
	}
	if s.rows != nil {
		return s.rows.commit()
	}
	return nil
}
