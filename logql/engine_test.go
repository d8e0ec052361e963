package logql

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// tenStreams returns a store with an entry at each of ten seconds, each in its own stream.
func tenStreams() *store {
	var entries []segment.Entry
	for i := range 10 {
		labels := segment.LabelsFromMap(map[string]string{"app": "a", "n": fmt.Sprint(i)})
		entries = append(entries, segment.Entry{Timestamp: int64(i) * int64(time.Second), Stream: segment.NewStream("t", labels), Line: []byte("x")})
	}
	return newStore(entries...)
}

func minute(query string) Params {
	return Params{Tenant: "t", Query: query, End: int64(time.Minute), Step: time.Second}
}

func TestLimits(t *testing.T) {
	s := tenStreams()
	f := func(o Options, p Params, want string) {
		t.Helper()
		o.Source = s
		_, err := NewEngine(o).Query(context.Background(), p)
		var limit *LimitError
		if want == "" && err != nil || want != "" && (!errors.As(err, &limit) || !IsBadQuery(err) || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", quote(p.Query), err, want)
		}
	}
	f(Options{MaxPoints: 60}, minute(`count_over_time({app="a"}[1s])`), "")
	f(Options{MaxPoints: 59}, minute(`count_over_time({app="a"}[1s])`), "maximum resolution of 59 points")
	f(Options{MaxPoints: 60}, Params{Tenant: "t", Query: `vector(1)`, End: math.MaxInt64, Step: 1}, "maximum resolution of 60 points")
	f(Options{MaxPoints: math.MaxInt}, Params{Tenant: "t", Query: `vector(1)`, End: math.MaxInt64, Step: 1}, "maximum resolution of 1,048,575 points")
	f(Options{MaxSeries: 10}, minute(`count_over_time({app="a"}[1s])`), "")
	f(Options{MaxSeries: 9}, minute(`count_over_time({app="a"}[1s])`), "maximum of series (9) reached")
	f(Options{MaxSeries: 9}, minute(`sum(count_over_time({app="a"}[1s]))`), "")
	f(Options{MaxSeries: 9}, minute(`count_over_time({app="a"}[1s]) > 1`), "")
	f(Options{MaxSamples: 610}, minute(`count_over_time({app="a"}[1s])`), "")
	f(Options{MaxSamples: 609}, minute(`count_over_time({app="a"}[1s])`), "more than 9 series at 61 points each")
	f(Options{MaxSamples: 610}, minute(`count_over_time({app="a"}[1s]) + count_over_time({app="a"}[1s])`), "series at 61 points each")
	f(Options{}, minute(strings.Repeat(" ", MaxQueryLength+1)), "the query has 65,537 bytes")
	f(Options{}, minute(strings.Repeat("(", 10_000)+"1"+strings.Repeat(")", 10_000)), "128 levels")
	f(Options{}, minute(strings.Repeat("-", 10_000)+"1"), "128 levels")
	f(Options{}, minute(strings.Repeat("2^", 10_000)+"1"), "128 levels")
	f(Options{}, minute(strings.Repeat("sum(", 200)+"vector(1)"+strings.Repeat(")", 200)), "128 levels")
	f(Options{}, minute("rate("+strings.Repeat("(", 200)+`{app="a"}`+strings.Repeat(")", 200)+"[5m])"), "128 levels")
	f(Options{}, minute(strings.Repeat("(", MaxDepth-1)+"1"+strings.Repeat(")", MaxDepth-1)), "")
	f(Options{}, minute(strings.Repeat("1+", 30_000)+"1"), "")
	f(Options{}, minute(`rate({app=~"`+strings.Repeat("a", MaxRegexpLength+1)+`"}[5m])`), "has 16,385 bytes")
	f(Options{}, minute(`rate({app="a"} |~ "`+strings.Repeat(`(ab){1000}`, 30)+`"[5m])`), "more than 50,000 instructions")
	f(Options{}, minute(`rate({app="a"}`+strings.Repeat(` |~ "(ab){1000}"`, 30)+`[5m])`), "more than 50,000 instructions")
	f(Options{}, minute(`rate({app="a"} |~ "`+strings.Repeat("abc|", 3000)+`"[5m])`), "")
	// A limit of the text is a limit of the user's, not of what nodes send one another.
	s.replan = true
	f(Options{}, minute(`count_over_time({app="a"} |= "`+strings.Repeat("\x01", MaxQueryLength-100)+`"[5m])`), "")
}

func TestBadQueries(t *testing.T) {
	engine := NewEngine(Options{Source: tenStreams()})
	f := func(p Params, want string) {
		t.Helper()
		p.Tenant = "t"
		_, err := engine.Query(context.Background(), p)
		if err == nil || !IsBadQuery(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want %q", p, err, want)
		}
	}
	f(Params{Query: `{app="a"}`}, "log queries are not supported as an instant query type")
	f(Params{Query: `{app="a"}`, Start: 5, End: 5, Step: 1}, "end of the time range must be after")
	f(Params{Query: `vector(1)`, Start: 5, End: 4, Step: 1}, "end of the time range must not be before")
	f(Params{Query: `vector(1)`, Start: math.MinInt64, End: math.MaxInt64, Step: math.MaxInt64}, "292 years")
	f(Params{Query: `count_over_time({app="a"}[292y])`, End: math.MaxInt64 / 2, Step: math.MaxInt64 / 2}, "together are longer than 292 years")
	f(Params{Query: `sum(`}, "parse error at line 1, col 5")
	f(Params{Query: `{app="a"} | unpack`, End: 5}, "`| unpack` is not supported yet")
	for _, err := range []error{nil, context.Canceled, errors.New("disk"), fmt.Errorf("x: %w", context.DeadlineExceeded)} {
		if IsBadQuery(err) {
			t.Errorf("IsBadQuery(%v)", err)
		}
	}
	if !IsBadQuery(fmt.Errorf("query: %w", &ParseError{})) {
		t.Error("a wrapped error is not recognised")
	}
}

func TestL4Damage(t *testing.T) {
	s := tenStreams()
	for i := range 30 {
		s.damage = append(s.damage, fmt.Errorf("block %d is damaged", i), errors.New("block 3 is damaged"))
	}
	s.damage[0] = errors.New(strings.Repeat("é", 600) + "\xff")
	engine := NewEngine(Options{Source: s})
	check := func(warnings []string) {
		t.Helper()
		if len(warnings) != maxWarnings+1 || !strings.Contains(warnings[maxWarnings], "10 more") && !strings.Contains(warnings[maxWarnings], "20 more") {
			t.Errorf("%d warnings, the last %q", len(warnings), warnings[len(warnings)-1:])
		}
		if len(warnings[0]) > maxWarningLength+8 || strings.ToValidUTF8(warnings[0], "") != warnings[0] {
			t.Errorf("the warning %q is too long or no UTF-8", warnings[0])
		}
		if n := len(slices.Compact(slices.Sorted(slices.Values(warnings)))); n != len(warnings) {
			t.Errorf("of %d warnings only %d are different", len(warnings), n)
		}
	}
	for _, p := range []Params{minute(`count_over_time({app="a"}[1s])`), minute(`{app="a"}`)} {
		r, err := engine.Query(context.Background(), p)
		if err != nil {
			t.Fatal(err)
		}
		check(r.Warnings())
		r.Warnings()[0] = "changed"
		check(r.Warnings())
		p.Strict = true
		if _, err := engine.Query(context.Background(), p); err == nil || IsBadQuery(err) {
			t.Errorf("strict: error %v", err)
		}
	}
	for _, f := range []func() ([]string, error){
		func() ([]string, error) {
			_, w, err := engine.Labels(context.Background(), "t", "", 0, 1e9)
			return w, err
		},
		func() ([]string, error) {
			_, w, err := engine.LabelValues(context.Background(), "t", "app", "{}", 0, 1e9)
			return w, err
		},
		func() ([]string, error) {
			_, w, err := engine.Series(context.Background(), "t", nil, 0, 1e9)
			return w, err
		},
	} {
		warnings, err := f()
		if err != nil {
			t.Fatal(err)
		}
		check(warnings)
	}

	s.damage = nil
	r, err := engine.Query(context.Background(), minute(`vector(1)`))
	if err != nil || len(r.Warnings()) != 0 || r.Close() != nil || (&Result{}).Warnings() != nil {
		t.Errorf("warnings %q, error %v", r.Warnings(), err)
	}
}

func TestWarningsWhileStreaming(t *testing.T) {
	d := newDamage(false)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for n := range 100 {
				d.add(fmt.Errorf("%d", (i+n)%10))
				d.texts()
			}
		})
	}
	group.Wait()
	if n := len(d.texts()); n != 10 {
		t.Errorf("%d warnings, want 10", n)
	}
	d.texts()[0] = "changed"
	if slices.Contains(d.texts(), "changed") {
		t.Error("warnings that were handed out can be changed")
	}
}

// A slowSource does nothing until its context ends, and then fails in its own way.
type slowSource struct {
	*store
	last context.Context
}

var errBroken = errors.New("connection closed")

func (s *slowSource) Partial(ctx context.Context, _ *Scan) (*segment.Partial, error) {
	<-ctx.Done()
	return nil, errBroken
}

func (s *slowSource) Streams(ctx context.Context, _ *Scan) ([]segment.Labels, error) {
	<-ctx.Done()
	return nil, errBroken
}

func (s *slowSource) Entries(ctx context.Context, scan *Scan) (segment.Iterator, error) {
	s.last = ctx
	if strings.Contains(scan.Text, "slow") {
		<-ctx.Done()
		return nil, errBroken
	}
	return s.store.Entries(ctx, scan)
}

func TestTimeout(t *testing.T) {
	s := &slowSource{store: tenStreams()}
	engine := NewEngine(Options{Source: s, Timeout: time.Millisecond})
	f := func(err error) {
		t.Helper()
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "limit of 1ms") || IsBadQuery(err) {
			t.Errorf("error %v", err)
		}
	}
	_, err := engine.Query(context.Background(), minute(`count_over_time({app="a"}[1s])`))
	f(err)
	_, _, err = engine.Labels(context.Background(), "t", "", 0, 1)
	f(err)
	p := minute(`{app="a"} |= "slow"`)
	p.Limit = 5
	_, err = engine.Query(context.Background(), p)
	f(err)

	// Reading entries is under the limit too.
	p = minute(`{app="a"}`)
	p.Limit = 5
	r, err := engine.Query(context.Background(), p)
	if err == nil {
		<-s.last.Done()
		if r.Entries.Next() {
			t.Error("entries after the end of the time")
		}
		err = r.Entries.Err()
	}
	f(err)

	// The asker's own context goes before, and what it says is returned.
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errors.New("client is gone"))
	_, err = NewEngine(Options{Source: s, Timeout: -1}).Query(ctx, minute(`count_over_time({app="a"}[1s])`))
	if err == nil || err.Error() != "client is gone" {
		t.Errorf("error %v", err)
	}
}

func TestStreamsWithoutLimitHaveNoTimeout(t *testing.T) {
	s := &slowSource{store: tenStreams()}
	r, err := NewEngine(Options{Source: s, Timeout: time.Nanosecond}).Query(context.Background(), minute(`{app="a"}`))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.last.Deadline(); ok {
		t.Error("the context of a stream has a deadline")
	}
	n := 0
	for r.Entries.Next() {
		n++
	}
	if err := r.Entries.Err(); n != 10 || err != nil {
		t.Errorf("%d entries, error %v", n, err)
	}
	if first, second := r.Close(), r.Close(); first != nil || second != nil || r.Entries.Err() == nil && s.last.Err() == nil {
		t.Error("Close does not end the context")
	}
}

func TestLabelValuesName(t *testing.T) {
	for _, name := range []string{"", "0", "a-b", "é"} {
		if _, _, err := NewEngine(Options{Source: tenStreams()}).LabelValues(context.Background(), "t", name, "", 0, 1); !IsBadQuery(err) {
			t.Errorf("%q: error %v", name, err)
		}
	}
}

// A liar returns sums for other points than it was asked for.
type liar struct{ *store }

func (liar) Partial(_ context.Context, scan *Scan) (*segment.Partial, error) {
	a := *scan.Aggregation
	a.Steps--
	p := segment.NewPartial(&a)
	p.For(segment.Labels{})
	return p, nil
}

func TestWrongPartial(t *testing.T) {
	if _, err := NewEngine(Options{Source: liar{}}).Query(context.Background(), minute(`count_over_time({app="a"}[1s])`)); err == nil || IsBadQuery(err) {
		t.Errorf("error %v", err)
	}
}

func TestReplan(t *testing.T) {
	f := func(text string, a *segment.Aggregation, want string) {
		t.Helper()
		s := &Scan{Text: text, Aggregation: a}
		if err := s.Replan(); err == nil || !IsBadQuery(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
	one := &segment.Aggregation{Steps: 1}
	f(`max(rate({app="a"}[5m]))`, one, "is no range aggregation")
	f(`{app="a"}`, one, "is no range aggregation")
	f(`rate({app="a"}[5m])`, &segment.Aggregation{Steps: 0}, "0 evaluation points")
	f(`rate({app="a"}[5m])`, &segment.Aggregation{Steps: 2}, "step of 0 ns")
	f(`rate({app="a"}[5m])`, nil, "expected a stream selector")
	f(`{app="a"} | unpack`, nil, "not supported")
	f(`{app="a"} x`, nil, "found `x`")
	f(`sum(`, one, "parse error")
	if one.Range != 0 {
		t.Error("Replan changed the aggregation that it was given")
	}
	s := &Scan{Text: "{}"}
	if err := s.Replan(); err != nil || len(s.Query.Matchers) != 0 {
		t.Errorf("{}: error %v", err)
	}
}

// What is wrong with lines is the asker's to decide, and what takes too much is refused.
func TestPipelineErrors(t *testing.T) {
	s := tenStreams()
	e := s.entries[0]
	for i := range 100 {
		e.Line = fmt.Appendf(nil, "number=%d x=%d.5s", i, i)
		s.entries = append(s.entries, e)
	}
	s = newStore(s.entries...)
	f := func(query, want string) {
		t.Helper()
		_, err := NewEngine(Options{Source: s, MaxSamples: 50}).Query(context.Background(), Params{Tenant: "t", Query: query, Start: 1e12, End: 1e12})
		if !IsBadQuery(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", query, err, want)
		}
	}
	f(`sum(count_over_time({app=~".+"} | json [1h]))`, `pipeline error: 'JSONParserErr' for series`)
	f(`sum_over_time({app=~".+"} | logfmt | unwrap x [1h])`, `pipeline error: 'SampleExtractionErr' for series`)
	f(`count_over_time({app=~".+"} | logfmt [1h])`, "more than 50 series")
	f(`sum by (number) (count_over_time({app=~".+"} | logfmt [1h]))`, "more than 50 series")
}
