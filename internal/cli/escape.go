package cli

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escapeText makes a text harmless to a terminal but keeps its line ends.
func escapeText(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = string(appendEscaped(nil, []byte(line)))
	}
	return strings.Join(lines, "\n")
}

// appendEscaped appends a line to dst so that a terminal shows it and obeys nothing in
// it: control characters (ESC, and the 8-bit ones of C1, begin sequences that a terminal
// acts on), marks that change the direction of text, other invisible format characters,
// and bytes that are not UTF-8 are written as \n, \x1b or \u202e. Tabs stay.
func appendEscaped(dst, line []byte) []byte {
	for len(line) > 0 {
		c, size := utf8.DecodeRune(line)
		switch {
		case c == '\t' || c >= ' ' && c < 0x7f:
			dst = append(dst, byte(c))
		case c == utf8.RuneError && size == 1:
			dst = fmt.Appendf(dst, `\x%02x`, line[0])
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c < 0x80:
			dst = fmt.Appendf(dst, `\x%02x`, c)
		case unicode.Is(unicode.C, c) || c == '\u2028' || c == '\u2029':
			if c > 0xffff {
				dst = fmt.Appendf(dst, `\U%08x`, c)
			} else {
				dst = fmt.Appendf(dst, `\u%04x`, c)
			}
		default:
			dst = append(dst, line[:size]...)
		}
		line = line[size:]
	}
	return dst
}
