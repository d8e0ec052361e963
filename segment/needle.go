package segment

import (
	"bytes"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// A needle is a text to be found in many lines at once.
type needle struct {
	text []byte
	rare int // position of the byte that logs hold least often
}

// commonBytes are the bytes of logs, the most frequent first. Those that are missing
// are rarer than all.
const commonBytes = " 0e1t2ao:\"rnisdc\\.3546-l879ump,hbgf_/kSvyN[]T=xRICEwFDAMOLPB()|JWZ#U{}K*qH@GjVz$~Q;<'X>Y!+?&%"

func newNeedle(text []byte) needle {
	n := needle{text: text}
	rarest := -1
	for i, c := range text {
		rank := strings.IndexByte(commonBytes, c)
		if rank < 0 {
			rank = len(commonBytes)
		}
		if rank > rarest {
			n.rare, rarest = i, rank
		}
	}
	return n
}

// index is bytes.Index, which looks for the first byte of the text. To look for its
// rarest byte is several times faster in logs, where most letters are everywhere.
func (n *needle) index(b []byte) int {
	text := n.text
	if len(text) < 2 {
		return bytes.Index(b, text)
	}
	c, misses := text[n.rare], 0
	for at := n.rare; at < len(b); at++ {
		k := bytes.IndexByte(b[at:], c)
		if k < 0 {
			return -1
		}
		at += k
		first := at - n.rare
		if first+len(text) > len(b) {
			return -1
		}
		if string(b[first:first+len(text)]) == string(text) {
			return first
		}
		// The byte is not rare here.
		if misses++; misses > 16 && misses > (at-n.rare)/16 {
			if k = bytes.Index(b[first+1:], text); k >= 0 {
				k += first + 1
			}
			return k
		}
	}
	return -1
}

// maxNeedles is how many alternatives are searched for at once.
const maxNeedles = 8

// required returns texts of which every match of an expression holds at least one, or
// nil if there are none that help.
func required(expression string) [][]byte {
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return nil
	}
	texts := requiredBy(re)
	for _, t := range texts {
		if len(t) < 2 { // on every line anyway
			return nil
		}
	}
	return texts
}

func requiredBy(re *syntax.Regexp) [][]byte {
	switch re.Op {
	case syntax.OpLiteral:
		// U+FFFD stands for any byte that is no UTF-8.
		if re.Flags&syntax.FoldCase != 0 || slices.Contains(re.Rune, utf8.RuneError) {
			return nil
		}
		return [][]byte{[]byte(string(re.Rune))}
	case syntax.OpCapture, syntax.OpPlus:
		return requiredBy(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return requiredBy(re.Sub[0])
		}
	case syntax.OpConcat:
		var best [][]byte
		for _, sub := range re.Sub {
			if texts := requiredBy(sub); shortest(texts) > shortest(best) {
				best = texts
			}
		}
		return best
	case syntax.OpAlternate:
		var all [][]byte
		for _, sub := range re.Sub {
			texts := requiredBy(sub)
			if texts == nil || len(all)+len(texts) > maxNeedles {
				return nil
			}
			all = append(all, texts...)
		}
		return all
	}
	return nil
}

func shortest(texts [][]byte) int {
	if len(texts) == 0 {
		return 0
	}
	n := len(texts[0])
	for _, t := range texts {
		n = min(n, len(t))
	}
	return n
}
