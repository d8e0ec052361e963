package segment

import (
	"encoding/binary"
	"fmt"
)

// metadataEncoder writes the structured metadata of rows: the lists of names that they
// use, each once, and for each row its list and its values. Frames and META chunks
// hold the same bytes; doc.go describes them. The zero value is ready.
type metadataEncoder struct {
	lists map[string]uint32 // encoded list → its number
	names []byte            // the encoded lists
	rows  []byte
	count int    // of rows
	last  Labels // a set with the list lastRef
	ref   uint32
	key   []byte // scratch
}

func (e *metadataEncoder) reset() {
	clear(e.lists)
	e.names, e.rows, e.count, e.last = e.names[:0], e.rows[:0], 0, nil
}

// add takes the next row's set. It refuses one that a reader would refuse.
func (e *metadataEncoder) add(set Labels) error {
	e.count++
	if len(set) == 0 {
		e.rows = append(e.rows, 0)
		return nil
	}
	if !sameNames(set, e.last) {
		if err := e.list(set); err != nil {
			return err
		}
	}
	e.rows = binary.AppendUvarint(e.rows, uint64(e.ref)+1)
	for _, l := range set {
		e.rows = binary.AppendUvarint(e.rows, uint64(len(l.Value)))
		e.rows = append(e.rows, l.Value...)
	}
	return nil
}

// list finds or adds the list of a set's names.
func (e *metadataEncoder) list(set Labels) error {
	e.key = binary.AppendUvarint(e.key[:0], uint64(len(set)))
	for i, l := range set {
		if i > 0 && set[i-1].Name >= l.Name {
			return fmt.Errorf("metadata names %q and %q are out of order: use NewLabels", set[i-1].Name, l.Name)
		}
		e.key = binary.AppendUvarint(e.key, uint64(len(l.Name)))
		e.key = append(e.key, l.Name...)
	}
	ref, ok := e.lists[string(e.key)]
	if !ok {
		if e.lists == nil {
			e.lists = map[string]uint32{}
		}
		ref = uint32(len(e.lists))
		e.lists[string(e.key)] = ref
		e.names = append(e.names, e.key...)
	}
	e.ref, e.last = ref, set
	return nil
}

func sameNames(a, b Labels) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name {
			return false
		}
	}
	return true
}

// append appends what was gathered; nothing if no row has metadata.
func (e *metadataEncoder) append(dst []byte) []byte {
	if len(e.lists) == 0 {
		return dst
	}
	dst = binary.AppendUvarint(dst, uint64(len(e.lists)))
	dst = append(dst, e.names...)
	return append(dst, e.rows...)
}

// parseMetadata decodes the metadata of a number of rows: nil if no row has any. The
// sets share memory with each other.
func parseMetadata(b []byte, rows int) ([]Labels, error) {
	if len(b) == 0 {
		return nil, nil
	}
	// One string for all values; each list of names is for one row at least.
	text := string(b)
	r := reader{b: b}
	lists := make([]Labels, r.uvarint(min(uint64(rows), uint64(len(b)))))
	for i := range lists {
		var names Labels
		for range r.uvarint(uint64(len(r.b))) {
			name := r.text(text)
			if r.err != nil {
				break
			}
			if n := len(names); n > 0 && names[n-1].Name >= name {
				return nil, fmt.Errorf("metadata names %q and %q are out of order", names[n-1].Name, name)
			}
			names = append(names, Label{Name: name})
		}
		if r.err != nil {
			return nil, fmt.Errorf("metadata names: %w", r.err)
		}
		lists[i] = names
	}
	sets := make([]Labels, rows)
	var slab Labels
	for i := range sets {
		ref := r.uvarint(uint64(len(lists)))
		if r.err != nil {
			break
		}
		if ref == 0 {
			continue
		}
		names := lists[ref-1]
		if len(slab) < len(names) {
			slab = make(Labels, max(len(names), min(256, len(names)*(rows-i))))
		}
		set := slab[:len(names):len(names)]
		slab = slab[len(names):]
		copy(set, names)
		for k := range set {
			set[k].Value = r.text(text)
		}
		sets[i] = set
	}
	if err := r.done(); err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return sets, nil
}
