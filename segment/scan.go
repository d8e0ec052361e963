package segment

import (
	"bytes"
	"context"
	"slices"
	"sort"
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

func (q *Query) sort(entries []Entry) {
	slices.SortFunc(entries, func(a, b Entry) int {
		if q.less(&a, &b) {
			return -1
		}
		return 1
	})
}

// collect gathers entries and keeps the first Limit of them by the query's order.
type collector struct {
	q       *Query
	entries []Entry
}

func (c *collector) add(e Entry) {
	c.entries = append(c.entries, e)
	// A sort for every Limit entries that are dropped is amortised.
	if l := c.q.Limit; l > 0 && len(c.entries) >= 2*l+1024 {
		c.q.sort(c.entries)
		clear(c.entries[l:])
		c.entries = c.entries[:l]
	}
}

func (c *collector) result() []Entry {
	c.q.sort(c.entries)
	if l := c.q.Limit; l > 0 && len(c.entries) > l {
		c.entries = c.entries[:l]
	}
	return c.entries
}

// scanLines calls hit for each line lo <= i < hi that the filters keep. The lines stand
// one behind the other in text, and line i ends at ends[i].
func scanLines(filters []*LineFilter, text []byte, ends []uint32, lo, hi int, hit func(i int)) {
	if lo >= hi {
		return
	}
	if len(filters) == 0 {
		for i := lo; i < hi; i++ {
			hit(i)
		}
		return
	}
	start := func(i int) uint32 {
		if i == 0 {
			return 0
		}
		return ends[i-1]
	}
	keeps := func(filters []*LineFilter, line []byte) bool {
		for _, f := range filters {
			if !f.Keeps(line) {
				return false
			}
		}
		return true
	}
	// One search over all lines is many times faster than one for each of them.
	first := filters[0]
	if first.Type == MatchEqual && len(first.needles) == 1 && len(first.needles[0]) > 0 {
		needle := first.needles[0]
		for i := lo; i < hi; {
			at := int(start(i))
			found := bytes.Index(text[at:ends[hi-1]], needle)
			if found < 0 {
				return
			}
			at += found
			i += sort.Search(hi-i, func(k int) bool { return int(ends[i+k]) > at })
			// A find that crosses a line's end is none, and no later one begins before that end.
			if at+len(needle) <= int(ends[i]) && keeps(filters[1:], text[start(i):ends[i]]) {
				hit(i)
			}
			i++
		}
		return
	}
	for i := lo; i < hi; i++ {
		if keeps(filters, text[start(i):ends[i]]) {
			hit(i)
		}
	}
}
