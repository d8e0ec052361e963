package field

import (
	"errors"
	"unsafe"
)

// Limits of what a line may hold.
const (
	MaxDepth  = 128  // levels of JSON objects and arrays in one another
	MaxFields = 4096 // scalars in a JSON object that is read without expressions
	MaxName   = 512  // bytes of a field's name
	// MaxExpressions is how many expressions a parser may have.
	MaxExpressions = 64
)

// What may be wrong with a line.
var (
	ErrNotObject = errors.New("the line is no JSON object")
	ErrSyntax    = errors.New("the JSON object has a syntax error or ends too early")
	ErrTrailing  = errors.New("something stands after the JSON object")
	ErrDepth     = errors.New("the JSON object nests more than 128 levels deep")
	ErrFields    = errors.New("the JSON object has more than 4,096 fields")
	ErrPair      = errors.New("the line has a faulty logfmt pair")
)

// A Field is a name and a value. Both share the memory of the line or of the Fields that
// they stand in: clone what must live longer.
type Field struct {
	Name, Value string
}

// Fields are what the scans of a line found, in the line's order; of several with one name
// the first counts. The zero value is ready for use, by one goroutine.
type Fields struct {
	List []Field

	buffer []byte // names and values that do not stand in the line as they are
	prefix []byte // of the names in the JSON object that is being read
}

// Reset forgets the fields, whose memory will be used again.
func (f *Fields) Reset() {
	f.List, f.buffer, f.prefix = f.List[:0], f.buffer[:0], f.prefix[:0]
}

// Get returns the value of the first field with the name.
func (f *Fields) Get(name string) (value string, ok bool) {
	for i := range f.List {
		if f.List[i].Name == name {
			return f.List[i].Value, true
		}
	}
	return "", false
}

// own returns what was appended to the buffer from a position on.
func (f *Fields) own(from int) string { return text(f.buffer[from:len(f.buffer):len(f.buffer)]) }

// text returns b as a string that shares its memory.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// An Expression asks for one value of a line, and names it.
type Expression struct {
	Label string // what the field is called
	Path  string // of JSON: a.b[0]["c d"]; of logfmt: the key
}

// A nameSet holds the names that are wanted; nil holds all.
type nameSet struct {
	names []string
}

func newNameSet(names []string) *nameSet {
	if names == nil {
		return nil
	}
	return &nameSet{names}
}

// find returns the set's own copy of a name.
func (s *nameSet) find(name string) (own string, ok bool) {
	for _, n := range s.names {
		if n == name {
			return n, true
		}
	}
	return "", false
}

// below reports whether a name in the set begins with the prefix and _.
func (s *nameSet) below(prefix string) bool {
	for _, n := range s.names {
		if len(n) > len(prefix) && n[len(prefix)] == '_' && n[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}
