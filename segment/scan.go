package segment

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"strings"
)

// A Unit is a part of the stored entries that is read as a whole: a block, or a frame
// of the tail.
type Unit interface {
	// Bounds returns the smallest and the largest timestamp, both inclusive.
	Bounds() (minTimestamp, maxTimestamp int64)
	// Select returns the unit's entries that q asks for, in the order of q's direction,
	// at most q.Limit. They stay valid.
	Select(ctx context.Context, q *Query) ([]Entry, error)
	// Aggregate adds the unit's entries that q asks for to p.
	Aggregate(ctx context.Context, q *Query, a *Aggregation, p *Partial) error
	// EachStream calls f with each stream that may have entries in q's time range, until
	// f returns false.
	EachStream(q *Query, f func(*Stream) bool) error
}

// overlaps reports whether entries with timestamps in [lo, hi] may be in q's range.
func (q *Query) overlaps(lo, hi int64) bool { return lo < q.End && hi >= q.Start }

// covers reports whether all of [lo, hi] is in q's range.
func (q *Query) covers(lo, hi int64) bool { return lo >= q.Start && hi < q.End }

// less orders entries by the query's direction.
func (q *Query) less(a, b *Entry) bool {
	if q.Direction == Backward {
		a, b = b, a
	}
	if a.Timestamp != b.Timestamp {
		return a.Timestamp < b.Timestamp
	}
	if a.Shard != b.Shard {
		return a.Shard < b.Shard
	}
	return a.Offset < b.Offset
}

// A hit is an entry of a unit that a query asks for, before it is put together.
type hit struct {
	timestamp int64
	offset    uint64
	row       uint32
	run       uint32
}

// first gathers what a unit holds of a query and keeps the first limit of it, or all of
// it if limit is 0.
type first[T any] struct {
	limit   int
	compare func(a, b T) int
	items   []T
}

func firstHits(q *Query) *first[hit] {
	return &first[hit]{limit: q.Limit, compare: func(a, b hit) int {
		if q.Direction == Backward {
			a, b = b, a
		}
		if a.timestamp != b.timestamp {
			return cmp.Compare(a.timestamp, b.timestamp)
		}
		return cmp.Compare(a.offset, b.offset)
	}}
}

func firstEntries(q *Query) *first[Entry] {
	return &first[Entry]{limit: q.Limit, compare: func(a, b Entry) int {
		if q.less(&a, &b) {
			return -1
		}
		return 1
	}}
}

func (f *first[T]) add(item T) {
	f.items = append(f.items, item)
	// A sort for every limit items that are dropped is amortised.
	if f.limit > 0 && len(f.items) >= 1024 && len(f.items)/2 >= f.limit {
		f.result()
	}
}

// result returns what was kept, in the query's order.
func (f *first[T]) result() []T {
	slices.SortFunc(f.items, f.compare)
	if f.limit > 0 && len(f.items) > f.limit {
		clear(f.items[f.limit:]) // lets go of dropped lines
		f.items = f.items[:f.limit]
	}
	return f.items
}

// few reports whether a query may return few of a unit's entries, which then must not
// hold the memory of all.
func (q *Query) few() bool { return q.Limit > 0 || len(q.Filters) > 0 }

// own returns a copy of metadata that shares no memory with it.
func (l Labels) own() Labels {
	if l == nil {
		return nil
	}
	out := make(Labels, len(l))
	for i, p := range l {
		out[i] = Label{strings.Clone(p.Name), strings.Clone(p.Value)}
	}
	return out
}

// scanLines calls keep for each line lo <= i < hi that the filters keep. The lines stand
// one behind the other in text, and line i ends at ends[i].
func scanLines(filters []*LineFilter, text []byte, ends []uint32, lo, hi int, keep func(i int)) {
	driver := chooseDriver(filters)
	if driver < 0 {
		for i := lo; i < hi; i++ {
			if keepsAll(filters, -1, lineAt(text, ends, i)) {
				keep(i)
			}
		}
		return
	}
	// One search over all lines is many times faster than one for each of them.
	f := filters[driver]
	search := newSearch(f.needles, text, ends, lo, hi)
	for i := lo; i < hi; i++ {
		found := search.next(i)
		if f.negative() {
			// Lines up to the next find match nothing of the driver, and so stay.
			for ; i < found; i++ {
				if keepsAll(filters, driver, lineAt(text, ends, i)) {
					keep(i)
				}
			}
		}
		if i = found; i == hi {
			return
		}
		if line := lineAt(text, ends, i); f.confirms(line) != f.negative() && keepsAll(filters, driver, line) {
			keep(i)
		}
	}
}

func lineAt(text []byte, ends []uint32, i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = ends[i-1]
	}
	return text[start:ends[i]]
}

// chooseDriver returns the filter whose needles are searched for first: one that leaves
// few lines to the others. -1 if no filter has needles that help.
func chooseDriver(filters []*LineFilter) int {
	const positive = 1 << 16 // a filter that keeps what it finds goes before all others
	best, bestScore := -1, 0
	for i, f := range filters {
		if len(f.needles) == 0 || len(f.needles) > maxNeedles {
			continue
		}
		score := positive
		for _, n := range f.needles {
			score = min(score, len(n.text))
		}
		if score == 0 { // on every line
			continue
		}
		if !f.negative() {
			score += positive
		}
		if score > bestScore {
			best, bestScore = i, score
		}
	}
	return best
}

// keepsAll reports whether all filters but one keep the line.
func keepsAll(filters []*LineFilter, but int, line []byte) bool {
	for i, f := range filters {
		if i != but && !f.Keeps(line) {
			return false
		}
	}
	return true
}

// A search finds the lines that hold one of some needles, front to back.
type search struct {
	needles []needle
	text    []byte
	ends    []uint32
	hi      int
	at      [maxNeedles]int // for each needle the next line that holds it
}

func newSearch(needles []needle, text []byte, ends []uint32, lo, hi int) *search {
	s := &search{needles: needles, text: text, ends: ends, hi: hi}
	for k := range needles {
		s.at[k] = s.find(&needles[k], lo)
	}
	return s
}

// next returns the first line from i on that holds a needle, or hi.
func (s *search) next(i int) int {
	first := s.hi
	for k := range s.needles {
		if s.at[k] < i {
			s.at[k] = s.find(&s.needles[k], i)
		}
		first = min(first, s.at[k])
	}
	return first
}

// find returns the first line from i on that holds the needle, or hi.
func (s *search) find(n *needle, i int) int {
	for i < s.hi {
		at := 0
		if i > 0 {
			at = int(s.ends[i-1])
		}
		found := n.index(s.text[at:s.ends[s.hi-1]])
		if found < 0 {
			return s.hi
		}
		at += found
		// The line that holds the byte at: gallop, since it is near or far.
		step := 1
		for i+step < s.hi && int(s.ends[i+step-1]) <= at {
			i += step
			step *= 2
		}
		i += sort.Search(min(step, s.hi-i), func(k int) bool { return int(s.ends[i+k]) > at })
		// A find that crosses a line's end is none, and no later one begins before that end.
		if at+len(n.text) <= int(s.ends[i]) {
			return i
		}
		i++
	}
	return s.hi
}
