package logql

import (
	"regexp/syntax"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of regular expressions.
const (
	MaxRegexpLength = 16 << 10 // bytes, of one
	MaxRegexpSize   = 50_000   // instructions, of all in a query together
)

// maxLiterals is how many texts a regular expression may be turned into.
const maxLiterals = 16

// regexpSize checks a regular expression and estimates, from above, how many instructions
// it compiles to. Go's own bound is 128 MB of them.
func regexpSize(pattern string) (int, error) {
	if len(pattern) > MaxRegexpLength {
		return 0, overLimit("has %s bytes: at most %s are allowed", thousands(len(pattern)), thousands(MaxRegexpLength))
	}
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 0, err
	}
	return treeSize(re), nil
}

func treeSize(re *syntax.Regexp) int {
	size := 2
	switch re.Op {
	case syntax.OpLiteral:
		size = len(re.Rune)
	case syntax.OpRepeat:
		return treeSize(re.Sub[0])*max(re.Min+1, re.Max) + 2 + max(0, re.Max)
	}
	for _, sub := range re.Sub {
		size += 1 + treeSize(sub)
	}
	return size
}

// literals returns texts of which a line contains one if, and only if, the pattern matches
// the line somewhere: `(error|fail).*` is "error" or "fail". A pattern that matches every
// line is the text "". ok is false if there are no such texts, or too many.
func literals(pattern string) (texts []string, ok bool) {
	re, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, false
	}
	if texts, ok = expand(trim(re)); !ok {
		return nil, false
	}
	return minimal(texts), true
}

// trim removes from both ends what may as well match nothing: whether there is a match
// anywhere does not depend on it.
func trim(re *syntax.Regexp) *syntax.Regexp {
	for re.Op == syntax.OpCapture {
		re = re.Sub[0]
	}
	if optional(re) {
		return &syntax.Regexp{Op: syntax.OpEmptyMatch}
	}
	if re.Op != syntax.OpConcat {
		return re
	}
	subs := re.Sub
	for len(subs) > 0 && optional(subs[0]) {
		subs = subs[1:]
	}
	for len(subs) > 0 && optional(subs[len(subs)-1]) {
		subs = subs[:len(subs)-1]
	}
	return &syntax.Regexp{Op: syntax.OpConcat, Sub: subs}
}

// optional reports whether re can match the empty text at every place.
func optional(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpEmptyMatch, syntax.OpStar, syntax.OpQuest:
		return true
	case syntax.OpRepeat:
		return re.Min == 0
	case syntax.OpCapture, syntax.OpPlus:
		return optional(re.Sub[0])
	case syntax.OpConcat:
		return !slices.ContainsFunc(re.Sub, func(sub *syntax.Regexp) bool { return !optional(sub) })
	case syntax.OpAlternate:
		return slices.ContainsFunc(re.Sub, optional)
	}
	return false
}

// expand returns all texts that re can match.
func expand(re *syntax.Regexp) (texts []string, ok bool) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return []string{""}, true
	case syntax.OpLiteral:
		if slices.ContainsFunc(re.Rune, oddRune) || re.Flags&syntax.FoldCase != 0 && slices.ContainsFunc(re.Rune, hasCase) {
			return nil, false
		}
		return []string{string(re.Rune)}, true
	case syntax.OpCharClass:
		for i := 0; i < len(re.Rune); i += 2 {
			for r := re.Rune[i]; r <= re.Rune[i+1]; r++ {
				if len(texts) == maxLiterals || oddRune(r) {
					return nil, false
				}
				texts = append(texts, string(r))
			}
		}
		return texts, len(texts) > 0
	case syntax.OpCapture:
		return expand(re.Sub[0])
	case syntax.OpQuest:
		texts, ok = expand(re.Sub[0])
		return append(texts, ""), ok && len(texts) < maxLiterals
	case syntax.OpAlternate:
		for _, sub := range re.Sub {
			more, ok := expand(sub)
			if !ok || len(texts)+len(more) > maxLiterals {
				return nil, false
			}
			texts = append(texts, more...)
		}
		return texts, true
	case syntax.OpConcat:
		texts = []string{""}
		for _, sub := range re.Sub {
			ends, ok := expand(sub)
			if !ok || len(texts)*len(ends) > maxLiterals {
				return nil, false
			}
			longer := make([]string, 0, len(texts)*len(ends))
			for _, text := range texts {
				for _, end := range ends {
					longer = append(longer, text+end)
				}
			}
			texts = longer
		}
		return texts, true
	}
	return nil, false
}

// oddRune reports whether r also matches bytes other than its own: U+FFFD matches every
// byte that is no UTF-8.
func oddRune(r rune) bool { return r == utf8.RuneError || !utf8.ValidRune(r) }

func hasCase(r rune) bool { return unicode.SimpleFold(r) != r }

// minimal drops the texts that contain another of them: a line with one has the other.
func minimal(texts []string) []string {
	kept := make([]string, 0, len(texts))
	for i, text := range texts {
		implied := false
		for j, other := range texts {
			if i != j && strings.Contains(text, other) && (text != other || j < i) {
				implied = true
				break
			}
		}
		if !implied {
			kept = append(kept, text)
		}
	}
	return kept
}
