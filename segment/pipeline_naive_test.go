package segment

import (
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/logcluster/logcluster/segment/field"
)

// A truth is what the parsers must find in a line: it is made together with the line, so
// that the oracle parses nothing.
type truth struct {
	json      []Label           // scalars before the fault
	paths     map[string]string // values at paths before the fault
	jsonFault bool
	pairs     []Label // of logfmt; a fault is a pair without a name
}

// sizes are the texts that the generator writes as sizes in bytes.
var sizes = map[string]uint64{"20KB": 20000, "1MiB": 1 << 20, "512": 512, "1.5kb": 1500, "3": 3}

func pickOf[T any](rng *rand.Rand, from ...T) T { return from[rng.IntN(len(from))] }

// structured makes a line of JSON, of logfmt, or of neither, and the truth about it.
func structured(rng *rand.Rand) (string, *truth) {
	names := []string{"status", "dur", "size", "level", "app", "id", "v", "app_extracted", "__error__"}
	value := func(name string) string {
		switch name {
		case "status":
			return pickOf(rng, "200", "404", "500", "503", "abc", "5e2")
		case "dur":
			return pickOf(rng, "5ms", "1.5s", "2h", "x", "3")
		case "size":
			return pickOf(rng, "20KB", "1MiB", "512", "1.5kb", "bad", "3")
		case "level":
			return pickOf(rng, "error", "info", "é")
		case "v":
			return pickOf(rng, "1", "2", "-3.5", "1000", "x")
		}
		return pickOf(rng, "a", "b", "web")
	}
	tr := &truth{paths: map[string]string{}}
	rng.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	names = names[:rng.IntN(len(names)+1)]
	switch rng.IntN(5) {
	case 0: // neither
		tr.jsonFault, tr.pairs = true, []Label{{"plain", ""}, {"text", ""}}
		return "plain text", tr
	case 1, 2:
		tr.jsonFault = true
		var parts []string
		for _, n := range names {
			v := value(n)
			switch rng.IntN(10) {
			case 0:
				parts = append(parts, pickOf(rng, "=x", "a=b=c", `q"r=1`, `z="1"2`))
				tr.pairs = append(tr.pairs, Label{})
			case 1:
				parts = append(parts, n)
				tr.pairs = append(tr.pairs, Label{n, ""})
				continue
			}
			if rng.IntN(3) == 0 {
				parts = append(parts, n+`="`+v+`"`)
			} else {
				parts = append(parts, n+"="+v)
			}
			tr.pairs = append(tr.pairs, Label{n, v})
		}
		return strings.Join(parts, " "), tr
	}
	var parts []string
	add := func(path, name, text, v string) {
		parts = append(parts, text)
		tr.paths[path] = v
		if v != "" {
			tr.json = append(tr.json, Label{name, v})
		}
	}
	for _, n := range names {
		v := value(n)
		_, err := strconv.ParseFloat(v, 64)
		switch {
		case rng.IntN(12) == 0:
			add(n, n, `"`+n+`":`+pickOf(rng, `""`, "null"), "")
		case err == nil && rng.IntN(3) > 0:
			add(n, n, `"`+n+`":`+v, v)
		default:
			add(n, n, `"`+n+`":"`+strings.ReplaceAll(v, "é", `\u00e9`)+`"`, v)
		}
	}
	if rng.IntN(2) == 0 {
		tr.paths["o"], tr.paths["o.x"], tr.paths[`o["y-z"]`], tr.paths["o.l[1]"] = `{"x":7,"y-z":"w","l":[1,2]}`, "7", "w", "2"
		tr.json = append(tr.json, Label{"o_x", "7"}, Label{"o_y_z", "w"})
		parts = append(parts, `"o":`+tr.paths["o"])
	}
	line := "{" + strings.Join(parts, ",") + "}"
	tr.pairs = []Label{{}}
	if line == "{}" {
		tr.pairs = []Label{{"__", ""}}
	}
	switch rng.IntN(8) {
	case 0:
		tr.jsonFault = true
		tr.pairs = append(tr.pairs, Label{"tail", ""})
		return line + " tail", tr
	case 1:
		tr.jsonFault = true
		if line == "{}" {
			tr.pairs = []Label{{"_", ""}}
		}
		return line[:len(line)-1], tr
	}
	return line, tr
}

// A naiveRow is the meaning of a pipeline for one entry, spelled out.
type naiveRow struct {
	given, parsed map[string]string
	failed        string
	excused       bool
	value         float64
	invalid       bool
}

func (r *naiveRow) get(name string) string {
	if name == ErrorLabel {
		return r.failed
	}
	if v := r.given[name]; v != "" {
		return v
	}
	return r.parsed[name]
}

func (r *naiveRow) extract(name, value string) {
	if name == ErrorLabel {
		return
	}
	if r.given[name] != "" {
		name += "_extracted"
	}
	if _, ok := r.parsed[name]; !ok && r.given[name] == "" {
		r.parsed[name] = value
	}
}

func (r *naiveRow) fail(kind string) {
	if r.failed == "" {
		r.failed = kind
	}
}

// compare says whether a <op> b, of ordered values.
func compare[T float64 | int64 | uint64](c Comparison, a, b T) bool {
	return map[string]bool{"==": a == b, "!=": a != b, ">": a > b, ">=": a >= b, "<": a < b, "<=": a <= b}[c.String()]
}

func (r *naiveRow) holds(t testing.TB, f *LabelFilter) bool {
	switch f.Kind {
	case FilterAnd:
		return r.holds(t, f.Left) && r.holds(t, f.Right)
	case FilterOr:
		return r.holds(t, f.Left) || r.holds(t, f.Right)
	case FilterString:
		v := r.get(f.Name)
		switch f.Matcher.Type {
		case MatchEqual:
			return v == f.Matcher.Value
		case MatchNotEqual:
			return v != f.Matcher.Value
		}
		is, err := regexp.MatchString(`\A(?s:`+f.Matcher.Value+`)\z`, v)
		if err != nil {
			t.Fatal(err)
		}
		return is == (f.Matcher.Type == MatchRegexp)
	}
	v := r.get(f.Name)
	if v == "" {
		return false
	}
	switch f.Kind {
	case FilterNumber:
		if n, err := strconv.ParseFloat(v, 64); err == nil {
			return compare(f.Comparison, n, f.Number)
		}
	case FilterDuration:
		if d, err := time.ParseDuration(v); err == nil {
			return compare(f.Comparison, int64(d), int64(f.Duration))
		}
	case FilterBytes:
		if n, ok := naiveBytes(v); ok {
			return compare(f.Comparison, n, f.Bytes)
		}
	}
	r.fail("LabelFilterErr")
	return true
}

func naiveBytes(s string) (uint64, bool) {
	if n, ok := sizes[s]; ok {
		return n, true
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

func looksAtError(f *LabelFilter) bool { return strings.Contains(f.String(), "__error__") }

// naiveRun returns nil for an entry that is dropped.
func naiveRun(t testing.TB, p *Pipeline, e *Entry, tr *truth) *naiveRow {
	r := &naiveRow{given: e.Metadata.Map(), parsed: map[string]string{}}
	maps.Copy(r.given, e.Stream.Labels.Map())
	for _, stage := range p.Stages {
		switch s := stage.(type) {
		case *JSONStage:
			for _, l := range tr.json {
				if len(s.Expressions) == 0 {
					r.extract(l.Name, l.Value)
				}
			}
			for _, x := range s.Expressions {
				if v := tr.paths[x.Path]; v != "" {
					r.extract(x.Label, v)
				}
			}
			if tr.jsonFault {
				r.fail("JSONParserErr")
			}
		case *LogfmtStage:
			for _, l := range tr.pairs {
				if l.Name == "" {
					if s.Strict {
						r.fail("LogfmtParserErr")
						break
					}
					continue
				}
				if len(s.Expressions) == 0 && (l.Value != "" || s.KeepEmpty) {
					r.extract(l.Name, l.Value)
				}
				for _, x := range s.Expressions {
					if x.Path == l.Name {
						r.extract(x.Label, l.Value)
					}
				}
			}
		case *LabelFilter:
			if !r.holds(t, s) {
				return nil
			}
			r.excused = r.excused || r.failed != "" && looksAtError(s)
		case *UnwrapStage:
			v := r.get(s.Label)
			if v == "" {
				return nil
			}
			var err error
			switch s.Conversion {
			case ConvertNumber:
				r.value, err = strconv.ParseFloat(v, 64)
			case ConvertDuration:
				var d time.Duration
				d, err = time.ParseDuration(v)
				r.value = d.Seconds()
			default:
				n, ok := naiveBytes(v)
				if r.value = float64(n); !ok {
					err = errors.New("no size")
				}
			}
			if err != nil {
				r.invalid = true
				r.fail("SampleExtractionErr")
			}
		}
	}
	return r
}

func newLabelFilter(t testing.TB, rng *rand.Rand, depth int) *LabelFilter {
	if depth > 0 && rng.IntN(2) == 0 {
		return &LabelFilter{Kind: FilterKind(rng.IntN(2)), Left: newLabelFilter(t, rng, depth-1), Right: newLabelFilter(t, rng, depth-1)}
	}
	f := &LabelFilter{Kind: FilterString + FilterKind(rng.IntN(4)), Comparison: Comparison(rng.IntN(6))}
	f.Name = pickOf(rng, "status", "dur", "size", "level", "app", "id", "v", "app_extracted", "absent", "o_x", "host")
	switch f.Kind {
	case FilterString:
		mt := MatchType(rng.IntN(4))
		value := pickOf(rng, "error", "web", "", "500", "a")
		if mt >= MatchRegexp {
			value = pickOf(rng, "5..", "e.*", "", ".*", ".+", "é|a")
		}
		m, err := NewMatcher(f.Name, mt, value)
		if err != nil {
			t.Fatal(err)
		}
		f.Matcher = m
	case FilterNumber:
		f.Name = pickOf(rng, "status", "status", "v", "o_x", "dur", "absent")
		f.Number = pickOf[float64](rng, 200, 500, 499.5, 1, -3.5)
	case FilterDuration:
		f.Name = pickOf(rng, "dur", "dur", "dur", "level", "absent")
		f.Duration = pickOf(rng, 5*time.Millisecond, time.Second, 2*time.Hour)
	case FilterBytes:
		f.Name = pickOf(rng, "size", "size", "size", "status", "absent")
		f.Bytes = pickOf[uint64](rng, 20000, 512, 1<<20)
	}
	return f
}

// noError is | __error__="".
func noError(t testing.TB, mt MatchType, value string) *LabelFilter {
	m, err := NewMatcher(ErrorLabel, mt, value)
	if err != nil {
		t.Fatal(err)
	}
	return &LabelFilter{Kind: FilterString, Name: ErrorLabel, Matcher: m}
}

func definedPipeline(t testing.TB, rng *rand.Rand, unwrap bool) *Pipeline {
	var stages []PipelineStage
	add := func(s PipelineStage, err error) {
		if err != nil {
			t.Fatal(err)
		}
		stages = append(stages, s)
	}
	for range rng.IntN(3) {
		switch rng.IntN(6) {
		case 0, 1:
			add(NewJSONStage())
		case 2:
			add(NewJSONStage(field.Expression{Label: "status", Path: "status"}, field.Expression{Label: "o_x", Path: "o.x"}, field.Expression{Label: "app", Path: `o["y-z"]`},
				field.Expression{Label: "v", Path: pickOf(rng, "v", "o.l[1]")}, field.Expression{Label: "w", Path: "o"}, field.Expression{Label: "n", Path: "nope[3]"}))
		case 3, 4:
			add(NewLogfmtStage(rng.IntN(2) == 0, rng.IntN(2) == 0))
		case 5:
			add(NewLogfmtStage(rng.IntN(2) == 0, false, field.Expression{Label: "status", Path: "status"}, field.Expression{Label: "x", Path: "level"}, field.Expression{Label: "id", Path: "v"}))
		}
		for range rng.IntN(2) {
			stages = append(stages, newLabelFilter(t, rng, rng.IntN(3)))
		}
		if rng.IntN(4) == 0 {
			stages = append(stages, noError(t, MatchNotRegexp, "LabelFilterErr"))
		}
	}
	if len(stages) == 0 {
		stages = append(stages, newLabelFilter(t, rng, 1))
	}
	if unwrap {
		stages = append(stages, &UnwrapStage{pickOf(rng, "v", "v", "v", "status", "dur", "size"), Conversion(rng.IntN(3))})
	}
	switch rng.IntN(8) {
	case 0:
		stages = append(stages, noError(t, MatchNotEqual, ""))
	case 1:
		stages = append(stages, noError(t, MatchRegexp, "(JSON|Logfmt)ParserErr|"))
	case 2, 3, 4, 5:
		stages = append(stages, noError(t, MatchEqual, ""))
	}
	return NewPipeline(stages...)
}

// naiveValues returns what a measure comes to.
func naiveValue(a *Aggregation, e []*Entry, values []float64) float64 {
	n := float64(len(values))
	sum, mean := 0.0, 0.0
	for _, v := range values {
		sum += v
	}
	mean = sum / n
	squares := 0.0
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	at := func(better func(i, j int) bool) float64 {
		best := 0
		for i := range e {
			if better(i, best) || e[i].Timestamp == e[best].Timestamp && values[i] > values[best] {
				best = i
			}
		}
		return values[best]
	}
	switch a.Measure {
	case MeasureCount:
		return n
	case MeasureBytes:
		total := 0
		for _, x := range e {
			total += len(x.Line)
		}
		return float64(total)
	case MeasureSum:
		return sum
	case MeasureMean:
		return mean
	case MeasureMin:
		return slices.Min(values)
	case MeasureMax:
		return slices.Max(values)
	case MeasureFirst:
		return at(func(i, j int) bool { return e[i].Timestamp < e[j].Timestamp })
	case MeasureLast:
		return at(func(i, j int) bool { return e[i].Timestamp > e[j].Timestamp })
	case MeasureVariance:
		return squares / n
	case MeasureDeviation:
		return math.Sqrt(squares / n)
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := a.Quantile * (n - 1)
	low, high := sorted[int(rank)], sorted[min(int(rank)+1, len(sorted)-1)]
	return low + (high-low)*(rank-math.Floor(rank))
}

// naiveSeries returns the values of each series at each point (NaN: none), and the errors
// that the aggregation may end with.
func naiveSeries(a *Aggregation, entries []Entry, rows []*naiveRow) (series map[string][]float64, failures map[string]bool) {
	type group struct {
		entries []*Entry
		values  []float64
	}
	groups := map[string][]group{}
	failures = map[string]bool{}
	for i, r := range rows {
		all := maps.Clone(r.given)
		maps.Copy(all, r.parsed)
		maps.DeleteFunc(all, func(name, value string) bool {
			return value == "" || slices.Contains(a.Grouping.Names, name) == a.Grouping.Without
		})
		key := LabelsFromMap(all).String()
		for step := range a.Steps {
			if !counts(a, step, entries[i].Timestamp) {
				continue
			}
			if r.failed != "" && (!r.excused || r.invalid) {
				failures[r.failed] = true
			}
			if groups[key] == nil {
				groups[key] = make([]group, a.Steps)
			}
			g := &groups[key][step]
			g.entries, g.values = append(g.entries, &entries[i]), append(g.values, r.value)
		}
	}
	series = map[string][]float64{}
	for key, steps := range groups {
		for _, g := range steps {
			v := math.NaN()
			if len(g.entries) > 0 {
				v = naiveValue(a, g.entries, g.values)
			}
			series[key] = append(series[key], v)
		}
	}
	return series, failures
}

func sameValues(t testing.TB, what string, a *Aggregation, p *Partial, want map[string][]float64) (compared int) {
	t.Helper()
	if len(p.Series) != len(want) {
		t.Fatalf("%s: %d series, want %d", what, len(p.Series), len(want))
	}
	for _, s := range p.Series {
		values, present := s.Points(a)
		w := want[s.Labels.String()]
		if w == nil {
			t.Fatalf("%s: series %s, want none", what, s.Labels)
		}
		for i := range values {
			if present[i] == math.IsNaN(w[i]) || present[i] && math.Abs(values[i]-w[i]) > 1e-9*max(1, math.Abs(w[i])) {
				t.Fatalf("%s: series %s at point %d: %v (%t), want %v", what, s.Labels, i, values[i], present[i], w[i])
			}
			if present[i] {
				compared++
			}
		}
	}
	return compared
}
