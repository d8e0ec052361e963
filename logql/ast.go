package logql

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/logcluster/logcluster/segment"
	"github.com/logcluster/logcluster/segment/field"
)

// Kind is what an expression evaluates to.
type Kind uint8

// The kinds of expressions.
const (
	KindLog    Kind = iota // entries
	KindVector             // for each point in time a value for each of some series
	KindScalar             // a number
)

// String returns the kind with its article.
func (k Kind) String() string { return [...]string{"a log query", "a vector", "a scalar"}[k] }

// Expr is a query or a part of one: *LogExpr, *RangeAggregation, *VectorAggregation,
// *VectorLiteral, *Binary, *Negation or *Number. An Expr never changes once it is parsed.
type Expr interface {
	// String returns the expression in canonical form: one line, single spaces, no
	// parenthesis that is not needed. Parse turns it into an equal expression.
	String() string
	Kind() Kind

	write(b *strings.Builder)
	isExpr()
}

// LogExpr selects the entries of the streams that all matchers match, and sends them
// through the stages in turn.
type LogExpr struct {
	Matchers []*segment.Matcher
	Stages   []Stage
}

// Stage is a step of a log query's pipeline: a *LineFilter or a *PipelineStage.
type Stage interface {
	String() string

	isStage()
}

// LineFilter keeps (|= and |~) or drops (!= and !~) the lines that contain one of the
// values or match one of them as a regular expression.
type LineFilter struct {
	Type   segment.MatchType
	Values []string // at least one
}

// PipelineStage is a parser, a label filter or an unwrap, as it is executed.
type PipelineStage struct {
	segment.PipelineStage
}

// LogRange is a log query together with the time that it covers before each point.
type LogRange struct {
	Log    *LogExpr
	Range  time.Duration // > 0
	Offset time.Duration // how long before each point the range ends; negative: after it
}

// RangeOp is a function over a log range.
type RangeOp uint8

// The functions over log ranges.
const (
	CountOverTime RangeOp = iota // number of entries
	Rate                         // the same per second; with an unwrap: SumOverTime per second
	BytesOverTime                // length of their lines
	BytesRate                    // the same per second
	SumOverTime                  // sum of the unwrapped values; so are all that follow
	AvgOverTime
	MinOverTime
	MaxOverTime
	FirstOverTime
	LastOverTime
	StdvarOverTime
	StddevOverTime
	QuantileOverTime
)

var rangeOps = [...]struct {
	name    string
	measure segment.Measure
}{
	{"count_over_time", segment.MeasureCount},
	{"rate", segment.MeasureCount},
	{"bytes_over_time", segment.MeasureBytes},
	{"bytes_rate", segment.MeasureBytes},
	{"sum_over_time", segment.MeasureSum},
	{"avg_over_time", segment.MeasureMean},
	{"min_over_time", segment.MeasureMin},
	{"max_over_time", segment.MeasureMax},
	{"first_over_time", segment.MeasureFirst},
	{"last_over_time", segment.MeasureLast},
	{"stdvar_over_time", segment.MeasureVariance},
	{"stddev_over_time", segment.MeasureDeviation},
	{"quantile_over_time", segment.MeasureQuantile},
}

// rangeOpNames are the names of the functions, in the order of RangeOp.
var rangeOpNames = func() (names []string) {
	for _, op := range rangeOps {
		names = append(names, op.name)
	}
	return names
}()

// String returns the function's name.
func (o RangeOp) String() string { return rangeOps[o].name }

// RangeAggregation applies a function to the entries of each series in a log range.
type RangeAggregation struct {
	Op       RangeOp
	Quantile float64 // of QuantileOverTime
	Range    LogRange
	// Grouping makes the series. Unless the query says otherwise it is {Without: true}:
	// each stream is a series.
	Grouping segment.Grouping
}

// VectorOp is an operation that unites the series of a vector.
type VectorOp uint8

// The operations that unite series.
const (
	Sum VectorOp = iota
	Avg
	Min
	Max
	Count
	TopK     // the series with the largest values of each group
	BottomK  // with the smallest
	Sort     // all series; an instant query's answer is in order of values
	SortDesc // the same, the largest first
)

var vectorOps = [...]string{"sum", "avg", "min", "max", "count", "topk", "bottomk", "sort", "sort_desc"}

// String returns the operation's name.
func (o VectorOp) String() string { return vectorOps[o] }

// selects reports whether the operation leaves series as they are.
func (o VectorOp) selects() bool { return o >= TopK }

// VectorAggregation unites the series of a vector, or selects some of them.
type VectorAggregation struct {
	Op VectorOp
	K  int // of TopK and BottomK: how many series of each group, > 0
	// Grouping makes the series. Unless the query says otherwise it is the zero Grouping:
	// all become one.
	Grouping segment.Grouping
	Inner    Expr // a vector
}

// VectorLiteral is vector(scalar): one series without labels.
type VectorLiteral struct {
	Scalar Expr
}

// BinaryOp is an operator between two expressions.
type BinaryOp uint8

// The operators, those that bind strongest first.
const (
	Power BinaryOp = iota
	Multiply
	Divide
	Modulo
	Add
	Subtract
	Equal
	NotEqual
	Greater
	GreaterOrEqual
	Less
	LessOrEqual
	And
	Unless
	Or
)

// Precedences: an operand with a lower one than its operator needs parentheses.
const (
	precedenceOr = iota + 1
	precedenceAnd
	precedenceComparison
	precedenceSum
	precedenceProduct
	precedenceSign
	precedencePower
	precedenceOperand // of what is no operation
)

var binaryOps = [...]struct {
	text       string
	precedence int
}{
	Power:    {"^", precedencePower},
	Multiply: {"*", precedenceProduct}, Divide: {"/", precedenceProduct}, Modulo: {"%", precedenceProduct},
	Add: {"+", precedenceSum}, Subtract: {"-", precedenceSum},
	Equal: {"==", precedenceComparison}, NotEqual: {"!=", precedenceComparison},
	Greater: {">", precedenceComparison}, GreaterOrEqual: {">=", precedenceComparison},
	Less: {"<", precedenceComparison}, LessOrEqual: {"<=", precedenceComparison},
	And: {"and", precedenceAnd}, Unless: {"unless", precedenceAnd},
	Or: {"or", precedenceOr},
}

// String returns the operator as it stands in a query.
func (o BinaryOp) String() string { return binaryOps[o].text }

// Comparison reports whether the operator is one of == != > >= < <=.
func (o BinaryOp) Comparison() bool { return o >= Equal && o <= LessOrEqual }

// Set reports whether the operator is one of and, unless, or.
func (o BinaryOp) Set() bool { return o >= And }

// Binary applies an operator to two expressions. Between vectors it takes series with
// equal labels together.
type Binary struct {
	Op BinaryOp
	// Bool makes a comparison return 0 and 1 where it would drop and keep.
	Bool        bool
	Left, Right Expr

	kind Kind
}

func newBinary(op BinaryOp, returnBool bool, left, right Expr) *Binary {
	return &Binary{Op: op, Bool: returnBool, Left: left, Right: right, kind: min(left.Kind(), right.Kind())}
}

// Negation is the unary minus.
type Negation struct {
	Inner Expr
}

// Number is a scalar literal, finite and not negative.
type Number struct {
	Value float64
}

func (*LogExpr) isExpr()           {}
func (*RangeAggregation) isExpr()  {}
func (*VectorAggregation) isExpr() {}
func (*VectorLiteral) isExpr()     {}
func (*Binary) isExpr()            {}
func (*Negation) isExpr()          {}
func (*Number) isExpr()            {}

func (*LineFilter) isStage()    {}
func (*PipelineStage) isStage() {}

// Kind returns KindLog.
func (*LogExpr) Kind() Kind { return KindLog }

// Kind returns KindVector.
func (*RangeAggregation) Kind() Kind { return KindVector }

// Kind returns KindVector.
func (*VectorAggregation) Kind() Kind { return KindVector }

// Kind returns KindVector.
func (*VectorLiteral) Kind() Kind { return KindVector }

// Kind returns KindScalar if both operands are scalars, else KindVector.
func (e *Binary) Kind() Kind { return e.kind }

// Kind returns the operand's kind.
func (e *Negation) Kind() Kind { return e.Inner.Kind() }

// Kind returns KindScalar.
func (*Number) Kind() Kind { return KindScalar }

func render(e Expr) string {
	var b strings.Builder
	e.write(&b)
	return b.String()
}

func (e *LogExpr) String() string           { return render(e) }
func (e *RangeAggregation) String() string  { return render(e) }
func (e *VectorAggregation) String() string { return render(e) }
func (e *VectorLiteral) String() string     { return render(e) }
func (e *Binary) String() string            { return render(e) }
func (e *Negation) String() string          { return render(e) }
func (e *Number) String() string            { return render(e) }

func (e *LogExpr) write(b *strings.Builder) {
	b.WriteByte('{')
	for i, m := range e.Matchers {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(m.String())
	}
	b.WriteByte('}')
	for _, s := range e.Stages {
		b.WriteByte(' ')
		b.WriteString(s.String())
	}
}

// String returns the stage as it stands in a query: | json.
func (s *PipelineStage) String() string { return "| " + s.PipelineStage.String() }

// String returns the filter as it stands in a query: |= "a" or "b".
func (f *LineFilter) String() string {
	var b strings.Builder
	b.WriteString([...]string{"|=", "!=", "|~", "!~"}[f.Type])
	for i, v := range f.Values {
		if i > 0 {
			b.WriteString(" or")
		}
		b.WriteByte(' ')
		b.WriteString(strconv.Quote(v))
	}
	return b.String()
}

func (r *LogRange) write(b *strings.Builder) {
	r.Log.write(b)
	b.WriteString(" [")
	b.WriteString(field.FormatDuration(r.Range))
	b.WriteByte(']')
	switch {
	case r.Offset > 0:
		b.WriteString(" offset ")
		b.WriteString(field.FormatDuration(r.Offset))
	case r.Offset < 0:
		b.WriteString(" offset -")
		b.WriteString(field.FormatDuration(-r.Offset))
	}
}

func (e *RangeAggregation) write(b *strings.Builder) {
	b.WriteString(e.Op.String())
	b.WriteByte('(')
	if e.Op == QuantileOverTime {
		writeNumber(b, e.Quantile)
		b.WriteString(", ")
	}
	e.Range.write(b)
	b.WriteByte(')')
	if !e.perStream() {
		b.WriteByte(' ')
		writeGrouping(b, &e.Grouping)
	}
}

// perStream reports whether each stream is a series.
func (e *RangeAggregation) perStream() bool { return e.Grouping.Without && len(e.Grouping.Names) == 0 }

func (e *VectorAggregation) write(b *strings.Builder) {
	b.WriteString(e.Op.String())
	if e.Grouping.Without || len(e.Grouping.Names) > 0 {
		b.WriteByte(' ')
		writeGrouping(b, &e.Grouping)
		b.WriteByte(' ')
	}
	b.WriteByte('(')
	if e.Op == TopK || e.Op == BottomK {
		b.WriteString(strconv.Itoa(e.K))
		b.WriteString(", ")
	}
	e.Inner.write(b)
	b.WriteByte(')')
}

func writeGrouping(b *strings.Builder, g *segment.Grouping) {
	if g.Without {
		b.WriteString("without (")
	} else {
		b.WriteString("by (")
	}
	b.WriteString(strings.Join(g.Names, ", "))
	b.WriteByte(')')
}

func (e *VectorLiteral) write(b *strings.Builder) {
	b.WriteString("vector(")
	e.Scalar.write(b)
	b.WriteByte(')')
}

func (e *Binary) write(b *strings.Builder) {
	precedence := binaryOps[e.Op].precedence
	left, right := precedence, precedence+1 // what the operands must have at least
	if e.Op == Power {
		left, right = right, left
	}
	writeOperand(b, e.Left, left)
	b.WriteByte(' ')
	b.WriteString(e.Op.String())
	if e.Bool {
		b.WriteString(" bool")
	}
	b.WriteByte(' ')
	writeOperand(b, e.Right, right)
}

func (e *Negation) write(b *strings.Builder) {
	b.WriteByte('-')
	writeOperand(b, e.Inner, precedenceSign)
}

// writeOperand writes an operand, in parentheses if it binds less than it must.
func writeOperand(b *strings.Builder, e Expr, atLeast int) {
	precedence := precedenceOperand
	switch e := e.(type) {
	case *Binary:
		precedence = binaryOps[e.Op].precedence
	case *Negation:
		precedence = precedenceSign
	}
	if precedence < atLeast {
		b.WriteByte('(')
		e.write(b)
		b.WriteByte(')')
		return
	}
	e.write(b)
}

func (e *Number) write(b *strings.Builder) { writeNumber(b, e.Value) }

func writeNumber(b *strings.Builder, v float64) {
	format := byte('f')
	if v != 0 && (math.Abs(v) < 1e-6 || math.Abs(v) >= 1e21) {
		format = 'g'
	}
	b.WriteString(strconv.FormatFloat(v, format, -1, 64))
}
