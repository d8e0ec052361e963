package segment

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/logcluster/logcluster/internal/vfs"
)

// A templateLine is a line and its values.
type templateLine struct {
	line   []byte
	values [][]byte
}

// linesOf makes lines of the template of a line, with values made of parts of other
// texts. The first one is the line itself.
func linesOf(t testing.TB, rng *rand.Rand, line []byte, texts ...[]byte) (*Template, []templateLine) {
	var s shredder
	if !s.shred(line) {
		return nil, nil
	}
	template, values := cutLine(t, &s, line)
	key := bytes.Clone(s.key)
	lines := []templateLine{{line, values}}
	for range 24 {
		var other []byte
		for i, v := range values {
			switch rng.IntN(4) {
			case 0:
			case 1: // the value of another slot
				v = values[rng.IntN(len(values))]
			default:
				text := texts[rng.IntN(len(texts))]
				if len(text) > 0 {
					from := rng.IntN(len(text))
					v = text[from : from+rng.IntN(min(len(text)-from, 12)+1)]
				}
				if rng.IntN(3) == 0 {
					v = append(bytes.Clone(v), values[i]...)
				}
			}
			if template.kinds[i] == slotDigits { // others would rarely do
				v = bytes.Map(func(r rune) rune {
					if r < '0' || r > '9' {
						return -1
					}
					return r
				}, v)
			}
			other = append(append(other, template.literals[i]...), v...)
		}
		other = append(other, template.literals[len(values)]...)
		if s.shred(other) && bytes.Equal(s.key, key) {
			_, again := cutLine(t, &s, other)
			lines = append(lines, templateLine{other, again})
		}
	}
	return template, lines
}

// any reports whether one of the alternatives holds for a line.
func (l *templateLine) any(alternatives [][]slotCondition) bool {
	for _, conditions := range alternatives {
		all := true
		for i := range conditions {
			all = all && conditions[i].test(l.values[conditions[i].slot])
		}
		if all {
			return true
		}
	}
	return false
}

// samePlan compares what is decided for a template with its lines.
func samePlan(t testing.TB, x expressions, template *Template, lines []templateLine, f *LineFilter) verdict {
	t.Helper()
	p := planFilter(f)
	r := p.decide(template, &planView{kinds: template.kinds})
	for i := range lines {
		l := &lines[i]
		want := holds(x, f, l.line)
		what := fmt.Sprintf("filter %d %q, template %q, line %q", f.Type, f.Values, template.text(), l.line)
		switch r.verdict {
		case verdictAll, verdictNone:
			if want != (r.verdict == verdictAll) {
				t.Fatalf("%s: verdict %d, and it passes: %t", what, r.verdict, want)
			}
		case verdictSome:
			if want != (l.any(r.alternatives) != p.negative) {
				t.Fatalf("%s: passes: %t, conditions %+v", what, want, r.alternatives)
			}
		case verdictCheck:
			for _, required := range r.required {
				if want && !l.any(required) {
					t.Fatalf("%s: passes, and a text that it requires is not there: %+v", what, required)
				}
			}
		}
	}
	return r.verdict
}

var planSeeds = [][2]string{
	{`{"level":"error","status":500,"msg":"a \"b\" c","list":["error",5]}`, `"level":"error"`},
	{`{"level":"error","status":500,"msg":"a \"b\" c"}`, `"b\"`},
	{`{"a":"x\\","b":"y"}`, `\","b":"`},
	{`{"a":[1,"b"],"b":[2,"b"],"c":[3]}`, `],"b":[`},
	{`level=info took=5ms msg="done in 5 ms" n=5`, `=5`},
	{`level=info took=5ms msg="done in 5 ms" n=5`, `" n=`},
	{`a= b= c=`, ` b= c`},
	{`a=x b=x c=x d=x`, `x b=x`},
	{`GET /items/12 200 in 15ms from 10.0.0.1 node12`, `ms`},
	{`GET /items/12 200 in 15ms from 10.0.0.1 node12`, `12 2`},
	{`GET /items/12 200 in 15ms from 10.0.0.1 node12`, `0.0.0.`},
	{`1.1.1.1.1.1.1.1`, `1.1.1`},
	{`11111111`, `11`},
	{`a1b2c3 deadbeef be12`, `b2`},
	{"\x001\xff2\x00", "1\xff2"},
	{``, `x`},
	{`no slots here`, `slots`},
	{`<34>1 2023-11-14T22:13:20.003Z Host su 77 ID47 - Failed`, `t22:13`},
}

// FuzzPlan: what is decided for a template from its literals alone is true of lines of
// that template, for plain filters, negative ones, those with several texts, texts in
// any case, and what expressions require.
func FuzzPlan(f *testing.F) {
	for i, seed := range planSeeds {
		for _, other := range planSeeds {
			f.Add([]byte(seed[0]), []byte(other[0]+other[1]), []byte(other[1]), uint64(i))
		}
		for k := range uint64(12) {
			f.Add([]byte(seed[0]), []byte(seed[1]), []byte(seed[1]), 100+k)
		}
	}
	f.Fuzz(func(t *testing.T, line, donor, needle []byte, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		template, lines := linesOf(t, rng, line[:min(len(line), 4<<10)], donor, needle, line)
		if template == nil {
			return
		}
		x := expressions{}
		pick := func() string {
			switch from := lines[rng.IntN(len(lines))].line; {
			case rng.IntN(4) == 0 || len(from) == 0:
				return string(needle[:min(len(needle), 64)])
			default: // across literals and slots, as they come
				at := rng.IntN(len(from))
				return string(from[at:min(len(from), at+1+rng.IntN(16))])
			}
		}
		for range 8 {
			match := MatchType(rng.IntN(4))
			var values []string
			for range 1 + rng.IntN(3) {
				v := pick()
				if match >= MatchRegexp {
					if !utf8.ValidString(v) {
						continue
					}
					v = regexp.QuoteMeta(v)
					other := pick()
					if !utf8.ValidString(other) {
						other = "x"
					}
					other = regexp.QuoteMeta(other)
					v = []string{v, "(?i)" + v, "(?i:" + v + ")|" + other, v + "|" + other, v + ".*" + other, "(" + v + ")+[0-9]" + other, "^" + v, v + "$", `\b` + v, "(?i)" + v + ".?" + other, v + "{2,3}", "(?:" + v + "){0,2}" + other}[rng.IntN(12)]
				}
				values = append(values, v)
			}
			if len(values) == 0 {
				continue
			}
			filter, err := NewLineFilter(match, values...)
			if err != nil {
				continue // an expression that is too large
			}
			samePlan(t, x, template, lines, filter)
		}
	})
}

// A needle that could go on in ever more ways at each slot is left to the lines.
func TestPlanIsBounded(t *testing.T) {
	var key []byte
	key = append(key, byte(templateText), 1, ' ')
	for range maxSlots {
		key = append(key, byte(slotBare), 0) // as no shredder cuts: nothing between slots
	}
	template, err := parseTemplate(key)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewLineFilter(MatchEqual, strings.Repeat("a", 200)+" ")
	if err != nil {
		t.Fatal(err)
	}
	if r := planFilter(f).decide(template, &planView{kinds: template.kinds}); r.verdict != verdictCheck {
		t.Fatalf("verdict %d", r.verdict)
	}
}

// Q1 where blocks hold many rows of few templates: texts that stand across literals and
// values, in values alone, in either case, several at once and negated.
func TestQ1Templates(t *testing.T) {
	rng := seeded(t, 21)
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	shapes := []func() string{
		func() string {
			return fmt.Sprintf(`{"level":"%s","status":%d,"msg":"%s","took":%d.%02d}`, pick("error", "info", "ERROR", "err"), pick("5", "50", "500")[0]-'0', pick(`a`, `level`, `\"level\":\"error\"`, `=5`, "5"), rng.IntN(3), rng.IntN(100))
		},
		func() string {
			return fmt.Sprintf(`level=%s took=%dms n=%03d ip=10.0.%d.%d`, pick("error", "info", "warn"), rng.IntN(60), rng.IntN(200), rng.IntN(3), rng.IntN(256))
		},
		func() string {
			return fmt.Sprintf(`GET /items/%d in %dms by node%d id %08x`, rng.IntN(60), rng.IntN(600), rng.IntN(5), rng.Uint32()>>rng.IntN(3))
		},
		func() string { return fmt.Sprintf(`t=%s k="%s"`, pick("", "5", "=5"), pick("", `\"`, "ms", "Level")) },
		func() string { return pick("error", "", "level=5", "no template "+strings.Repeat("x", rng.IntN(5))) },
	}
	l := newTestLog(t)
	for range 3 {
		b := &Batch{Streams: []*Stream{NewStream("t", Labels{{"app", "a"}}), NewStream("t", Labels{{"app", "b"}})}}
		for i := range 400 {
			b.Rows = append(b.Rows, Row{Timestamp: int64(len(l.entries) + i), Line: []byte(shapes[rng.IntN(len(shapes))]()), Stream: uint32(rng.IntN(2))})
		}
		l.append(b)
	}
	o := l.open(vfs.NewMem(), "open-1", 2)
	defer o.Close()
	units := blockUnits(o.Blocks())
	needles := []string{`"level":"error"`, `level`, `=5`, `ms`, `5m`, `s/5`, `error","status":5`, `0.0`, `1`, `10.0.1.`, `:5,`, `"`, `\"`, `" k`, `node3 id 0`, `info took=`, `e=`, `t= k=""`, `ms n=0`, `7`}
	x := expressions{}
	some := map[verdict]int{}
	for round := range 400 {
		q := everything()
		for range 1 + rng.IntN(2) {
			match := MatchType(rng.IntN(4))
			var values []string
			for range 1 + rng.IntN(3) {
				v := needles[rng.IntN(len(needles))]
				if rng.IntN(3) == 0 {
					v = randomNeedle(rng, l.entries[rng.IntN(len(l.entries))].Line, MatchEqual)
				}
				if match >= MatchRegexp {
					v = regexp.QuoteMeta(v)
					v = []string{v, "(?i)" + v, v + "|took", v + ".*5", "(?i:" + v + ")|[0-9]x", "5[0-9]*" + v}[rng.IntN(6)]
				}
				values = append(values, v)
			}
			f, err := NewLineFilter(match, values...)
			if err != nil {
				t.Fatal(err)
			}
			for _, template := range o.table.templates {
				some[planFilter(f).decide(template, &planView{kinds: template.kinds}).verdict]++
			}
			q.Filters = append(q.Filters, f)
		}
		if round%2 == 0 {
			q.Limit = 1 + rng.IntN(40)
		}
		q.Direction = Direction(rng.IntN(2))
		if rng.IntN(2) == 0 {
			m, err := NewMatcher("app", MatchEqual, "a")
			if err != nil {
				t.Fatal(err)
			}
			q.Matchers = append(q.Matchers, m)
		}
		var hits []Entry
		for i := range l.entries {
			if asked(x, q, &l.entries[i]) {
				hits = append(hits, l.entries[i])
			}
		}
		got, err := drain(SelectUnits(t.Context(), 0, units, q, nil))
		if err != nil {
			t.Fatal(err)
		}
		sameEntries(t, describe(q), got, answer(q, hits))
		a := newAggregation(rng, l.entries)
		p := NewPartial(a)
		if err := AggregateUnits(t.Context(), units, q, a, p); err != nil {
			t.Fatal(err)
		}
		sameSeries(t, describe(q), rendered(p), naive(a, hits))
	}
	if some[verdictNone] < 100 || some[verdictAll] < 100 || some[verdictSome] < 100 || some[verdictCheck] < 100 {
		t.Fatalf("verdicts %v: the test shows too little", some)
	}
}
