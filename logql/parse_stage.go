package logql

import (
	"math"
	"slices"
	"strings"

	"github.com/logcluster/logcluster/segment"
	"github.com/logcluster/logcluster/segment/field"
)

// stageNames are the names that stages begin with: a label called so cannot be compared
// directly after a |.
var stageNames = [...]string{
	"decolorize", "distinct", "drop", "json", "keep", "label_format", "line_format", "logfmt", "pattern", "regexp",
	"unpack", "unwrap",
}

// stage reads what begins with a single |, and adds it to e.
func (p *parser) stage(e *LogExpr) error {
	bar := p.tok
	p.advance()
	var stage segment.PipelineStage
	var err error
	switch {
	case p.tok.is("json"):
		stage, err = p.json()
	case p.tok.is("logfmt"):
		stage, err = p.logfmt()
	case p.tok.is("unwrap"):
		if e.unwrap() != nil {
			return p.failf(p.tok, "a second unwrap stands here: an entry has one value")
		}
		stage, err = p.unwrap()
	case p.tok.kind == tokenIdentifier && slices.Contains(stageNames[:], p.tok.text):
		return p.unsupported(bar, "| "+p.tok.text)
	case p.tok.is("("), p.tok.kind == tokenIdentifier && comparison(p.peek()):
		stage, err = p.labelFilter()
	case p.tok.kind == tokenIdentifier:
		hint := ""
		if near := nearest(p.tok.text, stageNames[:]...); near != "" {
			hint = "did you mean " + near + "?"
		}
		return p.expected("a stage such as json or a label filter after `|`", hint)
	case p.tok.is("="):
		return p.expected("a stage after `|`", "did you mean |= without a space?")
	case p.tok.kind == tokenString:
		return p.expected("a stage after `|`", "did you mean |= "+quote(p.tok.value)+"?")
	default:
		return p.expected("a stage such as json or a label filter after `|`", "")
	}
	if err != nil {
		return err
	}
	if _, filter := stage.(*segment.LabelFilter); !filter && e.unwrap() != nil {
		return p.failf(bar, "only label filters can stand after an unwrap")
	}
	e.Stages = append(e.Stages, &PipelineStage{stage})
	return nil
}

// json reads json and its expressions.
func (p *parser) json() (segment.PipelineStage, error) {
	p.advance()
	expressions, err := p.expressions("json", field.CheckPath)
	if err != nil {
		return nil, err
	}
	return segment.NewJSONStage(expressions...)
}

// logfmt reads logfmt, its flags and its expressions.
func (p *parser) logfmt() (segment.PipelineStage, error) {
	p.advance()
	var strict, keepEmpty bool
	for p.tok.is("-") {
		at := p.tok
		rest := p.lexer.text[at.offset:]
		name := rest[:len(rest)-len(strings.TrimLeft(rest, "-abcdefghijklmnopqrstuvwxyz"))]
		switch name {
		case "--strict":
			strict = true
		case "--keep-empty":
			keepEmpty = true
		default:
			return nil, p.failf(at, "logfmt has no flag %s; its flags are --strict and --keep-empty", quote(name))
		}
		p.lexer.offset = at.offset + len(name)
		p.advance()
	}
	expressions, err := p.expressions("logfmt", nil)
	if err != nil {
		return nil, err
	}
	return segment.NewLogfmtStage(strict, keepEmpty, expressions...)
}

// expressions reads a, b="path", …, if there are some.
func (p *parser) expressions(parser string, check func(string) error) ([]field.Expression, error) {
	var list []field.Expression
	for p.tok.kind == tokenIdentifier {
		label := p.tok
		e := field.Expression{Label: label.text, Path: label.text}
		p.advance()
		if p.accept("=") {
			path := p.tok
			if path.kind != tokenString {
				return nil, p.expected("a string after "+shorten(e.Label)+"= in "+parser, p.quoteHint())
			}
			e.Path = path.value
			var err error
			if check != nil {
				err = check(e.Path)
			} else if field.Name(e.Path) == "" {
				return nil, p.failf(path, "the logfmt expression %s is no key", quote(e.Path))
			}
			if err != nil {
				return nil, p.failf(path, "the json expression %s is wrong: %v", quote(e.Path), err)
			}
			p.advance()
		}
		if len(e.Label) > field.MaxName {
			return nil, p.failf(label, "the label %s is longer than %d bytes", shorten(e.Label), field.MaxName)
		}
		if slices.ContainsFunc(list, func(o field.Expression) bool { return o.Label == e.Label }) {
			return nil, p.failf(label, "the label %s is extracted twice", shorten(e.Label))
		}
		if list = append(list, e); len(list) > field.MaxExpressions {
			return nil, overLimit("a %s stage has more than %d expressions", parser, field.MaxExpressions)
		}
		if !p.tok.is(",") {
			return list, nil
		}
		p.advance()
		if p.tok.kind != tokenIdentifier {
			return nil, p.expected("a label name after the comma in "+parser, "")
		}
	}
	return list, nil
}

// unwrap reads unwrap label or unwrap conversion(label).
func (p *parser) unwrap() (segment.PipelineStage, error) {
	p.advance()
	if p.tok.kind != tokenIdentifier {
		return nil, p.expected("a label name after unwrap", "")
	}
	name := p.tok
	p.advance()
	if !p.tok.is("(") {
		return &segment.UnwrapStage{Label: name.text}, nil
	}
	s := &segment.UnwrapStage{}
	switch name.text {
	case "duration", "duration_seconds":
		s.Conversion = segment.ConvertDuration
	case "bytes":
		s.Conversion = segment.ConvertBytes
	default:
		return nil, p.failf(name, "unwrap knows no conversion %s; they are duration, duration_seconds and bytes", shorten(name.text))
	}
	p.advance()
	if p.tok.kind != tokenIdentifier {
		return nil, p.expected("a label name in "+name.text+"( )", "")
	}
	s.Label = p.tok.text
	p.advance()
	return s, p.expect(")", "after the label name in "+name.text)
}

// comparison reports whether a token compares a label.
func comparison(t *token) bool {
	return t.kind == tokenOperator && slices.Contains([]string{"=", "==", "!=", "=~", "!~", ">", ">=", "<", "<="}, t.text)
}

// labelFilter reads comparisons joined by and, or, a comma or nothing. All bind alike, from
// left to right.
func (p *parser) labelFilter() (*segment.LabelFilter, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	left, err := p.labelOperand()
	if err != nil {
		return nil, err
	}
	for {
		kind := segment.FilterAnd
		switch {
		case p.tok.is("or"):
			kind = segment.FilterOr
			p.advance()
		case p.tok.is("and"), p.tok.is(","):
			p.advance()
		case p.tok.is("("), p.tok.kind == tokenIdentifier && comparison(p.peek()):
		default:
			return left, nil
		}
		right, err := p.labelOperand()
		if err != nil {
			return nil, err
		}
		left = &segment.LabelFilter{Kind: kind, Left: left, Right: right}
	}
}

// labelOperand reads a comparison, or filters in parentheses.
func (p *parser) labelOperand() (*segment.LabelFilter, error) {
	if p.tok.is("(") {
		open := p.tok
		p.advance()
		f, err := p.labelFilter()
		if err != nil {
			return nil, err
		}
		if p.tok.kind == tokenEnd {
			return nil, p.failf(open, "the parenthesis that begins here is not closed")
		}
		return f, p.expect(")", "after the label filter")
	}
	name := p.tok
	if name.kind != tokenIdentifier {
		return nil, p.expected("a label filter such as status >= 500", "")
	}
	p.advance()
	operator := p.tok
	if !comparison(&operator) {
		return nil, p.expected("a comparison after the label name "+shorten(name.text), "")
	}
	p.advance()
	if p.tok.kind == tokenString {
		return p.stringFilter(name, operator)
	}
	return p.valueFilter(name, operator)
}

// stringFilter reads the string that a label is compared with.
func (p *parser) stringFilter(name, operator token) (*segment.LabelFilter, error) {
	types := [...]string{"=", "!=", "=~", "!~"}
	t := segment.MatchType(0)
	switch i := slices.Index(types[:], operator.text); {
	case operator.text == "==":
		return nil, p.failf(operator, "strings are compared by =, !=, =~ and !~; did you mean %s=%s?", shorten(name.text), quote(p.tok.value))
	case i < 0:
		return nil, p.failf(operator, "`%s` compares numbers, durations and sizes; write them without quotes: %s %s %s",
			operator.text, shorten(name.text), operator.text, shorten(p.tok.value))
	default:
		t = segment.MatchType(i)
	}
	if t == segment.MatchRegexp || t == segment.MatchNotRegexp {
		if err := p.regexp(p.tok); err != nil {
			return nil, err
		}
	}
	m, err := segment.NewMatcher(name.text, t, p.tok.value)
	if err != nil {
		return nil, p.failf(p.tok, "%v", err)
	}
	p.advance()
	return &segment.LabelFilter{Kind: segment.FilterString, Name: name.text, Matcher: m}, nil
}

// valueFilter reads the number, duration or size that a label is compared with.
func (p *parser) valueFilter(name, operator token) (*segment.LabelFilter, error) {
	if p.tok.is("ip") && p.peek().is("(") {
		return nil, p.unsupported(p.tok, "ip()")
	}
	if operator.text == "=~" || operator.text == "!~" {
		return nil, p.expected("a string after "+shorten(name.text)+operator.text, p.quoteHint())
	}
	f := &segment.LabelFilter{Name: name.text, Comparison: segment.CompareEqual}
	if operator.text != "=" {
		for f.Comparison.String() != operator.text {
			f.Comparison++
		}
	}
	negative := p.tok.is("-")
	if negative || p.tok.is("+") {
		p.advance()
	}
	switch {
	case p.tok.kind == tokenNumber:
		f.Kind, f.Number = segment.FilterNumber, p.tok.number
		if negative {
			f.Number = math.Copysign(f.Number, -1)
		}
	case p.tok.kind == tokenDuration:
		f.Kind, f.Duration = segment.FilterDuration, p.tok.duration
		if negative {
			f.Duration = -f.Duration
		}
	case p.tok.kind == tokenBytes && !negative:
		f.Kind, f.Bytes = segment.FilterBytes, p.tok.bytes
	default:
		return nil, p.expected("a string, a number, a duration such as 10ms or a size such as 20KB after "+
			shorten(name.text)+" "+operator.text, p.quoteHint())
	}
	p.advance()
	return f, nil
}
