package segment

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// The rows that a block gives up early are none of the first ones, whatever the order.
func TestFirstRows(t *testing.T) {
	rng := seeded(t, 41)
	for range 200 {
		n, limit := 1+rng.IntN(9000), 1+rng.IntN(1200)
		f := firstRows{q: &Query{Limit: limit, Direction: Direction(rng.IntN(2))}, times: make([]int64, n), offsets: make([]uint64, n)}
		all := make([]uint32, n)
		spread := 1 + rng.Int64N(5000)
		for i := range all {
			all[i] = uint32(i)
			f.offsets[i] = uint64(i)
			switch f.times[i] = rng.Int64N(spread); rng.IntN(2) {
			case 0:
				f.times[i] = int64(i)
			}
			f.offsets[i] ^= 0x155 // not the order of rows
		}
		for i := range all {
			f.add(uint32(i))
		}
		got := f.result()
		slices.SortFunc(all, f.compare)
		if want := all[:min(limit, n)]; !slices.Equal(got, want) {
			t.Fatalf("%d of %d rows: %d, want %d", limit, n, got, want)
		}
	}
}

// Q1 where the streams of a block have labels of the names that a parser extracts: a row
// fares by its stream, also where a value has been met in another.
func TestQ1StreamsShadowFields(t *testing.T) {
	l := newTestLog(t)
	b := &Batch{Streams: []*Stream{NewStream("t", Labels{{"app", "a"}}), NewStream("t", Labels{{"app", "b"}, {"status", "200"}}), NewStream("t", Labels{{"app", "c"}})}}
	for i := range 600 {
		line := fmt.Appendf(nil, `{"status":%d,"path":"/p%d"}`, 200+i%3*100, i%5)
		if i%50 == 49 {
			line = []byte("no object")
		}
		b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: line, Stream: uint32(i / 7 % 3)})
	}
	for range 2 { // the second time without lines that are no objects
		l.append(b)
		rows := b.Rows
		b.Rows = nil
		for _, r := range rows {
			if r.Line[0] == '{' {
				b.Rows = append(b.Rows, r)
			}
		}
	}
	o := l.open(vfs.NewMem(), "open-1", 1)
	defer o.Close()
	stage, err := NewJSONStage()
	if err != nil {
		t.Fatal(err)
	}
	for _, filter := range []*LabelFilter{
		{Kind: FilterNumber, Name: "status", Comparison: CompareGreaterOrEqual, Number: 300},
		{Kind: FilterNumber, Name: "status_extracted", Comparison: CompareGreaterOrEqual, Number: 300},
		{Kind: FilterNumber, Name: "path", Comparison: CompareEqual, Number: 1}, // no number: an error that keeps the row
	} {
		q := everything()
		q.Pipeline = NewPipeline(stage, filter)
		for _, limit := range []int{0, 10, 100} {
			q.Limit, q.Direction = limit, Direction(limit%3%2)
			want, err := drain(SelectUnits(context.Background(), 0, l.frames(), q, nil))
			if err != nil {
				t.Fatal(err)
			}
			got, err := drain(SelectUnits(context.Background(), 0, blockUnits(o.Blocks()), q, nil))
			if err != nil {
				t.Fatal(err)
			}
			sameEntries(t, filter.String(), got, want)
			for i := range got {
				if !got[i].Parsed.Equal(want[i].Parsed) {
					t.Fatalf("%s: parsed %s, want %s", filter, got[i].Parsed, want[i].Parsed)
				}
			}
			if len(got) == 0 {
				t.Fatalf("%s keeps nothing", filter)
			}
		}
		q.Limit = 0
		noError := &LabelFilter{Kind: FilterString, Name: ErrorLabel, Matcher: &Matcher{Name: ErrorLabel, Type: MatchEqual}}
		q.Pipeline = NewPipeline(stage, noError, filter)
		for _, names := range [][]string{nil, {"path"}, {"status"}, {"status_extracted"}} {
			a := &Aggregation{Grouping: Grouping{Names: names}, First: 1 << 20, Steps: 1, Range: 1 << 21}
			for _, units := range [][]Unit{blockUnits(o.Blocks()), blockUnits(o.Blocks()[1:])} {
				frames := l.frames()
				if len(units) == 1 {
					frames = frames[1:]
				}
				got, want := NewPartial(a), NewPartial(a)
				errGot, errWant := AggregateUnits(context.Background(), units, q, a, got), AggregateUnits(context.Background(), frames, q, a, want)
				if (errGot == nil) != (errWant == nil) || errGot != nil && errGot.Error() != errWant.Error() {
					t.Fatalf("%s by %v: error %v, want %v", filter, names, errGot, errWant)
				}
				if errGot != nil {
					continue
				}
				if fmt.Sprint(rendered(got)) != fmt.Sprint(rendered(want)) {
					t.Fatalf("%s by %v: %v, want %v", filter, names, rendered(got), rendered(want))
				}
			}
		}
	}
}
