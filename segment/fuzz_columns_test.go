package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment/field"
)

// shredSeeds are lines of every shape, and what reads like one of them.
var shredSeeds = []string{
	"", "x", "1", " ", "\x00", "\xff\xfe1\xc3", "node12 took 10ms, 5% of 1a2b3c in be12 12be deadbeef 0x1F", "GET /a/1?b=2 HTTP/1.1",
	"<34>1 2023-11-14T22:13:20.003Z host.example su 77 ID47 - 'su root' failed", "Nov 14 22:13:20 host sshd[2412]: Accepted",
	`{}`, `{ }`, `{"a":1}`, `{"a":1,"b":"x","c":{"d":null},"e":[1,{"f":"]"}],"g":true}`, `{"a":"x\"y","b\"c":"\\"}`, `{"a":"\\","b":"\\\\\""}`,
	`{"a":1,}`, `{"a"}`, `{"a":}`, `{"a":"x}`, `{"a":[1}`, `{"a":1} `, "{\"a\"\t:\n1 }", `{"a":{"a":{"a":{"a":{}}}}}`, `{"a":` + "\"\x01\"}", `{1}`, `{"a":1}}`,
	`level=info msg="a b" took=5ms`, `a=1 b=`, `a=1 b`, `a="" b=""`, `a="\"" b="\\"`, `a="x`, `a="x"y`, `a=b=c d=1`, `a=1  b=2`, `a=1 b=2 `, `a="x" `, "a=\x00 b=\xff",
	strings.Repeat("1,", maxSlots), strings.Repeat("1,", maxSlots+1), strings.Repeat("-", maxTemplateKey), strings.Repeat("9", maxShredLine), strings.Repeat("9", maxShredLine+1),
	`{"a":` + strings.Repeat(`{"a":`, maxShredDepth+1) + `1` + strings.Repeat(`}`, maxShredDepth+2), `a=1 ` + strings.Repeat("b=2 ", 300) + "c=3",
}

// FuzzShred: the parts put together are the line, the template's canonical form is read
// back as it was, and each value is one that its slot allows: filters rely on that.
func FuzzShred(f *testing.F) {
	for _, s := range shredSeeds {
		f.Add([]byte(s))
	}
	var again shredder
	f.Fuzz(func(t *testing.T, line []byte) {
		var s shredder
		if !s.shred(line) {
			return
		}
		template, values := cutLine(t, &s, line)
		for i, v := range values {
			k := template.kinds[i]
			for from := range len(v) + 1 {
				// Every part of a value, at its begin and elsewhere.
				if part := v[from:min(len(v), from+64)]; !k.allows(part, from == 0) {
					t.Fatalf("%q: a value of kind %d cannot contain %q, and is %q", line, k, part, v)
				}
			}
			if len(v) < k.shortest() {
				t.Fatalf("%q: value %q of kind %d", line, v, k)
			}
		}
		// What a shredder did before changes nothing.
		if !again.shred(line) || !bytes.Equal(again.key, s.key) || !slices.Equal(again.values, s.values) {
			t.Fatalf("%q is cut in two ways", line)
		}
		// The line of which values are other values of the same slots has the same text.
		if len(template.literals) != len(values)+1 || len(values) > maxSlots || len(s.key) > maxTemplateKey {
			t.Fatalf("%q: %d literals, %d values", line, len(template.literals), len(values))
		}
	})
}

// cutLine returns the template and the values of a line that was cut, which together
// must be the line.
func cutLine(t testing.TB, s *shredder, line []byte) (*Template, [][]byte) {
	t.Helper()
	template, err := parseTemplate(bytes.Clone(s.key))
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	if template.kind != s.kind || template.slots() != len(s.values) || len(template.kinds) != len(s.values) {
		t.Fatalf("%q: kind %d with %d slots, want %d with %d", line, template.kind, template.slots(), s.kind, len(s.values))
	}
	var values [][]byte
	var joined []byte
	for i, v := range s.values {
		values = append(values, line[v.start:v.end])
		joined = append(append(joined, template.literals[i]...), line[v.start:v.end]...)
	}
	if joined = append(joined, template.literals[len(values)]...); !bytes.Equal(joined, line) {
		t.Fatalf("%q is put together as %q", line, joined)
	}
	return template, values
}

func FuzzParseTemplate(f *testing.F) {
	for _, line := range shredSeeds {
		if s := (shredder{}); s.shred([]byte(line)) {
			f.Add(s.key)
		}
	}
	f.Add(bytes.Repeat([]byte{0}, maxTemplateKey))
	f.Fuzz(func(t *testing.T, key []byte) {
		var template *Template
		var err error
		bounded(t, 64*(maxSlots+2), func() { template, err = parseTemplate(key) })
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v is no damage", err)
			}
			return
		}
		again := []byte{byte(template.kind)}
		for i, l := range template.literals {
			again = append(binary.AppendUvarint(again, uint64(len(l))), l...)
			if i < template.slots() {
				again = append(again, byte(template.kinds[i]))
			}
		}
		if !bytes.Equal(again, key) || template.slots() > maxSlots {
			t.Fatalf("%x is written as %x", key, again)
		}
	})
}

// FuzzColumns: any values come back. They stand in a JSON string, where a column takes
// nearly everything, one in a row; the block is decoded and compared by Encode, values
// taken alone are compared with it.
func FuzzColumns(f *testing.F) {
	join := func(values ...string) string { return strings.Join(values, "\n") }
	seeds := []string{
		join("1", "2", "-3", "0"), join("-0", "1"), join("1_0", "2"), join("-", "1"), join("01", "02"), join("1", "01", "001"), join("-1", "01"), join("-10", "-2"),
		join("999999999999999999", "1"), join("1000000000000000000", "1"), join("-99999999999999999", "999999999999999999"), join("-999999999999999999", "1"),
		join("9223372036854775807", "9223372036854775808"), join("000000000000000001", "000000000000000002"), join("0", "00"), join("", "1"), join("1", ""), join("", "x"),
		join("1.50", "2.25"), join("-0.5", "0.5"), join("-0.0", "0.0"), join("1.5", "1.50"), join(".5", "1.5"), join("5.", "1."), join("00.5", "1.5"), join("1.2.3", "1.2"), join("0.0", "0.1"), join("99999999999999.99", "-99999999999999.99"),
		join("10.0.0.1", "10.0.0.2"), join("01.2.3.4", "1.2.3.4"), join("256.1.1.1", "1.1.1.1"), join("1.2.3", "1.2.3.4"), join("1.2.3.4.5", "1.2.3.4"), join("0.0.0.0", "255.255.255.255"), join("1..2.3", "1.2.3.4"), join("1.2.3.", "1.2.3.4"),
		join("deadbeef", "cafebabe"), join("DEADBEEF", "CAFEBABE"), join("deadBEEF", "cafebabe"), join("abc12", "def34"), join("12345678", "abcdefab"), join("abcd", "ABCD"), join("abcg", "abcd"), join("0x1f", "0x2f"),
		join("2023-11-14T22:13:20Z", "2023-11-14T22:13:21Z"), join("2023-11-14T22:13:60Z", "2016-12-31T23:59:60Z"), join("2024-02-29T00:00:00.000Z", "2023-02-28T23:59:59.999Z"), join("2023-02-29T00:00:00Z", "1900-02-29T00:00:00Z"), join("2000-02-29T00:00:00Z", "2100-02-28T00:00:00Z"),
		join("1700-01-01T00:00:00Z", "2200-12-31T23:59:59.999999999Z"), join("1699-12-31T23:59:59Z", "2201-01-01T00:00:00Z"), join("1969-12-31T23:59:59.999999999Z", "1970-01-01T00:00:00Z"), join("2023-11-14T22:13:20.100Z", "2023-11-14T22:13:20.1Z"),
		join("2023-11-14T22:13:20.100000Z", "2023-11-14T22:13:20.123456Z"), join("2023-11-14T22:13:20.123456789Z", "2023-11-14T22:13:20.1234567Z"), join("2023-11-14T22:13:20.123456780Z", "2023-11-14T22:13:20.123456781Z"), join("2023-11-14T22:13:20.Z", "2023-11-14T22:13:20.0Z"), join("2023-11-14t22:13:20Z", "2023-11-14T22:13:20z"), join("2023-11-14 22:13:20Z", "2023-11-14T22:13:20+00:00"), join("2023-13-14T22:13:20Z", "2023-11-31T22:13:20Z"),
		join("a", "b", "a"), join("a", "a"), join("\xff", "\x00", "é"), join(`\"`, `\\`), join("x", strings.Repeat("y", 300)), join("48210007", "50210009", "48210023"),
	}
	for _, s := range seeds {
		f.Add(s, uint16(2), int64(1_700_000_000_123_456_789), int64(1_000_001))
		f.Add(s, uint16(30), int64(-1), int64(-7))
		f.Add(s, uint16(300), int64(math.MinInt64), int64(1))
	}
	f.Fuzz(func(t *testing.T, text string, rows uint16, start, step int64) {
		values := strings.Split(text, "\n")
		n := max(len(values), int(rows)%400)
		b := &Batch{Streams: []*Stream{NewStream("t", nil)}}
		// Values that repeat, values that go on counting, and values next to each other.
		rng := rand.New(rand.NewPCG(uint64(n), uint64(len(text))))
		for i := range n {
			v := values[i%len(values)]
			other := values[rng.IntN(len(values))]
			r := Row{Timestamp: start + int64(i)*step, Line: fmt.Appendf(nil, `{"a":"%s","b":"%s%d","c":"%d%s","d":"%s"}`, v, other, i, i, v, other)}
			if r.Timestamp == math.MaxInt64 {
				r.Timestamp--
			}
			b.Rows = append(b.Rows, r)
		}
		l := newTestLog(t)
		l.append(b)
		o := l.open(vfs.NewMem(), "open-1", 1)
		defer o.Close()
		block := o.Blocks()[0]
		got, err := drain(SelectUnits(context.Background(), 0, blockUnits(o.Blocks()), everything(), nil))
		if err != nil {
			t.Fatal(err)
		}
		sameEntries(t, "the block", byOffset(got), l.entries)
		if len(block.Meta.Templates) > 0 {
			_, decoded := columnsBlock(t, l)
			sameSingles(t, block, decoded)
		}
	})
}

// TestColumnWriterRandom: columns of random numbers of every width come back.
func TestColumnWriterRandom(t *testing.T) {
	rng := seeded(t, 11)
	for range 60 {
		width, n := rng.IntN(60), 2+rng.IntN(400)
		sign, digits := []string{"", "-"}[rng.IntN(2)], rng.IntN(19)
		point := []string{"", ".5", ".25"}[rng.IntN(3)]
		distinct := 1 + rng.IntN(n)
		pool := make([]string, distinct)
		for i := range pool {
			pool[i] = fmt.Sprintf("%s%0*d%s", sign, digits*rng.IntN(2), rng.Uint64()>>(63-width)>>1, point)
		}
		b := &Batch{Streams: []*Stream{NewStream("t", nil)}}
		for i := range n {
			b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: fmt.Appendf(nil, `{"a":"%s","b":%s}`, pool[rng.IntN(distinct)], pool[rng.IntN(distinct)])})
		}
		l := newTestLog(t)
		l.append(b)
		block, decoded := columnsBlock(t, l)
		sameSingles(t, block, decoded)
	}
}

// damagedBlock is a block whose chunks are changed, with the right checksums, and stand
// in a file of their own.
func damagedBlock(t testing.TB, b *Block, change func(ref *ChunkRef, raw []byte) []byte) *Block {
	t.Helper()
	m := *b.Meta
	m.Chunks = nil
	out := make([]byte, fileHeaderSize)
	for i := range b.Meta.Chunks {
		ref := &b.Meta.Chunks[i]
		raw, err := b.read(ref)
		if err != nil {
			t.Fatal(err)
		}
		grown, added, err := appendChunk(out, ref.Kind, m.Number, change(ref, raw))
		if err != nil {
			t.Fatal(err)
		}
		out = grown
		added.FirstRow, added.Rows = ref.FirstRow, ref.Rows
		m.Chunks = append(m.Chunks, added)
	}
	return &Block{Meta: &m, file: &blockFile{chunks: chunkReader{r: bytes.NewReader(out), path: "damaged"}, streams: b.file.streams, templates: b.file.templates, folds: b.file.folds, filter: b.file.filter}}
}

// FuzzDamagedColumns reads blocks with bytes of TID, COLUMNS or a packed stream changed,
// put in or taken out, with the right checksums: no panic, no memory without bound, and
// an error that says that it is damage, or rows; and verify lets nothing pass.
func FuzzDamagedColumns(f *testing.F) {
	l := columnsLog(f)
	b, _ := columnsBlock(f, l)
	kinds := []ChunkKind{ChunkTemplateIDs, ChunkColumns, ChunkNumbers, ChunkIDs, ChunkStrings, ChunkBinary}
	rng := rand.New(rand.NewPCG(5, 5))
	for i, kind := range kinds {
		n := int(b.Meta.find(kind).Raw)
		step := max(n/40, 1)
		if kind == ChunkColumns {
			step = 1
		}
		for at := 0; at < n; at += step {
			f.Add(uint8(i), uint32(at), []byte{byte(1 + rng.IntN(255))}, uint8(0))
			if at%3 == 0 {
				f.Add(uint8(i), uint32(at), []byte{0xff, 0xff, 0xff, 0xff, 0x7f}, uint8(1+at%3+at%2))
			}
		}
	}
	whole := byOffset(slices.Clone(l.entries))
	f.Fuzz(func(t *testing.T, which uint8, at uint32, change []byte, how uint8) {
		kind := kinds[int(which)%len(kinds)]
		change = change[:min(len(change), 64)]
		damaged := damagedBlock(t, b, func(ref *ChunkRef, raw []byte) []byte {
			if ref.Kind != kind {
				return raw
			}
			k := int(at) % (len(raw) + 1)
			switch how % 3 {
			case 0:
				for i, c := range change {
					raw[(k+i)%len(raw)] ^= c
				}
				return raw
			case 1:
				return slices.Insert(raw, k, change...)
			}
			return slices.Delete(raw, k, min(len(raw), k+len(change)))
		})
		bounded(t, 64<<20, func() { readAll(t, damaged, whole) })
	})
}

// readAll reads a damaged block in every way.
func readAll(t testing.TB, b *Block, want []Entry) {
	t.Helper()
	ctx := context.Background()
	check := func(what string, err error) {
		t.Helper()
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: %v is no damage", what, err)
		}
	}
	err := b.verify()
	check("verify", err)
	got, serr := drain(SelectUnits(ctx, 0, []Unit{b}, everything(), nil))
	check("select", serr)
	if err == nil {
		if serr != nil {
			t.Fatalf("verified, and cannot be read: %v", serr)
		}
		sameEntries(t, "verified", byOffset(got), want)
	}
	for _, filter := range []struct {
		match MatchType
		value string
	}{{MatchEqual, `"l":"info"`}, {MatchEqual, "7"}, {MatchNotEqual, "=5"}, {MatchRegexp, "(?i)warn"}, {MatchEqual, fmt.Sprintf("%08x", uint32(2654435761))}, {MatchEqual, "22:13:2"}, {MatchRegexp, `id=9.*t=2`}, {MatchEqual, "HEX=8"}, {MatchEqual, "split=48"}, {MatchNotEqual, "xxxy"}} {
		line, err := NewLineFilter(filter.match, filter.value)
		if err != nil {
			t.Fatal(err)
		}
		q := everything()
		q.Filters = []*LineFilter{line}
		_, err = drain(SelectUnits(ctx, 0, []Unit{b}, q, nil))
		check("filter "+filter.value, err)
		q.Limit = 1
		_, err = drain(SelectUnits(ctx, 0, []Unit{b}, q, nil))
		check("first of filter "+filter.value, err)
	}
	json, err := NewJSONStage(field.Expression{Label: "n", Path: "n"}, field.Expression{Label: "l", Path: "l"})
	if err != nil {
		t.Fatal(err)
	}
	logfmt, err := NewLogfmtStage(false, false)
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMatcher(ErrorLabel, MatchEqual, "")
	if err != nil {
		t.Fatal(err)
	}
	right := &LabelFilter{Kind: FilterString, Name: ErrorLabel, Matcher: m}
	for _, stage := range []PipelineStage{json, logfmt} {
		q := everything()
		q.Pipeline = NewPipeline(stage, right)
		a := &Aggregation{Measure: MeasureCount, First: rowTime(1000), Steps: 1, Range: math.MaxInt64, Grouping: Grouping{Names: []string{"l", "n", "split"}}}
		check("aggregation", AggregateUnits(ctx, []Unit{b}, q, a, NewPartial(a)))
	}
	if columns, err := b.columns(); err == nil && columns != nil {
		for i := range columns.templates {
			of, err := columns.columnsOf(i)
			if err != nil {
				check("directory", err)
				continue
			}
			for k := range of.columns {
				_, err := columns.one(nil, of, &of.columns[k], of.rows-1, 0)
				check("single value", err)
			}
		}
	}
}

// FuzzTimePattern: what a pattern reads it writes in the same way, and it is the time
// that package time reads; any time near enough is written as package time does.
func FuzzTimePattern(f *testing.F) {
	for _, s := range []string{"2023-11-14T22:13:20Z", "2024-02-29T23:59:59.999Z", "1700-01-01T00:00:00.000000Z", "2200-12-31T23:59:59.999999999Z", "2016-12-31T23:59:60Z", "2023-11-14T22:13:20.10Z", "2023-02-29T00:00:00Z", "", "Z", "2023-11-14T22:13:20.Z", "1969-12-31T23:59:59.5Z"} {
		f.Add(s, int64(len(s))*1e17)
	}
	for _, ts := range []int64{0, -1, 1, -1e9, 1e9 - 1, math.MinInt64, math.MaxInt64, 951782400e9, 951868800e9, -62135596800, 4107542400e9} {
		f.Add("", ts)
	}
	layouts := [timePatterns]string{time.RFC3339Nano, time.RFC3339, "2006-01-02T15:04:05.000Z07:00", "2006-01-02T15:04:05.000000Z07:00", "2006-01-02T15:04:05.000000000Z07:00"}
	f.Fuzz(func(t *testing.T, text string, ts int64) {
		for p := range timePattern(timePatterns) {
			if v, ok := p.parse([]byte(text)); ok {
				want, err := time.Parse(time.RFC3339Nano, text)
				if err != nil || want.UnixNano() != v {
					t.Fatalf("%q is read as %d, want %d: %v", text, v, want.UnixNano(), err)
				}
				if got := p.append(nil, v); string(got) != text {
					t.Fatalf("%q is written as %q by pattern %d", text, got, p)
				}
			}
			want := time.Unix(0, ts).UTC().Format(layouts[p])
			if got := p.append(nil, ts); string(got) != want {
				t.Fatalf("%d is written as %q by pattern %d, want %q", ts, got, p, want)
			}
			v, ok := p.parse([]byte(want))
			if unit := p.unit(); ok && v != floor(ts, unit) || !ok && ts > -8e18 && ts < 7e18 {
				t.Fatalf("%q is read as %d, %t, want %d", want, v, ok, floor(ts, unit))
			}
		}
	})
}

// Numbers of every width come back, all together and each alone.
func TestBits(t *testing.T) {
	rng := seeded(t, 12)
	for width := range uint(65) {
		for _, n := range []int{0, 1, 2, 7, 8, 9, 63, 64, 65, 200} {
			var w bitWriter
			w.out = []byte{0xaa} // columns follow each other
			in := make([]uint64, n)
			for i := range in {
				if width > 0 {
					in[i] = rng.Uint64() >> (64 - width)
				}
				if rng.IntN(4) == 0 && width > 0 {
					in[i] = ^uint64(0) >> (64 - width)
				}
				w.put(in[i], width)
			}
			w.flush()
			b := w.out[1:]
			if len(b) != packedSize(n, width) {
				t.Fatalf("%d numbers of %d bits take %d bytes, want %d", n, width, len(b), packedSize(n, width))
			}
			b = b[:len(b):len(b)]
			out := make([]uint64, n)
			for i := range out {
				out[i] = 1
			}
			unpack(out, b, width)
			if !slices.Equal(out, in) {
				t.Fatalf("%d numbers of %d bits: %x, want %x", n, width, out, in)
			}
			for i := range in {
				if width == 0 {
					break
				}
				if one := unpackOne(b, i, width); one != in[i] {
					t.Fatalf("number %d of %d bits is %x alone, want %x", i, width, one, in[i])
				}
			}
		}
	}
}
