package logql

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/logcluster/logcluster/segment"
)

// Limits of a query's text.
const (
	MaxQueryLength = 64 << 10 // bytes
	MaxDepth       = 128      // of operations and parentheses in one another
)

// canonicalGrowth bounds how much longer the canonical form of a query can be than the
// query: \x00 stands for a byte, 4 characters of a number for 1e20, and spaces come in.
const canonicalGrowth = 8

// unsupportedFunctions are the functions and operations of LogQL that are recognised, and
// answered by an *UnsupportedError.
var unsupportedFunctions = [...]string{
	"absent_over_time", "approx_topk", "label_replace", "rate_counter", "stddev", "stdvar", "variants",
}

// Parse turns the text of a query into its tree. Errors are *ParseError,
// *UnsupportedError and *LimitError.
func Parse(query string) (Expr, error) { return parse(query, MaxQueryLength) }

func parse(query string, maxLength int) (Expr, error) {
	p, err := newParser(query, maxLength)
	if err != nil {
		return nil, err
	}
	if p.tok.kind == tokenEnd {
		return nil, p.failf(p.tok, "the query is empty; write a stream selector such as {app=\"web\"}")
	}
	e, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if p.tok.kind != tokenEnd {
		return nil, p.trailing(e, "the end of the query")
	}
	return e, nil
}

// A parser reads an expression by recursive descent, and operators by their precedence.
// tok is the token that is looked at; methods leave it behind what they read.
type parser struct {
	lexer      lexer
	tok        token
	depth      int
	regexpSize int // instructions of the regular expressions so far
}

func newParser(text string, maxLength int) (*parser, error) {
	if len(text) > maxLength {
		return nil, overLimit("the query has %s bytes: at most %s are allowed", thousands(len(text)), thousands(maxLength))
	}
	p := &parser{lexer: lexer{text: text}}
	p.advance()
	return p, nil
}

func (p *parser) advance() { p.tok = p.lexer.next() }

// peek returns the token after tok.
func (p *parser) peek() *token {
	ahead := p.lexer
	t := ahead.next()
	return &t
}

// accept goes over the operator or keyword if it is there.
func (p *parser) accept(text string) bool {
	if !p.tok.is(text) {
		return false
	}
	p.advance()
	return true
}

// expect goes over the operator or keyword, or says that it should be there.
func (p *parser) expect(text, where string) error {
	if p.accept(text) {
		return nil
	}
	return p.expected("`"+text+"` "+where, "")
}

// failf returns an error at a token.
func (p *parser) failf(at token, format string, args ...any) error {
	return &ParseError{positionOf(p.lexer.text, at.offset), fmt.Sprintf(format, args...)}
}

// expected says what should stand in place of tok, and with a hint what to do.
func (p *parser) expected(what, hint string) error {
	if hint != "" {
		hint = "; " + hint
	}
	if p.tok.kind != tokenInvalid {
		return p.failf(p.tok, "expected %s, found %s%s", what, &p.tok, hint)
	}
	if strings.HasPrefix(p.tok.message, "found ") {
		return p.failf(p.tok, "expected %s, %s%s", what, p.tok.message, hint)
	}
	return p.failf(p.tok, "%s", p.tok.message)
}

// unsupported says that the query is right, but cannot be answered.
func (p *parser) unsupported(at token, feature string) error {
	return &UnsupportedError{positionOf(p.lexer.text, at.offset), feature}
}

func (p *parser) enter() error {
	if p.depth++; p.depth > MaxDepth {
		return overLimit("the query nests more than %d levels deep at %s", MaxDepth, positionOf(p.lexer.text, p.tok.offset))
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

// expression reads an operand and the operators behind it that bind at least as strongly
// as precedence, with their operands.
func (p *parser) expression(precedence int) (Expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	start := p.tok
	left, err := p.operand()
	if err != nil {
		return nil, err
	}
	for {
		op, ok := operator(&p.tok)
		if !ok || binaryOps[op].precedence < precedence {
			return left, nil
		}
		if left, err = p.binary(op, left, start); err != nil {
			return nil, err
		}
	}
}

// operator returns the operator that a token is.
func operator(t *token) (op BinaryOp, ok bool) {
	for op := range binaryOps {
		if t.is(binaryOps[op].text) {
			return BinaryOp(op), true
		}
	}
	return 0, false
}

// binary reads an operator and its right operand.
func (p *parser) binary(op BinaryOp, left Expr, leftStart token) (Expr, error) {
	at := p.tok
	p.advance()
	if left.Kind() == KindLog {
		return nil, p.failf(leftStart, "`%s` needs a metric query such as count_over_time({…} [5m]) to its left, found a log query", op)
	}
	returnBool := false
	if p.tok.is("bool") {
		if !op.Comparison() {
			return nil, p.failf(p.tok, "`bool` stands only after a comparison, not after `%s`", op)
		}
		returnBool = true
		p.advance()
	}
	for _, matching := range [...]string{"on", "ignoring", "group_left", "group_right"} {
		if p.tok.is(matching) {
			return nil, p.unsupported(p.tok, matching)
		}
	}
	rightStart, precedence := p.tok, binaryOps[op].precedence+1
	if op == Power {
		precedence--
	}
	right, err := p.expression(precedence)
	if err != nil {
		return nil, err
	}
	if right.Kind() == KindLog {
		return nil, p.failf(rightStart, "`%s` needs a metric query such as count_over_time({…} [5m]) to its right, found a log query", op)
	}
	if op.Set() && (left.Kind() != KindVector || right.Kind() != KindVector) {
		return nil, p.failf(at, "`%s` needs vectors on both sides; did you mean vector(…) for the scalar?", op)
	}
	return newBinary(op, returnBool, left, right), nil
}

// operand reads what stands between operators.
func (p *parser) operand() (Expr, error) {
	at := p.tok
	switch {
	case at.kind == tokenNumber:
		p.advance()
		return &Number{at.number}, nil
	case at.kind == tokenIdentifier:
		return p.function()
	case at.kind == tokenString:
		return nil, p.expected("a query", "did you mean {app=\"…\"} |= "+quote(at.value)+"?")
	case at.kind == tokenDuration:
		return nil, p.expected("a query", "a duration stands only in [ ] and after offset")
	case at.is("{"):
		e, err := p.logQuery()
		if err == nil && e.unwrap() != nil {
			return nil, p.failf(at, "`%s` gives the values that functions such as sum_over_time need; a log query has no use for it", e.unwrap())
		}
		return e, err
	case at.is("("):
		p.advance()
		e, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		if !p.accept(")") {
			return nil, p.unclosed(at, e)
		}
		return e, nil
	case at.is("-"), at.is("+"):
		p.advance()
		start := p.tok
		e, err := p.expression(precedencePower)
		if err != nil {
			return nil, err
		}
		if e.Kind() == KindLog {
			return nil, p.failf(start, "`%s` needs a number or a metric query, found a log query", at.text)
		}
		if at.text == "+" {
			return e, nil
		}
		return &Negation{e}, nil
	}
	return nil, p.expected("a query, such as {app=\"web\"} or rate({app=\"web\"} [5m])", "")
}

// unclosed says that a parenthesis is not closed where it should be.
func (p *parser) unclosed(open token, inside Expr) error {
	if p.tok.kind == tokenEnd {
		return p.failf(open, "the parenthesis that begins here is not closed")
	}
	return p.trailing(inside, "`)`")
}

// function reads what begins with a name.
func (p *parser) function() (Expr, error) {
	name := p.tok
	if i := slices.Index(rangeOpNames, name.text); i >= 0 {
		return p.rangeAggregation(RangeOp(i))
	}
	if i := slices.Index(vectorOps[:], name.text); i >= 0 {
		return p.vectorAggregation(VectorOp(i))
	}
	if name.text == "vector" {
		return p.vectorLiteral()
	}
	if slices.Contains(unsupportedFunctions[:], name.text) {
		return nil, p.unsupported(name, name.text)
	}
	known := slices.Concat(rangeOpNames, vectorOps[:], []string{"vector"}, unsupportedFunctions[:])
	next := p.peek()
	switch near := nearest(name.text, known...); {
	case near != "":
		return nil, p.failf(name, "expected a query, found %s, which is no function; did you mean %s?", &name, near)
	case next.is("{"):
		return nil, p.failf(name, "expected a query, found %s before a stream selector; did you mean {name=\"%s\", …}?", &name, shorten(name.text))
	case next.is("="):
		return nil, p.failf(name, "expected a query, found %s; a stream selector stands in braces: {%s=\"…\"}", &name, shorten(name.text))
	case next.is("("):
		return nil, p.failf(name, "expected a query, found %s, which is no function; the functions are %s",
			&name, strings.Join(slices.Concat(rangeOpNames, vectorOps[:], []string{"vector"}), ", "))
	}
	return nil, p.failf(name, "expected a query, such as {app=\"web\"}, found %s", &name)
}

// vectorAggregation reads sum by (a) (…) and its like.
func (p *parser) vectorAggregation(op VectorOp) (Expr, error) {
	p.advance()
	e := &VectorAggregation{Op: op}
	grouped, err := p.grouping(&e.Grouping)
	if err != nil {
		return nil, err
	}
	open := p.tok
	if err := p.expect("(", "after "+op.String()); err != nil {
		return nil, err
	}
	if op == TopK || op == BottomK {
		if e.K, err = p.seriesCount(op); err != nil {
			return nil, err
		}
	}
	start := p.tok
	if e.Inner, err = p.expression(0); err != nil {
		return nil, err
	}
	if kind := e.Inner.Kind(); kind != KindVector {
		return nil, p.failf(start, "%s needs a vector such as count_over_time({…} [5m]), found %s", op, kind)
	}
	if p.tok.is(",") {
		what := "argument"
		if e.K > 0 {
			what = "vector"
		}
		return nil, p.expected("`)`", op.String()+" takes one "+what)
	}
	if !p.accept(")") {
		return nil, p.unclosed(open, e.Inner)
	}
	if op == Sort || op == SortDesc {
		if grouped || p.tok.is("by") || p.tok.is("without") {
			return nil, p.failf(open, "%s has no grouping: it puts all series in order", op)
		}
		return e, nil
	}
	if grouped {
		if p.tok.is("by") || p.tok.is("without") {
			return nil, p.failf(p.tok, "%s has a second grouping here; one before or after the parentheses is all", op)
		}
		return e, nil
	}
	_, err = p.grouping(&e.Grouping)
	return e, err
}

// seriesCount reads the first argument of topk and bottomk, and the comma behind it.
func (p *parser) seriesCount(op VectorOp) (int, error) {
	k := p.tok
	if k.kind != tokenNumber || k.number < 1 || k.number > math.MaxInt32 || k.number != math.Trunc(k.number) {
		return 0, p.expected("a whole number of series, at least 1, as the first argument of "+op.String(), "write "+op.String()+"(10, …)")
	}
	p.advance()
	return int(k.number), p.expect(",", "after the number of series in "+op.String())
}

// grouping reads by (a, b) or without (a, b), if it is there.
func (p *parser) grouping(g *segment.Grouping) (found bool, err error) {
	if !p.tok.is("by") && !p.tok.is("without") {
		return false, nil
	}
	word := p.tok.text
	p.advance()
	if err := p.expect("(", "after "+word); err != nil {
		return false, err
	}
	*g = segment.Grouping{Without: word == "without"}
	for !p.tok.is(")") {
		if p.tok.kind != tokenIdentifier {
			return false, p.expected("a label name or `)` after "+word+" (", "")
		}
		g.Names = append(g.Names, p.tok.text)
		p.advance()
		if !p.tok.is(")") && !p.accept(",") {
			return false, p.expected("`,` or `)` after the label name", "")
		}
	}
	p.advance()
	slices.Sort(g.Names)
	g.Names = slices.Compact(g.Names)
	return true, nil
}

// vectorLiteral reads vector(scalar).
func (p *parser) vectorLiteral() (Expr, error) {
	p.advance()
	open := p.tok
	if err := p.expect("(", "after vector"); err != nil {
		return nil, err
	}
	start := p.tok
	scalar, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if kind := scalar.Kind(); kind != KindScalar {
		return nil, p.failf(start, "vector needs a scalar such as vector(1), found %s", kind)
	}
	if !p.accept(")") {
		return nil, p.unclosed(open, scalar)
	}
	return &VectorLiteral{scalar}, nil
}

// trailing says what is wrong with tok where e, and what is round it, could have ended.
func (p *parser) trailing(e Expr, end string) error {
	isLog := e.Kind() == KindLog
	possible := "an operator or " + end
	if isLog {
		possible = "a line filter or " + end
	}
	pipe := p.tok.kind == tokenOperator && strings.HasPrefix(p.tok.text, "|") || p.tok.is("!~") || p.tok.is("!>")
	switch {
	case p.tok.is("[") && isLog:
		return p.failf(p.tok, "a range such as [5m] stands only inside a function: count_over_time({…} [5m])")
	case p.tok.is("["):
		return p.failf(p.tok, "a range such as [5m] stands only directly behind a stream selector or its filters")
	case p.tok.is("offset"):
		return p.failf(p.tok, "offset stands only directly after the range: count_over_time({…} [5m] offset 1h)")
	case p.tok.is("by") || p.tok.is("without"):
		return p.failf(p.tok, "`%s` stands only directly before or after the parentheses of an aggregation: sum by (app) (…)", p.tok.text)
	case p.tok.is(")"):
		return p.expected(possible, "no parenthesis is open here")
	case p.tok.is("="):
		return p.expected(possible, "did you mean == or, to filter lines, |=?")
	case pipe && isLog:
		return p.expected(possible, "filters stand inside the parentheses")
	case pipe:
		return p.failf(p.tok, "`%s` filters lines: it stands behind a stream selector, inside the function: count_over_time({…} |= \"…\" [5m])", p.tok.text)
	case isLog && p.tok.kind == tokenString:
		return p.expected(possible, "did you mean |= "+quote(p.tok.value)+"?")
	case isLog && p.tok.kind == tokenIdentifier && slices.Contains(stageNames[:], p.tok.text):
		return p.expected(possible, "did you mean | "+p.tok.text+"?")
	}
	return p.expected(possible, "")
}
