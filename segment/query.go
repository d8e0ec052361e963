package segment

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
)

// An Entry is one stored line with all that is known of it.
type Entry struct {
	Timestamp int64 // unix nanoseconds
	Stream    *Stream
	Line      []byte // exactly the bytes that were pushed
	Metadata  Labels // structured metadata; nil for most entries
	// Parsed are the labels that a query's Pipeline extracted, __error__ and
	// __error_details__ among them; nil for a query without. Names are different from those in
	// Stream and Metadata; values may be empty where a parser keeps empty ones.
	Parsed Labels

	// Shard and Offset are the entry's identity. Entries of equal time are in the
	// order of (Shard, Offset).
	Shard  uint32
	Offset uint64

	// source completes the entry with line and metadata when it is its turn; nil if it is
	// complete.
	source *blockReader
	row    uint32
}

// An Iterator yields entries one by one:
//
//	for it.Next() {
//		use(it.At())
//	}
//	err := it.Err()
//
// An iterator is not safe for concurrent use. Close may be called at any time, also
// twice, and must be called once the iterator is no longer needed.
type Iterator interface {
	// Next goes on to the next entry. It returns false at the end and on an error.
	Next() bool
	// At returns the current entry. Its Line and Metadata are valid until the next
	// call of Next or Close; its Stream and Parsed for ever.
	At() *Entry
	// Err returns the error that ended the iteration, or nil.
	Err() error
	Close() error
}

// MatchType says how a Matcher or a LineFilter compares.
type MatchType uint8

// The comparisons of matchers (=, !=, =~, !~) and of line filters (|=, !=, |~, !~).
const (
	MatchEqual     MatchType = iota // =   |=  (for lines: contains)
	MatchNotEqual                   // !=  !=
	MatchRegexp                     // =~  |~
	MatchNotRegexp                  // !~  !~
)

// String returns the operator as it stands in a stream selector.
func (t MatchType) String() string { return [...]string{"=", "!=", "=~", "!~"}[t] }

// A Matcher decides on a stream by one of its labels. An absent label has the value "".
type Matcher struct {
	Name  string
	Type  MatchType
	Value string

	re *regexp.Regexp // anchored at both ends; nil unless Type is one of regexps
}

// NewMatcher compiles a matcher. Regular expressions are RE2 and match the whole value.
func NewMatcher(name string, t MatchType, value string) (*Matcher, error) {
	m := &Matcher{Name: name, Type: t, Value: value}
	if t == MatchRegexp || t == MatchNotRegexp {
		re, err := regexp.Compile("^(?s:" + value + ")$")
		if err != nil {
			return nil, err
		}
		m.re = re
	}
	return m, nil
}

// Matches reports whether a label value satisfies the matcher.
func (m *Matcher) Matches(value string) bool {
	switch m.Type {
	case MatchEqual:
		return value == m.Value
	case MatchNotEqual:
		return value != m.Value
	case MatchRegexp:
		return m.re.MatchString(value)
	default:
		return !m.re.MatchString(value)
	}
}

// MatchesEmpty reports whether a stream without the label satisfies the matcher.
func (m *Matcher) MatchesEmpty() bool { return m.Matches("") }

// String writes the matcher as LogQL: app=~"a|b".
func (m *Matcher) String() string { return m.Name + m.Type.String() + strconv.Quote(m.Value) }

// A LineFilter decides on a line. It holds one or more alternatives: `|= "a" or "b"`
// keeps a line that contains a or b; `!= "a" or "b"` drops such a line.
type LineFilter struct {
	Type   MatchType
	Values []string // texts (MatchEqual, MatchNotEqual) or RE2 expressions; at least one

	// needles are the texts, or what every match of an expression contains. A line
	// without any of them does not match. None: every line must be looked at.
	needles []needle
	res     []*regexp.Regexp // unanchored; none if the needles decide alone
}

// NewLineFilter compiles a filter.
func NewLineFilter(t MatchType, values ...string) (*LineFilter, error) {
	f := &LineFilter{Type: t, Values: values}
	if len(values) == 0 {
		return nil, fmt.Errorf("line filter without a value")
	}
	var texts [][]byte
	all := true
	for _, v := range values {
		if t == MatchEqual || t == MatchNotEqual {
			texts = append(texts, []byte(v))
			continue
		}
		re, err := regexp.Compile(v)
		if err != nil {
			return nil, err
		}
		f.res = append(f.res, re)
		must := required(v)
		texts = append(texts, must...)
		all = all && must != nil
	}
	if all {
		for _, text := range texts {
			f.needles = append(f.needles, newNeedle(text))
		}
	}
	return f, nil
}

// negative reports whether the filter drops the lines that match.
func (f *LineFilter) negative() bool { return f.Type == MatchNotEqual || f.Type == MatchNotRegexp }

// matches reports whether the line holds one of the alternatives.
func (f *LineFilter) matches(line []byte) bool {
	found := len(f.needles) == 0
	for i := range f.needles {
		if found = bytes.Contains(line, f.needles[i].text); found {
			break
		}
	}
	return found && f.confirms(line)
}

// confirms is matches for a line that holds one of the needles.
func (f *LineFilter) confirms(line []byte) bool {
	for _, re := range f.res {
		if re.Match(line) {
			return true
		}
	}
	return len(f.res) == 0
}

// Keeps reports whether the filter lets the line through.
func (f *LineFilter) Keeps(line []byte) bool { return f.matches(line) != f.negative() }

// Direction is the order in which entries are returned.
type Direction uint8

// Backward, the default, is newest first.
const (
	Backward Direction = iota
	Forward
)

// A Query is the part of a question that is decided beside the bytes: which streams,
// which time, which lines. Sorts and limits are by (time, shard, offset).
type Query struct {
	Tenant string
	// Start and End bound the entries' timestamps, unix nanoseconds: Start <= t < End.
	Start, End int64
	// Matchers must all match the stream.
	Matchers []*Matcher
	// Filters must all keep the line; they are tried in order.
	Filters []*LineFilter
	// Pipeline must keep the line too; nil: there is none. It is tried after Filters.
	Pipeline  *Pipeline
	Direction Direction
	// Limit is how many entries are wanted at most; 0 is all.
	Limit int
	// OnDamage is told of everything that could not be read, and the rest is returned;
	// it may be called from several goroutines. If it is nil, damage ends the query
	// with an error.
	OnDamage func(error)

	// Workers read units side by side; nil: one after the other. The answer is the same.
	Workers Workers

	search *lineSearch // what was decided for Filters so far
}

// lines returns the search that remembers what was decided, or one for this call.
func (q *Query) lines() *lineSearch {
	if q.search != nil {
		return q.search
	}
	return newLineSearch(q)
}

// searching returns a copy of the query that remembers what was decided, for as many
// goroutines as its Workers are.
func (q *Query) searching() *Query {
	own := *q
	own.search = newLineSearch(&own)
	return &own
}

// Damaged hands err to OnDamage and returns nil, or returns err if there is none.
func (q *Query) Damaged(err error) error {
	if q.OnDamage == nil {
		return err
	}
	q.OnDamage(err)
	return nil
}

// MatchesStream reports whether the query asks for entries of the stream.
func (q *Query) MatchesStream(s *Stream) bool {
	if s.Tenant != q.Tenant {
		return false
	}
	for _, m := range q.Matchers {
		if !m.Matches(s.Labels.Get(m.Name)) {
			return false
		}
	}
	return true
}

// KeepsLine reports whether all line filters let the line through.
func (q *Query) KeepsLine(line []byte) bool {
	for _, f := range q.Filters {
		if !f.Keeps(line) {
			return false
		}
	}
	return true
}
