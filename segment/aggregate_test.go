package segment

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// Span is what the definition says, also at the ends of the range of timestamps.
func TestSpan(t *testing.T) {
	edges := []int64{math.MinInt64, math.MinInt64 + 1, -1 << 62, -101, -100, -1, 0, 1, 7, 99, 100, 101, 1 << 62, math.MaxInt64 - 1, math.MaxInt64}
	lengths := []int64{1, 2, 7, 100, 1 << 40, 1 << 62, math.MaxInt64}
	steps := []int64{1, 2, 10, 100, 1 << 40, 1 << 61, math.MaxInt64}
	for _, first := range edges {
		for _, window := range lengths {
			for _, step := range steps {
				for _, n := range []int{1, 2, 5} {
					a := &Aggregation{First: first, Step: step, Steps: n, Range: window}
					lastLo, lastHi := 0, 0
					for _, ts := range edges {
						lo, hi := a.Span(ts)
						for i := range n {
							if in := i >= lo && i < hi; in != counts(a, i, ts) {
								t.Fatalf("%+v: timestamp %d counts at [%d, %d), but at point %d: %t", a, ts, lo, hi, i, !in)
							}
						}
						if lo > hi || lo < 0 || hi > n || lo < lastLo || hi < lastHi {
							t.Fatalf("%+v: timestamp %d: [%d, %d) after [%d, %d)", a, ts, lo, hi, lastLo, lastHi)
						}
						lastLo, lastHi = lo, hi
						if start, end := a.Bounds(); a.Validate() == nil && lo < hi && ts != math.MaxInt64 && (ts < start || ts >= end) {
							t.Fatalf("%+v: timestamp %d counts and is outside %d to %d", a, ts, start, end)
						}
					}
				}
			}
		}
	}
}

func TestAggregationValidate(t *testing.T) {
	good := Aggregation{First: 100, Step: 10, Steps: 5, Range: 60}
	f := func(change func(*Aggregation), ok bool) {
		t.Helper()
		a := good
		change(&a)
		if err := a.Validate(); (err == nil) != ok {
			t.Errorf("%+v: %v", a, err)
		}
	}
	f(func(*Aggregation) {}, true)
	f(func(a *Aggregation) { a.Steps = 0 }, false)
	f(func(a *Aggregation) { a.Steps = MaxSteps }, true)
	f(func(a *Aggregation) { a.Steps = MaxSteps + 1 }, false)
	f(func(a *Aggregation) { a.Range = 0 }, false)
	f(func(a *Aggregation) { a.Step = 0 }, false)
	f(func(a *Aggregation) { a.Step, a.Steps = 0, 1 }, true)
	f(func(a *Aggregation) { a.First = math.MaxInt64 }, false) // the last point is out of range
	f(func(a *Aggregation) { a.Step = math.MaxInt64 / 2 }, false)
	f(func(a *Aggregation) { a.First, a.Step = math.MinInt64, math.MaxInt64/4 }, true)
}

func TestBounds(t *testing.T) {
	f := func(a Aggregation, start, end int64) {
		t.Helper()
		if s, e := a.Bounds(); s != start || e != end {
			t.Errorf("%+v: %d to %d, want %d to %d", a, s, e, start, end)
		}
	}
	f(Aggregation{First: 100, Steps: 1, Range: 60}, 41, 101)
	f(Aggregation{First: 100, Steps: 3, Step: 10, Range: 1}, 100, 121)
	f(Aggregation{First: math.MinInt64 + 5, Steps: 1, Range: 60}, math.MinInt64, math.MinInt64+6)
	f(Aggregation{First: math.MaxInt64, Steps: 1, Range: 1}, math.MaxInt64, math.MaxInt64)
	f(Aggregation{First: math.MinInt64, Steps: 1, Range: math.MaxInt64}, math.MinInt64, math.MinInt64+1)
}

func TestGroupingApply(t *testing.T) {
	l := Labels{{"a", "1"}, {"b", "2"}, {"c", "3"}}
	f := func(without bool, names []string, want string) {
		t.Helper()
		g := Grouping{Without: without, Names: names}
		if got := g.Apply(l); got.String() != want {
			t.Errorf("%t %q: %s, want %s", without, names, got, want)
		}
	}
	f(false, nil, `{}`)
	f(false, []string{"b"}, `{b="2"}`)
	f(false, []string{"b", "b", "x"}, `{b="2"}`)
	f(true, nil, `{a="1", b="2", c="3"}`)
	f(true, []string{"a", "a", "c"}, `{b="2"}`)
	f(true, []string{"x"}, `{a="1", b="2", c="3"}`)
}

// Merging is the sum, in any order, and leaves what was merged as it was.
func TestPartialMerge(t *testing.T) {
	rng := seeded(t, 4)
	a := &Aggregation{Steps: 4, Step: 10, Range: 25}
	var entries []Entry
	parts := make([]*Partial, 5)
	for i := range parts {
		parts[i] = NewPartial(a)
		for range rng.IntN(30) {
			e := Entry{Timestamp: rng.Int64N(60) - 30, Stream: NewStream("t", NewLabels([]Label{{"app", fmt.Sprint(rng.IntN(3))}}))}
			entries = append(entries, e)
			if lo, hi := a.Span(e.Timestamp); lo < hi {
				parts[i].For(a.Grouping.Apply(e.Stream.Labels)).Add(lo, hi, 1, 1)
			}
		}
	}
	want := naive(a, entries)
	before := make([]map[string]string, len(parts))
	for i, p := range parts {
		before[i] = rendered(p)
	}
	for range 3 {
		rng.Shuffle(len(parts), func(i, k int) { parts[i], parts[k] = parts[k], parts[i]; before[i], before[k] = before[k], before[i] })
		sum := NewPartial(a)
		for _, p := range parts {
			sum.Merge(p)
		}
		sameSeries(t, "merged", rendered(sum), want)
	}
	for i, p := range parts {
		sameSeries(t, "a part after merging", rendered(p), before[i])
	}
}

func TestFilters(t *testing.T) {
	f := func(mt MatchType, values []string, line string, want bool) {
		t.Helper()
		filter, err := NewLineFilter(mt, values...)
		if err != nil {
			t.Fatal(err)
		}
		if filter.Keeps([]byte(line)) != want {
			t.Errorf("%d %q keeps %q: %t, want %t", mt, values, line, !want, want)
		}
		var kept []int
		text, ends := []byte("x\n"+line+"yy"), []uint32{2, uint32(2 + len(line)), uint32(4 + len(line))}
		scanLines([]*LineFilter{filter}, text, ends, 1, 2, func(i int) { kept = append(kept, i) })
		if slices.Equal(kept, []int{1}) != want {
			t.Errorf("%d %q: scanning between other lines keeps %v of %q", mt, values, kept, line)
		}
	}
	f(MatchEqual, []string{"err"}, "an error", true)
	f(MatchEqual, []string{"Err"}, "an error", false)
	f(MatchEqual, []string{"a", "or"}, "error", true)
	f(MatchEqual, []string{""}, "", true)
	f(MatchEqual, []string{"ry"}, "error", false) // the next line begins with y
	f(MatchNotEqual, []string{"err"}, "an error", false)
	f(MatchNotEqual, []string{"x", "y"}, "error", true)
	f(MatchNotEqual, []string{"x", "o"}, "error", false)
	f(MatchNotEqual, []string{""}, "", false)
	f(MatchRegexp, []string{"e.+r$"}, "error", true)
	f(MatchRegexp, []string{"^or"}, "error", false)
	f(MatchRegexp, []string{"x", "^e"}, "error", true)
	f(MatchRegexp, []string{"x."}, "a\nx\nb", false) // . is no newline
	f(MatchNotRegexp, []string{"^e", "x"}, "error", false)
	f(MatchNotRegexp, []string{"^o", "x"}, "error", true)
	f(MatchEqual, []string{"\x00\xff"}, "a\x00\xffb", true)

	if _, err := NewLineFilter(MatchRegexp, "("); err == nil {
		t.Error("a bad expression is taken")
	}
	if _, err := NewLineFilter(MatchEqual); err == nil {
		t.Error("a filter without a value is taken")
	}
}

func TestMatchers(t *testing.T) {
	f := func(mt MatchType, value, label string, want bool) {
		t.Helper()
		m, err := NewMatcher("app", mt, value)
		if err != nil {
			t.Fatal(err)
		}
		if m.Matches(label) != want {
			t.Errorf("%s matches %q: %t, want %t", m, label, !want, want)
		}
	}
	f(MatchEqual, "a", "a", true)
	f(MatchEqual, "", "", true)
	f(MatchNotEqual, "a", "", true)
	f(MatchRegexp, "a|b", "b", true)
	f(MatchRegexp, "a|b", "ab", false) // anchored, both alternatives
	f(MatchRegexp, "a", "a\n", false)
	f(MatchRegexp, "a.b", "a\nb", true) // . is any character in label values
	f(MatchRegexp, "", "", true)
	f(MatchNotRegexp, "a.*", "abc", false)
	f(MatchNotRegexp, "a.*", "", true)
	if _, err := NewMatcher("app", MatchRegexp, "("); err == nil {
		t.Error("a bad expression is taken")
	}
	if m, _ := NewMatcher("app", MatchNotRegexp, `a"b`); m.String() != `app!~"a\"b"` || !m.MatchesEmpty() {
		t.Errorf("%s", m)
	}
}
