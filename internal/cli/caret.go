package cli

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// positions matches the place in a parse error's text.
var positions = regexp.MustCompile(`\bline (\d{1,6}), col(?:umn)? (\d{1,6})\b`)

// caret shows the line of a query that an error's message names by line and column (in
// characters, both from 1), with a mark under the place. It returns "" if the message
// names none, or one that the query does not have.
func caret(message, query string) string {
	found := positions.FindStringSubmatch(message)
	if found == nil {
		return ""
	}
	line, _ := strconv.Atoi(found[1]) // At most six digits.
	column, _ := strconv.Atoi(found[2])
	lines := strings.Split(query, "\n")
	if line < 1 || line > len(lines) {
		return ""
	}
	text := lines[line-1]
	if column < 1 || column > utf8.RuneCountInString(text)+1 {
		return ""
	}
	// A tab before the place stays one, so that the mark stands below it.
	before := strings.Map(func(c rune) rune {
		if c == '\t' {
			return c
		}
		return ' '
	}, string([]rune(text)[:column-1]))
	return "  " + text + "\n  " + before + "^"
}
