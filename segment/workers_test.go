package segment

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
)

// testWorkers do all pieces at once, and count them.
type testWorkers struct {
	mu     sync.Mutex
	pieces []int // of each call
}

func (w *testWorkers) Count() int { return 3 }

func (w *testWorkers) Each(_ context.Context, n int, f func(i int) error) error {
	w.mu.Lock()
	w.pieces = append(w.pieces, n)
	w.mu.Unlock()
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Units that are read side by side give the answer that they give one after the other, to
// the last digit.
func TestWorkersSameAnswer(t *testing.T) {
	rng := seeded(t, 51)
	l := newTestLog(t)
	for range 30 {
		b := &Batch{Streams: []*Stream{NewStream("t", Labels{{"app", "a"}}), NewStream("t", Labels{{"app", "b"}})}}
		for i := range 20 {
			b.Rows = append(b.Rows, Row{Timestamp: int64(len(l.entries) + i), Line: fmt.Appendf(nil, "v=%g k=%d", math.Exp(rng.NormFloat64()*9), rng.IntN(4)), Stream: uint32(rng.IntN(2))})
		}
		l.append(b)
	}
	stage, err := NewLogfmtStage(false, false)
	if err != nil {
		t.Fatal(err)
	}
	for measure := MeasureCount; measure <= MeasureQuantile; measure++ {
		q := everything()
		if measure > MeasureBytes {
			q.Pipeline = NewPipeline(stage, &UnwrapStage{Label: "v"})
		}
		a := &Aggregation{Measure: measure, Quantile: 0.3, Grouping: Grouping{Names: []string{"app", "k"}}, First: 100, Step: 100, Steps: 6, Range: 150}
		exact := func(w Workers) string {
			q := *q
			q.Workers = w
			p := NewPartial(a)
			if err := AggregateUnits(t.Context(), l.frames(), &q, a, p); err != nil {
				t.Fatal(err)
			}
			var keys []string
			for key := range p.Series {
				keys = append(keys, key)
			}
			slices.Sort(keys)
			text := ""
			for _, key := range keys {
				values, present := p.Series[key].Points(a)
				text += fmt.Sprintf("%q %x %v\n", key, values, present)
			}
			return text
		}
		if one, many := exact(nil), exact(&testWorkers{}); one != many || one == "" {
			t.Errorf("measure %d: %s\nside by side: %s", measure, one, many)
		}
	}
}

// While nothing is found more units are read at a time; what follows a full answer is not
// read.
func TestSelectReadsAhead(t *testing.T) {
	reads := make([]int, 20)
	units := inTime(20, nil)
	for i, u := range units {
		u.(*listUnit).reads = &reads[i]
		u.(*listUnit).entries[0].Line = fmt.Appendf(nil, "line of unit %d.", i)
	}
	f := func(text, pieces string, last int) {
		t.Helper()
		filter, err := NewLineFilter(MatchEqual, text)
		if err != nil {
			t.Fatal(err)
		}
		clear(reads)
		w := &testWorkers{}
		q := everything()
		q.Workers, q.Limit, q.Filters = w, 1, []*LineFilter{filter}
		got, err := drain(SelectUnits(t.Context(), 0, units, q, nil))
		if err != nil || len(got) != 1 {
			t.Fatalf("%d entries, %v", len(got), err)
		}
		if fmt.Sprint(w.pieces) != pieces {
			t.Errorf("%s: units read at a time: %v, want %s", text, w.pieces, pieces)
		}
		for i, n := range reads {
			if want := 0; i <= last {
				want = 1
				if n != want {
					t.Errorf("%s: unit %d was read %d times", text, i, n)
				}
			} else if n != want {
				t.Errorf("%s: unit %d was read", text, i)
			}
		}
	}
	f("unit 0.", "[1]", 0)
	f("unit 8.", "[1 2 3 3]", 8)
	f("unit 9.", "[1 2 3 3 3]", 11)
}
