package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// filterLog is a log of the values that FILTERS is about: ids, long numbers, texts, and
// lines without a template.
func filterLog(t testing.TB, rng *rand.Rand) *testLog {
	hex := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = hexDigits[rng.IntN(16)]
		}
		return string(b)
	}
	word := func() string {
		b := make([]byte, 1+rng.IntN(9))
		for i := range b {
			b[i] = "abcdefgXYZ_-. üé"[rng.IntN(16)]
		}
		return string(b)
	}
	pick := func(of ...string) string { return of[rng.IntN(len(of))] }
	shapes := []func() string{
		func() string {
			return fmt.Sprintf(`{"level":"%s","trace":"%s","n":%d}`, pick("info", "error"), hex(32), rng.IntN(1000))
		},
		func() string {
			return fmt.Sprintf(`{"msg":"%s took %dms","id":"%s"}`, pick("query", "scan", word()), rng.IntN(5000), hex(8+rng.IntN(12)))
		},
		func() string { return fmt.Sprintf("block blk_%d of node%d", rng.Int64N(1e17), rng.IntN(9)) },
		func() string {
			return fmt.Sprintf("t=%s k=\"%s\" d=-%d.%03d", word(), word()+word(), rng.IntN(3), rng.IntN(1000))
		},
		func() string { return fmt.Sprintf("%d %s ended", rng.Int64N(1e15)-5e14, pick("a1", "b22", "c333")) },
		func() string { return fmt.Sprintf("user %s from 10.%d.0.%d", hex(6), rng.IntN(256), rng.IntN(256)) },
		func() string {
			return fmt.Sprintf(`{"a":"%s","b":"%s","c":"%s"}`, pick("", "x"), pick("", "y1"), pick("", "z"))
		},
		func() string { return "no template here: " + word() + word() + word() },
	}
	l := newTestLog(t)
	for range 4 {
		b := &Batch{Streams: []*Stream{NewStream("t", Labels{{"app", "a"}}), NewStream("t", Labels{{"app", "b"}})}}
		for i := range 300 {
			b.Rows = append(b.Rows, Row{Timestamp: int64(len(l.entries) + i), Line: []byte(shapes[rng.IntN(len(shapes))]()), Stream: uint32(rng.IntN(2))})
		}
		l.append(b)
	}
	return l
}

// Q1 with FILTERS: a search answers the same whether a segment has them or not, for texts
// that are there, that nearly are, and that are not.
func TestQ1Filters(t *testing.T) {
	rng := seeded(t, 31)
	l := filterLog(t, rng)
	fsys := vfs.NewMem()
	s := openSegment(t, fsys, l.seal(fsys, 1))
	filter := s.Blocks[0].file.filter
	if filter == nil || filter.grams == nil || len(filter.parts) == 0 {
		t.Fatalf("filters %+v", filter)
	}
	skipped := 0
	for range 600 {
		q := everything()
		for range 1 + rng.IntN(2) {
			line := l.entries[rng.IntN(len(l.entries))].Line
			text := bytes.Clone(line[rng.IntN(len(line)):])
			if len(text) > 1 && rng.IntN(4) > 0 {
				text = text[:1+rng.IntN(len(text))]
			}
			if rng.IntN(3) == 0 {
				text[rng.IntN(len(text))] = line[rng.IntN(len(line))]
			}
			match, value := MatchType(rng.IntN(4)), string(text)
			if match >= MatchRegexp {
				value = regexp.QuoteMeta(value)
				value = []string{value, "(?i)" + value, value + "[0-9]+", "[a-f0-9]{2}" + value, value + "|took", "^" + value, "[^x]" + value, "(?i:" + value + ")?ms"}[rng.IntN(8)]
			}
			f, err := NewLineFilter(match, value)
			if err != nil {
				continue // half a character
			}
			q.Filters = append(q.Filters, f)
		}
		q.Direction = Direction(rng.IntN(2))
		var want []Entry
		for _, e := range l.entries {
			if q.KeepsLine(e.Line) {
				want = append(want, e)
			}
		}
		if q.Direction == Backward {
			for i, j := 0, len(want)-1; i < j; i, j = i+1, j-1 {
				want[i], want[j] = want[j], want[i]
			}
		}
		for _, with := range []*segmentFilter{filter, nil} {
			s.Blocks[0].file.filter = with
			got, err := drain(SelectUnits(context.Background(), 0, blockUnits(s.Blocks), q, nil))
			if err != nil {
				t.Fatal(err)
			}
			sameEntries(t, fmt.Sprintf("%s, filters %v", describe(q), with != nil), got, want)
		}
		s.Blocks[0].file.filter = filter
		if len(want) == 0 && s.Blocks[0].ruledOut(t, q) {
			skipped++
		}
	}
	if skipped < 20 {
		t.Fatalf("%d searches ended at the filters: the test shows too little", skipped)
	}
}

// ruledOut reports whether nothing but tables decides that a block holds no match.
func (b *Block) ruledOut(t *testing.T, q *Query) bool {
	r := b.lazyReader()
	m, err := r.match(context.Background(), newLineSearch(q), b.runs(q, q.MatchesStream))
	if err != nil {
		t.Fatal(err)
	}
	return m.nothing && r.columns == nil && !r.hasIDs && (len(r.lines) == 0 || r.lines[0] == nil)
}

// An id that is not there ends at the filter of values, and one that is there does not.
func TestFilterOfValues(t *testing.T) {
	rng := seeded(t, 32)
	l := filterLog(t, rng)
	fsys := vfs.NewMem()
	s := openSegment(t, fsys, l.seal(fsys, 1))
	search := func(text string) (ruledOut int) {
		f, err := NewLineFilter(MatchEqual, text)
		if err != nil {
			t.Fatal(err)
		}
		q := everything()
		q.Filters = []*LineFilter{f}
		for _, b := range s.Blocks {
			if b.ruledOut(t, q) {
				ruledOut++
			}
		}
		return ruledOut
	}
	trace := regexp.MustCompile(`"trace":"([0-9a-f]{32})"`)
	out, there := 0, 0
	for _, e := range l.entries {
		m := trace.FindSubmatch(e.Line)
		if m == nil {
			continue
		}
		if there++; search(string(m[1])) == len(s.Blocks) {
			t.Fatalf("%s is ruled out", m[1])
		}
		wrong := []byte(m[1])
		if wrong[7]++; wrong[7] == '9'+1 {
			wrong[7] = 'a'
		} else if wrong[7] > 'f' {
			wrong[7] = '0'
		}
		if search(string(wrong)) == len(s.Blocks) {
			out++
		}
	}
	if there < 100 || out < there*98/100 {
		t.Fatalf("%d of %d ids that are not there are ruled out", out, there)
	}
}

func TestFuse(t *testing.T) {
	rng := seeded(t, 33)
	for _, n := range []int{1, 2, 3, 7, 50, 1000, 40_000} {
		keys := make([]uint64, n)
		for i := range keys {
			keys[i] = rng.Uint64()
			if n == 1000 { // as bad a hash as can be
				keys[i] = uint64(i)
			}
		}
		f, err := newFuse(keys)
		if err != nil {
			t.Fatalf("%d keys: %v", n, err)
		}
		if f, err = parseFuse(f.encode()); err != nil {
			t.Fatalf("%d keys: %v", n, err)
		}
		for _, k := range keys {
			if !f.has(k) {
				t.Fatalf("%d keys: one is missing", n)
			}
		}
		wrong := 0
		for range 100_000 {
			if f.has(rng.Uint64()) {
				wrong++
			}
		}
		if wrong > 600 { // 1 in 256, on average 391
			t.Errorf("%d keys: %d of 100,000 others are found", n, wrong)
		}
		if size := len(f.encode()); n == 40_000 && size > n*5/4 {
			t.Errorf("%d keys take %d bytes", n, size)
		}
	}
}

func TestGrams(t *testing.T) {
	g := newGrams()
	g.add([]byte("Connection reset"))
	g.add([]byte("abc")) // too short for a gram
	f := func(text string, fold bool, want int) {
		t.Helper()
		n := newPlanNeedle([]byte(text), fold)
		if got := g.missing(&n)[0]; got != want {
			t.Errorf("%q: the first missing gram is at %d, want %d", text, got, want)
		}
	}
	f("nection res", false, 11)
	f("connect", false, 0)
	f("connect", true, 7)
	f("connects", true, 4)
	f("ction rest", false, 6)
	f("xyz", false, 3)
	small := g.shrink()
	if !g.within(small) || (&gramFilter{bits: []byte{255, 255, 255, 255, 255, 255, 255, 255}}).within(&gramFilter{bits: []byte{254}}) {
		t.Error("grams are lost")
	}
	if g = small; len(g.bits) > 16 {
		t.Errorf("13 grams in %d bytes", len(g.bits))
	}
}

func TestAlphabet(t *testing.T) {
	f := func(expression, inside, outside string, local bool) {
		t.Helper()
		filter, err := NewLineFilter(MatchRegexp, expression)
		if err != nil {
			t.Fatal(err)
		}
		p := planFilter(filter)
		if p.local != local {
			t.Errorf("%s: local %v", expression, p.local)
		}
		for _, c := range []byte(inside) {
			if local && !p.alphabet.has(c) {
				t.Errorf("%s: %q is missing", expression, c)
			}
		}
		for _, c := range []byte(outside) {
			if local && p.alphabet.has(c) {
				t.Errorf("%s: %q is in it", expression, c)
			}
		}
	}
	f("after 4[0-9]{3}ms", "after 0459ms", `"\z:.`, true)
	f("(?i)k+", "kK\xe2", "s", true) // the Kelvin sign
	f("[^\"]x", "ax\xff", "\"", true)
	f("^a", "", "", false)
	f(`a\b`, "", "", false)
	f("a.b", "\n\xff\"", "", true)
	f("(?i)ſ", "sS\xc5", "k", true)
}

// What is not of the form of FILTERS is refused, and what is can be written again.
func FuzzFilters(f *testing.F) {
	l := filterLog(f, seeded(f, 34))
	fsys := vfs.NewMem()
	s := openSegment(f, fsys, l.seal(fsys, 1))
	file := s.Blocks[0].file
	base := file.filter.parts[0].Offset
	f.Add(file.filter.append(nil, base))
	part, err := file.filter.part(0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(part.encode())
	f.Add([]byte{})
	end := s.end.Extents[extentFilters].Offset
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseFuse(b); err == nil {
			if !bytes.Equal(p.encode(), b) {
				t.Fatal("a filter of values is another when it is written again")
			}
			p.has(uint64(len(b)) * 0x9e3779b97f4a7c15)
		}
		filter, err := parseFilter(b, file.templates, base, end)
		if err != nil {
			return
		}
		if !bytes.Equal(filter.append(nil, base), b) {
			t.Fatal("filters are others when they are written again")
		}
		p := &segmentPlan{filter: filter, plans: []*filterPlan{planFilter(&LineFilter{Type: MatchEqual, Values: []string{"took 5ms"}})}}
		filter.parts = nil // what they are is for the checksum to say
		for id := range file.templates {
			if _, err := p.of(file, uint32(id)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Verify finds filters that rule out what is there, though all checksums are right.
func TestVerifyFilters(t *testing.T) {
	l := filterLog(t, seeded(t, 35))
	fsys := vfs.NewMem()
	s := openSegment(t, fsys, l.seal(fsys, 1))
	file := s.Blocks[0].file
	if err := s.checkFilter(); err != nil {
		t.Fatal(err)
	}
	whole := *file.filter
	f := func(what string, change func(f *segmentFilter)) {
		t.Helper()
		broken := whole
		broken.masks, broken.slots = append([]byteMask(nil), whole.masks...), append([]packedFacts(nil), whole.slots...)
		change(&broken)
		file.filter = &broken
		if err := s.checkFilter(); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "FILTERS") {
			t.Errorf("%s: %v", what, err)
		}
		file.filter = &whole
	}
	f("a byte is missing", func(f *segmentFilter) { clear(f.masks) })
	f("longest", func(f *segmentFilter) { f.slots[0].longest = 0 })
	f("shortest", func(f *segmentFilter) {
		for i := range f.slots {
			f.slots[i].shortest = unbounded
		}
	})
	f("grams", func(f *segmentFilter) { f.grams = &gramFilter{bits: []byte{0}} })
	f("values", func(f *segmentFilter) {
		for i := range f.slots {
			f.slots[i].flags |= factListed
		}
	})
}
