package segment

import (
	"bytes"
	"context"
	"slices"
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
	r, err := b.reader()
	if err != nil {
		return nil, err
	}
	offsets, err := b.offsets()
	if err != nil {
		return nil, err
	}
	if q.Pipeline != nil {
		return b.selectRows(ctx, q, r, runs, offsets)
	}
	if len(q.Filters) == 0 && q.Limit > 0 {
		return b.selectFirst(ctx, q, r, runs, offsets)
	}
	c := collector{q: q}
	err = r.eachLine(ctx, q, runs, func(run *BlockRun, row int, line []byte) {
		c.add(Entry{Timestamp: r.times[row], Stream: b.Stream(run), Line: bytes.Clone(line), Offset: offsets[row]})
	})
	if err != nil {
		return nil, err
	}
	entries := c.result()
	return entries, b.addMetadata(entries, offsets)
}

// selectFirst finds the rows by time alone and then reads their lines only.
func (b *Block) selectFirst(ctx context.Context, q *Query, r *blockReader, runs []*BlockRun, offsets []uint64) ([]Entry, error) {
	c := collector{q: q}
	for _, run := range runs {
		for row := run.FirstRow; row < run.FirstRow+run.Rows; row++ {
			if t := r.times[row]; t >= q.Start && t < q.End {
				c.add(Entry{Timestamp: t, Stream: b.Stream(run), Offset: offsets[row]})
			}
		}
	}
	entries := c.result()
	for i, row := range b.rowsOf(entries, offsets) {
		line, err := r.append(nil, int(row))
		if err != nil {
			return nil, err
		}
		entries[i].Line = line
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return entries, b.addMetadata(entries, offsets)
}

// rowsOf returns the row of each entry.
func (b *Block) rowsOf(entries []Entry, offsets []uint64) []uint32 {
	byOffset := make(map[uint64]uint32, len(entries))
	for _, e := range entries {
		byOffset[e.Offset] = 0
	}
	for row, o := range offsets {
		if _, ok := byOffset[o]; ok {
			byOffset[o] = uint32(row)
		}
	}
	rows := make([]uint32, len(entries))
	for i := range entries {
		rows[i] = byOffset[entries[i].Offset]
	}
	return rows
}

// chunkOf returns the chunk of a kind that covers a row, or nil.
func (b *Block) chunkOf(kind ChunkKind, row uint32) *ChunkRef {
	for i := range b.Meta.Chunks {
		if c := &b.Meta.Chunks[i]; c.Kind == kind && row >= c.FirstRow && row-c.FirstRow < c.Rows {
			return c
		}
	}
	return nil
}

// addMetadata completes entries with their structured metadata, if the block has any.
func (b *Block) addMetadata(entries []Entry, offsets []uint64) error {
	if len(entries) == 0 || b.Meta.find(ChunkMetadata) == nil {
		return nil
	}
	byChunk := map[*ChunkRef][]Labels{}
	for i, row := range b.rowsOf(entries, offsets) {
		ref := b.chunkOf(ChunkMetadata, row)
		if ref == nil {
			return b.damage(ChunkMetadata, errShort)
		}
		sets, ok := byChunk[ref]
		if !ok {
			var err error
			if sets, err = b.metadata(ref); err != nil {
				return err
			}
			byChunk[ref] = sets
		}
		entries[i].Metadata = sets[row-ref.FirstRow]
	}
	return nil
}

// eachLine calls f for the rows of the runs that are in q's time range and that its
// filters keep. The line is valid during the call.
func (r *blockReader) eachLine(ctx context.Context, q *Query, runs []*BlockRun, f func(run *BlockRun, row int, line []byte)) error {
	var line []byte
	for _, run := range runs {
		if err := ctx.Err(); err != nil {
			return err
		}
		for row := int(run.FirstRow); row < int(run.FirstRow+run.Rows); row++ {
			if t := r.times[row]; t < q.Start || t >= q.End {
				continue
			}
			var err error
			if line, err = r.append(line[:0], row); err != nil {
				return err
			}
			if q.KeepsLine(line) {
				f(run, row, line)
			}
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
	r, err := b.reader()
	if err != nil {
		return err
	}
	if len(q.Filters) == 0 && s.a.Measure == MeasureCount {
		for _, run := range runs {
			stream := b.Stream(run)
			for _, t := range r.times[run.FirstRow : run.FirstRow+run.Rows] {
				if t >= q.Start && t < q.End {
					s.entry(stream, t, 1)
				}
			}
		}
		return nil
	}
	return r.eachLine(ctx, q, runs, func(run *BlockRun, row int, line []byte) {
		value := uint64(1)
		if s.a.Measure == MeasureBytes {
			value = uint64(len(line))
		}
		s.entry(b.Stream(run), r.times[row], value)
	})
}
