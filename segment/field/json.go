package field

// JSON reads all, or the wanted, scalars of a JSON object. It is immutable.
type JSON struct {
	wanted *nameSet
}

// NewJSON returns a parser for the fields that are called one of names; nil: for all.
func NewJSON(names []string) *JSON { return &JSON{newNameSet(names)} }

// Scan adds the fields of a line to f.
func (j *JSON) Scan(line []byte, f *Fields) error {
	s := jsonScanner{b: line, text: text(line), f: f, wanted: j.wanted}
	return s.document(s.fieldsOfObject)
}

// A jsonScanner reads one line. Its methods leave i behind what they read, or return an
// error.
type jsonScanner struct {
	b      []byte
	text   string // the same
	i      int
	depth  int
	f      *Fields
	wanted *nameSet
	count  int // scalars in objects so far

	paths []path // of the expressions, if there are some
	done  uint64 // the expressions that have their value
}

// document reads white space, an object and white space.
func (s *jsonScanner) document(object func() error) error {
	s.space()
	if s.i == len(s.b) || s.b[s.i] != '{' {
		return ErrNotObject
	}
	if err := object(); err != nil {
		return err
	}
	if s.space(); s.i != len(s.b) {
		return ErrTrailing
	}
	return nil
}

func (s *jsonScanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// enter goes over the bracket that opens an object or array. empty: it closes at once.
func (s *jsonScanner) enter(end byte) (empty bool, err error) {
	if s.depth++; s.depth > MaxDepth {
		return false, ErrDepth
	}
	s.i++
	s.space()
	if s.i < len(s.b) && s.b[s.i] == end {
		s.i++
		s.depth--
		return true, nil
	}
	return false, nil
}

// next goes over the comma behind a member or element, or the bracket that closes.
func (s *jsonScanner) next(end byte) (more bool, err error) {
	s.space()
	if s.i == len(s.b) {
		return false, ErrSyntax
	}
	switch s.b[s.i] {
	case ',':
		s.i++
		s.space()
		return true, nil
	case end:
		s.i++
		s.depth--
		return false, nil
	}
	return false, ErrSyntax
}

// key reads the key of a member and the colon.
func (s *jsonScanner) key() (raw string, escaped bool, err error) {
	if s.i == len(s.b) || s.b[s.i] != '"' {
		return "", false, ErrSyntax
	}
	if raw, escaped, err = s.str(); err != nil {
		return "", false, err
	}
	s.space()
	if s.i == len(s.b) || s.b[s.i] != ':' {
		return "", false, ErrSyntax
	}
	s.i++
	s.space()
	if s.i == len(s.b) {
		return "", false, ErrSyntax
	}
	return raw, escaped, nil
}

// fieldsOfObject reads an object and adds its scalars.
func (s *jsonScanner) fieldsOfObject() error {
	empty, err := s.enter('}')
	for more := !empty; err == nil && more; {
		var key string
		var escaped bool
		if key, escaped, err = s.key(); err != nil {
			return err
		}
		if err = s.member(key, escaped); err == nil {
			more, err = s.next('}')
		}
	}
	return err
}

// member reads the value of a member.
func (s *jsonScanner) member(key string, escaped bool) error {
	switch s.b[s.i] {
	case '[':
		return s.skip()
	case '{':
		prefix := len(s.f.prefix)
		if !s.push(key, escaped) {
			return s.countObject()
		}
		err := s.fieldsOfObject()
		s.f.prefix = s.f.prefix[:prefix]
		return err
	}
	if s.count++; s.count > MaxFields {
		return ErrFields
	}
	value, escapedValue, err := s.scalar()
	if err != nil || value == "" {
		return err
	}
	from := len(s.f.buffer)
	name := s.name(key, escaped)
	if s.wanted != nil {
		own, ok := s.wanted.find(name)
		s.f.buffer = s.f.buffer[:from]
		if !ok {
			return nil
		}
		name = own
	}
	if name == "" {
		return nil
	}
	if escapedValue {
		value = s.unescaped(value)
	}
	s.f.List = append(s.f.List, Field{name, value})
	return nil
}

// countObject reads an object none of whose scalars is wanted.
func (s *jsonScanner) countObject() error {
	empty, err := s.enter('}')
	for more := !empty; err == nil && more; {
		if _, _, err = s.key(); err != nil {
			return err
		}
		switch s.b[s.i] {
		case '{':
			err = s.countObject()
		case '[':
			err = s.skip()
		default:
			if s.count++; s.count > MaxFields {
				return ErrFields
			}
			_, _, err = s.scalar()
		}
		if err == nil {
			more, err = s.next('}')
		}
	}
	return err
}

// name returns the name of the member of the current object, "" if it has none.
func (s *jsonScanner) name(key string, escaped bool) string {
	rest := len(s.f.prefix) > 0
	if !rest && !escaped && len(key) <= MaxName && clean(key) {
		return key
	}
	from := len(s.f.buffer)
	if escaped {
		s.f.buffer = appendUnescaped(s.f.buffer, key)
		key = s.f.own(from)
	}
	if len(s.f.prefix)+len(key) > MaxName || key == "" && !rest {
		return ""
	}
	from = len(s.f.buffer)
	if rest {
		s.f.buffer = append(append(s.f.buffer, s.f.prefix...), '_')
	}
	s.f.buffer = appendName(s.f.buffer, key, rest)
	if len(s.f.buffer)-from > MaxName {
		return ""
	}
	return s.f.own(from)
}

// push adds the key of a nested object to the prefix. It returns false if no name that is
// wanted can begin so.
func (s *jsonScanner) push(key string, escaped bool) bool {
	from := len(s.f.buffer)
	name := s.name(key, escaped)
	ok := name != "" && (s.wanted == nil || s.wanted.below(name))
	if ok {
		s.f.prefix = append(s.f.prefix[:0], name...)
	}
	s.f.buffer = s.f.buffer[:from]
	return ok
}

// unescaped returns the value of a string's contents.
func (s *jsonScanner) unescaped(raw string) string {
	from := len(s.f.buffer)
	s.f.buffer = appendUnescaped(s.f.buffer, raw)
	return s.f.own(from)
}
