package segment

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// newQuery makes a random query that has a chance to find some of the entries.
func newQuery(t testing.TB, rng *rand.Rand, entries []Entry) *Query {
	q := everything()
	q.Direction = Direction(rng.IntN(2))
	if rng.IntN(10) == 0 {
		q.Tenant = "other"
	}
	if rng.IntN(2) == 0 {
		q.Limit = 1 + rng.IntN([]int{3, 2000}[rng.IntN(2)])
	}
	pick := func() *Entry { return &entries[rng.IntN(len(entries))] }
	if rng.IntN(2) == 0 {
		q.Start = pick().Timestamp
	}
	if rng.IntN(2) == 0 {
		q.End = pick().Timestamp
	}
	for range rng.IntN(3) {
		name, value := "app", "web"
		if labels := pick().Stream.Labels; len(labels) > 0 {
			l := labels[rng.IntN(len(labels))]
			name, value = l.Name, l.Value
		}
		mt := MatchType(rng.IntN(4))
		if mt >= MatchRegexp {
			value = regexp.QuoteMeta(value) + []string{"", "|.*b.*", "|"}[rng.IntN(3)]
		}
		m, err := NewMatcher(name, mt, value)
		if err != nil {
			t.Fatal(err)
		}
		q.Matchers = append(q.Matchers, m)
	}
	for range rng.IntN(3) {
		mt := MatchType(rng.IntN(4))
		var values []string
		for range 1 + rng.IntN(3) {
			values = append(values, randomNeedle(rng, pick().Line, mt))
		}
		f, err := NewLineFilter(mt, values...)
		if err != nil {
			t.Fatal(err)
		}
		q.Filters = append(q.Filters, f)
	}
	return q
}

// randomNeedle makes a text or an expression that some lines hold.
func randomNeedle(rng *rand.Rand, line []byte, mt MatchType) string {
	text := ""
	if len(line) > 0 {
		at := rng.IntN(len(line))
		text = string(line[at:min(len(line), at+1+rng.IntN(6))])
	}
	switch rng.IntN(6) {
	case 0:
		text = words[rng.IntN(len(words))]
	case 1:
		text = "no line holds this"
	case 2:
		text = "or w" // crosses the end of some lines
	}
	if mt < MatchRegexp {
		return text
	}
	text = regexp.QuoteMeta(strings.ToValidUTF8(text, "."))
	return []string{text, "^" + text, text + "$", text + ".*o", "[0-9]+|" + text, "(?i)" + text}[rng.IntN(6)]
}

// expressions are compiled by the oracle on its own.
type expressions map[string]*regexp.Regexp

func (x expressions) match(expression string, b []byte) bool {
	re := x[expression]
	if re == nil {
		re = regexp.MustCompile(expression)
		x[expression] = re
	}
	return re.Match(b)
}

// holds is the meaning of a filter, from its definition.
func holds(x expressions, f *LineFilter, line []byte) bool {
	any := false
	for _, v := range f.Values {
		switch f.Type {
		case MatchEqual, MatchNotEqual:
			any = any || strings.Contains(string(line), v)
		default:
			any = any || x.match(v, line)
		}
	}
	return any == (f.Type == MatchEqual || f.Type == MatchRegexp)
}

// asked is the meaning of a query without order and limit.
func asked(x expressions, q *Query, e *Entry) bool {
	if e.Stream.Tenant != q.Tenant || e.Timestamp < q.Start || e.Timestamp >= q.End {
		return false
	}
	for _, m := range q.Matchers {
		value := e.Stream.Labels.Map()[m.Name]
		var is bool
		if m.Type < MatchRegexp {
			is = value == m.Value
		} else {
			is = x.match(`\A(?s:`+m.Value+`)\z`, []byte(value))
		}
		if is != (m.Type == MatchEqual || m.Type == MatchRegexp) {
			return false
		}
	}
	for _, f := range q.Filters {
		if !holds(x, f, e.Line) {
			return false
		}
	}
	return true
}

// found returns the entries that a query asks for, in no particular order and without
// a limit.
func found(q *Query, entries []Entry) []Entry {
	var out []Entry
	x := expressions{}
	for i := range entries {
		if asked(x, q, &entries[i]) {
			out = append(out, entries[i])
		}
	}
	return out
}

// answer is what a query must return of the entries that it asks for.
func answer(q *Query, hits []Entry) []Entry {
	out := slices.Clone(hits)
	slices.SortFunc(out, func(a, b Entry) int {
		order := cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.Offset, b.Offset))
		if q.Direction == Backward {
			return -order
		}
		return order
	})
	if q.Limit > 0 && len(out) > q.Limit {
		out = out[:q.Limit]
	}
	return out
}

func describe(q *Query) string {
	s := fmt.Sprintf("%s [%d, %d) direction %d limit %d", q.Tenant, q.Start, q.End, q.Direction, q.Limit)
	for _, m := range q.Matchers {
		s += " " + m.String()
	}
	for _, f := range q.Filters {
		s += fmt.Sprintf(" %d %q", f.Type, f.Values)
	}
	return s
}

// newAggregation makes a random aggregation over the entries' time.
func newAggregation(rng *rand.Rand, entries []Entry) *Aggregation {
	pick := func() int64 { return entries[rng.IntN(len(entries))].Timestamp }
	lo, hi := pick(), pick()
	if lo > hi {
		lo, hi = hi, lo
	}
	a := &Aggregation{Measure: Measure(rng.IntN(2)), First: lo, Steps: 1, Range: 1 + rng.Int64N(1<<rng.IntN(63))}
	if rng.IntN(4) == 0 {
		a.Range = math.MaxInt64
	}
	if rng.IntN(3) > 0 {
		a.Steps = 2 + rng.IntN(40)
		span := uint64(hi) - uint64(lo)
		a.Step = 1 + int64(span/uint64(a.Steps)/uint64(1+rng.IntN(3)))
	}
	for range rng.IntN(3) {
		a.Grouping.Names = append(a.Grouping.Names, []string{"app", "host", "level", "none"}[rng.IntN(4)])
	}
	slices.Sort(a.Grouping.Names)
	a.Grouping.Without = rng.IntN(2) == 0
	return a
}

// counts reports whether the evaluation point covers an entry: point - range < ts <= point.
func counts(a *Aggregation, step int, ts int64) bool {
	const small = 1 << 61
	if a.First > -small && a.First < small && ts > -small && ts < small && a.Range < small && a.Step < small/64 && step < 64 {
		point := a.First + int64(step)*a.Step
		return point-a.Range < ts && ts <= point
	}
	point := new(big.Int).Mul(big.NewInt(int64(step)), big.NewInt(a.Step))
	point.Add(point, big.NewInt(a.First))
	age := point.Sub(point, big.NewInt(ts))
	return age.Sign() >= 0 && age.Cmp(big.NewInt(a.Range)) < 0
}

// naive is what an aggregation must yield of the entries that the query asks for: for
// each series its values and counts.
func naive(a *Aggregation, hits []Entry) map[string]string {
	type sums struct{ values, counts []uint64 }
	all := map[string]*sums{}
	for i := range hits {
		e := &hits[i]
		var labels Labels
		for _, l := range e.Stream.Labels {
			if slices.Contains(a.Grouping.Names, l.Name) != a.Grouping.Without {
				labels = append(labels, l)
			}
		}
		key := labels.String()
		for step := range a.Steps {
			if !counts(a, step, e.Timestamp) {
				continue
			}
			s := all[key]
			if s == nil {
				s = &sums{make([]uint64, a.Steps), make([]uint64, a.Steps)}
				all[key] = s
			}
			s.counts[step]++
			if a.Measure == MeasureBytes {
				s.values[step] += uint64(len(e.Line))
			} else {
				s.values[step]++
			}
		}
	}
	out := map[string]string{}
	for key, s := range all {
		out[key] = fmt.Sprint(s.values, s.counts)
	}
	return out
}

func rendered(p *Partial) map[string]string {
	out := map[string]string{}
	for _, s := range p.Series {
		values, counts := s.Values()
		out[s.Labels.String()] = fmt.Sprint(values, counts)
	}
	return out
}

func sameSeries(t testing.TB, what string, got, want map[string]string) {
	t.Helper()
	for key, w := range want {
		if got[key] != w {
			t.Fatalf("%s: series %s is\n%.300s, want\n%.300s", what, key, got[key], w)
		}
	}
	for key := range got {
		if want[key] == "" {
			t.Fatalf("%s: series %s: %s, want none", what, key, got[key])
		}
	}
}

// Q1: units answer queries and aggregations as the plain rows do, one by one, merged,
// and whether they are frames, open blocks or sealed ones.
func TestQ1AgainstRows(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := seeded(t, seed)
			g, l := newGenerator(rng), newTestLog(t)
			g.log(l, 1+rng.IntN(6), 1+rng.IntN(300))
			fsys := vfs.NewMem()
			units := map[string][]Unit{"frames": l.frames()}
			o := l.open(fsys, "open-1", 1+rng.IntN(4))
			defer o.Close()
			units["open"] = blockUnits(o.Blocks())
			s := openSegment(t, fsys, l.seal(fsys, 1+rng.IntN(4)))
			units["sealed"] = blockUnits(s.Blocks)
			// Half of the log from blocks, the other half from frames.
			half := len(o.Blocks()) / 2
			for _, b := range o.Blocks()[:half] {
				units["mixed"] = append(units["mixed"], b)
			}
			for _, u := range units["frames"] {
				if half == 0 || u.(*FrameUnit).Header.Index > o.Blocks()[half-1].Meta.LastIndex {
					units["mixed"] = append(units["mixed"], u)
				}
			}
			for range 16 {
				q := newQuery(t, rng, l.entries)
				hits := found(q, l.entries)
				want := answer(q, hits)
				a := newAggregation(rng, l.entries)
				series := naive(a, hits)
				for name, list := range units {
					what := name + ": " + describe(q)
					got, err := drain(SelectUnits(ctx, 0, list, q, nil))
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					sameEntries(t, what, got, want)
					p := NewPartial(a)
					if err := AggregateUnits(ctx, list, q, a, p); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					sameSeries(t, fmt.Sprintf("%s: %+v", what, a), rendered(p), series)
					for _, u := range list {
						each(t, u, q, hits)
					}
				}
			}
		})
	}
}

// each checks one unit alone: order and limit of Select, the streams, the bounds.
func each(t *testing.T, u Unit, q *Query, hits []Entry) {
	t.Helper()
	got, err := u.Select(context.Background(), q)
	if err != nil {
		t.Fatal(err)
	}
	lo, hi := u.Bounds()
	named := map[string]bool{}
	if err := u.EachStream(q, func(s *Stream) bool { named[string(s.AppendKey(nil))] = true; return true }); err != nil {
		t.Fatal(err)
	}
	var own []Entry
	from, to := offsetsOf(u)
	for i := range hits {
		if hits[i].Offset >= from && hits[i].Offset < to {
			own = append(own, hits[i])
		}
	}
	a := newAggregation(rand.New(rand.NewPCG(uint64(len(hits)), 1)), []Entry{{Timestamp: lo}, {Timestamp: hi}})
	p := NewPartial(a)
	if err := u.Aggregate(context.Background(), q, a, p); err != nil {
		t.Fatal(err)
	}
	sameSeries(t, "one unit: "+describe(q), rendered(p), naive(a, own))
	sameEntries(t, "one unit: "+describe(q), got, answer(q, own))
	for i := range got {
		if got[i].Timestamp < lo || got[i].Timestamp > hi || !named[string(got[i].Stream.AppendKey(nil))] {
			t.Fatalf("entry at %d of stream %s is outside the unit's bounds or streams", got[i].Timestamp, got[i].Stream.Labels)
		}
	}
	calls := 0
	if err := u.EachStream(q, func(*Stream) bool { calls++; return false }); err != nil || calls > 1 {
		t.Fatalf("EachStream went on for %d calls after it was told to stop: %v", calls, err)
	}
}

func offsetsOf(u Unit) (from, to uint64) {
	switch u := u.(type) {
	case *Block:
		return u.Meta.FirstOffset, u.Meta.EndOffset
	case *FrameUnit:
		return u.Header.Offset, u.Header.Offset + uint64(u.Header.Count)
	}
	panic("unknown unit")
}

// What a query returned stays as it was, whatever happens afterwards.
func TestSelectedEntriesStay(t *testing.T) {
	rng := seeded(t, 7)
	l := newTestLog(t)
	newGenerator(rng).log(l, 8, 400)
	fsys := vfs.NewMem()
	s := openSegment(t, fsys, l.seal(fsys, 2))
	for _, units := range [][]Unit{l.frames(), blockUnits(s.Blocks)} {
		for range 10 {
			q := newQuery(t, rng, l.entries)
			var got [][]Entry
			for _, u := range units {
				entries, err := u.Select(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, entries)
			}
			kept := make([][]byte, 0)
			for _, list := range got {
				for _, e := range list {
					kept = append(kept, bytes.Clone(e.Line))
				}
			}
			// Others use the pools now.
			for range 3 {
				if _, err := Verify(fsys, s.Path()); err != nil {
					t.Fatal(err)
				}
				l2 := newTestLog(t)
				newGenerator(rng).log(l2, 2, 200)
			}
			i := 0
			for _, list := range got {
				for _, e := range list {
					if !bytes.Equal(e.Line, kept[i]) {
						t.Fatalf("line at offset %d changed from %q to %q", e.Offset, kept[i], e.Line)
					}
					i++
				}
			}
		}
	}
}

// Q1 for a block of many chunks, of lines and of metadata.
func TestQ1ManyChunks(t *testing.T) {
	rng := seeded(t, 21)
	l := newTestLog(t)
	var streams []*Stream
	for i := range 7 {
		streams = append(streams, NewStream("t", Labels{{"app", fmt.Sprint("a", i)}}))
	}
	for range 3 {
		b := &Batch{Streams: streams}
		for i := range 2500 {
			line := fmt.Appendf(nil, "%0*d error %x of row %d", 100+rng.IntN(200), i, rng.Uint64(), i)
			b.Metadata = append(b.Metadata, Labels{{"trace", fmt.Sprintf("%0*x", 100+rng.IntN(200), rng.Uint64())}})
			b.Rows = append(b.Rows, Row{Timestamp: int64(len(l.entries)*10 + rng.IntN(30_000)), Line: line, Stream: uint32(rng.IntN(7)), Metadata: uint32(1 + i)})
		}
		l.append(b)
	}
	o := l.open(vfs.NewMem(), "open-1", 1000)
	defer o.Close()
	block := o.Blocks()[0]
	kinds := map[ChunkKind]int{}
	for _, c := range block.Meta.Chunks {
		kinds[c.Kind]++
	}
	if kinds[ChunkFallback] < 3 || kinds[ChunkMetadata] < 3 {
		t.Fatalf("chunks %v", kinds)
	}
	for range 30 {
		q := newQuery(t, rng, l.entries)
		each(t, block, q, found(q, l.entries))
	}
}
