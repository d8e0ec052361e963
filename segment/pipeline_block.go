package segment

import (
	"bytes"
	"context"
	"slices"
)

// selectRows is Select for queries with a pipeline, line by line.
func (b *Block) selectRows(ctx context.Context, q *Query, r *blockReader, runs []*BlockRun, offsets []uint64) ([]Entry, error) {
	c := firstEntries(q)
	metadata := blockMetadata{b: b}
	var row PipelineRow
	err := r.eachLine(ctx, q, runs, func(run *BlockRun, n int, line []byte) {
		labels := metadata.of(uint32(n))
		if q.Pipeline.Run(&row, b.Stream(run), labels, line) {
			c.add(Entry{Timestamp: r.times[n], Stream: b.Stream(run), Line: bytes.Clone(line), Metadata: labels.own(), Parsed: row.Parsed(), Offset: offsets[n]})
		}
	})
	if err == nil {
		err = metadata.err
	}
	if err != nil {
		return nil, err
	}
	return c.result(), nil
}

// sumRows is sum for aggregations that need the lines, line by line.
func (b *Block) sumRows(ctx context.Context, q *Query, runs []*BlockRun, s *sums) error {
	if len(runs) == 0 {
		return nil
	}
	r := b.lazyReader()
	metadata := blockMetadata{b: b}
	if s.rows.pipeline != nil && s.rows.pipeline.parserOnly() != nil && s.a.Measure != MeasureBytes && b.Meta.find(ChunkMetadata) == nil {
		return b.sumColumns(ctx, q, r, runs, s)
	}
	err := r.eachLine(ctx, q, runs, func(run *BlockRun, n int, line []byte) {
		s.rows.add(b.Stream(run), r.times[n], metadata.of(uint32(n)), line)
	})
	if err == nil {
		err = metadata.err
	}
	return err
}

// sumColumns is sumRows for aggregations that columns can answer.
func (b *Block) sumColumns(ctx context.Context, q *Query, r *blockReader, runs []*BlockRun, s *sums) error {
	var text []byte
	c := newColumnSum(s.rows, r, func(run *BlockRun, row int) (err error) {
		if err := r.loadTimes(); err != nil {
			return err
		}
		if text, err = r.append(text[:0], row); err == nil {
			s.rows.add(b.Stream(run), r.times[row], nil, text)
		}
		return err
	})
	if len(q.Filters) == 0 {
		if done, err := c.wholeBlock(q, runs); done || err != nil {
			return err
		}
	}
	if err := r.rank(); err != nil {
		return err
	}
	if len(q.Filters) == 0 && s.a.Measure != MeasureFirst && s.a.Measure != MeasureLast {
		var err error
		runs = slices.DeleteFunc(runs, func(run *BlockRun) bool {
			lo, hi := s.a.Span(run.MinTimestamp)
			lo2, hi2 := s.a.Span(run.MaxTimestamp)
			if err != nil || !q.covers(run.MinTimestamp, run.MaxTimestamp) || lo != lo2 || hi != hi2 {
				return false
			}
			if lo < hi {
				err = c.wholeRun(run, lo, hi)
			}
			return true
		})
		if err != nil || len(runs) == 0 {
			return err
		}
	}
	return r.eachRow(ctx, q, runs, c.add)
}

// blockMetadata reads the metadata of rows, each chunk once.
type blockMetadata struct {
	b    *Block
	ref  *ChunkRef // of the row asked for last
	sets []Labels
	all  map[*ChunkRef][]Labels
	err  error
}

// of returns the metadata of a row; nil if it has none, and after an error.
func (m *blockMetadata) of(row uint32) Labels {
	if m.err != nil || m.b.Meta.find(ChunkMetadata) == nil {
		return nil
	}
	if m.ref == nil || row < m.ref.FirstRow || row-m.ref.FirstRow >= m.ref.Rows {
		if m.ref = m.b.chunkOf(ChunkMetadata, row); m.ref == nil {
			m.err = m.b.damage(ChunkMetadata, errShort)
			return nil
		}
		if m.sets = m.all[m.ref]; m.sets == nil {
			if m.sets, m.err = m.b.metadata(m.ref); m.err != nil {
				return nil
			}
			if m.all == nil {
				m.all = map[*ChunkRef][]Labels{}
			}
			m.all[m.ref] = m.sets
		}
	}
	return m.sets[row-m.ref.FirstRow]
}
