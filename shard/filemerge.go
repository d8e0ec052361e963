package shard

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"

	"github.com/logcluster/logcluster/segment"
)

// mergeBudget bounds the bytes of entries that a query holds in memory of one shard.
const mergeBudget = 1 << 30

// A fileMerge returns the entries of a reading in the order of its query. A file is
// opened when its first entry may be the next, and given back with its last: with files
// that follow each other in time, few are open at once.
type fileMerge struct {
	ctx      context.Context
	reading  *reading
	pending  []*part  // the next one to open stands last
	heap     partHeap // of those that are open, by their current entry
	sent     int
	err      error
	released bool
}

// A part is what a fileMerge opens at once: a sealed file, or all that is not sealed.
type part struct {
	reach   int64       // first timestamp, by the query's direction, that it may yield
	file    *sealedFile // nil: the units of the reading
	entries segment.Iterator
}

func newFileMerge(ctx context.Context, n *reading) *fileMerge {
	m := &fileMerge{ctx: ctx, reading: n, heap: partHeap{q: n.q}}
	reach := func(lo, hi int64) int64 {
		if n.q.Direction == segment.Forward {
			return lo
		}
		return hi
	}
	for _, f := range n.files {
		m.pending = append(m.pending, &part{reach: reach(f.MinTimestamp, f.MaxTimestamp), file: f})
	}
	for i, u := range n.units {
		at := reach(u.Bounds())
		if i == 0 {
			m.pending = append(m.pending, &part{reach: at})
		}
		if p := m.pending[len(m.pending)-1]; m.first(at, p.reach) {
			p.reach = at
		}
	}
	slices.SortStableFunc(m.pending, func(a, b *part) int {
		if n.q.Direction == segment.Forward {
			a, b = b, a
		}
		return cmp.Compare(a.reach, b.reach)
	})
	return m
}

// first reports whether timestamp a comes before b, by the query's direction.
func (m *fileMerge) first(a, b int64) bool {
	if m.reading.q.Direction == segment.Forward {
		return a < b
	}
	return a > b
}

// Next implements segment.Iterator.
func (m *fileMerge) Next() bool {
	q := m.reading.q
	if m.err != nil || m.released || q.Limit > 0 && m.sent >= q.Limit {
		return false
	}
	if m.sent > 0 && len(m.heap.parts) > 0 {
		if p := m.heap.parts[0]; p.entries.Next() {
			heap.Fix(&m.heap, 0)
		} else {
			heap.Pop(&m.heap)
			if m.err = m.end(p); m.err != nil {
				return false
			}
		}
	}
	for n := len(m.pending); n > 0 && (len(m.heap.parts) == 0 || !m.first(m.heap.parts[0].entries.At().Timestamp, m.pending[n-1].reach)); n = len(m.pending) {
		p := m.pending[n-1]
		m.pending = m.pending[:n-1]
		if m.err = m.begin(p); m.err != nil {
			return false
		}
	}
	if len(m.heap.parts) == 0 {
		return false
	}
	m.sent++
	return true
}

// begin opens a part, and keeps it open if it has an entry.
func (m *fileMerge) begin(p *part) error {
	units := m.reading.units
	var release func()
	if p.file != nil {
		s, err := m.reading.acquire(p.file)
		if s == nil {
			return err
		}
		units = make([]segment.Unit, len(s.Blocks))
		for i, b := range s.Blocks {
			units[i] = b
		}
		release = p.file.yield
	}
	p.entries = segment.SelectUnits(m.ctx, m.reading.shard.o.Number, units, m.reading.q, release)
	if !p.entries.Next() {
		return m.end(p)
	}
	heap.Push(&m.heap, p)
	held := 0
	for _, p := range m.heap.parts {
		if h, ok := p.entries.(interface{ Held() int }); ok {
			held += h.Held()
		}
	}
	if held > mergeBudget {
		return fmt.Errorf("%w: more than %d MiB of lines that overlap in time: ask for a shorter time range, fewer streams, or with a limit", segment.ErrTooLarge, mergeBudget>>20)
	}
	return nil
}

// end closes a part that has no more entries.
func (m *fileMerge) end(p *part) error {
	err := p.entries.Err()
	if cerr := p.entries.Close(); err == nil {
		err = cerr
	}
	return err
}

// At implements segment.Iterator.
func (m *fileMerge) At() *segment.Entry { return m.heap.parts[0].entries.At() }

// Err implements segment.Iterator.
func (m *fileMerge) Err() error { return m.err }

// Close implements segment.Iterator.
func (m *fileMerge) Close() error {
	if m.released {
		return nil
	}
	m.released = true
	for _, p := range m.heap.parts {
		_ = p.entries.Close() // its error, if it has one, was returned by Next
	}
	m.heap.parts, m.pending = nil, nil
	m.reading.release()
	return nil
}

// partHeap orders parts by their current entry.
type partHeap struct {
	q     *segment.Query
	parts []*part
}

func (h *partHeap) Len() int { return len(h.parts) }
func (h *partHeap) Less(i, j int) bool {
	a, b := h.parts[i].entries.At(), h.parts[j].entries.At()
	if h.q.Direction == segment.Backward {
		a, b = b, a
	}
	if a.Timestamp != b.Timestamp {
		return a.Timestamp < b.Timestamp
	}
	return a.Offset < b.Offset
}
func (h *partHeap) Swap(i, j int) { h.parts[i], h.parts[j] = h.parts[j], h.parts[i] }
func (h *partHeap) Push(x any)    { h.parts = append(h.parts, x.(*part)) }
func (h *partHeap) Pop() any {
	n := len(h.parts) - 1
	x := h.parts[n]
	h.parts[n] = nil
	h.parts = h.parts[:n]
	return x
}
