package segment

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment/field"
)

// structuredLine makes lines of few shapes, so that they share templates, with values
// that have every trap: empty, null, escapes, leading zeros, broken numbers, names twice.
func structuredLine(rng *rand.Rand, ts int64, tame bool) []byte {
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	number := func() string {
		return pick(fmt.Sprint(rng.IntN(600)), fmt.Sprint(rng.IntN(5)), fmt.Sprintf("%.3f", rng.Float64()*100), "-"+fmt.Sprint(1+rng.IntN(9)), "0", "1e3")
	}
	odd := func() string {
		return pick("", "null", "NaN", "007", "x\\ny", "caf\u00e9", "\\u00e9", "a b", "\xff", "1_0", "10ms", "3KB", "true")
	}
	text := func() string {
		switch {
		case rng.IntN(30) > 0:
		case tame:
			return ""
		default:
			return odd()
		}
		return pick("get", "put", "list", "a b", "10ms", "2s", "5KB", fmt.Sprintf("%08x", rng.Uint32()), "10.0.0."+fmt.Sprint(rng.IntN(255)))
	}
	value := func() string {
		switch {
		case rng.IntN(40) > 0:
		case tame:
			return "null"
		default:
			return odd()
		}
		return number()
	}
	switch rng.IntN(8) {
	case 0:
		return fmt.Appendf(nil, `{"status":%s,"method":"%s","took":"%s"}`, value(), text(), text())
	case 1:
		return fmt.Appendf(nil, `{"status":%s,"nested":{"status":%s,"path":"%s"}}`, value(), value(), text())
	case 2:
		return fmt.Appendf(nil, `{"status":%s,"status":%s,"path":"%s"}`, value(), value(), text())
	case 3:
		return fmt.Appendf(nil, `{"app":"%s","status":"%s","list":[%s,2],"nested_path":"%s"}`, text(), value(), number(), text())
	case 4:
		return fmt.Appendf(nil, `{"ts":"%s","status": %s , "took":"%s"}`, time.Unix(0, ts).UTC().Format(time.RFC3339Nano), value(), text())
	case 5:
		return fmt.Appendf(nil, `status=%s method=%s took=%s`, strings.ReplaceAll(value(), " ", ""), pick("get", "put", ""), pick("10ms", "2s", fmt.Sprint(rng.IntN(50))+"ms"))
	case 6:
		return fmt.Appendf(nil, `status=%s msg="%s" status=%s`, number(), text(), number())
	}
	return fmt.Appendf(nil, `status %s of request %d took %s`, number(), rng.IntN(100), text())
}

// randomPipeline makes a random pipeline for such lines.
func randomPipeline(t testing.TB, rng *rand.Rand) *Pipeline {
	must := func(s PipelineStage, err error) PipelineStage {
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	var stages []PipelineStage
	expressions := []field.Expression{{Label: "status", Path: "status"}, {Label: "path", Path: "nested.path"}, {Label: "took", Path: "took"}, {Label: "first", Path: "list[0]"}, {Label: "nested", Path: "nested"}}
	keys := []field.Expression{{Label: "status", Path: "status"}, {Label: "took", Path: "took"}, {Label: "m", Path: "method"}}
	switch rng.IntN(5) {
	case 0:
		stages = append(stages, must(NewJSONStage()))
	case 1, 2:
		rng.Shuffle(len(expressions), func(i, j int) { expressions[i], expressions[j] = expressions[j], expressions[i] })
		stages = append(stages, must(NewJSONStage(expressions[:1+rng.IntN(4)]...)))
	case 3:
		stages = append(stages, must(NewLogfmtStage(rng.IntN(2) == 0, rng.IntN(2) == 0)))
	case 4:
		stages = append(stages, must(NewLogfmtStage(rng.IntN(2) == 0, false, keys[:1+rng.IntN(3)]...)))
	}
	matcher := func(name string, mt MatchType, value string) *LabelFilter {
		m, err := NewMatcher(name, mt, value)
		if err != nil {
			t.Fatal(err)
		}
		return &LabelFilter{Kind: FilterString, Name: name, Matcher: m}
	}
	for range rng.IntN(3) {
		switch rng.IntN(4) {
		case 0:
			stages = append(stages, &LabelFilter{Kind: FilterNumber, Name: "status", Comparison: Comparison(rng.IntN(6)), Number: float64(rng.IntN(500))})
		case 1:
			stages = append(stages, &LabelFilter{Kind: FilterDuration, Name: "took", Comparison: Comparison(rng.IntN(6)), Duration: time.Duration(rng.IntN(3)) * time.Second})
		case 2:
			stages = append(stages, matcher([]string{"method", "path", "app", "nested_path", "app_extracted"}[rng.IntN(5)], MatchType(rng.IntN(4)), []string{"", "get", "list|put"}[rng.IntN(3)]))
		case 3:
			stages = append(stages, &LabelFilter{Kind: FilterOr, Left: matcher("status", MatchEqual, "0"), Right: &LabelFilter{Kind: FilterNumber, Name: "status", Comparison: Comparison(rng.IntN(6)), Number: 100}})
		}
	}
	if rng.IntN(3) == 0 {
		stages = append(stages, &UnwrapStage{Label: []string{"status", "took"}[rng.IntN(2)], Conversion: Conversion(rng.IntN(3))})
	}
	if rng.IntN(4) > 0 {
		stages = append(stages, matcher(ErrorLabel, MatchEqual, ""))
	}
	return NewPipeline(stages...)
}

// TestQ1Columns: what is answered from columns is what is answered from lines.
func TestQ1Columns(t *testing.T) {
	rng := seeded(t, rand.Uint64())
	answered, failed, columnar := 0, 0, 0
	for log := range 8 {
		l := newTestLog(t)
		tame := log%2 == 0 // without lines that are wrong, columns answer more
		streams := []*Stream{NewStream(DefaultTenant, LabelsFromMap(map[string]string{"app": "a"})), NewStream(DefaultTenant, LabelsFromMap(map[string]string{"host": "h", "status": "x"}))}
		for range 4 {
			b := &Batch{Streams: streams[:1+rng.IntN(2)]}
			for range 500 {
				ts := int64(1e18) + rng.Int64N(1e12)
				b.Rows = append(b.Rows, Row{Timestamp: ts, Line: structuredLine(rng, ts, tame), Stream: uint32(rng.IntN(len(b.Streams)))})
			}
			l.append(b)
		}
		o := l.open(vfs.NewMem(), "open", 1000)
		columns, lines := blockUnits(o.Blocks()), l.frames()
		for range 60 {
			q := everything()
			q.Tenant = DefaultTenant
			q.Pipeline = randomPipeline(t, rng)
			if rng.IntN(3) == 0 {
				f, err := NewLineFilter(MatchType(rng.IntN(4)), []string{"status", `"status":2`, "took=1", "1"}[rng.IntN(4)])
				if err != nil {
					t.Fatal(err)
				}
				q.Filters = append(q.Filters, f)
			}
			a := &Aggregation{Measure: Measure(rng.IntN(int(MeasureQuantile) + 1)), Quantile: 0.9, First: 1e18 + 1e12, Steps: 1, Range: 1e13}
			if rng.IntN(2) == 0 {
				a.First, a.Step, a.Steps, a.Range = 1e18, 1e11, 12, 3e11
			}
			a.Grouping = Grouping{Names: [][]string{nil, {"status"}, {"app", "method"}, {"nested_path", "path"}, {"app_extracted"}}[rng.IntN(5)], Without: rng.IntN(5) == 0}
			if q.Pipeline.needs(a).parserOnly() != nil {
				columnar++
			}
			run := func(units []Unit) (map[string][]string, error) {
				p := NewPartial(a)
				if err := AggregateUnits(context.Background(), units, q, a, p); err != nil {
					return nil, err
				}
				return describeSeries(p, a), nil
			}
			got, gotErr := run(columns)
			want, wantErr := run(lines)
			if (gotErr == nil) != (wantErr == nil) {
				t.Fatalf("%s %+v: error %v, want %v", q.Pipeline, a, gotErr, wantErr)
			}
			if gotErr != nil {
				failed++
				continue
			}
			answered++
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s filters %v %+v:\ngot  %v\nwant %v", q.Pipeline, len(q.Filters), a, got, want)
			}
		}
	}
	if answered < 50 || failed < 5 || columnar < 100 {
		t.Fatalf("%d answers, %d errors, %d from columns: the test shows too little", answered, failed, columnar)
	}
}

// describeSeries writes a Partial down; sums are rounded, as their order may differ.
func describeSeries(p *Partial, a *Aggregation) map[string][]string {
	out := map[string][]string{}
	for _, key := range slices.Sorted(maps.Keys(p.Series)) {
		s := p.Series[key]
		var row []string
		if p.Measure <= MeasureBytes {
			v, n := s.Values()
			row = append(row, fmt.Sprint(v, n))
		} else {
			v, present := s.Points(a)
			for i := range v {
				if present[i] {
					row = append(row, fmt.Sprintf("%d:%.6g", i, v[i]))
				}
			}
		}
		out[s.Labels.String()] = row
	}
	return out
}
