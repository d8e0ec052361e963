package segment

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// P1 to P4 and Q1: frames, open blocks and sealed ones answer queries with pipelines as
// their definition, entry by entry.
func TestPipelineAgainstDefinition(t *testing.T) {
	ctx := context.Background()
	var kept, valued, refused, named int
	for seed := range uint64(30) {
		rng := seeded(t, seed)
		l := newTestLog(t)
		truths := map[string]*truth{}
		streams := []*Stream{
			NewStream(everything().Tenant, NewLabels([]Label{{"app", "web"}, {"host", "a"}})), NewStream(everything().Tenant, NewLabels([]Label{{"app", "web"}, {"host", "b"}})),
			NewStream(everything().Tenant, NewLabels([]Label{{"app", "db"}, {"status", "900"}})), NewStream(everything().Tenant, NewLabels([]Label{{"host", "c"}})),
		}
		for range 1 + rng.IntN(5) {
			b := &Batch{Streams: streams, Metadata: []Labels{{{"id", "m1"}}, {{"host", "z"}, {"id", "m2"}}}}
			for range 1 + rng.IntN(200) {
				line, tr := structured(rng)
				truths[line] = tr
				b.Rows = append(b.Rows, Row{Timestamp: rng.Int64N(20), Line: []byte(line), Stream: uint32(rng.IntN(len(streams))), Metadata: uint32(max(0, rng.IntN(5)-2))})
			}
			l.append(b)
		}
		fsys := vfs.NewMem()
		o := l.open(fsys, "open-1", 1+rng.IntN(4))
		s := openSegment(t, fsys, l.seal(fsys, 1+rng.IntN(4)))
		units := map[string][]Unit{"frames": l.frames(), "open": blockUnits(o.Blocks()), "sealed": blockUnits(s.Blocks)}
		for range 30 {
			q := everything()
			q.Direction = Direction(rng.IntN(2))
			q.Limit = pickOf(rng, 0, 0, 5, 50)
			if rng.IntN(3) == 0 {
				f, err := NewLineFilter(MatchEqual, pickOf(rng, "5", "status", "{"))
				if err != nil {
					t.Fatal(err)
				}
				q.Filters = append(q.Filters, f)
			}
			a := newAggregation(rng, l.entries)
			a.Measure, a.Quantile = Measure(rng.IntN(int(MeasureQuantile)+1)), rng.Float64()
			a.Grouping = Grouping{Without: rng.IntN(2) == 0}
			for _, n := range []string{"app", "app_extracted", "status", "level", "id", "v", "o_x", ErrorLabel} {
				if rng.IntN(4) == 0 {
					a.Grouping.Names = append(a.Grouping.Names, n)
				}
			}
			if a.Grouping.Without {
				a.Grouping.Names = append(a.Grouping.Names, ErrorDetailsLabel) // of which the oracle knows nothing
			}
			slices.Sort(a.Grouping.Names)
			q.Pipeline = definedPipeline(t, rng, a.Measure > MeasureBytes)

			hits := found(q, l.entries)
			var rows []*naiveRow
			var wanted []Entry
			for i := range hits {
				if r := naiveRun(t, q.Pipeline, &hits[i], truths[string(hits[i].Line)]); r != nil {
					wanted, rows = append(wanted, hits[i]), append(rows, r)
				}
			}
			kept += len(wanted)
			parsed := map[uint64]string{}
			for i, r := range rows {
				if r.failed != "" {
					r.parsed[ErrorLabel] = r.failed
				}
				parsed[wanted[i].Offset] = fmt.Sprint(r.parsed)
			}
			values, failures := naiveSeries(a, wanted, rows)
			what := func(name string) string {
				return fmt.Sprintf("%s: %s %s: %+v", name, describe(q), q.Pipeline, a)
			}
			want := answer(q, wanted)
			for name, list := range units {
				got, err := drain(SelectUnits(ctx, 0, list, q, nil))
				if err != nil {
					t.Fatalf("%s: %v", what(name), err)
				}
				sameEntries(t, what(name), got, want)
				for _, e := range got {
					m := e.Parsed.Map()
					if (m[ErrorLabel] == "") != (m[ErrorDetailsLabel] == "") {
						t.Fatalf("%s: error %q with details %q", what(name), m[ErrorLabel], m[ErrorDetailsLabel])
					}
					delete(m, ErrorDetailsLabel)
					if fmt.Sprint(m) != parsed[e.Offset] {
						t.Fatalf("%s: %q of stream %s %s has the labels %v, want %s", what(name), e.Line, e.Stream.Labels, e.Metadata, m, parsed[e.Offset])
					}
				}
				// In parts, which are then merged.
				total := NewPartial(a)
				for part := range 3 {
					var some []Unit
					for i, u := range list {
						if i%3 == part {
							some = append(some, u)
						}
					}
					p := NewPartial(a)
					if err = AggregateUnits(ctx, some, q, a, p); err != nil {
						break
					}
					total.Merge(p)
				}
				var failure *PipelineError
				if errors.As(err, &failure) {
					if !failures[failure.Kind] {
						t.Fatalf("%s: %v, want one of %v", what(name), err, failures)
					}
					refused++
					continue
				}
				if err != nil || len(failures) > 0 {
					t.Fatalf("%s: %v, want one of %v", what(name), err, failures)
				}
				valued += len(values)
				named += sameValues(t, what(name), a, total, values)
			}
		}
		o.Close()
	}
	if kept < 10_000 || valued < 4_000 || refused < 300 || named < 50_000 {
		t.Fatalf("%d entries, %d series with %d values, %d errors: the test tries too little", kept, valued, named, refused)
	}
}

// Narrow changes no value of the labels that are asked for, and no error.
func TestPipelineNarrow(t *testing.T) {
	stream := NewStream("t", Labels{{"app", "web"}})
	for seed := range uint64(3000) {
		rng := seeded(t, seed)
		p := definedPipeline(t, rng, rng.IntN(2) == 0)
		names := []string{pickOf(rng, "app", "v", "absent"), pickOf(rng, "app_extracted", "o_y_z", "level")}
		line, _ := structured(rng)
		var all, some PipelineRow
		narrow := p.Narrow(names)
		keep := p.Run(&all, stream, nil, []byte(line))
		if narrow.Run(&some, stream, nil, []byte(line)) != keep {
			t.Fatalf("seed %d: %s: %q is kept %t, else not", seed, p, line, keep)
		}
		for _, n := range append(names, p.Names()...) {
			if keep && some.Get(n) != all.Get(n) {
				t.Fatalf("seed %d: %s: %q: %s is %q, narrow %q", seed, p, line, n, all.Get(n), some.Get(n))
			}
		}
	}
}

func TestCells(t *testing.T) {
	a := &Aggregation{Measure: MeasureQuantile, Quantile: 0.5, Steps: 1, Range: 1, MaxValues: 3000}
	p := NewPartial(a)
	s := p.For(Labels{})
	add := func(v float64, n uint64) error { return p.observe(s, a, 0, 1, 0, v, n) }
	for i := range 100_000 { // few different ones: no limit
		if err := add(float64(i%1000), 1); err != nil {
			t.Fatal(err)
		}
	}
	if values, _ := s.Points(a); values[0] != 499.5 {
		t.Errorf("the median is %v", values[0])
	}
	if err := add(5000, 1_000_000); err != nil {
		t.Fatal(err)
	}
	if values, _ := s.Points(a); values[0] != 5000 {
		t.Errorf("the median is %v", values[0])
	}
	var err error
	for i := range 100_000 {
		if err = add(float64(i)+0.5, 1); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrTooManyValues) || s.Cells[0].held() > 3001 {
		t.Errorf("error %v with %d values", err, s.Cells[0].held())
	}
	for q, want := range map[float64]float64{-0.1: math.Inf(-1), 1.1: math.Inf(1), 0: 1, 1: 4, 0.5: 2.5} {
		if got := quantile(q, []WeightedValue{{1, 1}, {2, 1}, {3, 1}, {4, 1}}, 4); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}

	// Sums lose nothing, and NaN gives way to any other value.
	sum := func(m Measure, values ...float64) float64 {
		a := &Aggregation{Measure: m, Steps: 1, Range: 1}
		p := NewPartial(a)
		for _, v := range values {
			if err := p.observe(p.For(Labels{}), a, 0, 1, 0, v, 1); err != nil {
				t.Fatal(err)
			}
		}
		got, _ := p.For(Labels{}).Points(a)
		return got[0]
	}
	if got := sum(MeasureSum, 1, 1e100, 1, -1e100); got != 2 {
		t.Errorf("the sum is %v", got)
	}
	if got := sum(MeasureSum, math.Inf(1), 1); !math.IsInf(got, 1) {
		t.Errorf("the sum is %v", got)
	}
	nan := math.NaN()
	if lo, hi := sum(MeasureMin, nan, 2, 1, nan), sum(MeasureMax, nan, 2, 1, nan); lo != 1 || hi != 2 {
		t.Errorf("minimum %v, maximum %v", lo, hi)
	}
	if v := sum(MeasureMin, nan); !math.IsNaN(v) {
		t.Errorf("the minimum is %v", v)
	}
}

func TestMaxSeries(t *testing.T) {
	l := newTestLog(t)
	b := &Batch{Streams: []*Stream{NewStream(everything().Tenant, nil)}}
	for i := range 100 {
		b.Rows = append(b.Rows, Row{Line: fmt.Appendf(nil, "n=%d", i)})
	}
	l.append(b)
	stage, err := NewLogfmtStage(false, false)
	if err != nil {
		t.Fatal(err)
	}
	q := everything()
	q.Pipeline = NewPipeline(stage)
	a := &Aggregation{Grouping: Grouping{Names: []string{"n"}}, Steps: 1, Range: 1, MaxSeries: 99}
	if err := AggregateUnits(context.Background(), l.frames(), q, a, NewPartial(a)); !errors.Is(err, ErrTooManySeries) {
		t.Errorf("error %v", err)
	}
	a.MaxSeries = 100
	p := NewPartial(a)
	if err := AggregateUnits(context.Background(), l.frames(), q, a, p); err != nil || len(p.Series) != 100 {
		t.Errorf("%d series, error %v", len(p.Series), err)
	}
}
