package segment

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
)

// selectBudget bounds the entries' bytes that the units of one shard, opened for one
// query, may hold in memory at a time.
const selectBudget = 1 << 30

// entrySize is about what an entry takes beside its line.
const entrySize = 96

// SelectUnits returns the entries of units, which are of one shard, in the order of q's
// direction. A unit is read when the first of its entries may be the next, and its
// memory is given up with the last: with units that follow each other in time, few are
// open at once. While those that were read hold nothing, twice as many are read at a time,
// up to the number of q's Workers. release is called once, at Close.
func SelectUnits(ctx context.Context, shard uint32, units []Unit, q *Query, release func()) Iterator {
	q = q.searching()
	it := &unitIterator{ctx: ctx, q: q, shard: shard, release: release, wave: 1}
	for _, u := range units {
		if q.overlaps(u.Bounds()) {
			it.pending = append(it.pending, u)
		}
	}
	// The next unit to open stands last.
	slices.SortStableFunc(it.pending, func(a, b Unit) int {
		switch x, y := it.reach(a), it.reach(b); {
		case x == y:
			return 0
		case (x < y) == (q.Direction == Forward):
			return 1
		default:
			return -1
		}
	})
	return it
}

type unitIterator struct {
	ctx     context.Context
	q       *Query
	shard   uint32
	pending []Unit
	open    entryHeap
	current Entry
	sent    int
	held    int // bytes of the entries in open, about
	wave    int // how many units are read at once when none is open
	err     error
	release func()
}

// reach is the first timestamp, by direction, that a unit may yield.
func (it *unitIterator) reach(u Unit) int64 {
	lo, hi := u.Bounds()
	if it.q.Direction == Forward {
		return lo
	}
	return hi
}

func (it *unitIterator) Next() bool {
	if it.err != nil || it.q.Limit > 0 && it.sent >= it.q.Limit {
		return false
	}
	for {
		units := it.due()
		if len(units) == 0 {
			break
		}
		if it.err = it.openUnits(units); it.err != nil {
			return false
		}
	}
	if len(it.open.lists) == 0 {
		return false
	}
	list := &it.open.lists[0]
	it.current = (*list)[0]
	it.held -= it.current.size()
	(*list)[0] = Entry{}
	if *list = (*list)[1:]; len(*list) == 0 {
		heap.Pop(&it.open)
	} else {
		heap.Fix(&it.open, 0)
	}
	if r := it.current.source; r != nil {
		if !r.damaged {
			err := r.load(&it.current)
			if err != nil && errors.Is(err, ErrCorrupt) {
				// What is left of the block is told of once.
				r.damaged = true
				err = it.q.Damaged(err)
			}
			if it.err = err; err != nil {
				return false
			}
		}
		if r.damaged {
			return it.Next()
		}
	}
	it.sent++
	return true
}

// mustOpen reports whether a unit may hold an entry that comes before all open ones.
func (it *unitIterator) mustOpen(u Unit) bool {
	if len(it.open.lists) == 0 {
		return true
	}
	next, reach := it.open.lists[0][0].Timestamp, it.reach(u)
	if it.q.Direction == Forward {
		return reach <= next
	}
	return reach >= next
}

// due takes the units from pending that must be opened next.
func (it *unitIterator) due() []Unit {
	most := it.q.width()
	if len(it.open.lists) == 0 {
		most, it.wave = it.wave, min(2*it.wave, most)
	}
	n := 0
	for n < min(most, len(it.pending)) && it.mustOpen(it.pending[len(it.pending)-1-n]) {
		n++
	}
	rest := len(it.pending) - n
	units := slices.Clone(it.pending[rest:])
	clear(it.pending[rest:])
	it.pending = it.pending[:rest]
	slices.Reverse(units)
	return units
}

// openUnits reads units, side by side.
func (it *unitIterator) openUnits(units []Unit) error {
	lists := make([][]Entry, len(units))
	err := it.q.each(it.ctx, len(units), func(i int) (err error) {
		if err = it.ctx.Err(); err != nil {
			return err
		}
		if b, ok := units[i].(*Block); ok {
			lists[i], err = b.selectLate(it.ctx, it.q)
		} else {
			lists[i], err = units[i].Select(it.ctx, it.q)
		}
		if errors.Is(err, ErrCorrupt) {
			lists[i], err = nil, it.q.Damaged(err)
		}
		return err
	})
	if err != nil {
		return err
	}
	it.open.q = it.q
	for _, entries := range lists {
		if len(entries) == 0 {
			continue
		}
		for i := range entries {
			entries[i].Shard = it.shard
			it.held += entries[i].size()
		}
		if it.held > selectBudget {
			return fmt.Errorf("%w: more than %d MiB of lines that overlap in time: ask for a shorter time range, fewer streams, or with a limit", ErrTooLarge, selectBudget>>20)
		}
		heap.Push(&it.open, entries)
	}
	return nil
}

// size is the bytes of the entry's line and of what was extracted from it.
func (e *Entry) size() int {
	n := entrySize + len(e.Line)
	for _, l := range e.Parsed {
		n += len(l.Name) + len(l.Value)
	}
	return n
}

// Held returns about how many bytes the entries take that were found and not returned.
func (it *unitIterator) Held() int { return it.held }

func (it *unitIterator) At() *Entry { return &it.current }
func (it *unitIterator) Err() error { return it.err }

func (it *unitIterator) Close() error {
	if it.release != nil {
		it.release()
		it.release = nil
	}
	it.pending, it.open.lists = nil, nil
	return nil
}

// entryHeap orders lists of entries by their first.
type entryHeap struct {
	q     *Query
	lists [][]Entry
}

func (h *entryHeap) Len() int           { return len(h.lists) }
func (h *entryHeap) Less(i, j int) bool { return h.q.less(&h.lists[i][0], &h.lists[j][0]) }
func (h *entryHeap) Swap(i, j int)      { h.lists[i], h.lists[j] = h.lists[j], h.lists[i] }
func (h *entryHeap) Push(x any)         { h.lists = append(h.lists, x.([]Entry)) }
func (h *entryHeap) Pop() any {
	n := len(h.lists) - 1
	x := h.lists[n]
	h.lists[n] = nil
	h.lists = h.lists[:n]
	return x
}

// MergeIterators returns the entries of several iterators, each in the order of q's
// direction, in that order, and ends after q.Limit. It closes them.
func MergeIterators(q *Query, iterators []Iterator) Iterator {
	return &mergeIterator{q: q, all: iterators}
}

type mergeIterator struct {
	q       *Query
	all     []Iterator
	heap    []Iterator // of those that have an entry
	started bool
	sent    int
	err     error
}

func (m *mergeIterator) Len() int           { return len(m.heap) }
func (m *mergeIterator) Less(i, j int) bool { return m.q.less(m.heap[i].At(), m.heap[j].At()) }
func (m *mergeIterator) Swap(i, j int)      { m.heap[i], m.heap[j] = m.heap[j], m.heap[i] }
func (m *mergeIterator) Push(x any)         { m.heap = append(m.heap, x.(Iterator)) }
func (m *mergeIterator) Pop() any {
	n := len(m.heap) - 1
	x := m.heap[n]
	m.heap = m.heap[:n]
	return x
}

func (m *mergeIterator) Next() bool {
	if m.err != nil || m.q.Limit > 0 && m.sent >= m.q.Limit {
		return false
	}
	if !m.started {
		m.started = true
		for _, it := range m.all {
			if it.Next() {
				m.heap = append(m.heap, it)
			} else if m.err = it.Err(); m.err != nil {
				return false
			}
		}
		heap.Init(m)
	} else if len(m.heap) > 0 {
		if m.heap[0].Next() {
			heap.Fix(m, 0)
		} else if m.err = m.heap[0].Err(); m.err != nil {
			return false
		} else {
			heap.Pop(m)
		}
	}
	m.sent++
	return len(m.heap) > 0
}

func (m *mergeIterator) At() *Entry { return m.heap[0].At() }
func (m *mergeIterator) Err() error { return m.err }

func (m *mergeIterator) Close() error {
	var errs []error
	for _, it := range m.all {
		errs = append(errs, it.Close())
	}
	m.all, m.heap = nil, nil
	return errors.Join(errs...)
}
