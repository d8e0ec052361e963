package field

import "fmt"

// Logfmt reads all, or the wanted, pairs of a logfmt line. It is immutable.
type Logfmt struct {
	strict, keepEmpty bool
	wanted            *nameSet
	// With expressions: labels[i] is what the key called names[i] is returned as.
	names, labels []string
}

// NewLogfmt returns a parser for the fields that are called one of names; nil: for all.
// strict ends a scan at the first faulty pair with ErrPair. keepEmpty makes a key without
// a value a field with the value "".
func NewLogfmt(names []string, strict, keepEmpty bool) *Logfmt {
	return &Logfmt{strict: strict, keepEmpty: keepEmpty, wanted: newNameSet(names)}
}

// NewLogfmtKeys returns a parser for the keys of at most MaxExpressions expressions. A
// line's key is the one that is asked for if both become the same name. A key without a
// value is a field with the value "".
func NewLogfmtKeys(expressions []Expression, strict bool) (*Logfmt, error) {
	if len(expressions) > MaxExpressions {
		return nil, fmt.Errorf("%d logfmt expressions: at most %d are allowed", len(expressions), MaxExpressions)
	}
	l := &Logfmt{strict: strict, keepEmpty: true, names: []string{}}
	for _, e := range expressions {
		name := Name(e.Path)
		if name == "" {
			return nil, fmt.Errorf("the logfmt expression %q is no key", e.Path)
		}
		l.names, l.labels = append(l.names, name), append(l.labels, e.Label)
	}
	return l, nil
}

// Scan adds the fields of a line to f. It returns no error unless the parser is strict.
func (l *Logfmt) Scan(line []byte, f *Fields) error {
	s := logfmtScanner{b: line, text: text(line), f: f}
	for {
		for s.i < len(line) && classes[line[s.i]] == classSpace {
			s.i++
		}
		if s.i == len(line) {
			return nil
		}
		if key, value, escaped, ok := s.pair(); ok {
			l.add(f, key, value, escaped)
		} else if l.strict {
			return ErrPair
		}
	}
}

// add adds a pair, if it is wanted.
func (l *Logfmt) add(f *Fields, key, value string, escaped bool) {
	if value == "" && !l.keepEmpty || len(key) > MaxName {
		return
	}
	from := len(f.buffer)
	name := key
	if !clean(key) {
		f.buffer = appendName(f.buffer, key, false)
		if name = f.own(from); len(name) > MaxName {
			f.buffer = f.buffer[:from]
			return
		}
	}
	unescape := func() {
		if escaped {
			from := len(f.buffer)
			f.buffer = appendUnescaped(f.buffer, value)
			value, escaped = f.own(from), false
		}
	}
	if l.names != nil {
		for i, n := range l.names {
			if n == name {
				unescape()
				f.List = append(f.List, Field{l.labels[i], value})
			}
		}
		return
	}
	if l.wanted != nil {
		own, ok := l.wanted.find(name)
		f.buffer = f.buffer[:from]
		if !ok {
			return
		}
		name = own
	}
	unescape()
	f.List = append(f.List, Field{name, value})
}

// A logfmtScanner reads one line.
type logfmtScanner struct {
	b    []byte
	text string // the same
	i    int
	f    *Fields
}

// pair reads what begins at i, up to the next white space that is not quoted. ok is false
// if it is no pair.
func (s *logfmtScanner) pair() (key, value string, escaped, ok bool) {
	start := s.i
	for s.i < len(s.b) {
		c := s.b[s.i]
		if classes[c] == classSpace || c == '=' || c == '"' {
			break
		}
		s.i++
	}
	key = s.text[start:s.i]
	if s.i == len(s.b) || classes[s.b[s.i]] == classSpace {
		return key, "", false, true
	}
	if s.b[s.i] == '"' || key == "" {
		s.toSpace()
		return "", "", false, false
	}
	s.i++
	if s.i < len(s.b) && s.b[s.i] == '"' {
		value, escaped, ok = s.quoted()
		return key, value, escaped, ok
	}
	start, ok = s.i, true
	for s.i < len(s.b) && classes[s.b[s.i]] != classSpace {
		if c := s.b[s.i]; c == '=' || c == '"' {
			ok = false
		}
		s.i++
	}
	return key, s.text[start:s.i], false, ok
}

// toSpace goes on to the next white space.
func (s *logfmtScanner) toSpace() {
	for s.i < len(s.b) && classes[s.b[s.i]] != classSpace {
		s.i++
	}
}

// quoted reads a value in quotes. One that is not closed takes all of the line, so that
// what was meant as text does not become pairs.
func (s *logfmtScanner) quoted() (value string, escaped, ok bool) {
	start := s.i + 1
	ok = true
	for s.i = start; s.i < len(s.b) && s.b[s.i] != '"'; {
		if s.b[s.i] != '\\' {
			s.i++
			continue
		}
		escaped = true
		if n := escapeLength(s.b[s.i:]); n > 0 {
			s.i += n
		} else {
			ok = false
			s.i = min(s.i+2, len(s.b))
		}
	}
	if s.i == len(s.b) {
		return "", false, false
	}
	value = s.text[start:s.i]
	s.i++
	if s.i < len(s.b) && classes[s.b[s.i]] != classSpace {
		ok = false
		s.toSpace()
	}
	return value, escaped, ok
}
