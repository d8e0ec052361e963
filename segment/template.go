package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// A Template is the shape that lines have in common: literals, and slots between them.
type Template struct {
	kind     templateKind
	key      []byte   // canonical form
	literals [][]byte // one more than slots; parts of key
	kinds    []slotKind
}

// slots returns how many values a line of the template has.
func (t *Template) slots() int { return len(t.literals) - 1 }

// parseTemplate decodes a canonical form.
func parseTemplate(key []byte) (*Template, error) {
	if len(key) < 2 || len(key) > maxTemplateKey || templateKind(key[0]) > templateLogfmt {
		return nil, corrupt("template", "%d bytes", len(key))
	}
	t := &Template{kind: templateKind(key[0]), key: key}
	r := reader{b: key[1:]}
	for len(r.b) > 0 && r.err == nil && len(t.kinds) <= maxSlots {
		t.literals = append(t.literals, r.bytes(uint64(len(r.b))))
		if len(r.b) > 0 {
			t.kinds = append(t.kinds, slotKind(r.uvarint(uint64(slotKinds-1))))
			if len(r.b) == 0 && r.err == nil {
				r.err = errShort // the literal behind the last slot is missing
			}
		}
	}
	if r.err != nil || len(t.kinds) > maxSlots {
		return nil, corrupt("template", "%d literals: %v", len(t.literals), r.fault())
	}
	return t, nil
}

// text is the template for people, with ◊ for slots.
func (t *Template) text() string { return string(bytes.Join(t.literals, []byte("◊"))) }

// A templateTable numbers the templates of a segment in the order of their first use.
type templateTable struct {
	templates []*Template
	ids       map[string]uint32
	bytes     int
	folds     foldTable
}

// find returns the number of a template.
func (t *templateTable) find(key []byte) (uint32, bool) {
	id, ok := t.ids[string(key)]
	return id, ok
}

// add numbers a new template, if the table has room.
func (t *templateTable) add(key []byte) (uint32, bool) {
	if len(t.templates) >= maxTemplates || t.bytes+len(key) > maxTemplateBytes {
		return 0, false
	}
	own := bytes.Clone(key)
	template, err := parseTemplate(own)
	if err != nil {
		return 0, false
	}
	if t.ids == nil {
		t.ids = map[string]uint32{}
	}
	id := uint32(len(t.templates))
	t.ids[string(own)] = id
	t.templates = append(t.templates, template)
	t.bytes += len(own)
	return id, true
}

// takes reports whether the templates are new, each, and the table has room for them.
func (t *templateTable) takes(templates []*Template) bool {
	size := t.bytes
	seen := map[string]bool{}
	for _, n := range templates {
		if _, known := t.find(n.key); known || seen[string(n.key)] {
			return false
		}
		seen[string(n.key)] = true
		size += len(n.key)
	}
	return len(t.templates)+len(templates) <= maxTemplates && size <= maxTemplateBytes
}

func appendTemplates(dst []byte, templates []*Template) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(templates)))
	for _, t := range templates {
		dst = binary.AppendUvarint(dst, uint64(len(t.key)))
		dst = append(dst, t.key...)
	}
	return dst
}

func parseTemplates(r *reader) ([]*Template, error) {
	n := r.uvarint(min(maxTemplates, uint64(len(r.b))))
	templates := make([]*Template, 0, n)
	left := uint64(maxTemplateBytes)
	for range n {
		key := r.bytes(min(maxTemplateKey, left))
		left -= uint64(len(key))
		if r.err != nil {
			return nil, fmt.Errorf("templates: %w", r.err)
		}
		t, err := parseTemplate(key)
		if err != nil {
			return nil, err
		}
		templates = append(templates, t)
	}
	return templates, nil
}
