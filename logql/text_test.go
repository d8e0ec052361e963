package logql

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"regexp/syntax"
	"strings"
	"testing"
	"time"

	"github.com/logcluster/logcluster/segment"
	"github.com/logcluster/logcluster/segment/field"
)

func TestParseDuration(t *testing.T) {
	ok := func(text string, want time.Duration) {
		t.Helper()
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	ok("0", 0)
	ok("-0", 0)
	ok("0s", 0)
	ok("1h30m", 90*time.Minute)
	ok("1.5h", 90*time.Minute)
	ok(".5h", 30*time.Minute)
	ok("5.m", 5*time.Minute)
	ok("7d", 7*24*time.Hour)
	ok("1w", 7*24*time.Hour)
	ok("1y", 365*24*time.Hour)
	ok("3601s", 3601*time.Second)
	ok("100ms", 100*time.Millisecond)
	ok("1us2µs3μs4ns", 6004)
	ok("-1m5s", -65*time.Second)
	ok("+1m", time.Minute)
	ok("0.1s", 100*time.Millisecond)
	ok("0.000000001s", 1)
	ok("9223372036854775807ns", math.MaxInt64)
	ok("292y", 292*365*24*time.Hour)
	bad := func(text, want string) {
		t.Helper()
		if got, err := ParseDuration(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, error %v, want %q", text, got, err, want)
		}
	}
	bad("", "no number")
	bad("-", "no number")
	bad("h", "no number")
	bad(".h", "no number")
	bad("5", "did you mean 5s?")
	bad("5m5", "no unit")
	bad("5 m", "unknown unit")
	bad("5M", "unknown unit")
	bad("1.2.3s", "no unit")
	bad("1e3s", "unknown unit")
	bad("9223372036854775808ns", "292 years")
	bad("99999999999999999999999h", "292 years")
	bad("293y", "292 years")
	bad("200y100y", "292 years")
	bad("292y1y", "292 years")
	bad("-293y", "292 years")
	bad("1s99999999999999h", "292 years")
	bad("5124096h", "292 years") // is 25 minutes modulo 2⁶⁴ nanoseconds
	bad(strings.Repeat("1", 1000)+"x", "...")

	for seed := range uint64(2000) {
		g := newGenerator(seed)
		d := time.Duration(g.Uint64() >> (1 + g.IntN(63)))
		if g.IntN(3) == 0 {
			d = -d
		}
		text := field.FormatDuration(d)
		if got, err := ParseDuration(text); err != nil || got != d {
			t.Errorf("%d is written %q and read %d, %v", d, text, got, err)
		}
	}
}

func TestParseLabels(t *testing.T) {
	ok := func(text string, want ...segment.Label) {
		t.Helper()
		got, err := ParseLabels(text)
		if err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	ok(`{}`)
	ok(` { } `)
	ok(`{a="b"}`, segment.Label{Name: "a", Value: "b"})
	ok(`{a="b",}`, segment.Label{Name: "a", Value: "b"})
	ok("\t{ a = \"b\" ,\n_B2=`c\\n`\r\n} ", segment.Label{Name: "_B2", Value: `c\n`}, segment.Label{Name: "a", Value: "b"})
	ok(`{c="3", a="1", b="2"}`, segment.Label{Name: "a", Value: "1"}, segment.Label{Name: "b", Value: "2"}, segment.Label{Name: "c", Value: "3"})
	ok(`{b="2", empty="", a="1"}`, segment.Label{Name: "a", Value: "1"}, segment.Label{Name: "b", Value: "2"})
	ok(`{a="\"\\\n\t\x41\u00e9\U0001F600 é, }"}`, segment.Label{Name: "a", Value: "\"\\\n\tAé😀 é, }"})
	bad := func(text string, offset, line, column int, want string) {
		t.Helper()
		got, err := ParseLabels(text)
		var e *ParseError
		if !errors.As(err, &e) || e.Position != (Position{offset, line, column}) || !strings.Contains(e.Message, want) {
			t.Errorf("%q: %v, error %#v, want %q", text, got, err, want)
		}
	}
	bad(``, 0, 1, 1, "expected labels")
	bad(` a="b"`, 1, 1, 2, `expected labels such as {app="web"}, found 'a'`)
	bad(`{`, 1, 1, 2, "expected `}`")
	bad(`{a`, 2, 1, 3, "expected = after the label name a, found the end")
	bad(`{a=`, 3, 1, 4, "expected a string")
	bad(`{a="b`, 3, 1, 4, "no closing quote")
	bad("{a=\"b\n\"}", 3, 1, 4, "no closing quote on its line")
	bad("{a=`b", 3, 1, 4, "no closing backtick")
	bad(`{a="b"`, 6, 1, 7, "expected `}`")
	bad(`{a="b" c="d"}`, 7, 1, 8, "expected `,` or `}`")
	bad(`{a="b"} x`, 8, 1, 9, "expected nothing after the closing }")
	bad(`{,}`, 1, 1, 2, "expected a label name")
	bad(`{a="b",,}`, 7, 1, 8, "expected a label name")
	bad(`{0a="b"}`, 1, 1, 2, "begin with no digit")
	bad(`{a-b="c"}`, 2, 1, 3, "expected =")
	bad(`{a!="b"}`, 2, 1, 3, "expected =")
	bad(`{a=~"b"}`, 3, 1, 4, "single =")
	bad(`{a=='b'}`, 3, 1, 4, "single =")
	bad(`{a='b'}`, 3, 1, 4, "double quotes")
	bad(`{a="\d"}`, 4, 1, 5, `write \\d`)
	bad("{a=\"é\",\n  a=\"c\"}", 11, 2, 3, "the label name a stands here a second time")
	bad(`{a="", b="c", a="d"}`, 14, 1, 15, "the label name a stands here a second time")
	bad("{a=\"\xff\"}", 3, 1, 4, "not valid UTF-8")
	bad(`{a="\xff"}`, 3, 1, 4, "not valid UTF-8")
	bad("{\xff", 1, 1, 2, "the byte 0xff")
}

func TestParseLabelsTakesTimeInProportion(t *testing.T) {
	// Names in falling order are the worst case of an insertion: ten times as many must
	// not take a hundred times as many comparisons. What counts is that this test ends.
	var b strings.Builder
	b.WriteByte('{')
	for i := 300_000; i > 0; i-- {
		fmt.Fprintf(&b, "a%07d=``,", i)
	}
	b.WriteByte('}')
	if labels, err := ParseLabels(b.String()); err != nil || len(labels) != 0 {
		t.Errorf("%d labels, error %v", len(labels), err)
	}
}

// FuzzParseLabels compares ParseLabels with the parser of queries, which reads the same
// strings, and looks for results that are not in order or are not read back.
func FuzzParseLabels(f *testing.F) {
	for _, seed := range []string{``, `{}`, `{a="b"}`, "{a=`b`, c=\"\\n\",}", `{a="b",a="c"}`, `{b="",a="\xff"}`, "{a=\"\xff\"}", `{a='b'}`, `{a=~"b"}`, `{0="x"}`, "{a=\"é\u2028\"}"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		labels, err := ParseLabels(s)
		if err != nil {
			if e := (*ParseError)(nil); !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(s) {
				t.Fatalf("%q: %#v", s, err)
			}
			return
		}
		for i, l := range labels {
			if !segment.ValidLabelName(l.Name) || l.Value == "" || i > 0 && labels[i-1].Name >= l.Name {
				t.Fatalf("%q: %v", s, labels)
			}
		}
		if again, err := ParseLabels(labels.String()); err != nil || !again.Equal(labels) {
			t.Fatalf("%q is read as %v, which is read as %v, %v", s, labels, again, err)
		}
		matchers, err := parseSelector(s, len(s))
		if err != nil {
			t.Fatalf("%q is a label set, but no selector: %v", s, err)
		}
		for _, m := range matchers {
			if m.Type != segment.MatchEqual || labels.Get(m.Name) != m.Value {
				t.Fatalf("%q: %v, as a selector %v", s, labels, matchers)
			}
		}
	})
}

func TestLiterals(t *testing.T) {
	f := func(pattern string, want ...string) {
		t.Helper()
		got, ok := literals(pattern)
		if ok != (want != nil) || ok && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q, %t, want %q", pattern, got, ok, want)
		}
	}
	f("abc", "abc")
	f(`a\.b`, "a.b")
	f("a|bc", "a", "bc")
	f("(ab|ab)(c|c)?", "ab")
	f("error|err|fail", "err", "fail")
	f(".*abc.*", "abc")
	f("(.*)(abc|d)(?:x?)", "abc", "d")
	f("[ab]c", "ac", "bc")
	f("", "")
	f(".*", "")
	f("(a|)", "")
	f("(?s).*", "")
	f("a{0,5}", "")
	f("(é|ü)", "é", "ü")
	f("(?i)abc")
	f("(?i)123", "123")
	f("a+")
	f("^a")
	f("a$")
	f(`\bab`)
	f("a.c")
	f("[a-z]")
	f("[^a]")
	f("�")
	f("a(b|c)(d|e)(f|g)(h|i)(j|k)")
	f("(")
	f(`[^\x00-\x{10FFFF}]`)
}

// TestLiteralsAgreeWithRegexps searches random lines, also such as are no UTF-8.
func TestLiteralsAgreeWithRegexps(t *testing.T) {
	replaced := 0
	for seed := range uint64(20_000) {
		g := newGenerator(seed)
		atom := func() string {
			return pick(g, "a", "b", "é", "", ".", "ab", "[ab]", ".*", "a?", "b*", "(?:ba)?")
		}
		pattern := atom()
		for range g.IntN(3) {
			pattern = fmt.Sprintf(pick(g, "%s%s", "%s|%s", "(%s)%s", "(?:%s|%s)", "%s(%s)?", "%[1]s%[2]s%[1]s"), pattern, atom())
		}
		re, err := regexp.Compile("(?s)" + pattern)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		texts, ok := literals(pattern)
		if !ok {
			continue
		}
		replaced++
		for range 8 {
			var line strings.Builder
			for range g.IntN(6) {
				line.WriteString(pick(g, "a", "b", "é", "\n", "\xc3", "\xa9", "x"))
			}
			contains := false
			for _, text := range texts {
				contains = contains || strings.Contains(line.String(), text)
			}
			if want := re.MatchString(line.String()); contains != want {
				t.Fatalf("seed %d: %q as %q on %q: %t, want %t", seed, pattern, texts, line.String(), contains, want)
			}
		}
	}
	if replaced < 5000 {
		t.Errorf("only %d expressions became texts", replaced)
	}
}

func TestRegexpSizeIsAnUpperBound(t *testing.T) {
	for _, pattern := range []string{"", "abc", "(?i)abc", "a{10}", "(ab|cd){3,7}", "(a{5}b{5,}){9}", "[a-z]*", "(x?){20}", "a|b|c|dd", `\pL{30}`, "(a|b*c){0,8}$"} {
		size, err := regexpSize(pattern)
		if err != nil {
			t.Fatal(err)
		}
		re, err := syntax.Parse(pattern, syntax.Perl)
		if err != nil {
			t.Fatal(err)
		}
		program, err := syntax.Compile(re.Simplify())
		if err != nil {
			t.Fatal(err)
		}
		// Each program has two instructions of its own.
		if real := len(program.Inst) - 2; size < real || size > 4*real+4 {
			t.Errorf("%q: estimated %d instructions, has %d", pattern, size, real)
		}
	}
}

func TestNearest(t *testing.T) {
	f := func(word, want string) {
		t.Helper()
		if got := nearest(word, "count_over_time", "rate", "sum", "json"); got != want {
			t.Errorf("%q: %q, want %q", word, got, want)
		}
	}
	f("count_over_tme", "count_over_time")
	f("rte", "rate")
	f("SUM", "sum")
	f("jsno", "")
	f("jsn", "json")
	f("x", "")
	f("something", "")
	f(strings.Repeat("x", 1000), "")
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -100: "-100", -1000: "-1,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
