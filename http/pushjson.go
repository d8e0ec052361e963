package http

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/logcluster/logcluster/segment"
)

// The JSON form of Loki's push:
//
//	{"streams": [{"stream": {"app": "web"}, "values": [["1700000000000000000", "line", {"trace": "a1"}], …]}, …]}
//
// A syntax error anywhere means that nothing is stored. What is valid JSON but no entry
// is refused by itself.

// decodePushJSON adds the entries of a push and returns how many streams it has. It
// changes the text.
func decodePushJSON(b *builder, text []byte) (streams int, err error) {
	s := &jsonScanner{text: text}
	err = s.members(func(name string) error {
		if name != "streams" {
			_, err := s.value(maxJSONDepth)
			return err
		}
		return s.elements(func(int) error {
			if s.peek() != '{' {
				return s.unexpected("a stream {…}")
			}
			streams++
			return pushStream(b, s, streams-1)
		})
	})
	if err == nil && s.peek() != 0 || err == nil && s.pos < len(text) {
		err = s.unexpected("the end of the body")
	}
	var syntax *jsonError
	if errors.As(err, &syntax) {
		return streams, badRequest("the body is not a push in JSON, nothing is stored: %v", err)
	}
	return streams, err
}

// members calls do for each member of an object, which is next. do reads the value.
func (s *jsonScanner) members(do func(name string) error) error {
	if err := s.expect('{', "to begin an object"); err != nil {
		return err
	}
	for first := true; ; first = false {
		more, err := s.more(first, '}')
		if err != nil || !more {
			return err
		}
		key, err := s.key()
		if err != nil {
			return err
		}
		if err := do(view(key.bytes())); err != nil {
			return err
		}
	}
}

// elements calls do for each element of an array, which is next. do reads the element.
func (s *jsonScanner) elements(do func(i int) error) error {
	if err := s.expect('[', "to begin an array"); err != nil {
		return err
	}
	for i := 0; ; i++ {
		more, err := s.more(i == 0, ']')
		if err != nil || !more {
			return err
		}
		if err := do(i); err != nil {
			return err
		}
	}
}

// pushStream adds the entries of a stream, whose labels may follow them.
func pushStream(b *builder, s *jsonScanner, number int) error {
	stream := b.begin()
	entries := 0
	var labels jsonValue
	err := s.members(func(name string) (err error) {
		switch name {
		case "stream":
			labels, err = s.value(maxJSONDepth)
			return err
		case "values":
			return s.elements(func(int) error {
				entries++
				return pushEntry(b, s, stream, number, entries-1)
			})
		}
		_, err = s.value(maxJSONDepth)
		return err
	})
	if err != nil || entries == 0 {
		return err
	}
	text := string(labels.raw[:min(len(labels.raw), 200)])
	set, bad := pushLabels(b.limits, &labels)
	var found *segment.Stream
	if bad == nil {
		found, b.scratch, bad = b.streams.set(b.tenant, set, b.scratch)
	}
	return b.end(found, number, text, bad)
}

// pushLabels reads the labels of a stream, which were scanned before. They are views.
func pushLabels(limits *IngestLimits, labels *jsonValue) (segment.Labels, error) {
	if labels.kind != jsonObject {
		return nil, badLabels("the stream has no \"stream\": {…} with its labels")
	}
	var set segment.Labels
	s := &jsonScanner{text: labels.raw}
	err := s.members(func(name string) error {
		value, err := s.value(maxJSONDepth)
		if err != nil {
			return err
		}
		if value.kind != jsonString {
			return badLabels("the value of label %s is %s: it must be a string", quote(name), value.kind.name())
		}
		if set = append(set, segment.Label{Name: name, Value: view(value.bytes())}); len(set) > limits.MaxLabels {
			return badLabels("the stream has more than %d labels", limits.MaxLabels)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(set, func(a, b segment.Label) int { return strings.Compare(a.Name, b.Name) })
	for i := range set[:max(len(set)-1, 0)] {
		if set[i].Name == set[i+1].Name {
			return nil, badLabels("the label %s is given twice", quote(set[i].Name))
		}
	}
	return segment.NewLabels(set), nil
}

// pushEntry adds one entry: [timestamp, line] or [timestamp, line, metadata].
func pushEntry(b *builder, s *jsonScanner, stream uint32, number, entry int) error {
	var parts [3]jsonValue
	count := 0
	if s.peek() != '[' {
		value, err := s.value(maxJSONDepth)
		if err != nil {
			return err
		}
		return b.addRefused(nil, stream, number, entry, reasonSyntax, "the entry is "+value.kind.name()+`: it must be ["timestamp", "line"]`)
	}
	err := s.elements(func(i int) error {
		value, err := s.value(maxJSONDepth)
		if i < len(parts) {
			parts[i] = value
		}
		count++
		return err
	})
	if err != nil {
		return err
	}
	if count < 2 || count > 3 {
		return b.addRefused(nil, stream, number, entry, reasonSyntax, fmt.Sprintf(`the entry has %d elements: it must be ["timestamp", "line"] or ["timestamp", "line", {metadata}]`, count))
	}
	if parts[1].kind != jsonString {
		return b.addRefused(nil, stream, number, entry, reasonSyntax, "the line is "+parts[1].kind.name()+": it must be a string")
	}
	line := parts[1].bytes()
	if parts[0].kind != jsonString {
		return b.addRefused(line, stream, number, entry, reasonTime, "the timestamp is "+parts[0].kind.name()+": it must be a string of unix nanoseconds")
	}
	text := parts[0].bytes()
	ts, err := strconv.ParseInt(view(text), 10, 64)
	if err != nil {
		return b.addRefused(line, stream, number, entry, reasonTime, "the timestamp "+quote(string(text[:min(len(text), 200)]))+" is no number of unix nanoseconds")
	}
	metadata := uint32(0)
	if count == 3 {
		bad, err := pushMetadata(b, &parts[2])
		if err != nil {
			return err
		}
		if bad == "" {
			bad = b.checkMetadata()
		}
		if bad != "" {
			return b.addRefused(line, stream, number, entry, reasonMetadata, bad)
		}
		if len(b.pairs) > 0 {
			if metadata, err = b.meta(); err != nil {
				return err
			}
		}
	}
	return b.add(ts, line, stream, metadata, number, entry)
}

// pushMetadata reads structured metadata, which was scanned before, into b.pairs, or says
// why it is none.
func pushMetadata(b *builder, object *jsonValue) (bad string, err error) {
	b.pairs = b.pairs[:0]
	if object.kind != jsonObject {
		return "the structured metadata is " + object.kind.name() + ": it must be an object of strings", nil
	}
	s := &jsonScanner{text: object.raw}
	err = s.members(func(name string) error {
		value, err := s.value(maxJSONDepth)
		switch {
		case err != nil:
			return err
		case value.kind != jsonString:
			bad = fmt.Sprintf("the structured metadata %s is %s: it must be a string", quote(name), value.kind.name())
		case len(b.pairs) <= b.limits.MaxMetadataPairs: // One more is enough to refuse the entry.
			b.pairs = append(b.pairs, segment.Label{Name: name, Value: view(value.bytes())})
		}
		return nil
	})
	return bad, err
}
