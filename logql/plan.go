package logql

import (
	"fmt"
	"math"
	"slices"

	"github.com/logcluster/logcluster/segment"
)

// maxMinimized bounds the filters whose values are compared with one another.
const maxMinimized = 256

// filters compiles the line filters among the stages, and leaves out those that keep
// every line.
func (e *LogExpr) filters() ([]*segment.LineFilter, error) {
	var filters []*segment.LineFilter
	for _, stage := range e.Stages {
		f, ok := stage.(*LineFilter)
		if !ok {
			return nil, fmt.Errorf("stage %s cannot be planned", stage)
		}
		compiled, err := f.compile()
		if err != nil {
			return nil, err
		}
		if compiled != nil {
			filters = append(filters, compiled)
		}
	}
	return filters, nil
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

// pushable reports whether a Source can evaluate e as a whole: the entries of a range
// aggregation, counted in the series of a grouping.
func pushable(e Expr) (r *RangeAggregation, g segment.Grouping, ok bool) {
	switch e := e.(type) {
	case *RangeAggregation:
		return e, e.Grouping, true
	case *VectorAggregation:
		if r, ok := e.Inner.(*RangeAggregation); ok && e.Op == Sum && r.perStream() {
			return r, e.Grouping, true
		}
	}
	return nil, segment.Grouping{}, false
}

// measure returns what a Source must add up for the function.
func (o RangeOp) measure() segment.Measure {
	if o == BytesOverTime || o == BytesRate {
		return segment.MeasureBytes
	}
	return segment.MeasureCount
}

// plan returns the scan for a pushable expression at steps points from first on. Query
// lacks what the query text does not say: tenant and OnDamage.
func plan(text string, r *RangeAggregation, g segment.Grouping, first, step int64, steps int) (*Scan, error) {
	filters, err := r.Range.Log.filters()
	if err != nil {
		return nil, err
	}
	if first, err = shift(first, int64(r.Range.Offset), step, steps); err != nil {
		return nil, err
	}
	a := &segment.Aggregation{
		Measure:  r.Op.measure(),
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
	return &Scan{
		Text:        text,
		Query:       segment.Query{Start: start, End: end, Matchers: r.Range.Log.Matchers, Filters: filters},
		Aggregation: a,
	}, nil
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
// matchers and filters of Query and, if Aggregation is set, its Measure, Grouping and
// Range. Tenant, times, direction, limits and points stay as they are: an offset in the
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
			return badRequest("%s is no range aggregation nor a sum of one", quote(s.Text))
		}
		a := *s.Aggregation
		a.Measure, a.Grouping, a.Range = r.Op.measure(), g, int64(r.Range.Range)
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
	}
	filters, err := log.filters()
	if err != nil {
		return err
	}
	s.Query.Matchers, s.Query.Filters = log.Matchers, filters
	return nil
}
