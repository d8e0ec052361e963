package logql

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/logcluster/logcluster/segment/field"
)

type tokenKind uint8

const (
	tokenEnd        tokenKind = iota
	tokenInvalid              // message says why
	tokenIdentifier           // also every keyword: what it is, the parser knows by its place
	tokenNumber
	tokenDuration
	tokenBytes
	tokenString
	tokenOperator // brackets and punctuation too; text says which
)

// A token is a word of the language.
type token struct {
	kind     tokenKind
	offset   int    // of its first byte
	text     string // as it is written
	value    string // of a string, without quotes and escapes
	number   float64
	duration time.Duration
	bytes    uint64
	message  string // what is wrong with an invalid token
}

// is reports whether the token is the operator or keyword.
func (t *token) is(text string) bool {
	return t.text == text && (t.kind == tokenOperator || t.kind == tokenIdentifier)
}

// String describes the token for "expected …, found …".
func (t *token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end of the query"
	case tokenIdentifier, tokenOperator:
		if len(t.text) > 48 {
			return "`" + t.text[:45] + "...`"
		}
		return "`" + t.text + "`"
	case tokenNumber:
		return "the number " + shorten(t.text)
	case tokenDuration:
		return "the duration " + shorten(t.text)
	case tokenBytes:
		return "the size " + shorten(t.text)
	case tokenString:
		return "the string " + quote(t.value)
	default:
		return quote(t.text)
	}
}

func shorten(s string) string {
	if len(s) > 48 {
		return s[:45] + "..."
	}
	return s
}

// operators of two characters; every prefix of them is an operator too, but for = and !
// before ~.
var operators = [...]string{"|=", "|~", "|>", "!=", "!~", "!>", "=~", "==", ">=", "<="}

// A lexer cuts a text into tokens.
type lexer struct {
	text   string
	offset int
}

// next returns the next token. At the end it returns tokenEnd again and again; what it
// returns after an invalid token means nothing.
func (l *lexer) next() token {
	l.space()
	start := l.offset
	if start == len(l.text) {
		return token{kind: tokenEnd, offset: start}
	}
	c := l.text[start]
	switch {
	case letter(c):
		for l.offset < len(l.text) && (letter(l.text[l.offset]) || digit(l.text[l.offset])) {
			l.offset++
		}
		return token{kind: tokenIdentifier, offset: start, text: l.text[start:l.offset]}
	case digit(c), c == '.' && start+1 < len(l.text) && digit(l.text[start+1]):
		return l.number()
	case c == '"' || c == '`':
		value, end, message := unquote(l.text, start)
		if message != "" {
			return l.invalid(end, message)
		}
		l.offset = end
		return token{kind: tokenString, offset: start, text: l.text[start:end], value: value}
	}
	for _, o := range operators {
		if strings.HasPrefix(l.text[start:], o) {
			l.offset += 2
			return token{kind: tokenOperator, offset: start, text: o}
		}
	}
	if strings.IndexByte("{}()[],=|+-*/%^<>", c) >= 0 {
		l.offset++
		return token{kind: tokenOperator, offset: start, text: l.text[start : start+1]}
	}
	return l.invalid(start, strayCharacter(l.text[start:]))
}

// space goes over white space and comments.
func (l *lexer) space() {
	for l.offset < len(l.text) {
		switch l.text[l.offset] {
		case ' ', '\t', '\r', '\n':
			l.offset++
		case '#':
			if end := strings.IndexByte(l.text[l.offset:], '\n'); end >= 0 {
				l.offset += end
			} else {
				l.offset = len(l.text)
			}
		default:
			return
		}
	}
}

// number reads a number, a duration or, what ends with a b, a size in bytes.
func (l *lexer) number() token {
	start, exponent := l.offset, false
	for l.offset < len(l.text) {
		c := l.text[l.offset]
		sign := exponent && (c == '+' || c == '-')
		if !sign && c != '.' && !digit(c) && !letter(c) && c < utf8.RuneSelf {
			break
		}
		exponent = c == 'e' || c == 'E'
		l.offset++
	}
	t := token{kind: tokenNumber, offset: start, text: l.text[start:l.offset]}
	mantissa, _, _ := strings.Cut(strings.ToLower(t.text), "e")
	if decimal(mantissa) {
		number, err := strconv.ParseFloat(t.text, 64)
		switch {
		case err == nil:
			t.number = number
			return t
		case strings.Contains(err.Error(), strconv.ErrRange.Error()):
			return l.invalid(start, "the number "+shorten(t.text)+" is beyond the range of 64-bit floating point")
		}
		return l.invalid(start, quote(t.text)+" is not a number")
	}
	if last := t.text[len(t.text)-1]; last == 'b' || last == 'B' {
		if bytes, err := field.ParseBytes(t.text); err == nil {
			t.kind, t.bytes = tokenBytes, bytes
			return t
		}
	}
	duration, err := ParseDuration(t.text)
	if err != nil {
		return l.invalid(start, err.Error())
	}
	t.kind, t.duration = tokenDuration, duration
	return t
}

// invalid makes offset the place of a token that says what is wrong there.
func (l *lexer) invalid(offset int, message string) token {
	end := min(offset+1, len(l.text))
	l.offset = offset
	return token{kind: tokenInvalid, offset: offset, text: l.text[offset:end], message: message}
}

// strayCharacter says what to do about a character that begins no token.
func strayCharacter(text string) string {
	c, size := utf8.DecodeRuneInString(text)
	switch {
	case c == utf8.RuneError && size == 1:
		return fmt.Sprintf("found the byte 0x%02x, which is no UTF-8; in a string write it as \"\\x%02x\"", text[0], text[0])
	case c == '\'' || c == '“' || c == '”' || c == '‘' || c == '’' || c == '„':
		return fmt.Sprintf("found the quotation mark %c; strings stand in \"double quotes\" or `backticks`", c)
	case c == '$':
		return "found `$`: variables such as $__interval are Grafana's, which replaces them before it asks; write the value itself"
	case c == '!':
		return "found `!`; did you mean != or !~?"
	case c == '~':
		return "found `~`; did you mean =~ (labels) or |~ (lines)?"
	case c == '&':
		return "found `&`; did you mean and?"
	case c == ';' || c == ':':
		return fmt.Sprintf("found `%c`, which is no part of LogQL", c)
	}
	return fmt.Sprintf("found the character %q, which can only stand inside a string", c)
}

// unquote reads the string literal that begins at text[start] with a double quote or a
// backtick. It returns the value and the offset behind it, or the offset of a fault and a
// message. Bytes that are no UTF-8 stay as they are.
func unquote(text string, start int) (value string, end int, message string) {
	if text[start] == '`' {
		n := strings.IndexByte(text[start+1:], '`')
		if n < 0 {
			return "", start, "the string that begins here has no closing backtick"
		}
		return text[start+1 : start+1+n], start + n + 2, ""
	}
	i := start + 1
	for i < len(text) && text[i] != '"' && text[i] != '\\' && text[i] != '\n' {
		i++
	}
	if i < len(text) && text[i] == '"' {
		return text[start+1 : i], i + 1, ""
	}
	buffer := append(make([]byte, 0, i-start+16), text[start+1:i]...)
	for i < len(text) {
		switch c := text[i]; c {
		case '"':
			return string(buffer), i + 1, ""
		case '\n':
			return "", start, "the string that begins here has no closing quote on its line; write \\n for a line break, or use backticks"
		case '\\':
			r, multibyte, tail, err := strconv.UnquoteChar(text[i:], '"')
			if err != nil {
				escape := text[i:min(i+2, len(text))]
				if !utf8.ValidString(escape) {
					escape = `\`
				}
				return "", i, fmt.Sprintf("%s begins no escape that Go knows; write \\%s, or put the string in backticks", escape, escape)
			}
			if multibyte {
				buffer = utf8.AppendRune(buffer, r)
			} else {
				buffer = append(buffer, byte(r))
			}
			i = len(text) - len(tail)
		default:
			buffer = append(buffer, c)
			i++
		}
	}
	return "", start, "the string that begins here has no closing quote"
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// decimal reports whether s consists of digits and points.
func decimal(s string) bool {
	for i := range len(s) {
		if !digit(s[i]) && s[i] != '.' {
			return false
		}
	}
	return s != ""
}
