package http

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/logcluster/logcluster/segment"
)

// maxFields is how many members an object of /ingest may have.
const maxFields = 4096

// A jsonField is a member of an object.
type jsonField struct {
	name  []byte
	value jsonValue
	used  bool // as time, message or label
}

// objects turns the JSON objects of a body into entries; see the package's
// documentation for the rules.
type objects struct {
	b *builder
	// times and messages are the fields tried for an entry's time and line, in order.
	times, messages []string
	// labels are the fields that become labels of the stream, and labelNames what they
	// are called there.
	labels, labelNames []string
	// base are the labels of all streams, sorted.
	base segment.Labels
	// fallback is the label of a stream that has no other.
	fallback segment.Labels

	baseStream uint32
	hasBase    bool
	set        segment.Labels // scratch of one object's labels
	arena      []byte         // scratch of one object's unescaped strings
}

// lines reads one object a line.
func (o *objects) lines(body []byte) error {
	for number := 1; len(body) > 0; number++ {
		line := body
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			line, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		s := jsonScanner{text: line}
		if s.peek(); s.pos == len(line) {
			continue // Blank.
		}
		if err := o.line(&s, number); err != nil {
			var syntax *jsonError
			if !errors.As(err, &syntax) {
				return err
			}
			o.b.refuse(number, 0, reasonSyntax, err.Error())
		}
	}
	return nil
}

// line reads one object, which must be all of a line, and adds it.
func (o *objects) line(s *jsonScanner, number int) error {
	start, err := o.read(s)
	if err != nil {
		return err
	}
	end := s.pos
	if s.peek(); s.pos < len(s.text) {
		return s.unexpected("the end of the line")
	}
	return o.add(s.text[start:end], number, 0)
}

// document reads an array of objects, or objects one after the other, each on as many
// lines as it likes.
func (o *objects) document(body []byte) error {
	s := &jsonScanner{text: body}
	counted, number := 0, 1 // Line number of the place up to which newlines are counted.
	lineOf := func(pos int) int {
		number += bytes.Count(body[counted:pos], []byte{'\n'})
		counted = pos
		return number
	}
	// How often text may be read again after errors: about four times, so that no body
	// takes time out of proportion to its length.
	again := 4*len(body) + 64<<10
	array := s.peek() == '['
	if array {
		s.pos++
	}
	for element := 0; ; {
		var err error
		if array {
			var more bool
			if more, err = s.more(element == 0, ']'); err == nil && !more {
				if s.peek(); s.pos < len(body) {
					o.b.refuse(lineOf(s.pos), 0, reasonSyntax, s.unexpected("the end of the body").Error())
				}
				return nil
			}
			element++
		} else if s.peek(); s.pos == len(body) {
			return nil
		}
		s.space()
		start, at := s.pos, lineOf(s.pos)
		if err == nil {
			_, err = o.read(s)
		}
		if err == nil {
			if err := o.add(body[start:s.pos], at, element); err != nil {
				return err
			}
			continue
		}
		next := bytes.Index(body[start:], []byte("\n{"))
		if again -= s.pos - start; array || next < 0 || again < 0 {
			o.b.refuseRest(at, element, err.Error())
			return nil
		}
		// Objects that begin a line are not taken down by a bad one before.
		o.b.refuse(at, 0, reasonSyntax, err.Error())
		s.pos = start + next + 1
	}
}

// read reads one object into b.fields. Its errors are jsonErrors.
func (o *objects) read(s *jsonScanner) (start int, err error) {
	o.b.fields = o.b.fields[:0]
	if s.peek() != '{' {
		return s.pos, s.unexpected("an object {…}")
	}
	start = s.pos
	s.pos++
	for first := true; ; first = false {
		more, err := s.more(first, '}')
		if err != nil || !more {
			return start, err
		}
		key, err := s.key()
		if err != nil {
			return start, err
		}
		value, err := s.value(maxJSONDepth - 1)
		if err != nil {
			return start, err
		}
		if len(o.b.fields) == maxFields {
			return start, s.fail("the object has more than %d fields", maxFields)
		}
		name := key.raw
		if key.escaped {
			name = unescape(nil, key.raw) // Not in place: the text may become the line.
		}
		o.b.fields = append(o.b.fields, jsonField{name: name, value: value})
	}
}

// take returns the first of names that the object has and that is not null, and marks
// it as used. Of equal members the last counts.
func (o *objects) take(names []string) (found *jsonField) {
	for _, name := range names {
		for i := range o.b.fields {
			if f := &o.b.fields[i]; string(f.name) == name && f.value.kind != jsonNull {
				f.used = true
				found = f
			}
		}
		if found != nil {
			return found
		}
	}
	return nil
}

// text is a value as a string: a string's value, the JSON text of anything else. It is a
// view of the body or of the arena.
func (o *objects) text(v *jsonValue) string {
	switch {
	case v.kind == jsonString && !v.escaped:
		return view(v.raw)
	case v.kind == jsonString:
		start := len(o.arena)
		o.arena = unescape(o.arena, v.raw)
		return view(o.arena[start:])
	case v.kind == jsonObject || v.kind == jsonArray:
		start := len(o.arena)
		o.arena = compact(o.arena, v.raw)
		return view(o.arena[start:])
	}
	return view(v.raw)
}

// add adds the entry of the object in b.fields, whose text is raw. element is its number
// in an array, or 0.
func (o *objects) add(raw []byte, number, element int) error {
	o.arena = o.arena[:0]
	b := o.b
	stream, err := o.stream()
	if err != nil {
		var bad *labelError
		if !errors.As(err, &bad) {
			return err
		}
		b.refuse(number, element, bad.kind, bad.text)
		return nil
	}
	ts := b.now
	if f := o.take(o.times); f != nil {
		text := o.text(&f.value)
		var ok bool
		if ts, ok = entryTime(text); !ok {
			return b.addRefused(raw, stream, number, element, reasonTime,
				fmt.Sprintf("the field %s is %s: a time is RFC 3339 or unix seconds, ms, µs or ns, in the years 1678 to 2261", quote(string(f.name)), quote(text)))
		}
	}
	message := o.take(o.messages)
	if message == nil {
		return b.add(ts, raw, stream, 0, number, element)
	}
	line := message.value.raw
	if message.value.kind == jsonString {
		line = message.value.bytes()
	}
	metadata, bad, err := o.metadata()
	if err != nil {
		return err
	}
	if bad != "" {
		return b.addRefused(line, stream, number, element, reasonMetadata, bad+" (with _msg= the whole object is the line)")
	}
	return b.add(ts, line, stream, metadata, number, element)
}

// stream returns the stream of the object in b.fields.
func (o *objects) stream() (uint32, error) {
	b := o.b
	if len(o.labels) == 0 {
		return o.noLabels()
	}
	o.set = append(o.set[:0], o.base...)
	for i := range o.labels {
		if f := o.take(o.labels[i : i+1]); f != nil {
			o.set = append(o.set, segment.Label{Name: o.labelNames[i], Value: o.text(&f.value)})
		}
	}
	if len(o.set) == len(o.base) {
		return o.noLabels()
	}
	set := segment.NewLabels(o.set) // A field goes before a parameter of the same name.
	if len(set) == 0 {
		return o.noLabels()
	}
	s, scratch, err := b.streams.set(b.tenant, set, b.scratch)
	b.scratch = scratch
	if err != nil {
		return 0, err
	}
	return o.index(s)
}

// noLabels is the stream of an object without label fields.
func (o *objects) noLabels() (uint32, error) {
	if o.hasBase {
		return o.baseStream, nil
	}
	set := o.base
	if len(set) == 0 {
		set = o.fallback
	}
	s, scratch, err := o.b.streams.set(o.b.tenant, set, o.b.scratch)
	o.b.scratch = scratch
	if err != nil {
		return 0, err
	}
	o.baseStream, err = o.index(s)
	o.hasBase = err == nil
	return o.baseStream, err
}

func (o *objects) index(s *segment.Stream) (uint32, error) {
	if _, known := o.b.known[s.ID]; !known && len(o.b.batch.Streams) >= o.b.limits.MaxStreams {
		return 0, &labelError{reasonStreams, fmt.Sprintf("the request has more than %d streams", o.b.limits.MaxStreams)}
	}
	return o.b.stream(s)
}

// metadata makes structured metadata of the fields that are not used otherwise, or says
// why that cannot be.
func (o *objects) metadata() (index uint32, bad string, err error) {
	b := o.b
	b.pairs = b.pairs[:0]
	for i := range b.fields {
		f := &b.fields[i]
		if f.used || f.value.kind == jsonNull {
			continue
		}
		b.pairs = append(b.pairs, segment.Label{Name: view(f.name), Value: o.text(&f.value)})
	}
	if len(b.pairs) == 0 {
		return 0, "", nil
	}
	if bad := b.checkMetadata(); bad != "" {
		return 0, bad, nil
	}
	index, err = b.meta()
	return index, "", err
}

// splitFields reads a comma-separated list of field names.
func splitFields(list string) []string {
	var names []string
	for name := range strings.SplitSeq(list, ",") {
		if name = strings.TrimSpace(name); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
