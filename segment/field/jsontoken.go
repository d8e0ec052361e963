package field

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// str reads a string and returns what stands between its quotes.
func (s *jsonScanner) str() (raw string, escaped bool, err error) {
	start := s.i + 1
	for i := start; ; {
		if i = plain(s.b, i); i == len(s.b) {
			return "", false, ErrSyntax
		}
		switch s.b[i] {
		case '"':
			s.i = i + 1
			return s.text[start:i], escaped, nil
		case '\\':
			n := escapeLength(s.b[i:])
			if n == 0 {
				return "", false, ErrSyntax
			}
			escaped = true
			i += n
		default: // a control character
			return "", false, ErrSyntax
		}
	}
}

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// plain returns the position, from i on, of the first quote, backslash or control
// character, or the length of b. It looks at eight bytes at a time.
func plain(b []byte, i int) int {
	for ; i+8 <= len(b); i += 8 {
		w := binary.LittleEndian.Uint64(b[i:])
		quote, slash := w^(ones*'"'), w^(ones*'\\')
		// The lowest bit is exact; above it, borrows may set others.
		m := ((quote-ones)&^quote | (slash-ones)&^slash | (w-ones*' ')&^w) & highs
		if m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
	}
	for ; i < len(b); i++ {
		if c := b[i]; c == '"' || c == '\\' || c < ' ' {
			break
		}
	}
	return i
}

// escapeLength returns how long the escape is that b begins with, 0 if it is none.
func escapeLength(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b[2:]); ok {
			return 6
		}
	}
	return 0
}

// hex4 reads four hexadecimal digits.
func hex4[T string | []byte](b T) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for i := range 4 {
		c := b[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// appendUnescaped appends the value of a string's contents, whose escapes are right.
func appendUnescaped(dst []byte, raw string) []byte {
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
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, _ := hex4(raw[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				low := rune(utf8.RuneError)
				if i+6 <= len(raw) && raw[i] == '\\' && raw[i+1] == 'u' {
					low, _ = hex4(raw[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
					i += 6
				}
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// scalar reads a string, number, true, false or null. value is the contents of a string,
// which may be escaped, and "" of null.
func (s *jsonScanner) scalar() (value string, escaped bool, err error) {
	switch c := s.b[s.i]; {
	case c == '"':
		return s.str()
	case c == '-' || classes[c] == classDigit:
		n := numberLength(s.b[s.i:])
		if n == 0 {
			return "", false, ErrSyntax
		}
		s.i += n
		return s.text[s.i-n : s.i], false, nil
	}
	for _, word := range [...]string{"true", "false", "null"} {
		if rest := s.text[s.i:]; len(rest) >= len(word) && rest[:len(word)] == word {
			s.i += len(word)
			if word == "null" {
				word = ""
			}
			return word, false, nil
		}
	}
	return "", false, ErrSyntax
}

// numberLength returns how long the JSON number is that b begins with, 0 if there is none.
func numberLength(b []byte) int {
	digits := func(i int) int {
		for i < len(b) && classes[b[i]] == classDigit {
			i++
		}
		return i
	}
	i := 0
	if b[0] == '-' {
		i++
	}
	switch end := digits(i); {
	case end == i:
		return 0
	case b[i] == '0':
		i++ // what follows a leading zero is no part of the number
	default:
		i = end
	}
	if i < len(b) && b[i] == '.' {
		end := digits(i + 1)
		if end == i+1 {
			return 0
		}
		i = end
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		end := digits(i)
		if end == i {
			return 0
		}
		i = end
	}
	return i
}

// skip reads any value.
func (s *jsonScanner) skip() error {
	switch s.b[s.i] {
	case '{':
		empty, err := s.enter('}')
		for more := !empty; err == nil && more; {
			if _, _, err = s.key(); err == nil {
				if err = s.skip(); err == nil {
					more, err = s.next('}')
				}
			}
		}
		return err
	case '[':
		empty, err := s.enter(']')
		for more := !empty; err == nil && more; {
			if s.i == len(s.b) {
				return ErrSyntax
			}
			if err = s.skip(); err == nil {
				more, err = s.next(']')
			}
		}
		return err
	}
	_, _, err := s.scalar()
	return err
}
