package segment

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// DefaultTenant is the tenant of a request that names none.
const DefaultTenant = "default"

// A Label is one name/value pair of a stream or of an entry's structured metadata.
type Label struct {
	Name, Value string
}

// Labels is a set of labels, sorted bytewise by name, each name once.
type Labels []Label

// NewLabels sorts pairs by name. Of several pairs with one name the last wins.
// Pairs with an empty value are dropped: to LogQL an absent label is an empty one.
func NewLabels(pairs []Label) Labels {
	slices.SortStableFunc(pairs, func(a, b Label) int { return strings.Compare(a.Name, b.Name) })
	out := pairs[:0]
	for i, p := range pairs {
		if i+1 < len(pairs) && pairs[i+1].Name == p.Name || p.Value == "" {
			continue
		}
		out = append(out, p)
	}
	return Labels(out)
}

// LabelsFromMap is NewLabels of a map.
func LabelsFromMap(m map[string]string) Labels {
	pairs := make([]Label, 0, len(m))
	for name, value := range m {
		pairs = append(pairs, Label{name, value})
	}
	return NewLabels(pairs)
}

// Get returns the value of the label called name, or "" if the set has none.
func (l Labels) Get(name string) string {
	i := sort.Search(len(l), func(i int) bool { return l[i].Name >= name })
	if i < len(l) && l[i].Name == name {
		return l[i].Value
	}
	return ""
}

// Map returns the set as a new map.
func (l Labels) Map() map[string]string {
	m := make(map[string]string, len(l))
	for _, p := range l {
		m[p.Name] = p.Value
	}
	return m
}

// String writes the set as a LogQL selector: {app="web", host="a"}.
func (l Labels) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, p := range l {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(p.Name)
		b.WriteByte('=')
		b.WriteString(strconv.Quote(p.Value))
	}
	b.WriteByte('}')
	return b.String()
}

// Equal reports whether both sets hold the same pairs.
func (l Labels) Equal(other Labels) bool { return slices.Equal(l, other) }

// AppendKey appends the canonical form of the set to dst: each name and each value
// after its length as a uvarint. Equal sets, and only those, have equal keys.
func (l Labels) AppendKey(dst []byte) []byte {
	for _, p := range l {
		dst = binary.AppendUvarint(dst, uint64(len(p.Name)))
		dst = append(dst, p.Name...)
		dst = binary.AppendUvarint(dst, uint64(len(p.Value)))
		dst = append(dst, p.Value...)
	}
	return dst
}

// A Stream is a tenant's label set: the unit of sharding and of ordering.
// Streams are immutable and are shared by pointer.
type Stream struct {
	Tenant string
	Labels Labels
	ID     uint64 // xxhash64 of the canonical form; equal ids do not prove equal streams
}

// NewStream returns the stream of a tenant and a label set. The set must be sorted.
func NewStream(tenant string, labels Labels) *Stream {
	s := &Stream{Tenant: tenant, Labels: labels}
	s.ID = xxhash.Sum64(s.AppendKey(nil))
	return s
}

// AppendKey appends the stream's canonical form to dst: the tenant after its length
// as a uvarint, then the labels' key.
func (s *Stream) AppendKey(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(s.Tenant)))
	dst = append(dst, s.Tenant...)
	return s.Labels.AppendKey(dst)
}

// Equal reports whether both are the same tenant's same label set.
func (s *Stream) Equal(other *Stream) bool {
	return s == other || s.ID == other.ID && s.Tenant == other.Tenant && s.Labels.Equal(other.Labels)
}

// check refuses a stream that ParseStream would refuse: no reader could read a frame
// that defines it.
func (s *Stream) check() error {
	if !ValidTenant(s.Tenant) {
		return fmt.Errorf("stream of tenant %q: must be 1 to 64 of letters, digits, '_', '.' and '-'", s.Tenant)
	}
	for i := 1; i < len(s.Labels); i++ {
		if s.Labels[i-1].Name >= s.Labels[i].Name {
			return fmt.Errorf("stream %s: labels %q and %q are out of order: use NewLabels", s.Labels, s.Labels[i-1].Name, s.Labels[i].Name)
		}
	}
	return nil
}

// ParseStream decodes the canonical form of a stream, which AppendKey makes. It keeps
// nothing of key.
func ParseStream(key []byte) (*Stream, error) {
	// One string for all names and values.
	text := string(key)
	r := reader{b: key}
	s := &Stream{Tenant: r.text(text), ID: xxhash.Sum64(key)}
	rest := r
	n := 0
	for ; len(rest.b) > 0 && rest.err == nil; n++ {
		rest.bytes(uint64(len(rest.b)))
		rest.bytes(uint64(len(rest.b)))
	}
	if rest.err != nil {
		return nil, &CorruptError{What: "stream", Err: rest.err}
	}
	if n > 0 {
		s.Labels = make(Labels, n)
	}
	for i := range s.Labels {
		s.Labels[i] = Label{Name: r.text(text), Value: r.text(text)}
	}
	if err := s.check(); err != nil {
		return nil, &CorruptError{What: "stream", Err: err}
	}
	return s, nil
}

// ValidTenant reports whether name may be a tenant: 1 to 64 of letters, digits,
// '_', '.' and '-', and neither "." nor "..".
func ValidTenant(name string) bool {
	if len(name) == 0 || len(name) > 64 || name == "." || name == ".." {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return true
}

// ValidLabelName reports whether name may name a label: [a-zA-Z_][a-zA-Z0-9_]*.
func ValidLabelName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || i > 0 && c >= '0' && c <= '9') {
			return false
		}
	}
	return name != ""
}
