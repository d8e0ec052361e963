package segment

import (
	"bytes"
	"context"
	"slices"
)

// selectRows is Select for queries with a pipeline.
func (b *Block) selectRows(ctx context.Context, q *Query, r *blockReader, match *blockMatch, runs []*BlockRun, offsets []uint64) ([]Entry, error) {
	if narrow := q.Pipeline.Narrow(nil); narrow.parserOnly() != nil && b.Meta.find(ChunkMetadata) == nil {
		return b.selectByColumns(ctx, q, narrow, r, match, runs, offsets)
	}
	c := firstEntries(q)
	metadata := blockMetadata{b: b}
	var row PipelineRow
	var text []byte
	err := r.eachMatch(ctx, q, match, runs, func(run *BlockRun, n int) (err error) {
		if text, err = r.append(text[:0], n); err != nil {
			return err
		}
		labels := metadata.of(uint32(n))
		if q.Pipeline.Run(&row, b.Stream(run), labels, text) {
			c.add(Entry{Timestamp: r.times[n], Stream: b.Stream(run), Line: bytes.Clone(text), Metadata: labels.own(), Parsed: row.Parsed(), Offset: offsets[n]})
		}
		return nil
	})
	if err == nil {
		err = metadata.err
	}
	if err != nil {
		return nil, err
	}
	return c.result(), nil
}

// selectByColumns is selectRows where the columns of the fields that the filters look at
// decide for most rows. What is kept is put together when it is asked for.
func (b *Block) selectByColumns(ctx context.Context, q *Query, narrow *Pipeline, r *blockReader, match *blockMatch, runs []*BlockRun, offsets []uint64) ([]Entry, error) {
	if err := r.rank(); err != nil {
		return nil, err
	}
	k := &rowKeeper{p: narrow, r: r, known: map[*Template]*fieldsOf{}, readers: make([]*fieldReader, len(b.Meta.Templates)), tried: make([]bool, len(b.Meta.Templates))}
	first := firstRows{q: q, times: r.times, offsets: offsets}
	err := r.eachMatch(ctx, q, match, runs, func(run *BlockRun, row int) error {
		if first.full && first.after(r.times[row], first.last) {
			return nil
		}
		keep, err := k.keeps(run, row)
		if keep {
			first.add(uint32(row))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	r.pipeline = q.Pipeline
	return b.entries(q, r, &first, offsets), ctx.Err()
}

// A rowKeeper decides for rows of a block whether a pipeline keeps them.
type rowKeeper struct {
	p       *Pipeline // narrowed
	r       *blockReader
	known   map[*Template]*fieldsOf
	readers []*fieldReader // by local template; nil: lines decide
	tried   []bool
	row     PipelineRow
	text    []byte

	run    *BlockRun
	number int32 // of run
}

func (k *rowKeeper) keeps(run *BlockRun, row int) (bool, error) {
	r := k.r
	stream := r.block.Stream(run)
	if run != k.run {
		k.run = run
		k.number++
	}
	var f *fieldReader
	if r.ids != nil && r.ids[row] != fallbackID {
		local := r.ids[row]
		if !k.tried[local] {
			var err error
			if k.readers[local], err = r.fieldReader(k.p, int(local), k.known); err != nil {
				return false, err
			}
			k.tried[local] = true
		}
		f = k.readers[local]
	}
	if f == nil {
		var err error
		k.text, err = r.append(k.text[:0], row)
		return err == nil && k.p.Run(&k.row, stream, nil, k.text), err
	}
	rank := int(r.ranks[row])
	if f.combinations == 0 {
		return k.p.runExtracted(&k.row, stream, f.read(rank, r.times[row])), nil
	}
	at := &f.outcomes[f.combination(rank)]
	if at.run != k.number {
		*at = outcome{run: k.number, series: -1}
		if k.p.runExtracted(&k.row, stream, f.read(rank, r.times[row])) {
			at.series = 0
		}
	}
	return at.series == 0, nil
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
