package logql

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/logcluster/logcluster/segment"
	"github.com/logcluster/logcluster/segment/field"
)

// A generator makes random queries and data.
type generator struct{ *rand.Rand }

func newGenerator(seed uint64) generator { return generator{rand.New(rand.NewPCG(seed, seed))} }

func pick[T any](g generator, from ...T) T { return from[g.IntN(len(from))] }

// strangeText returns texts that are hard to print and to read again.
func (g generator) strangeText() string {
	return pick(g, "", "a", `"`, "`", `\`, `\d+`, "{}", "# no comment", "a\nb\t", "\x00", "\xff\xfe", "\uFFFD", "ü€😀", "or", "\u2028", "$1")
}

func (g generator) name() string {
	return pick(g, "app", "host", "env", "by", "sum", "or", "offset", "_", "a1", "rate", "bool", "ip")
}

// names returns up to 3 sorted, different names.
func (g generator) names() []string {
	var names []string
	for range g.IntN(4) {
		names = append(names, g.name())
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// strangeLog returns any log query.
func (g generator) strangeLog() *LogExpr {
	e := &LogExpr{Matchers: []*segment.Matcher{g.matcher(segment.MatchEqual, "x"+g.strangeText())}}
	for range g.IntN(3) {
		switch t := segment.MatchType(g.IntN(4)); t {
		case segment.MatchEqual, segment.MatchNotEqual:
			e.Matchers = append(e.Matchers, g.matcher(t, g.strangeText()))
		default:
			e.Matchers = append(e.Matchers, g.matcher(t, pick(g, ".*", "a|b", `\d+`, "", "`x`", "(?i)A[b\"]")))
		}
	}
	for range g.IntN(4) {
		if g.IntN(2) == 0 {
			e.Stages = append(e.Stages, &PipelineStage{g.strangeStage()})
			continue
		}
		f := &LineFilter{Type: segment.MatchType(g.IntN(4))}
		for range 1 + g.IntN(3) {
			if f.Type < segment.MatchRegexp {
				f.Values = append(f.Values, g.strangeText())
			} else {
				f.Values = append(f.Values, pick(g, "", ".*", "a+", `\d{3}`, "(x|y)$", "`"))
			}
		}
		e.Stages = append(e.Stages, f)
	}
	return e
}

// strangeStage returns any parser or label filter.
func (g generator) strangeStage() segment.PipelineStage {
	var stage segment.PipelineStage
	var err error
	var list []field.Expression
	for _, name := range g.names() {
		if g.IntN(3) == 0 {
			list = append(list, field.Expression{Label: name, Path: name})
		} else {
			list = append(list, field.Expression{Label: name, Path: pick(g, "a.b", `x[0]["y \" z"].c`, "json", `["é"]`)})
		}
	}
	switch g.IntN(4) {
	case 0:
		stage, err = segment.NewJSONStage(list...)
	case 1:
		stage, err = segment.NewLogfmtStage(g.IntN(2) == 0, g.IntN(2) == 0, list...)
	default:
		return g.strangeFilter(g.IntN(4))
	}
	if err != nil {
		panic(err)
	}
	return stage
}

func (g generator) strangeFilter(depth int) *segment.LabelFilter {
	if depth > 0 && g.IntN(3) > 0 {
		return &segment.LabelFilter{Kind: segment.FilterKind(g.IntN(2)), Left: g.strangeFilter(depth - 1), Right: g.strangeFilter(depth - 1)}
	}
	f := &segment.LabelFilter{Kind: segment.FilterString + segment.FilterKind(g.IntN(4)), Name: pick(g, "a", "status", "__error__", "or", "and", "ip", "bool")}
	if f.Kind == segment.FilterString {
		m, err := segment.NewMatcher(f.Name, segment.MatchType(g.IntN(4)), pick(g, "", "a|b", `\d+`, "`"))
		if err != nil {
			panic(err)
		}
		f.Matcher = m
		return f
	}
	f.Comparison = segment.Comparison(g.IntN(6))
	switch f.Kind {
	case segment.FilterNumber:
		f.Number = pick(g, 0, 1, -1, 0.5, 1e300, -5e-324, 1e21, -4e9, 1.0/3)
	case segment.FilterDuration:
		f.Duration = pick(g, 0, 1, -1, time.Second, 90*time.Minute, -36*time.Hour, 1<<63-1)
	default:
		f.Bytes = pick[uint64](g, 0, 1, 20000, 1<<53+1, 1<<64-1)
	}
	return f
}

func (g generator) matcher(t segment.MatchType, value string) *segment.Matcher {
	m, err := segment.NewMatcher(g.name(), t, value)
	if err != nil {
		panic(err)
	}
	return m
}

func (g generator) grouping() segment.Grouping {
	return segment.Grouping{Without: g.IntN(2) == 0, Names: g.names()}
}

// strangeExpr returns any vector or scalar expression.
func (g generator) strangeExpr(depth int, kind Kind) Expr {
	if kind == KindScalar {
		switch {
		case depth == 0 || g.IntN(3) == 0:
			return &Number{pick[float64](g, 0, 1, 0.5, 1e300, 5e-324, 1e21, 999999999999999999, 4e9, 1.0/3)}
		case g.IntN(4) == 0:
			return &Negation{g.strangeExpr(depth-1, KindScalar)}
		}
		op := BinaryOp(g.IntN(int(And)))
		return newBinary(op, op.Comparison() && g.IntN(2) == 0, g.strangeExpr(depth-1, KindScalar), g.strangeExpr(depth-1, KindScalar))
	}
	n := g.IntN(6)
	if depth == 0 {
		n = g.IntN(2)
	}
	switch n {
	case 0:
		lengths := []time.Duration{1, 999, time.Microsecond, 90 * time.Second, 36 * time.Hour, 1<<63 - 1, 400 * 24 * time.Hour}
		r := &RangeAggregation{Op: RangeOp(g.IntN(len(rangeOps))), Grouping: segment.Grouping{Without: true}}
		r.Range = LogRange{g.strangeLog(), pick(g, lengths...), pick(g, append(lengths, 0, 0, 0, -time.Minute, -1)...)}
		if g.IntN(3) == 0 {
			r.Grouping = g.grouping()
		}
		if r.Op >= SumOverTime || r.Op == Rate && g.IntN(3) == 0 {
			unwrap := &segment.UnwrapStage{Label: g.name(), Conversion: segment.Conversion(g.IntN(3))}
			r.Range.Log.Stages = append(r.Range.Log.Stages, &PipelineStage{unwrap})
			for range g.IntN(3) {
				r.Range.Log.Stages = append(r.Range.Log.Stages, &PipelineStage{g.strangeFilter(1)})
			}
		}
		if r.Op == QuantileOverTime {
			r.Quantile = pick(g, 0, 0.99, 1, -1, 1e-9, 17)
		}
		return r
	case 1:
		return &VectorLiteral{g.strangeExpr(max(depth-1, 0), KindScalar)}
	case 2:
		return &Negation{g.strangeExpr(depth-1, KindVector)}
	case 3:
		e := &VectorAggregation{Op: VectorOp(g.IntN(len(vectorOps))), Grouping: g.grouping(), Inner: g.strangeExpr(depth-1, KindVector)}
		switch e.Op {
		case TopK, BottomK:
			e.K = pick(g, 1, 10, 1<<31-1)
		case Sort, SortDesc:
			e.Grouping = segment.Grouping{}
		}
		return e
	}
	op := BinaryOp(g.IntN(int(Or) + 1))
	kinds := pick(g, [2]Kind{KindVector, KindVector}, [2]Kind{KindVector, KindScalar}, [2]Kind{KindScalar, KindVector})
	if op.Set() {
		kinds = [2]Kind{KindVector, KindVector}
	}
	return newBinary(op, op.Comparison() && g.IntN(2) == 0, g.strangeExpr(depth-1, kinds[0]), g.strangeExpr(depth-1, kinds[1]))
}

// A query over the generated data whose value is exact in whatever order it is added up:
// integers and, as all ranges are powers of 2 seconds, binary fractions.
func (g generator) exactExpr(depth int) Expr {
	if depth == 0 || g.IntN(4) == 0 {
		r := &RangeAggregation{Op: RangeOp(g.IntN(4)), Grouping: segment.Grouping{Without: true}}
		log := g.log()
		if g.IntN(2) == 0 {
			g.addPipeline(r, log)
		}
		r.Range = LogRange{
			Log:    log,
			Range:  pick(g, time.Second, 2*time.Second, 4*time.Second, 16*time.Second, 64*time.Second),
			Offset: pick(g, 0, 0, 0, time.Second, -time.Second, 5*time.Second, 1, -1),
		}
		if g.IntN(5) == 0 {
			r.Grouping = g.dataGrouping()
		}
		return r
	}
	switch n := g.IntN(9); n {
	case 8:
		return &VectorAggregation{Op: pick(g, TopK, BottomK), K: 1 + g.IntN(3), Grouping: g.dataGrouping(), Inner: g.exactExpr(depth - 1)}
	case 0, 1, 2:
		return &VectorAggregation{Op: pick(g, Sum, Sum, Min, Max, Count), Grouping: g.dataGrouping(), Inner: g.exactExpr(depth - 1)}
	case 3:
		return newBinary(pick(g, And, Unless, Or), false, g.exactExpr(depth-1), g.exactExpr(depth-1))
	case 4:
		op := Equal + BinaryOp(g.IntN(6))
		return newBinary(op, g.IntN(2) == 0, g.exactExpr(depth-1), &Number{float64(g.IntN(6))})
	case 5:
		op := Equal + BinaryOp(g.IntN(6))
		return newBinary(op, g.IntN(2) == 0, g.exactExpr(depth-1), g.exactExpr(depth-1))
	case 6:
		return newBinary(pick(g, Add, Subtract, Multiply), false, &Negation{&Number{float64(g.IntN(6))}}, g.exactExpr(depth-1))
	}
	return newBinary(pick(g, Add, Subtract, Multiply), false, g.exactExpr(depth-1), g.exactExpr(depth-1))
}

// addPipeline adds parsers and filters to a log query and, for some functions, an unwrap. No
// error is left at the end, and values are such that their sums are exact.
func (g generator) addPipeline(r *RangeAggregation, log *LogExpr) {
	add := func(text string) {
		x, err := Parse(`count_over_time({a="b"} | ` + text + ` [1s])`)
		if err != nil {
			panic(err)
		}
		log.Stages = append(log.Stages, x.(*RangeAggregation).Range.Log.Stages...)
	}
	add(pick(g, "logfmt", "logfmt", `logfmt n, lvl="level"`, "json", "json n, level", "json | logfmt"))
	for range g.IntN(3) {
		add(pick(g, `level="err"`, `level!="err"`, `n > 2`, `n <= 2 or level=~"e.*"`, `took > 5ms`, `app="a" or app_extracted="x"`, `absent=""`))
	}
	if g.IntN(2) == 0 {
		r.Op = pick(g, Rate, SumOverTime, SumOverTime, AvgOverTime, MinOverTime, MinOverTime, MaxOverTime, MaxOverTime, FirstOverTime, LastOverTime, QuantileOverTime)
		if r.Op == QuantileOverTime {
			r.Quantile = pick(g, 0, 1, 0.5)
		}
		log.Stages = append(log.Stages, &PipelineStage{&segment.UnwrapStage{Label: pick(g, "n", "n", "level")}})
	}
	add(`__error__=""`)
}

// expr is exactExpr with at most one operation on top whose result may be rounded.
func (g generator) expr() Expr {
	e := g.exactExpr(g.IntN(4))
	switch g.IntN(6) {
	case 0:
		return &VectorAggregation{Op: Avg, Grouping: g.dataGrouping(), Inner: e}
	case 1:
		return newBinary(pick(g, Divide, Modulo, Power), false, e, g.exactExpr(1))
	case 2:
		return newBinary(Or, false, e, &VectorLiteral{&Number{0}})
	}
	return e
}

func (g generator) dataGrouping() segment.Grouping {
	names := pick(g, nil, []string{"app"}, []string{"host"}, []string{"app", "env"}, []string{"absent"}, []string{"level"}, []string{"app", "n"})
	return segment.Grouping{Without: g.IntN(2) == 0, Names: names}
}

func (g generator) log() *LogExpr {
	m := func(name string, t segment.MatchType, value string) *segment.Matcher {
		m, err := segment.NewMatcher(name, t, value)
		if err != nil {
			panic(err)
		}
		return m
	}
	e := &LogExpr{Matchers: []*segment.Matcher{pick(g,
		m("app", segment.MatchRegexp, ".+"), m("app", segment.MatchRegexp, ".+"), m("app", segment.MatchRegexp, "a|c"), m("app", segment.MatchEqual, "b"))}}
	if g.IntN(3) == 0 {
		e.Matchers = append(e.Matchers, pick(g, m("host", segment.MatchNotEqual, "x"), m("env", segment.MatchEqual, ""), m("env", segment.MatchNotRegexp, "p.*")))
	}
	for range g.IntN(3) {
		f := &LineFilter{Type: segment.MatchType(g.IntN(4))}
		for range 1 + g.IntN(2) {
			if f.Type < segment.MatchRegexp {
				f.Values = append(f.Values, pick(g, "err", "a", "ok ok", "", "é", "0"))
			} else {
				f.Values = append(f.Values, pick(g, "", ".*", "err|warn", "(?i)ERR", "e.*k", ".*ok.*", "[ab]", "^e", "a+", `\d`, "(ok|no)?x", "a(rr|)", "�", "é$", "o.e"))
			}
		}
		e.Stages = append(e.Stages, f)
	}
	return e
}

// data returns entries of several streams and two tenants in the first minute of time;
// many lie exactly on a second, or a nanosecond beside it.
func (g generator) data() []segment.Entry {
	var streams []*segment.Stream
	for _, tenant := range []string{"t", "other"} {
		for _, app := range []string{"a", "b", "c"} {
			for _, host := range []string{"x", "y", ""} {
				env := pick(g, "", "prod", "dev")
				streams = append(streams, segment.NewStream(tenant, segment.NewLabels([]segment.Label{{Name: "app", Value: app}, {Name: "host", Value: host}, {Name: "env", Value: env}})))
			}
		}
	}
	var entries []segment.Entry
	for range g.IntN(120) {
		timestamp := g.Int64N(60)*int64(time.Second) + pick[int64](g, 0, 0, 0, 1, -1, g.Int64N(int64(time.Second)))
		line := pick(g, "", "err", "error 0", "ok ok", "warn é", "o\ne ok", "\xff\xfe", "ARR a", "nox 42", "éé",
			"n=1 level=err", "n=2 level=ok took=9ms", "n=3 level=err app=x", `{"n":4,"level":"err"}`, `{"n":-2,"level":"ok","took":"1s"}`, "level=4 n=x")
		entries = append(entries, segment.Entry{Timestamp: timestamp, Stream: pick(g, streams...), Line: []byte(line)})
	}
	return entries
}
