package logql

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/logcluster/logcluster/segment"
)

// ParseLabels reads the label string of Loki's push API, {app="web", host="a"}: names,
// each once, with = and a string in double quotes or backticks; a comma after the last is
// allowed. The result is sorted; labels with an empty value are left out, and values that
// are no UTF-8 are refused, because JSON cannot return them. Errors are *ParseError. The
// result shares the memory of s.
func ParseLabels(s string) (segment.Labels, error) {
	r := labelReader{s: s}
	if err := r.open(); err != nil {
		return nil, err
	}
	// Commas may stand in values: what they say is only the first guess.
	labels := make(segment.Labels, 0, min(strings.Count(s, ",")+1, 16))
	sorted := true
	for r.more() {
		label, _, err := r.next()
		if err != nil {
			return nil, err
		}
		sorted = sorted && (len(labels) == 0 || labels[len(labels)-1].Name < label.Name)
		labels = append(labels, label)
	}
	if err := r.close(); err != nil {
		return nil, err
	}
	if !sorted {
		slices.SortFunc(labels, func(a, b segment.Label) int { return strings.Compare(a.Name, b.Name) })
		for i := 1; i < len(labels); i++ {
			if labels[i-1].Name == labels[i].Name {
				return nil, duplicateLabel(s)
			}
		}
	}
	kept := labels[:0]
	for _, l := range labels {
		if l.Value != "" {
			kept = append(kept, l)
		}
	}
	return kept, nil
}

// duplicateLabel finds the first name in s that has stood before.
func duplicateLabel(s string) error {
	r := labelReader{s: s}
	seen := map[string]bool{}
	for err := r.open(); err == nil && r.more(); {
		var label segment.Label
		var at int
		if label, at, err = r.next(); err == nil && seen[label.Name] {
			return r.fail(at, "the label name "+shorten(label.Name)+" stands here a second time")
		}
		seen[label.Name] = true
	}
	return r.fail(0, "a label name stands there twice")
}

// A labelReader reads labels one by one: open, next as long as there are more, close.
type labelReader struct {
	s string
	i int // of the next byte
}

func (r *labelReader) open() error {
	r.space()
	if r.i == len(r.s) || r.s[r.i] != '{' {
		return r.fail(r.i, "expected labels such as {app=\"web\"}, found "+r.found())
	}
	r.i++
	r.space()
	return nil
}

func (r *labelReader) more() bool { return r.i < len(r.s) && r.s[r.i] != '}' }

// next reads a label and the comma behind it. start is the offset of its name.
func (r *labelReader) next() (label segment.Label, start int, err error) {
	s := r.s
	start = r.i
	for r.i < len(s) && (letter(s[r.i]) || r.i > start && digit(s[r.i])) {
		r.i++
	}
	name := s[start:r.i]
	if name == "" {
		return label, 0, r.fail(r.i, "expected a label name or `}`, found "+r.found()+"; names are made of letters, digits and _, and begin with no digit")
	}
	r.space()
	if r.i == len(s) || s[r.i] != '=' {
		return label, 0, r.fail(r.i, "expected = after the label name "+shorten(name)+", found "+r.found())
	}
	r.i++
	if r.i < len(s) && (s[r.i] == '=' || s[r.i] == '~') {
		return label, 0, r.fail(r.i, "expected a string after "+shorten(name)+"=, found "+r.found()+"; the labels of entries are given by a single =")
	}
	r.space()
	if r.i == len(s) || s[r.i] != '"' && s[r.i] != '`' {
		return label, 0, r.fail(r.i, "expected a string in double quotes after "+shorten(name)+"=, found "+r.found())
	}
	value, end, message := unquote(s, r.i)
	if message != "" {
		return label, 0, r.fail(end, message)
	}
	if !utf8.ValidString(value) {
		return label, 0, r.fail(r.i, "the value of the label "+shorten(name)+" is not valid UTF-8")
	}
	r.i = end
	r.space()
	if r.i < len(s) && s[r.i] == ',' {
		r.i++
		r.space()
	} else if r.more() {
		return label, 0, r.fail(r.i, "expected `,` or `}` after the value of "+shorten(name)+", found "+r.found())
	}
	return segment.Label{Name: name, Value: value}, start, nil
}

func (r *labelReader) close() error {
	if r.i == len(r.s) {
		return r.fail(r.i, "expected `}` at the end of the labels, found the end of the text")
	}
	r.i++
	if r.space(); r.i != len(r.s) {
		return r.fail(r.i, "expected nothing after the closing }, found "+r.found())
	}
	return nil
}

func (r *labelReader) space() {
	for r.i < len(r.s) && (r.s[r.i] == ' ' || r.s[r.i] == '\t' || r.s[r.i] == '\n' || r.s[r.i] == '\r') {
		r.i++
	}
}

func (r *labelReader) fail(offset int, message string) error {
	return &ParseError{positionOf(r.s, offset), message}
}

// found describes what stands at the next byte.
func (r *labelReader) found() string {
	if r.i >= len(r.s) {
		return "the end of the text"
	}
	c, size := utf8.DecodeRuneInString(r.s[r.i:])
	if c == utf8.RuneError && size == 1 {
		return fmt.Sprintf("the byte 0x%02x", r.s[r.i])
	}
	return fmt.Sprintf("%q", c)
}
