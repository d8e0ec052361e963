package http

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth is how deep objects and arrays may be nested.
const maxJSONDepth = 100

// A jsonError says what is wrong with a JSON text, and where.
type jsonError struct {
	offset int
	text   string
}

func (e *jsonError) Error() string { return fmt.Sprintf("%s at byte %d", e.text, e.offset+1) }

// A jsonKind is the type of a JSON value.
type jsonKind byte

// The kinds, named by the byte that a value of the kind begins with.
const (
	jsonString jsonKind = '"'
	jsonObject jsonKind = '{'
	jsonArray  jsonKind = '['
	jsonNumber jsonKind = '0'
	jsonTrue   jsonKind = 't'
	jsonFalse  jsonKind = 'f'
	jsonNull   jsonKind = 'n'
)

// name is the kind for error messages.
func (k jsonKind) name() string {
	switch k {
	case jsonString:
		return "a string"
	case jsonObject:
		return "an object"
	case jsonArray:
		return "an array"
	case jsonNumber:
		return "a number"
	case jsonNull:
		return "null"
	}
	return "a boolean"
}

// A jsonValue is a valid JSON value as it stands in the text.
type jsonValue struct {
	kind jsonKind
	// raw is the text; of a string, what is between the quotes.
	raw []byte
	// escaped: the string has escapes, and its value is unescape(raw).
	escaped bool
}

// A jsonScanner reads JSON (RFC 8259) from a text in one pass, without copying it. It
// is stricter than it need be nowhere and laxer in one point: bytes that are not valid
// UTF-8 are let through inside strings, so that no line is refused or changed for them.
type jsonScanner struct {
	text []byte
	pos  int
}

func (s *jsonScanner) fail(format string, args ...any) error {
	return &jsonError{s.pos, fmt.Sprintf(format, args...)}
}

// space skips white space.
func (s *jsonScanner) space() {
	for s.pos < len(s.text) {
		switch s.text[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the next byte, or 0 at the end.
func (s *jsonScanner) peek() byte {
	s.space()
	if s.pos == len(s.text) {
		return 0
	}
	return s.text[s.pos]
}

// expect skips white space and one byte, which must be c.
func (s *jsonScanner) expect(c byte, where string) error {
	if got := s.peek(); got != c || s.pos == len(s.text) {
		return s.unexpected(fmt.Sprintf("%q %s", c, where))
	}
	s.pos++
	return nil
}

// unexpected is the error for something else than what was expected.
func (s *jsonScanner) unexpected(want string) error {
	if s.pos == len(s.text) {
		return s.fail("the JSON ends where %s is expected", want)
	}
	return s.fail("%q where %s is expected", s.text[s.pos], want)
}

// more is called in an object or array before each member. It skips the comma and
// reports whether there is a member; if not, it has skipped the closing byte.
func (s *jsonScanner) more(first bool, closing byte) (bool, error) {
	c := s.peek()
	if s.pos < len(s.text) && c == closing {
		s.pos++
		return false, nil
	}
	if first {
		return true, nil
	}
	if err := s.expect(',', "or "+string(closing)); err != nil {
		return false, err
	}
	if s.peek() == closing {
		return false, s.unexpected("a value after the comma")
	}
	return true, nil
}

// key reads a member's name and the colon.
func (s *jsonScanner) key() (jsonValue, error) {
	if s.peek() != '"' {
		return jsonValue{}, s.unexpected("a name in double quotes")
	}
	key, err := s.str()
	if err != nil {
		return key, err
	}
	return key, s.expect(':', "after a name")
}

// value reads any value, at most depth levels deep.
func (s *jsonScanner) value(depth int) (jsonValue, error) {
	c := s.peek()
	start := s.pos
	if s.pos == len(s.text) {
		return jsonValue{}, s.unexpected("a value")
	}
	v := jsonValue{kind: jsonKind(c)}
	var err error
	switch {
	case c == '"':
		return s.str()
	case c == '{' || c == '[':
		err = s.skipNested(c, depth)
	case c == '-' || c >= '0' && c <= '9':
		v.kind = jsonNumber
		err = s.skipNumber()
	case c == 't':
		err = s.skipWord("true")
	case c == 'f':
		err = s.skipWord("false")
	case c == 'n':
		err = s.skipWord("null")
	default:
		err = s.unexpected("a value")
	}
	v.raw = s.text[start:s.pos]
	return v, err
}

func (s *jsonScanner) skipWord(word string) error {
	if len(s.text)-s.pos < len(word) || string(s.text[s.pos:s.pos+len(word)]) != word {
		return s.unexpected("a value")
	}
	s.pos += len(word)
	return nil
}

// skipNested reads an object or array.
func (s *jsonScanner) skipNested(open byte, depth int) error {
	if depth <= 0 {
		return s.fail("JSON nested deeper than %d levels", maxJSONDepth)
	}
	closing := open + 2 // {} and [] are two apart in ASCII.
	s.pos++
	for first := true; ; first = false {
		more, err := s.more(first, closing)
		if err != nil || !more {
			return err
		}
		if open == '{' {
			if _, err := s.key(); err != nil {
				return err
			}
		}
		if _, err := s.value(depth - 1); err != nil {
			return err
		}
	}
}

// skipNumber reads a number: -? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?
func (s *jsonScanner) skipNumber() error {
	if s.text[s.pos] == '-' {
		s.pos++
	}
	zero := s.pos < len(s.text) && s.text[s.pos] == '0'
	if n := s.skipDigits(); n == 0 || zero && n > 1 {
		return s.fail("malformed number")
	}
	if s.pos < len(s.text) && s.text[s.pos] == '.' {
		s.pos++
		if s.skipDigits() == 0 {
			return s.fail("malformed number")
		}
	}
	if s.pos < len(s.text) && s.text[s.pos]|0x20 == 'e' {
		s.pos++
		if s.pos < len(s.text) && (s.text[s.pos] == '+' || s.text[s.pos] == '-') {
			s.pos++
		}
		if s.skipDigits() == 0 {
			return s.fail("malformed number")
		}
	}
	return nil
}

func (s *jsonScanner) skipDigits() (n int) {
	for s.pos < len(s.text) && s.text[s.pos] >= '0' && s.text[s.pos] <= '9' {
		s.pos++
		n++
	}
	return n
}

// str reads a string, whose quote is next.
func (s *jsonScanner) str() (jsonValue, error) {
	s.pos++
	start := s.pos
	v := jsonValue{kind: jsonString}
	for s.pos < len(s.text) {
		switch c := s.text[s.pos]; {
		case c == '"':
			v.raw = s.text[start:s.pos]
			s.pos++
			return v, nil
		case c == '\\':
			v.escaped = true
			if err := s.skipEscape(); err != nil {
				return v, err
			}
		case c < ' ':
			return v, s.fail("the control character %q must be escaped in a string", c)
		default:
			s.pos++
		}
	}
	return v, s.fail("the JSON ends within a string")
}

func (s *jsonScanner) skipEscape() error {
	if s.pos+1 >= len(s.text) {
		return s.fail("the JSON ends within a string")
	}
	switch s.text[s.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
		if _, ok := hex4(s.text[s.pos+2:]); ok {
			s.pos += 6
			return nil
		}
	}
	return s.fail("malformed escape in a string")
}

// hex4 reads the four hexadecimal digits of an escape.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// bytes returns the value of a string. If it has escapes they are replaced in place:
// the text changes, so that nobody may read it again.
func (v *jsonValue) bytes() []byte {
	if v.escaped {
		v.raw = unescape(v.raw[:0], v.raw)
		v.escaped = false
	}
	return v.raw
}

// unescape appends the value of a string's raw text to dst. The value is never longer
// than the text, and is written behind where it is read: dst may be the text's beginning.
// A surrogate without its other half becomes U+FFFD.
func unescape(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c != '\\' {
			dst = append(dst, c)
			i++
			continue
		}
		c = raw[i+1]
		i += 2
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, _ := hex4(raw[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(-1)
				if i+1 < len(raw) && raw[i] == '\\' && raw[i+1] == 'u' {
					low, _ = hex4(raw[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// compact appends valid JSON to dst without the white space between its tokens.
func compact(dst, raw []byte) []byte {
	inside := false
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		switch {
		case inside && c == '\\':
			dst = append(dst, c)
			i++
			c = raw[i]
		case c == '"':
			inside = !inside
		case !inside && (c == ' ' || c == '\t' || c == '\n' || c == '\r'):
			continue
		}
		dst = append(dst, c)
	}
	return dst
}
