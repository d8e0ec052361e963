package logql

import (
	"math"
	"slices"

	"github.com/logcluster/logcluster/segment"
)

// maxMinimized bounds the filters whose values are compared with one another.
const maxMinimized = 256

// narrow makes q ask for the log query's entries. Nothing changes a line on its way, so that
// line filters may decide before all that is more expensive. Those that keep every line
// are left out.
func (e *LogExpr) narrow(q *segment.Query) error {
	q.Matchers, q.Filters, q.Pipeline = e.Matchers, nil, nil
	var stages []segment.PipelineStage
	for _, stage := range e.Stages {
		switch s := stage.(type) {
		case *LineFilter:
			compiled, err := s.compile()
			if err != nil {
				return err
			}
			if compiled != nil {
				q.Filters = append(q.Filters, compiled)
			}
		case *PipelineStage:
			stages = append(stages, s.PipelineStage)
		}
	}
	if len(stages) > 0 {
		q.Pipeline = segment.NewPipeline(stages...)
	}
	return nil
}

// unwrap returns the unwrap among the stages, or nil.
func (e *LogExpr) unwrap() *segment.UnwrapStage {
	for _, stage := range e.Stages {
		if s, ok := stage.(*PipelineStage); ok {
			if unwrap, ok := s.PipelineStage.(*segment.UnwrapStage); ok {
				return unwrap
			}
		}
	}
	return nil
}

// compile returns the cheapest filter that keeps the same lines, or nil if that is all:
// texts are searched faster than expressions, and an index may know them.
func (f *LineFilter) compile() (*segment.LineFilter, error) {
	isRegexp := f.Type == segment.MatchRegexp || f.Type == segment.MatchNotRegexp
	negative := f.Type == segment.MatchNotEqual || f.Type == segment.MatchNotRegexp
	contains := segment.MatchEqual
	if negative {
		contains = segment.MatchNotEqual
	}
	texts := f.Values
	if isRegexp {
		texts = nil
		for _, pattern := range f.Values {
			same, ok := literals(pattern)
			if !ok {
				return f.compileRegexps()
			}
			texts = append(texts, same...)
		}
	}
	if slices.Contains(texts, "") { // is in every line
		if negative {
			return segment.NewLineFilter(contains, "")
		}
		return nil, nil
	}
	if len(texts) <= maxMinimized {
		texts = minimal(texts)
	}
	return segment.NewLineFilter(contains, texts...)
}

// compileRegexps compiles the values as they are. In line filters, other than in Go, the
// dot matches newlines too.
func (f *LineFilter) compileRegexps() (*segment.LineFilter, error) {
	patterns := make([]string, len(f.Values))
	for i, pattern := range f.Values {
		patterns[i] = "(?s)" + pattern
	}
	return segment.NewLineFilter(f.Type, patterns...)
}

// pushable reports whether a Source can evaluate e as a whole: a range aggregation in the
// series of a grouping. For what unites the series of one that has none of its own, the
// grouping is the outer one.
func pushable(e Expr) (r *RangeAggregation, g segment.Grouping, ok bool) {
	switch e := e.(type) {
	case *RangeAggregation:
		return e, e.seriesGrouping(), true
	case *VectorAggregation:
		r, ok := e.Inner.(*RangeAggregation)
		if !ok || !r.perStream() {
			return nil, g, false
		}
		switch {
		case e.Op == Sum && r.Op <= SumOverTime:
		case e.Op == Min && r.Op == MinOverTime:
		case e.Op == Max && r.Op == MaxOverTime:
		default:
			return nil, g, false
		}
		return r, intersect(e.Grouping, r.seriesGrouping()), true
	}
	return nil, g, false
}

// seriesGrouping returns the grouping that makes the series: unless names are listed by
// by, what is unwrapped is a value and no longer a label.
func (e *RangeAggregation) seriesGrouping() segment.Grouping {
	g := e.Grouping
	if unwrap := e.Range.Log.unwrap(); unwrap != nil && g.Without {
		g.Names = append(slices.Clone(g.Names), unwrap.Label)
		slices.Sort(g.Names)
		g.Names = slices.Compact(g.Names)
	}
	return g
}

// intersect returns the grouping that does what inner, a without, and then outer do.
func intersect(outer, inner segment.Grouping) segment.Grouping {
	if outer.Without {
		names := slices.Concat(outer.Names, inner.Names)
		slices.Sort(names)
		return segment.Grouping{Without: true, Names: slices.Compact(names)}
	}
	names := slices.DeleteFunc(slices.Clone(outer.Names), func(name string) bool { return slices.Contains(inner.Names, name) })
	return segment.Grouping{Names: names}
}

// measure returns what a Source must make of the entries.
func (e *RangeAggregation) measure() segment.Measure {
	if e.Op == Rate && e.Range.Log.unwrap() != nil {
		return segment.MeasureSum
	}
	return rangeOps[e.Op].measure
}

// plan returns the scan for a pushable expression at steps points from first on. Query
// lacks what the query text does not say: tenant and OnDamage.
func plan(text string, r *RangeAggregation, g segment.Grouping, first, step int64, steps int) (*Scan, error) {
	first, err := shift(first, int64(r.Range.Offset), step, steps)
	if err != nil {
		return nil, err
	}
	a := &segment.Aggregation{
		Measure:  r.measure(),
		Quantile: r.Quantile,
		Grouping: g,
		First:    first,
		Step:     step,
		Steps:    steps,
		Range:    int64(r.Range.Range),
	}
	if err := a.Validate(); err != nil {
		return nil, err
	}
	if steps > 1 && int64(steps-1)*step > math.MaxInt64-a.Range {
		return nil, badRequest("the time range of the query and the range [%s] together are longer than 292 years", r.Range.Range)
	}
	start, end := a.Bounds()
	if end < start { // The last point is the end of time, which nothing comes after.
		end = math.MaxInt64
	}
	scan := &Scan{Text: text, Query: segment.Query{Start: start, End: end}, Aggregation: a}
	return scan, r.Range.Log.narrow(&scan.Query)
}

// shift returns first - offset, if neither it nor the last point is beyond int64.
func shift(first, offset, step int64, steps int) (int64, error) {
	shifted := first - offset
	last := shifted
	if steps > 1 {
		last += int64(steps-1) * step
	}
	if (offset > 0) != (shifted < first) && offset != 0 || last < shifted {
		return 0, badRequest("the offset moves the time range out of what nanoseconds since 1970 can hold, the years 1677 to 2262")
	}
	return shifted, nil
}

// Replan fills in what Text says, as a node does that was sent a scan without: the
// matchers, filters and pipeline of Query and, if Aggregation is set, its Measure, Quantile,
// Grouping and Range. Tenant, times, direction, limits and points stay as they are: an offset in the
// text is part of the times already.
func (s *Scan) Replan() error {
	log := &LogExpr{}
	if s.Aggregation != nil {
		e, err := parse(s.Text, canonicalGrowth*MaxQueryLength)
		if err != nil {
			return err
		}
		r, g, ok := pushable(e)
		if !ok {
			return badRequest("%s is no range aggregation nor a sum, minimum or maximum of one", quote(s.Text))
		}
		a := *s.Aggregation
		a.Measure, a.Quantile, a.Grouping, a.Range = r.measure(), r.Quantile, g, int64(r.Range.Range)
		if err := a.Validate(); err != nil {
			return badRequest("%v", err)
		}
		s.Aggregation, log = &a, r.Range.Log
	} else {
		p, err := newParser(s.Text, canonicalGrowth*MaxQueryLength)
		if err != nil {
			return err
		}
		if log.Matchers, err = p.selector(); err != nil {
			return err
		}
		if err = p.pipeline(log); err != nil {
			return err
		}
		if p.tok.kind != tokenEnd {
			return p.trailing(log, "the end of the query")
		}
		if log.unwrap() != nil {
			return badRequest("%s unwraps a label, but is no metric query", quote(s.Text))
		}
	}
	return log.narrow(&s.Query)
}
