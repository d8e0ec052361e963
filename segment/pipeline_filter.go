package segment

import (
	"cmp"
	"math"
	"strconv"
	"time"

	"github.com/logcluster/logcluster/segment/field"
)

// FilterKind says what a LabelFilter is.
type FilterKind uint8

// The kinds of label filters: two ways to join filters, and comparisons by the type of
// the literal that stands in the query.
const (
	FilterAnd FilterKind = iota
	FilterOr
	FilterString
	FilterNumber
	FilterDuration
	FilterBytes
)

// Comparison is how a label is compared with a number, a duration or a size.
type Comparison uint8

// The comparisons.
const (
	CompareEqual Comparison = iota
	CompareNotEqual
	CompareGreater
	CompareGreaterOrEqual
	CompareLess
	CompareLessOrEqual
)

// String returns the operator.
func (c Comparison) String() string { return [...]string{"==", "!=", ">", ">=", "<", "<="}[c] }

// holds reports the outcome for two values that are ordered so: -1, 0 or 1.
func (c Comparison) holds(order int) bool {
	switch c {
	case CompareEqual:
		return order == 0
	case CompareNotEqual:
		return order != 0
	case CompareGreater:
		return order > 0
	case CompareGreaterOrEqual:
		return order >= 0
	case CompareLess:
		return order < 0
	default:
		return order <= 0
	}
}

// A LabelFilter decides on a row by its labels. It is immutable.
type LabelFilter struct {
	Kind FilterKind

	Left, Right *LabelFilter // of FilterAnd and FilterOr, tried in this order

	Name    string   // of the label, for the rest
	Matcher *Matcher // of FilterString

	Comparison Comparison // of the rest
	Number     float64
	Duration   time.Duration
	Bytes      uint64
}

// Match is the meaning of a comparison: whether it holds for a label's value ("": absent),
// and the error if the value cannot be compared, which sets LabelFilterErr.
func (f *LabelFilter) Match(value string) (keep bool, err error) {
	if f.Kind == FilterString {
		return f.Matcher.Matches(value), nil
	}
	if value == "" {
		return false, nil
	}
	switch f.Kind {
	case FilterNumber:
		v, err := field.ParseNumber(value)
		return err != nil || f.MatchNumber(v), err
	case FilterDuration:
		v, err := field.ParseDuration(value)
		return err != nil || f.MatchDuration(v), err
	default:
		v, err := field.ParseBytes(value)
		return err != nil || f.MatchBytes(v), err
	}
}

// MatchNumber reports whether a FilterNumber holds for a value.
func (f *LabelFilter) MatchNumber(v float64) bool {
	switch {
	case v < f.Number:
		return f.Comparison.holds(-1)
	case v > f.Number:
		return f.Comparison.holds(1)
	case v == f.Number:
		return f.Comparison.holds(0)
	}
	return f.Comparison == CompareNotEqual // of something that is no number
}

// MatchDuration reports whether a FilterDuration holds for a value.
func (f *LabelFilter) MatchDuration(v time.Duration) bool {
	return f.Comparison.holds(cmp.Compare(v, f.Duration))
}

// MatchBytes reports whether a FilterBytes holds for a value.
func (f *LabelFilter) MatchBytes(v uint64) bool {
	return f.Comparison.holds(cmp.Compare(v, f.Bytes))
}

// appendNames appends the names of the labels that the filter looks at.
func (f *LabelFilter) appendNames(names []string) []string {
	if f.Kind > FilterOr {
		return append(names, f.Name)
	}
	return f.Right.appendNames(f.Left.appendNames(names))
}

// looksAtError reports whether the filter names __error__ or __error_details__.
func (f *LabelFilter) looksAtError() bool {
	if f.Kind > FilterOr {
		return f.Name == ErrorLabel || f.Name == ErrorDetailsLabel
	}
	return f.Left.looksAtError() || f.Right.looksAtError()
}

// String returns the filter as it stands in a query: joined from left to right, with
// parentheses round what is joined before on the right.
func (f *LabelFilter) String() string {
	switch f.Kind {
	case FilterAnd, FilterOr:
		word := " and "
		if f.Kind == FilterOr {
			word = " or "
		}
		right := f.Right.String()
		if f.Right.Kind <= FilterOr {
			right = "(" + right + ")"
		}
		return f.Left.String() + word + right
	case FilterString:
		return f.Matcher.String()
	}
	text := f.Name + " " + f.Comparison.String() + " "
	switch f.Kind {
	case FilterNumber:
		format := byte('f')
		if v := math.Abs(f.Number); v != 0 && (v < 1e-6 || v >= 1e21) {
			format = 'g'
		}
		return text + strconv.FormatFloat(f.Number, format, -1, 64)
	case FilterDuration:
		return text + field.FormatDuration(f.Duration)
	default:
		return text + strconv.FormatUint(f.Bytes, 10) + "B"
	}
}
