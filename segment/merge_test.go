package segment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A listUnit is a unit that holds its entries plainly and notes when it is read.
type listUnit struct {
	entries []Entry
	err     error
	reads   *int
}

func (u *listUnit) Bounds() (int64, int64) {
	lo, hi := u.entries[0].Timestamp, u.entries[0].Timestamp
	for _, e := range u.entries {
		lo, hi = min(lo, e.Timestamp), max(hi, e.Timestamp)
	}
	return lo, hi
}

func (u *listUnit) Select(ctx context.Context, q *Query) ([]Entry, error) {
	*u.reads++
	if u.err != nil {
		return nil, u.err
	}
	return answer(q, found(q, u.entries)), ctx.Err()
}

func (u *listUnit) Aggregate(_ context.Context, q *Query, a *Aggregation, p *Partial) error {
	if u.err != nil {
		return u.err
	}
	for _, e := range found(q, u.entries) {
		lo, hi := a.Span(e.Timestamp)
		p.For(a.Grouping.Apply(e.Stream.Labels)).Add(lo, hi, 1, 1)
	}
	return nil
}

func (u *listUnit) EachStream(_ *Query, f func(*Stream) bool) error {
	f(u.entries[0].Stream)
	return u.err
}

// SelectUnits and MergeIterators yield the order of the query over any units and shards.
func TestMergeOrder(t *testing.T) {
	s := NewStream("t", nil)
	for seed := range uint64(300) {
		rng := seeded(t, seed)
		q := everything()
		q.Direction = Direction(rng.IntN(2))
		var all []Entry
		var iterators []Iterator
		released := 0
		shards := 1 + rng.IntN(4)
		for shard := range uint32(shards) {
			var units []Unit
			reads := 0
			offset := uint64(0)
			for range rng.IntN(8) {
				u := &listUnit{reads: &reads}
				base := rng.Int64N(30)
				for range 1 + rng.IntN(6) {
					e := Entry{Timestamp: base + rng.Int64N(1+rng.Int64N(20)), Stream: s, Offset: offset, Line: []byte{byte(offset)}}
					offset++
					u.entries = append(u.entries, e)
					e.Shard = shard
					all = append(all, e)
				}
				units = append(units, u)
			}
			rng.Shuffle(len(units), func(i, k int) { units[i], units[k] = units[k], units[i] })
			iterators = append(iterators, SelectUnits(context.Background(), shard, units, q, func() { released++ }))
		}
		if rng.IntN(2) == 0 {
			q.Limit = 1 + rng.IntN(len(all)+2)
		}
		slices.SortFunc(all, func(a, b Entry) int {
			less := q.less(&a, &b)
			if less == q.less(&b, &a) {
				t.Fatal("two entries are in no order")
			}
			if less {
				return -1
			}
			return 1
		})
		if q.Limit > 0 && len(all) > q.Limit {
			all = all[:q.Limit]
		}
		it := MergeIterators(q, iterators)
		got, err := drain(it)
		if err != nil {
			t.Fatal(err)
		}
		sameEntries(t, fmt.Sprintf("seed %d, %d shards, limit %d", seed, shards, q.Limit), got, all)
		for i := range all {
			if got[i].Shard != all[i].Shard {
				t.Fatalf("entry %d is of shard %d, want %d", i, got[i].Shard, all[i].Shard)
			}
		}
		if released != shards {
			t.Fatalf("released %d times, want %d", released, shards)
		}
		if it.Next() || it.Err() != nil || it.Close() != nil || released != shards {
			t.Fatalf("after Close: next, error %v, released %d times", it.Err(), released)
		}
	}
}

// inTime returns units that follow each other in time, of two entries each.
func inTime(n int, reads *int) []Unit {
	s := NewStream("t", nil)
	var units []Unit
	for i := range n {
		t := int64(i) * 10
		units = append(units, &listUnit{reads: reads, entries: []Entry{
			{Timestamp: t, Stream: s, Offset: uint64(2 * i)}, {Timestamp: t + 9, Stream: s, Offset: uint64(2*i + 1)}}})
	}
	return units
}

// A unit is read when it may hold the next entry, and not before.
func TestUnitsAreReadLate(t *testing.T) {
	for _, direction := range []Direction{Forward, Backward} {
		reads := 0
		q := everything()
		q.Direction = direction
		q.Limit = 5
		units := inTime(20, &reads)
		rand.New(rand.NewPCG(1, 1)).Shuffle(len(units), func(i, k int) { units[i], units[k] = units[k], units[i] })
		it := SelectUnits(context.Background(), 0, units, q, nil)
		if reads != 0 {
			t.Fatalf("%d units were read before the first Next", reads)
		}
		for i := range 5 {
			if !it.Next() {
				t.Fatal(it.Err())
			}
			if want := i/2 + 1; reads != want {
				t.Fatalf("direction %d: entry %d: %d units were read, want %d", direction, i, reads, want)
			}
		}
		if it.Next() || it.Err() != nil || reads != 3 {
			t.Fatalf("beyond the limit: %v, %d reads", it.Err(), reads)
		}
	}
	// A query's time range keeps from reading at all.
	reads := 0
	q := everything()
	q.Start, q.End = 20, 29
	got, err := drain(SelectUnits(context.Background(), 0, inTime(20, &reads), q, nil))
	if err != nil || len(got) != 1 || reads != 1 {
		t.Fatalf("%d entries from %d units: %v", len(got), reads, err)
	}
}

func TestSelectUnitsFaults(t *testing.T) {
	reads := 0
	broken := errors.New("broken")
	damage := corrupt("unit", "bad")

	// Cancelling ends with the context's error at the next unit.
	ctx, cancel := context.WithCancel(context.Background())
	released := 0
	it := SelectUnits(ctx, 0, inTime(4, &reads), everything(), func() { released++ })
	if !it.Next() {
		t.Fatal(it.Err())
	}
	cancel()
	n := 1
	for it.Next() {
		n++
	}
	if !errors.Is(it.Err(), context.Canceled) || n > 2 {
		t.Fatalf("%d entries after cancelling, %v", n, it.Err())
	}
	if it.Next() {
		t.Fatal("goes on after an error")
	}
	it.Close()
	it.Close()
	if released != 1 {
		t.Fatalf("released %d times", released)
	}

	f := func(err error, onDamage bool, want int, wantErr error) {
		t.Helper()
		units := inTime(3, &reads)
		units[1].(*listUnit).err = err
		q := everything()
		told := 0
		if onDamage {
			q.OnDamage = func(error) { told++ }
		}
		got, err2 := drain(SelectUnits(context.Background(), 0, units, q, nil))
		if len(got) != want || !errors.Is(err2, wantErr) {
			t.Fatalf("%v: %d entries, %v", err, len(got), err2)
		}
		p := NewPartial(&Aggregation{Steps: 1, Range: 1})
		if err2 := AggregateUnits(context.Background(), units, q, &Aggregation{First: 100, Steps: 1, Range: 1000}, p); !errors.Is(err2, wantErr) {
			t.Fatalf("%v: aggregate: %v", err, err2)
		}
		if wantTold := 2; wantErr == nil && told != wantTold {
			t.Fatalf("told of %d damages, want %d", told, wantTold)
		}
	}
	f(damage, false, 2, ErrCorrupt)
	f(damage, true, 4, nil)
	f(broken, false, 2, broken)
	f(broken, true, 2, broken) // no damage: the answer must not lack what a retry would find

	ctx, cancel = context.WithCancel(context.Background())
	cancel()
	if err := AggregateUnits(ctx, inTime(1, &reads), everything(), &Aggregation{Steps: 1, Range: 1}, NewPartial(&Aggregation{Steps: 1})); !errors.Is(err, context.Canceled) {
		t.Fatalf("aggregate after cancelling: %v", err)
	}
}

// What the units of one query hold in memory is bounded.
func TestSelectBudget(t *testing.T) {
	line := make([]byte, 1<<20)
	s := NewStream("t", nil)
	reads := 0
	u := &listUnit{reads: &reads}
	for i := range uint64(700) {
		u.entries = append(u.entries, Entry{Stream: s, Offset: i, Line: line})
	}
	it := SelectUnits(context.Background(), 0, []Unit{u, u}, everything(), nil)
	if it.Next() || !errors.Is(it.Err(), ErrTooLarge) {
		t.Fatalf("1.4 GB at a time: %v", it.Err())
	}
	// One after the other is no matter.
	later := &listUnit{reads: &reads}
	for _, e := range u.entries {
		e.Timestamp = 5
		later.entries = append(later.entries, e)
	}
	n := 0
	for it = SelectUnits(context.Background(), 0, []Unit{u, later}, everything(), nil); it.Next(); n++ {
	}
	if it.Err() != nil || n != 1400 {
		t.Fatalf("%d entries, %v", n, it.Err())
	}
}

// A failIterator fails after some entries.
type failIterator struct {
	Iterator
	left   int
	err    error
	closed *int
}

func (f *failIterator) Next() bool {
	f.left--
	return f.left >= 0 && f.Iterator.Next()
}
func (f *failIterator) Err() error {
	if f.left < 0 {
		return f.err
	}
	return f.Iterator.Err()
}
func (f *failIterator) Close() error {
	*f.closed++
	return errors.Join(f.Iterator.Close(), f.err)
}

func TestMergeFaults(t *testing.T) {
	broken := errors.New("broken")
	for left := range 4 {
		reads, closed := 0, 0
		q := everything()
		its := []Iterator{
			SelectUnits(context.Background(), 0, inTime(2, &reads), q, nil),
			&failIterator{SelectUnits(context.Background(), 1, inTime(2, &reads), q, nil), left, broken, &closed},
		}
		it := MergeIterators(q, its)
		n := 0
		for it.Next() {
			n++
		}
		if !errors.Is(it.Err(), broken) || n > 2*left+1 || it.Next() {
			t.Fatalf("failed after %d: %d entries, %v", left, n, it.Err())
		}
		if err := it.Close(); !errors.Is(err, broken) || closed != 1 {
			t.Fatalf("closed %d times: %v", closed, err)
		}
	}
	// Closed before it began, and none at all.
	closed := 0
	it := MergeIterators(everything(), []Iterator{&failIterator{MergeIterators(everything(), nil), 0, nil, &closed}})
	if it.Close() != nil || closed != 1 || it.Next() || it.Err() != nil {
		t.Fatalf("closed %d times, %v", closed, it.Err())
	}
}
