package segment

import (
	"context"
	"slices"
	"sort"
)

// Bounds returns the block's smallest and largest timestamp.
func (b *Block) Bounds() (int64, int64) { return b.Meta.MinTimestamp, b.Meta.MaxTimestamp }

// EachStream implements Unit from the directory alone.
func (b *Block) EachStream(q *Query, f func(*Stream) bool) error {
	for i := range b.Meta.Runs {
		run := &b.Meta.Runs[i]
		if q.overlaps(run.MinTimestamp, run.MaxTimestamp) && !f(b.Stream(run)) {
			return nil
		}
	}
	return nil
}

// runs returns the runs that may hold entries for q.
func (b *Block) runs(q *Query, matches func(*Stream) bool) []*BlockRun {
	var out []*BlockRun
	for i := range b.Meta.Runs {
		run := &b.Meta.Runs[i]
		if q.overlaps(run.MinTimestamp, run.MaxTimestamp) && matches(b.Stream(run)) {
			out = append(out, run)
		}
	}
	return out
}

// Select implements Unit.
func (b *Block) Select(ctx context.Context, q *Query) ([]Entry, error) {
	entries, err := b.selectLate(ctx, q)
	for i := range entries {
		if err == nil && entries[i].source != nil {
			err = entries[i].source.load(&entries[i])
		}
	}
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// selectLate is Select, but the lines of entries are left to their source, unless the
// pipeline needed them. What decides is read first: the directory, the templates and columns that the
// line filters need, the timestamps.
func (b *Block) selectLate(ctx context.Context, q *Query) ([]Entry, error) {
	runs := b.runs(q, q.MatchesStream)
	if len(runs) == 0 {
		return nil, nil
	}
	r := b.lazyReader()
	match, err := r.match(ctx, q.lines(), runs)
	if err != nil || match.nothing {
		return nil, err
	}
	if err := r.loadTimes(); err != nil {
		return nil, err
	}
	offsets, err := b.offsets()
	if err != nil {
		return nil, err
	}
	if q.Pipeline != nil {
		return b.selectRows(ctx, q, r, match, runs, offsets)
	}
	first := firstRows{q: q, times: r.times, offsets: offsets}
	add := func(_ *BlockRun, row int) error {
		if t := r.times[row]; t >= q.Start && t < q.End {
			first.add(uint32(row))
		}
		return nil
	}
	if match.everything && q.Direction == Backward {
		// Rows mostly follow each other in time: from their end fewer are kept in vain.
		for _, run := range runs {
			for row := run.FirstRow + run.Rows; row > run.FirstRow; row-- {
				_ = add(run, int(row-1))
			}
		}
	} else if err := match.each(runs, add); err != nil {
		return nil, err
	}
	return b.entries(q, r, &first, offsets), ctx.Err()
}

// entries returns the rows that were kept, without their lines.
func (b *Block) entries(q *Query, r *blockReader, first *firstRows, offsets []uint64) []Entry {
	rows := first.result()
	r.single = q.Limit > 0 || len(rows) < int(b.Meta.Rows)/16
	entries := make([]Entry, len(rows))
	for i, row := range rows {
		entries[i] = Entry{Timestamp: r.times[row], Stream: b.streamOf(row), Offset: offsets[row], source: r, row: row}
	}
	return entries
}

// streamOf returns the stream of a row.
func (b *Block) streamOf(row uint32) *Stream {
	runs := b.Meta.Runs
	i := sort.Search(len(runs), func(i int) bool { return runs[i].FirstRow+runs[i].Rows > row })
	return b.Stream(&runs[i])
}

// firstRows keeps the rows that come first by the query's order, as many as its limit.
type firstRows struct {
	q       *Query
	times   []int64
	offsets []uint64
	rows    []uint32
	full    bool  // there are enough: only those before last matter
	last    int64 // timestamp of the last of the rows that are kept
}

func (f *firstRows) add(row uint32) {
	if f.full && f.after(f.times[row], f.last) {
		return
	}
	f.rows = append(f.rows, row)
	if l := f.q.Limit; l > 0 && len(f.rows) >= 2*l+1024 {
		f.cut()
	}
}

// after reports whether timestamp a comes behind b.
func (f *firstRows) after(a, b int64) bool {
	if f.q.Direction == Backward {
		return a < b
	}
	return a > b
}

// compare orders rows as the query wants them.
func (f *firstRows) compare(a, b uint32) int {
	switch x, y := f.times[a], f.times[b]; {
	case a == b:
		return 0
	case x == y && (f.offsets[a] < f.offsets[b]) == (f.q.Direction == Forward), x != y && f.after(y, x):
		return -1
	}
	return 1
}

// cut drops the rows that are too many. What is kept is in no order.
func (f *firstRows) cut() {
	l := f.q.Limit
	if l <= 0 || len(f.rows) < l {
		return
	}
	// Quickselect: the side of a pivot that row l-1 is on is divided again.
	rows, k := f.rows, l-1
	for tries := 0; len(rows) > 1; tries++ {
		if tries > 64 { // the pivots were poor
			slices.SortFunc(rows, f.compare)
			break
		}
		pivot := rows[len(rows)/2]
		i, j := 0, len(rows)-1
		for i <= j {
			for f.compare(rows[i], pivot) < 0 {
				i++
			}
			for f.compare(rows[j], pivot) > 0 {
				j--
			}
			if i <= j {
				rows[i], rows[j] = rows[j], rows[i]
				i++
				j--
			}
		}
		switch {
		case k <= j:
			rows = rows[:j+1]
		case k >= i:
			rows, k = rows[i:], k-i
		default:
			rows = nil // between the sides: it is the pivot
		}
	}
	f.full, f.last = true, f.times[f.rows[l-1]]
	f.rows = f.rows[:l]
}

// result returns the rows in the query's order.
func (f *firstRows) result() []uint32 {
	f.cut()
	slices.SortFunc(f.rows, f.compare)
	return f.rows
}

// wantsRow reports whether a row is in one of the runs.
func wantsRow(runs []*BlockRun, row int) bool {
	i := sort.Search(len(runs), func(i int) bool { return int(runs[i].FirstRow+runs[i].Rows) > row })
	return i < len(runs) && int(runs[i].FirstRow) <= row
}

// load completes an entry that Select left without its line.
func (r *blockReader) load(e *Entry) error {
	row := int(e.row)
	line, err := r.append(nil, row)
	if err != nil {
		return err
	}
	e.Line, e.source = line, nil
	if r.pipeline != nil { // of a block without metadata
		r.pipeline.Run(&r.row, e.Stream, nil, line)
		e.Parsed = r.row.Parsed()
	}
	if r.block.Meta.find(ChunkMetadata) == nil {
		return nil
	}
	if r.metadata == nil {
		r.metadata = &blockMetadata{b: r.block}
	}
	e.Metadata = r.metadata.of(e.row).own()
	return r.metadata.err
}

// chunkOf returns the chunk of a kind that covers a row. The directory's reader has
// checked that there is one.
func (b *Block) chunkOf(kind ChunkKind, row uint32) *ChunkRef {
	for i := range b.Meta.Chunks {
		if c := &b.Meta.Chunks[i]; c.Kind == kind && row >= c.FirstRow && row-c.FirstRow < c.Rows {
			return c
		}
	}
	return nil
}

// eachLine calls f for the rows of the runs that are in q's time range and that its
// filters keep. The line is valid during the call.
func (r *blockReader) eachLine(ctx context.Context, q *Query, runs []*BlockRun, f func(run *BlockRun, row int, line []byte)) error {
	var line []byte
	return r.eachRow(ctx, q, runs, func(run *BlockRun, row int) (err error) {
		if line, err = r.append(line[:0], row); err == nil {
			f(run, row, line)
		}
		return err
	})
}

// eachRow is eachLine without the lines.
func (r *blockReader) eachRow(ctx context.Context, q *Query, runs []*BlockRun, f func(run *BlockRun, row int) error) error {
	match, err := r.match(ctx, q.lines(), runs)
	if err != nil || match.nothing {
		return err
	}
	return r.eachMatch(ctx, q, match, runs, f)
}

// eachMatch is eachRow of runs that were matched.
func (r *blockReader) eachMatch(ctx context.Context, q *Query, match *blockMatch, runs []*BlockRun, f func(run *BlockRun, row int) error) error {
	if err := r.loadTimes(); err != nil {
		return err
	}
	var last *BlockRun
	return match.each(runs, func(run *BlockRun, row int) error {
		if run != last {
			if err := ctx.Err(); err != nil {
				return err
			}
			last = run
		}
		if t := r.times[row]; t >= q.Start && t < q.End {
			return f(run, row)
		}
		return nil
	})
}

// countRuns takes out the runs that lie in one window as a whole: of them the filtered
// rows are counted without their timestamps. What is left is for match.each.
func (r *blockReader) countRuns(q *Query, match *blockMatch, runs []*BlockRun, s *sums) ([]*BlockRun, error) {
	whole := func(run *BlockRun) (lo, hi int, ok bool) {
		lo, hi = s.a.Span(run.MinTimestamp)
		lo2, hi2 := s.a.Span(run.MaxTimestamp)
		return lo, hi, q.covers(run.MinTimestamp, run.MaxTimestamp) && lo == lo2 && hi == hi2
	}
	meta := r.block.Meta
	lo, hi := s.a.Span(meta.MinTimestamp)
	lo2, hi2 := s.a.Span(meta.MaxTimestamp)
	if g := &s.a.Grouping; !g.Without && len(g.Names) == 0 && len(runs) == len(meta.Runs) &&
		q.covers(meta.MinTimestamp, meta.MaxTimestamp) && lo == lo2 && hi == hi2 {
		// All rows of the block make one series: which run they are in does not matter.
		if n := match.count(); n > 0 {
			s.add(r.block.Stream(runs[0]), lo, hi, n, n)
		}
		return nil, nil
	}
	var counted, rest []*BlockRun
	for _, run := range runs {
		if _, _, ok := whole(run); ok {
			counted = append(counted, run)
		} else {
			rest = append(rest, run)
		}
	}
	var last *BlockRun
	n := uint64(0)
	add := func() {
		if n > 0 {
			lo, hi, _ := whole(last)
			s.add(r.block.Stream(last), lo, hi, n, n)
		}
	}
	err := match.each(counted, func(run *BlockRun, _ int) error {
		if run != last {
			add()
			last, n = run, 0
		}
		n++
		return nil
	})
	add()
	return rest, err
}

// Aggregate implements Unit. Without line filters it answers from the directory where
// a run falls into one window, and from the timestamps elsewhere.
func (b *Block) Aggregate(ctx context.Context, q *Query, a *Aggregation, p *Partial) error {
	return b.aggregate(ctx, q, newSums(q, a, p))
}

func (b *Block) aggregate(ctx context.Context, q *Query, s *sums) error {
	s.begin()
	if err := b.sum(ctx, q, b.runs(q, s.matches), s); err != nil {
		return err
	}
	return s.commit()
}

func (b *Block) sum(ctx context.Context, q *Query, runs []*BlockRun, s *sums) error {
	if s.rows != nil {
		return b.sumRows(ctx, q, runs, s)
	}
	if len(q.Filters) == 0 {
		runs = slices.DeleteFunc(runs, func(run *BlockRun) bool {
			lo, hi := s.a.Span(run.MinTimestamp)
			lo2, hi2 := s.a.Span(run.MaxTimestamp)
			if !q.covers(run.MinTimestamp, run.MaxTimestamp) || lo != lo2 || hi != hi2 {
				return false
			}
			value := uint64(run.Rows)
			if s.a.Measure == MeasureBytes {
				value = run.RawBytes
			}
			s.add(b.Stream(run), lo, hi, value, uint64(run.Rows))
			return true
		})
	}
	if len(runs) == 0 {
		return nil
	}
	r := b.lazyReader()
	if s.a.Measure == MeasureCount {
		match, err := r.match(ctx, q.lines(), runs)
		if err != nil || match.nothing {
			return err
		}
		if len(q.Filters) > 0 {
			if runs, err = r.countRuns(q, match, runs, s); err != nil || len(runs) == 0 {
				return err
			}
		}
		return r.eachMatch(ctx, q, match, runs, func(run *BlockRun, row int) error {
			s.entry(b.Stream(run), r.times[row], 1)
			return nil
		})
	}
	return r.eachLine(ctx, q, runs, func(run *BlockRun, row int, line []byte) {
		s.entry(b.Stream(run), r.times[row], uint64(len(line)))
	})
}
