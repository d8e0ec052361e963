package segment

import (
	"bytes"
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

// Select implements Unit. What decides is read first: the directory, then the
// timestamps, and of the lines only the chunks that can hold what is asked for.
func (b *Block) Select(ctx context.Context, q *Query) ([]Entry, error) {
	runs := b.runs(q, q.MatchesStream)
	if len(runs) == 0 {
		return nil, nil
	}
	times, err := b.timestamps()
	if err != nil {
		return nil, err
	}
	offsets, err := b.offsets()
	if err != nil {
		return nil, err
	}
	c := collector{q: q}
	decoded := map[*ChunkRef]*lines{}
	if len(q.Filters) == 0 {
		for i, run := range runs {
			for row := run.FirstRow; row < run.FirstRow+run.Rows; row++ {
				if t := times[row]; t >= q.Start && t < q.End {
					c.add(hit{t, offsets[row], row, uint32(i)})
				}
			}
		}
	} else if err := b.eachLine(ctx, q, runs, times, func(run int, row uint32, ref *ChunkRef, l *lines) bool {
		decoded[ref] = l
		c.add(hit{times[row], offsets[row], row, uint32(run)})
		return true
	}); err != nil {
		return nil, err
	}
	return b.entries(ctx, q, runs, c.result(), decoded)
}

// entries puts hits together. decoded are the chunks of lines that were read already.
func (b *Block) entries(ctx context.Context, q *Query, runs []*BlockRun, hits []hit, decoded map[*ChunkRef]*lines) ([]Entry, error) {
	entries := make([]Entry, len(hits))
	var sets map[*ChunkRef][]Labels
	if b.Meta.find(ChunkMetadata) != nil {
		sets = map[*ChunkRef][]Labels{}
	}
	for i, h := range hits {
		e := &entries[i]
		*e = Entry{Timestamp: h.timestamp, Offset: h.offset, Stream: b.Stream(runs[h.run])}
		ref := b.chunkOf(ChunkFallback, h.row)
		l := decoded[ref]
		if l == nil {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			var err error
			if l, err = b.lines(ref); err != nil {
				return nil, err
			}
			decoded[ref] = l
		}
		if e.Line = l.line(int(h.row - l.first)); q.few() {
			e.Line = bytes.Clone(e.Line)
		}
		if sets == nil {
			continue
		}
		ref = b.chunkOf(ChunkMetadata, h.row)
		if sets[ref] == nil {
			var err error
			if sets[ref], err = b.metadata(ref); err != nil {
				return nil, err
			}
		}
		if e.Metadata = sets[ref][h.row-ref.FirstRow]; q.few() {
			e.Metadata = e.Metadata.own()
		}
	}
	return entries, nil
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
// filters keep, with the number of the run and the chunk that holds the line. f returns
// whether it keeps the chunk, whose memory is used again otherwise.
func (b *Block) eachLine(ctx context.Context, q *Query, runs []*BlockRun, times []int64, f func(run int, row uint32, ref *ChunkRef, l *lines) bool) error {
	for i := range b.Meta.Chunks {
		ref := &b.Meta.Chunks[i]
		if ref.Kind != ChunkFallback {
			continue
		}
		at := sort.Search(len(runs), func(k int) bool { return runs[k].FirstRow+runs[k].Rows > ref.FirstRow })
		if at == len(runs) || runs[at].FirstRow >= ref.FirstRow+ref.Rows {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		pooled := getBuffer(int(ref.Raw))
		l, err := b.linesInto(*pooled, ref)
		if err != nil {
			return err
		}
		kept := false
		for ; at < len(runs) && runs[at].FirstRow < ref.FirstRow+ref.Rows; at++ {
			run := runs[at]
			lo := int(max(run.FirstRow, ref.FirstRow) - ref.FirstRow)
			hi := int(min(run.FirstRow+run.Rows, ref.FirstRow+ref.Rows) - ref.FirstRow)
			scanLines(q.Filters, l.text, l.ends, lo, hi, func(i int) {
				row := uint32(i) + ref.FirstRow
				if times[row] >= q.Start && times[row] < q.End {
					kept = f(at, row, ref, l) || kept
				}
			})
		}
		if !kept {
			putBuffer(pooled)
		}
	}
	return nil
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
	s.commit()
	return nil
}

func (b *Block) sum(ctx context.Context, q *Query, runs []*BlockRun, s *sums) error {
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
	times, err := b.timestamps()
	if err != nil {
		return err
	}
	if len(q.Filters) == 0 && s.a.Measure == MeasureCount {
		for _, run := range runs {
			stream := b.Stream(run)
			for _, t := range times[run.FirstRow : run.FirstRow+run.Rows] {
				if t >= q.Start && t < q.End {
					s.entry(stream, t, 1)
				}
			}
		}
		return nil
	}
	return b.eachLine(ctx, q, runs, times, func(run int, row uint32, _ *ChunkRef, l *lines) bool {
		value := uint64(1)
		if s.a.Measure == MeasureBytes {
			value = uint64(len(l.line(int(row - l.first))))
		}
		s.entry(b.Stream(runs[run]), times[row], value)
		return false
	})
}
