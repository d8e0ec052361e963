package logql

import (
	"errors"
	"slices"

	"github.com/logcluster/logcluster/segment"
)

// ParseSelector reads a stream selector as it stands in the parameters of the label and
// series APIs. {} selects all streams, and matchers may match the empty value.
func ParseSelector(s string) ([]*segment.Matcher, error) { return parseSelector(s, MaxQueryLength) }

func parseSelector(s string, maxLength int) ([]*segment.Matcher, error) {
	p, err := newParser(s, maxLength)
	if err != nil {
		return nil, err
	}
	matchers, err := p.selector()
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, p.expected("the end of the selector", "only {label=\"value\", …} can stand here")
	}
	return matchers, nil
}

// logQuery reads a stream selector and the stages behind it.
func (p *parser) logQuery() (*LogExpr, error) {
	e, err := p.streams()
	if err != nil {
		return nil, err
	}
	return e, p.pipeline(e)
}

// streams reads a stream selector that does not ask for everything.
func (p *parser) streams() (*LogExpr, error) {
	open := p.tok
	matchers, err := p.selector()
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(matchers, func(m *segment.Matcher) bool { return !m.MatchesEmpty() }) {
		return nil, p.failf(open, "queries require at least one regexp or equality matcher that does not have an empty-compatible value. "+
			"For instance, app=~\".*\" does not meet this requirement, but app=~\".+\" will")
	}
	return &LogExpr{Matchers: matchers}, nil
}

// selector reads {a="b", …}.
func (p *parser) selector() ([]*segment.Matcher, error) {
	open := p.tok
	if !p.accept("{") {
		return nil, p.expected("a stream selector such as {app=\"web\"}", "")
	}
	var matchers []*segment.Matcher
	for !p.tok.is("}") {
		m, err := p.matcher(open)
		if err != nil {
			return nil, err
		}
		matchers = append(matchers, m)
		if p.tok.is("}") || p.accept(",") {
			continue
		}
		if p.tok.kind == tokenEnd {
			return nil, p.failf(open, "the stream selector that begins here is not closed; it ends with }")
		}
		hint := ""
		if p.tok.kind == tokenIdentifier {
			hint = "did you forget a comma?"
		}
		return nil, p.expected("`,` or `}` after the value of "+m.Name, hint)
	}
	p.advance()
	return matchers, nil
}

// matcher reads a="b".
func (p *parser) matcher(open token) (*segment.Matcher, error) {
	name := p.tok
	switch name.kind {
	case tokenIdentifier:
	case tokenEnd:
		return nil, p.failf(open, "the stream selector that begins here is not closed; it ends with }")
	case tokenString:
		return nil, p.expected("a label name", "label names stand without quotes: {app=\"web\"}")
	default:
		return nil, p.expected("a label name or `}`", "")
	}
	p.advance()
	types := [...]string{"=", "!=", "=~", "!~"}
	t := slices.Index(types[:], p.tok.text)
	if t < 0 || p.tok.kind != tokenOperator {
		hint := ""
		switch p.tok.text {
		case "==", ":":
			hint = "did you mean =?"
		case "|=", "|~":
			hint = "labels are compared by = and =~"
		}
		return nil, p.expected("=, !=, =~ or !~ after the label name "+shorten(name.text), hint)
	}
	p.advance()
	value := p.tok
	if value.kind != tokenString {
		return nil, p.expected("a string after "+shorten(name.text)+types[t], p.quoteHint())
	}
	if segment.MatchType(t) == segment.MatchRegexp || segment.MatchType(t) == segment.MatchNotRegexp {
		if err := p.regexp(value); err != nil {
			return nil, err
		}
	}
	m, err := segment.NewMatcher(name.text, segment.MatchType(t), value.value)
	if err != nil {
		return nil, p.failf(value, "%v", err)
	}
	p.advance()
	return m, nil
}

// quoteHint proposes quotes round tok if it could have been meant as a string.
func (p *parser) quoteHint() string {
	if p.tok.kind == tokenIdentifier || p.tok.kind == tokenNumber || p.tok.kind == tokenDuration {
		return "did you mean " + quote(p.tok.text) + "?"
	}
	return ""
}

// pipeline reads stages and adds them to e.
func (p *parser) pipeline(e *LogExpr) error {
	for p.tok.kind == tokenOperator {
		switch p.tok.text {
		case "|=":
			if err := p.lineFilter(e, segment.MatchEqual); err != nil {
				return err
			}
		case "!=":
			if err := p.lineFilter(e, segment.MatchNotEqual); err != nil {
				return err
			}
		case "|~":
			if err := p.lineFilter(e, segment.MatchRegexp); err != nil {
				return err
			}
		case "!~":
			if err := p.lineFilter(e, segment.MatchNotRegexp); err != nil {
				return err
			}
		case "|>", "!>":
			return p.unsupported(p.tok, p.tok.text)
		case "|":
			if err := p.stage(e); err != nil {
				return err
			}
		default:
			return nil
		}
	}
	return nil
}

// lineFilter reads |= "a" or "b".
func (p *parser) lineFilter(e *LogExpr, t segment.MatchType) error {
	filter, before := &LineFilter{Type: t}, "`"+p.tok.text+"`"
	for {
		p.advance()
		if p.tok.is("ip") && p.peek().is("(") {
			return p.unsupported(p.tok, "ip()")
		}
		if p.tok.kind != tokenString {
			return p.expected("a string after "+before, p.quoteHint())
		}
		if t == segment.MatchRegexp || t == segment.MatchNotRegexp {
			if err := p.regexp(p.tok); err != nil {
				return err
			}
		}
		filter.Values = append(filter.Values, p.tok.value)
		p.advance()
		if !p.tok.is("or") {
			e.Stages = append(e.Stages, filter)
			return nil
		}
		before = "`or`"
	}
}

// regexp checks a string that is a regular expression.
func (p *parser) regexp(at token) error {
	size, err := regexpSize(at.value)
	if err != nil {
		if limit := (*LimitError)(nil); errors.As(err, &limit) {
			return overLimit("the regular expression at %s %s", positionOf(p.lexer.text, at.offset), limit.Message)
		}
		return p.failf(at, "the regular expression %s is wrong: %v", quote(at.value), err)
	}
	if p.regexpSize += size; p.regexpSize > MaxRegexpSize {
		return overLimit("the regular expressions up to %s compile to more than %s instructions; shorten lists and repetitions such as {1000}",
			positionOf(p.lexer.text, at.offset), thousands(MaxRegexpSize))
	}
	return nil
}

// rangeAggregation reads rate({…} [5m]) and its like.
func (p *parser) rangeAggregation(op RangeOp) (Expr, error) {
	p.advance()
	open := p.tok
	if err := p.expect("(", "after "+op.String()); err != nil {
		return nil, err
	}
	e := &RangeAggregation{Op: op, Grouping: segment.Grouping{Without: true}}
	if op == QuantileOverTime {
		var err error
		if e.Quantile, err = p.quantile(); err != nil {
			return nil, err
		}
	}
	start := p.tok
	found, err := p.logRange(op, &e.Range)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, p.expected("a range such as [5m] after the log query in "+op.String(), "")
	}
	if !p.tok.is(")") {
		if p.tok.kind == tokenEnd {
			return nil, p.failf(open, "the parenthesis that begins here is not closed")
		}
		return nil, p.expected("`)` after the range in "+op.String(), "")
	}
	p.advance()
	switch unwrap := e.Range.Log.unwrap(); {
	case unwrap == nil && op >= SumOverTime:
		return nil, p.failf(start, "%s needs values: unwrap a label, as in %s({…} | json | unwrap duration [5m])", op, op)
	case unwrap != nil && op < SumOverTime && op != Rate:
		return nil, p.failf(start, "%s counts lines and has no use for `%s`; did you mean sum_over_time?", op, unwrap)
	}
	_, err = p.grouping(&e.Grouping)
	return e, err
}

// quantile reads the first argument of quantile_over_time, and the comma behind it.
func (p *parser) quantile() (float64, error) {
	sign := 1.0
	if p.tok.is("-") {
		sign = -1
		p.advance()
	}
	if p.tok.kind != tokenNumber {
		return 0, p.expected("a number from 0 to 1 as the first argument of quantile_over_time", "write quantile_over_time(0.99, …)")
	}
	q := sign * p.tok.number
	p.advance()
	return q, p.expect(",", "after the quantile")
}

// logRange reads a log query with the range behind it or behind its selector. found is
// false if there is no range (yet): the parentheses may be round the log query alone.
func (p *parser) logRange(op RangeOp, r *LogRange) (found bool, err error) {
	if p.tok.is("(") {
		if err := p.enter(); err != nil {
			return false, err
		}
		defer p.leave()
		open := p.tok
		p.advance()
		if found, err = p.logRange(op, r); err != nil {
			return false, err
		}
		if p.tok.kind == tokenEnd {
			return false, p.failf(open, "the parenthesis that begins here is not closed")
		}
		if err := p.expect(")", "after the log query in "+op.String()); err != nil || found {
			return found, err
		}
		return p.rangeAndOffset(r)
	}
	if !p.tok.is("{") {
		return false, p.expected("a stream selector such as {app=\"web\"} in "+op.String(), "")
	}
	if r.Log, err = p.logQuery(); err != nil {
		return false, err
	}
	if found, err = p.rangeAndOffset(r); err != nil || !found {
		return false, err
	}
	return true, p.pipeline(r.Log)
}

// rangeAndOffset reads [5m] and offset 1h, if they are there.
func (p *parser) rangeAndOffset(r *LogRange) (found bool, err error) {
	if !p.accept("[") {
		return false, nil
	}
	switch {
	case p.tok.kind == tokenDuration && p.tok.duration > 0:
		r.Range = p.tok.duration
	case p.tok.kind == tokenDuration, p.tok.kind == tokenNumber && p.tok.number == 0:
		return false, p.failf(p.tok, "the range must be longer than 0, such as [5m]")
	case p.tok.kind == tokenNumber:
		return false, p.expected("a duration such as 5m in [ ]", "did you mean ["+shorten(p.tok.text)+"s]?")
	default:
		return false, p.expected("a duration such as 5m in [ ]", "")
	}
	p.advance()
	if err := p.expect("]", "after the duration"); err != nil {
		return false, err
	}
	if !p.accept("offset") {
		return true, nil
	}
	negative := p.tok.is("-")
	if negative || p.tok.is("+") {
		p.advance()
	}
	if p.tok.kind != tokenDuration {
		hint := ""
		if p.tok.kind == tokenNumber {
			hint = "did you mean " + shorten(p.tok.text) + "s?"
		}
		return false, p.expected("a duration such as 5m after offset", hint)
	}
	r.Offset = p.tok.duration
	if negative {
		r.Offset = -r.Offset
	}
	p.advance()
	return true, nil
}
