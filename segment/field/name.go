package field

import "unicode/utf8"

// Classes of bytes.
const (
	classLetter = 1 << iota // a letter or _
	classDigit
	classSpace // separates logfmt pairs
)

var classes = func() (t [256]uint8) {
	for c := range t {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_':
			t[c] = classLetter
		case c >= '0' && c <= '9':
			t[c] = classDigit
		case c <= ' ':
			t[c] = classSpace
		}
	}
	return t
}()

// clean reports whether a key is a name as it is.
func clean(key string) bool {
	if key == "" || classes[key[0]] != classLetter {
		return false
	}
	for i := range len(key) {
		if classes[key[i]]&(classLetter|classDigit) == 0 {
			return false
		}
	}
	return true
}

// appendName appends the name that a key has, or, if rest is set, what it adds to one.
func appendName(dst []byte, key string, rest bool) []byte {
	if !rest && key != "" && classes[key[0]] == classDigit {
		dst = append(dst, '_')
	}
	for i := 0; i < len(key); {
		c := key[i]
		if classes[c]&(classLetter|classDigit) != 0 {
			dst = append(dst, c)
			i++
			continue
		}
		dst = append(dst, '_')
		if c < utf8.RuneSelf {
			i++
			continue
		}
		_, size := utf8.DecodeRuneInString(key[i:])
		i += size
	}
	return dst
}

// Name returns the label name that a key of JSON or logfmt becomes, "" if it becomes none.
func Name(key string) string {
	if len(key) > MaxName {
		return ""
	}
	if clean(key) {
		return key
	}
	return string(appendName(nil, key, false))
}
