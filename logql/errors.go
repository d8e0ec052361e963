package logql

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/logcluster/logcluster/segment"
)

// A Position is a place in a query's text.
type Position struct {
	Offset int // bytes before it
	Line   int // from 1
	Column int // in characters, from 1
}

// String returns the position as it stands in error messages.
func (p Position) String() string { return fmt.Sprintf("line %d, col %d", p.Line, p.Column) }

// positionOf finds the position of a byte offset in text.
func positionOf(text string, offset int) Position {
	before := text[:min(offset, len(text))]
	line := strings.LastIndexByte(before, '\n') + 1
	return Position{
		Offset: offset,
		Line:   strings.Count(before, "\n") + 1,
		Column: utf8.RuneCountInString(before[line:]) + 1,
	}
}

// A ParseError says what is wrong with a text, and where.
type ParseError struct {
	Position
	Message string
}

// Error returns the message after the position.
func (e *ParseError) Error() string {
	return fmt.Sprintf("parse error at %s: %s", e.Position, e.Message)
}

// An UnsupportedError names a part of LogQL that is not available.
type UnsupportedError struct {
	Position
	Feature string // as it is written in a query: | json
}

// Error returns the name of the feature after the position.
func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("parse error at %s: `%s` is not supported yet", e.Position, e.Feature)
}

// A LimitError says which limit a query exceeds.
type LimitError struct {
	Message string
}

// Error returns the message.
func (e *LimitError) Error() string { return e.Message }

// A RequestError says what is wrong with a question beside its query text.
type RequestError struct {
	Message string
}

// Error returns the message.
func (e *RequestError) Error() string { return e.Message }

// ErrInstantLogQuery is the answer to a log query without a time range.
var ErrInstantLogQuery error = &RequestError{
	"log queries are not supported as an instant query type, please change your query to a range query type",
}

// IsBadQuery reports whether the question itself is at fault, so that to repeat it is of
// no use: HTTP's status 400.
func IsBadQuery(err error) bool {
	var (
		parse       *ParseError
		unsupported *UnsupportedError
		limit       *LimitError
		request     *RequestError
		pipeline    *segment.PipelineError
	)
	return errors.As(err, &pipeline) || errors.As(err, &parse) || errors.As(err, &unsupported) || errors.As(err, &limit) || errors.As(err, &request)
}

func badRequest(format string, args ...any) error {
	return &RequestError{fmt.Sprintf(format, args...)}
}

func overLimit(format string, args ...any) error {
	return &LimitError{fmt.Sprintf(format, args...)}
}

// thousands writes n as people read it: 11,000.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// nearest returns the one of names that word is most likely a slip of, or "".
func nearest(word string, names ...string) string {
	best, distance := "", min(3, (len(word)+1)/2)
	if len(word) > 32 {
		return ""
	}
	for _, name := range names {
		if d := editDistance(strings.ToLower(word), name); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance is how many bytes must be inserted, removed or replaced to turn a into b
// (Levenshtein's distance).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
