package logql

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// TestL3Definition compares the engine with the definition on random data and queries,
// with a source that counts as storage does and plans again from the text.
func TestL3Definition(t *testing.T) {
	values, parsed := 0, 0
	for seed := range uint64(6000) {
		g := newGenerator(seed)
		s := newStore(g.data()...)
		s.readers, s.replan = g.IntN(4), g.IntN(2) == 0
		x := g.expr()
		p := Params{Tenant: "t", Query: x.String()}
		p.End = g.Int64N(70)*int64(time.Second) + pick[int64](g, 0, 0, 1, -1)
		p.Start = p.End
		if g.IntN(3) > 0 {
			p.Start -= g.Int64N(70 * int64(time.Second))
			p.Step = pick(g, time.Second, 2500*time.Millisecond, 7*time.Second, time.Minute)
		}
		r, err := NewEngine(Options{Source: s}).Query(context.Background(), p)
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, p.Query, err)
		}
		got := map[int64]map[string]float64{}
		put := func(at int64, labels segment.Labels, v float64) {
			if got[at] == nil {
				got[at] = map[string]float64{}
			}
			if _, ok := got[at][labels.String()]; ok {
				t.Fatalf("seed %d: %s: %s is there twice", seed, p.Query, labels)
			}
			got[at][labels.String()] = v
		}
		for _, v := range r.Vector {
			put(v.Timestamp, v.Labels, v.Value)
		}
		for _, series := range r.Matrix {
			for _, point := range series.Points {
				put(point.Timestamp, series.Labels, point.Value)
			}
		}
		for at := p.Start; at <= p.End; at += max(int64(p.Step), 1) {
			want, _ := s.reference(t, x, p.Tenant, at)
			values += len(want)
			if strings.Contains(p.Query, "unwrap") {
				parsed += len(want)
			}
			if len(want) != len(got[at]) {
				t.Fatalf("seed %d: %s at %d: %d series %v, want %d %v", seed, p.Query, at, len(got[at]), got[at], len(want), want)
			}
			for key, w := range want {
				if v, ok := got[at][key]; !ok || v != w.value && !(math.IsNaN(v) && math.IsNaN(w.value)) {
					t.Fatalf("seed %d: %s at %d: %s is %v (%t), want %v", seed, p.Query, at, key, v, ok, w.value)
				}
			}
			delete(got, at)
		}
		if len(got) > 0 {
			t.Fatalf("seed %d: %s: values at points that were not asked for: %v", seed, p.Query, got)
		}
	}
	if values < 20_000 || parsed < 4000 {
		t.Fatalf("only %d values were compared, of them %d with an unwrap: the generated queries are empty", values, parsed)
	}
}

// TestL2RoundTrip prints random trees and parses them again.
func TestL2RoundTrip(t *testing.T) {
	for seed := range uint64(5000) {
		g := newGenerator(seed)
		var x Expr = g.strangeLog()
		if g.IntN(4) > 0 {
			x = g.strangeExpr(g.IntN(5), Kind(1+g.IntN(2)))
		}
		text := x.String()
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("seed %d: %s: %v", seed, text, err)
		}
		if !reflect.DeepEqual(x, again) {
			t.Fatalf("seed %d: %s is read as %s, which is another tree", seed, text, again)
		}
	}
}

// FuzzParse looks for panics, for texts that are not read back as they are printed, and
// for errors whose position is beyond the text.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		``, `{app="web", host!~"a|b"} |= "x" or "y" != ` + "`z`" + ` # comment`,
		`sum by (app) (rate({app=~".+"} |~ "(?i)err"[1h30m] offset -5m)) / 2`,
		`count_over_time({a="b"}[5m] |= "x")`, `vector(1)+vector(1)`, `-2^-3^2*--1`, `1 >= bool 2 or vector(0)`,
		`avg without () (min(bytes_rate(({a="\x00\"é"}) [1w])))`, `{a="b"} | json | status >= 500`, `topk(10, x)`,
		`{a="b"} | logfmt --strict --keep-empty a, b="c" | (a="x" or b=~"y") and c > -5s, d <= 20KB e != 1.5 | json x="a[0][\"b\"]"`,
		`quantile_over_time(0.99, {a="b"} | unwrap duration_seconds(x) | __error__="" [5m]) by (p)`, `bottomk by (a) (3, sort_desc(x))`,
		`{app='x'}`, `{a="b"`, "\xff", `1e400`, `[5`, `{a=~"("}`, `((((`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		x, err := Parse(query)
		if err != nil {
			if !IsBadQuery(err) {
				t.Fatalf("error of another type: %v", err)
			}
			if e := (*ParseError)(nil); errors.As(err, &e) && (e.Offset < 0 || e.Offset > len(query) || e.Line < 1 || e.Column < 1) {
				t.Fatalf("%q: the position is outside: %+v", query, e)
			}
			return
		}
		again, err := parse(x.String(), canonicalGrowth*len(query))
		if err != nil {
			t.Fatalf("%q is printed as %q: %v", query, x, err)
		}
		if !reflect.DeepEqual(x, again) {
			t.Fatalf("%q is printed as %q and read as %q", query, x, again)
		}
	})
}

// TestSpanAndBounds checks the arithmetic of segment.Aggregation, on which pushed-down
// queries rest, against unbounded integers: for all timestamps in Bounds, Span is exactly
// the points that cover them, and no point covers a timestamp outside.
func TestSpanAndBounds(t *testing.T) {
	covers := func(a *segment.Aggregation, i int, ts int64) bool {
		point := new(big.Int).Add(big.NewInt(a.First), new(big.Int).Mul(big.NewInt(int64(i)), big.NewInt(a.Step)))
		age := new(big.Int).Sub(point, big.NewInt(ts))
		return age.Sign() >= 0 && age.Cmp(big.NewInt(a.Range)) < 0
	}
	check := func(a segment.Aggregation, ts int64) {
		t.Helper()
		start, end := a.Bounds()
		inside := ts >= start && ts < end
		lo, hi := 0, 0
		if inside {
			lo, hi = a.Span(ts)
		}
		for i := range a.Steps {
			if got, want := i >= lo && i < hi, covers(&a, i, ts); got != want {
				t.Fatalf("%+v: timestamp %d (in bounds [%d, %d): %t) counts at point %d: %t, want %t", a, ts, start, end, inside, i, got, want)
			}
		}
	}
	// The plan makes only such aggregations: the last point and a range after it fit int64.
	for _, a := range []segment.Aggregation{
		{First: 0, Steps: 1, Range: 1},
		{First: 0, Steps: 1, Range: math.MaxInt64},
		{First: -5, Steps: 1, Range: math.MaxInt64},
		{First: math.MinInt64, Steps: 1, Range: 1},
		{First: math.MinInt64, Steps: 1, Range: math.MaxInt64},
		{First: math.MinInt64 + 10, Steps: 5, Step: 3, Range: 20},
		{First: math.MaxInt64 - 1, Steps: 1, Range: math.MaxInt64},
		{First: math.MinInt64, Steps: 2, Step: math.MaxInt64 - 1, Range: 1},
		{First: 0, Steps: 2, Step: math.MaxInt64 - 100, Range: 100},
		{First: -100, Steps: 4, Step: 7, Range: 7},
		{First: -100, Steps: 4, Step: 7, Range: 6},
		{First: -100, Steps: 4, Step: 7, Range: 8},
		{First: -100, Steps: 4, Step: 7, Range: 1000},
	} {
		start, end := a.Bounds()
		timestamps := []int64{math.MinInt64, math.MinInt64 + 1, -1, 0, 1, math.MaxInt64 - 1, math.MaxInt64}
		for _, near := range []int64{start, end, a.First, a.First + int64(a.Steps-1)*a.Step} {
			for d := int64(-9); d <= 9; d++ {
				timestamps = append(timestamps, near+d)
			}
		}
		for _, ts := range timestamps {
			check(a, ts)
		}
	}
	g := newGenerator(1)
	for range 20_000 {
		a := segment.Aggregation{First: g.Int64N(100) - 50, Step: 1 + g.Int64N(12), Steps: 1 + g.IntN(6), Range: 1 + g.Int64N(40)}
		check(a, g.Int64N(240)-120)
	}
}

// TestL3ExtremeTimes evaluates near the ends of time, where naive arithmetic overflows.
func TestL3ExtremeTimes(t *testing.T) {
	const ends = `count_over_time({app="a"}[%s] offset %s)`
	stream := segment.NewStream("t", segment.Labels{{Name: "app", Value: "a"}})
	var entries []segment.Entry
	for _, ts := range []int64{math.MinInt64, math.MinInt64 + 5, -1, 0, 7, math.MaxInt64 - 5, math.MaxInt64 - 1} {
		entries = append(entries, segment.Entry{Timestamp: ts, Stream: stream})
	}
	answered, refused := 0, 0
	for seed := range uint64(3000) {
		g := newGenerator(seed)
		s := newStore(entries...)
		s.readers = g.IntN(2)
		time64 := func() int64 {
			return pick[int64](g, math.MinInt64, math.MinInt64+5, -9, 0, 5, math.MaxInt64-5, math.MaxInt64, math.MaxInt64/2, math.MinInt64/2)
		}
		p := Params{Tenant: "t", Start: time64(), End: time64()}
		p.Query = fmt.Sprintf(ends, pick(g, "1ns", "6ns", "100y", "292y", "5h"), pick(g, "0s", "5ns", "-5ns", "100y", "-292y"))
		x, err := Parse(p.Query)
		if err != nil {
			t.Fatal(err)
		}
		p.Step = pick[time.Duration](g, 0, 1, math.MaxInt64/2, math.MaxInt64, time.Duration(1)<<60)
		if p.Step == 0 {
			p.Start = p.End
		}
		r, err := NewEngine(Options{Source: s}).Query(context.Background(), p)
		if err != nil {
			if !IsBadQuery(err) {
				t.Fatalf("seed %d: %v", seed, err)
			}
			refused++
			continue
		}
		answered++
		points := map[int64]float64{}
		for _, v := range r.Vector {
			points[v.Timestamp] = v.Value
		}
		for _, series := range r.Matrix {
			for _, point := range series.Points {
				points[point.Timestamp] = point.Value
			}
		}
		for at := p.Start; ; at += int64(p.Step) {
			want, _ := s.reference(t, x, "t", at)
			if got := points[at]; got != want[stream.Labels.String()].value {
				t.Fatalf("seed %d: %+v at %d: %v, want %v", seed, p, at, got, want)
			}
			if p.Step == 0 || uint64(p.End)-uint64(at) < uint64(p.Step) {
				break
			}
		}
	}
	if answered < 200 || refused < 200 {
		t.Fatalf("%d answered, %d refused: the test tries too little", answered, refused)
	}
}
