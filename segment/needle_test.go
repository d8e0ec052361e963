package segment

import (
	"bytes"
	"regexp"
	"slices"
	"testing"
)

func FuzzNeedleIndex(f *testing.F) {
	f.Add([]byte("GET /index trace=00ff aa=a"), []byte("=00"))
	f.Add([]byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"), []byte("ab"))
	f.Add(bytes.Repeat([]byte("=x"), 100), []byte("=y")) // the rare byte is not rare
	f.Add(append(bytes.Repeat([]byte("=x"), 100), "=yyy"...), []byte("x=y"))
	f.Add([]byte("ab"), []byte("abc"))
	f.Add([]byte(""), []byte(""))
	f.Fuzz(func(t *testing.T, b, text []byte) {
		n := newNeedle(text)
		if got, want := n.index(b), bytes.Index(b, text); got != want {
			t.Fatalf("%q in %q: %d, want %d", text, b, got, want)
		}
	})
}

// FuzzRequired: a match of an expression holds one of the texts it is said to require.
func FuzzRequired(f *testing.F) {
	for _, expression := range []string{"abc", "a+bc", "(abc|def)x?", "(?i)abc", "a|bc", "(abc)+", "(abc){2}", "(abc){0,2}", "x*abcd.ef", "\uFFFDab", "^abc$", "a(?:bc|bd)", "[ab]c", "(?i:k)elvin", "abc|"} {
		f.Add(expression, []byte("xabcabcdef\xffab"))
		f.Add(expression, []byte("def ABC bcd \u212aelvin"))
	}
	f.Fuzz(func(t *testing.T, expression string, line []byte) {
		re, err := regexp.Compile(expression)
		if err != nil || len(expression) > 100 {
			return
		}
		texts := required(expression)
		if len(texts) > 0 && re.Match(line) && !slices.ContainsFunc(texts, func(text []byte) bool { return bytes.Contains(line, text) }) {
			t.Fatalf("%q matches %q, which holds none of %q", expression, line, texts)
		}
	})
}

func TestRequired(t *testing.T) {
	f := func(expression string, want ...string) {
		t.Helper()
		var got []string
		for _, text := range required(expression) {
			got = append(got, string(text))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q requires %q, want %q", expression, got, want)
		}
	}
	f("error", "error")
	f("level=(error|warn)", "level=")
	f("(error|warning)", "error", "warning")
	f("err.*timeout", "timeout")
	f("[0-9]+ ms", " ms")
	f("(?i)error")
	f("a|b")
	f(".*")
	f("(error)?")
	f("x{3}")
}

// FuzzScanLines: searching many lines at once finds what looking at each does.
func FuzzScanLines(f *testing.F) {
	f.Add([]byte("error\nwarn\n\nno error\nerr"), "err", "warn", uint8(0), uint8(1))
	f.Add([]byte("ab\nab\nb\na\nba\nab"), "ab", "b", uint8(1), uint8(2))
	f.Add([]byte("aaaa\n\n\n\na"), "aa", "a+", uint8(2), uint8(3))
	f.Add([]byte("x\ny\nxy"), "xy|y", "^x", uint8(2), uint8(2))
	f.Fuzz(func(t *testing.T, text []byte, a, b string, typeA, typeB uint8) {
		if len(a)+len(b) > 60 || len(text) > 1<<14 {
			return
		}
		var all []byte
		var ends []uint32
		for _, line := range bytes.Split(text, []byte("\n")) {
			all = append(all, line...)
			ends = append(ends, uint32(len(all)))
		}
		first, err := NewLineFilter(MatchType(typeA%4), a, b)
		if err != nil {
			return
		}
		second, err := NewLineFilter(MatchType(typeB%4), b)
		if err != nil {
			return
		}
		x := expressions{}
		for _, filters := range [][]*LineFilter{{first}, {second}, {first, second}, {second, first}} {
			lo, hi := 0, len(ends)
			if hi > 3 {
				lo, hi = 1, hi-1
			}
			var got, want []int
			scanLines(filters, all, ends, lo, hi, func(i int) { got = append(got, i) })
			for i := lo; i < hi; i++ {
				line := lineAt(all, ends, i)
				ok := true
				for _, f := range filters {
					ok = ok && holds(x, f, line)
					if f.Keeps(line) != holds(x, f, line) {
						t.Fatalf("%d %q keeps %q: %t", f.Type, f.Values, line, f.Keeps(line))
					}
				}
				if ok {
					want = append(want, i)
				}
			}
			if !slices.Equal(got, want) {
				t.Fatalf("%d %q and %d %q of %q: %v, want %v", filters[0].Type, filters[0].Values, filters[len(filters)-1].Type, filters[len(filters)-1].Values, text, got, want)
			}
		}
	})
}
