package http

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
)

// A labelError says why a label set names no stream.
type labelError struct {
	kind reason
	text string
}

func (e *labelError) Error() string { return e.text }

// labelReason is the kind of such an error.
func labelReason(err error) reason {
	var bad *labelError
	if errors.As(err, &bad) {
		return bad.kind
	}
	return reasonLabels
}

func badLabels(format string, args ...any) error {
	return &labelError{reasonLabels, fmt.Sprintf(format, args...)}
}

// checkLabels reports why a label set names no stream, or nil.
func (l *IngestLimits) checkLabels(set segment.Labels) error {
	switch {
	case len(set) == 0:
		return badLabels("the stream has no label with a value: it needs at least one")
	case len(set) > l.MaxLabels:
		return badLabels("the stream has %d labels, the limit is %d", len(set), l.MaxLabels)
	}
	for _, p := range set {
		switch {
		case len(p.Name) > l.MaxName:
			return badLabels("the label name %s has %d bytes, the limit is %d", quote(p.Name), len(p.Name), l.MaxName)
		case !segment.ValidLabelName(p.Name):
			return badLabels("the label name %s is not allowed: names are letters, digits and _, and do not begin with a digit", quote(p.Name))
		case len(p.Value) > l.MaxValue:
			return badLabels("the value of label %s has %d bytes, the limit is %d", quote(p.Name), len(p.Value), l.MaxValue)
		case !utf8.ValidString(p.Value):
			return badLabels("the value of label %s is not valid UTF-8", quote(p.Name))
		}
	}
	return nil
}

// streamCache holds streams by what requests call them, since agents send the same
// label sets again and again. It is safe for concurrent use.
//
// It has two generations: what is used moves to the younger; when that is full, the
// elder is dropped. So it is bounded, and what is used often stays.
type streamCache struct {
	limits *IngestLimits

	mu    sync.Mutex // guards what follows
	young map[string]*segment.Stream
	old   map[string]*segment.Stream
	bytes int // of young's keys
}

const (
	cachedStreams = 1 << 14 // of one generation
	cachedBytes   = 8 << 20 // of one generation's keys
	cachedLabels  = 4 << 10 // a longer label set is not kept
)

func newStreamCache(limits *IngestLimits) *streamCache {
	return &streamCache{limits: limits, young: map[string]*segment.Stream{}}
}

// A key is the kind of name (t: text, s: sorted set), the tenant, a NUL, and the name.

// get returns the stream of a key, or nil.
func (c *streamCache) get(key []byte) *segment.Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.young[string(key)]; s != nil {
		return s
	}
	s := c.old[string(key)]
	if s != nil {
		c.put(string(key), s)
	}
	return s
}

// add keeps a stream under a key.
func (c *streamCache) add(key []byte, s *segment.Stream) {
	if len(key) > cachedLabels {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(string(key), s)
}

// put needs mu.
func (c *streamCache) put(key string, s *segment.Stream) {
	if len(c.young) >= cachedStreams || c.bytes+len(key) > cachedBytes {
		c.old, c.young, c.bytes = c.young, map[string]*segment.Stream{}, 0
	}
	c.young[key] = s
	c.bytes += len(key)
}

// parsed returns the stream that a label string {a="b"} names, or why it names none.
// scratch is the memory for keys; what grew of it is returned.
func (c *streamCache) parsed(tenant string, text, scratch []byte) (*segment.Stream, []byte, error) {
	if limit := c.limits.textLimit(); len(text) > limit {
		return nil, scratch, badLabels("the label set has %d bytes, the limit is %d", len(text), limit)
	}
	scratch = append(append(append(append(scratch[:0], 't'), tenant...), 0), text...)
	if s := c.get(scratch); s != nil {
		return s, scratch, nil
	}
	set, err := logql.ParseLabels(string(text))
	if err != nil {
		return nil, scratch, badLabels("%s", err)
	}
	s, err := c.make(tenant, set)
	if err == nil {
		c.add(scratch, s)
	}
	return s, scratch, err
}

// set returns the stream of sorted labels, or why it names none. The labels may be views.
func (c *streamCache) set(tenant string, set segment.Labels, scratch []byte) (*segment.Stream, []byte, error) {
	scratch = set.AppendKey(append(append(append(scratch[:0], 's'), tenant...), 0))
	if s := c.get(scratch); s != nil {
		return s, scratch, nil
	}
	own := make(segment.Labels, len(set))
	for i, p := range set {
		own[i] = segment.Label{Name: strings.Clone(p.Name), Value: strings.Clone(p.Value)}
	}
	s, err := c.make(tenant, own)
	if err == nil {
		c.add(scratch, s)
	}
	return s, scratch, err
}

func (c *streamCache) make(tenant string, set segment.Labels) (*segment.Stream, error) {
	if err := c.limits.checkLabels(set); err != nil {
		return nil, err
	}
	return segment.NewStream(tenant, set), nil
}

// textLimit bounds a label string before it is parsed: all labels at their longest,
// with some escapes.
func (l *IngestLimits) textLimit() int {
	return l.MaxLabels * (l.MaxName + 2*l.MaxValue + 8)
}

// validName turns any name into a label's: what is not a letter, digit or _ becomes _,
// and _ goes before a leading digit, as LogQL's json parser does it.
func validName(name string) string {
	if segment.ValidLabelName(name) {
		return strings.Clone(name)
	}
	out := make([]byte, 0, len(name)+1)
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_':
			out = append(out, c)
		case c >= '0' && c <= '9':
			if len(out) == 0 {
				out = append(out, '_')
			}
			out = append(out, c)
		default:
			out = append(out, '_')
		}
	}
	return string(out)
}

// quote writes a piece of input for an error message, shortened.
func quote(s string) string { return strconv.Quote(shorten(s)) }

// shorten cuts a piece of input for an error message.
func shorten(s string) string {
	const limit = 120
	if len(s) <= limit {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
