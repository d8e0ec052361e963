package segment

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
)

// columnsLog is one record with columns of every encoding, number format and storage of
// ids, between lines that have none.
func columnsLog(t testing.TB) *testLog {
	l := newTestLog(t)
	web, db := NewStream("t", Labels{{"app", "web"}}), NewStream("t", Labels{{"app", "db"}})
	b := &Batch{Streams: []*Stream{web, db}}
	add := func(format string, args ...any) {
		b.Rows = append(b.Rows, Row{Timestamp: rowTime(len(b.Rows)), Line: fmt.Appendf(nil, format, args...), Stream: uint32(len(b.Rows) / 90)})
	}
	add("alone")
	for i := range planesFrom { // in byte planes
		at := time.Unix(0, rowTime(len(b.Rows))-int64(i*i)).UTC()
		add(`{"t":"%s","l":"%s","h":"%s","n":%d,"c":"const","id":"%08x","HEX":"%05X","node":"0a1b%04x00","u":"%08x-0000-4abc-8abc-%012x","U":"0A%06X-0000-4ABC-8ABC-%012X"}`, at.Format(time.RFC3339Nano), []string{"info", "warn"}[i%2], []string{"a", "b"}[i%2], i*i*7%1009,
			uint32(i+1)*2654435761, (i+1)*40503&0xfffff, uint16(i*40503), uint32(i+1)*2654435761, i, i, (i+1)*77777777777)
	}
	for i := range 40 { // variants
		add("job%d of disk%d0%03d: %s%02d-%d", 7-i%3, i%3, i*331%1000, []string{"a0", "b1", "a2"}[i%3], i*37%100, i%3)
	}
	add("job%d of disk%s: %s-%d", 7, "none1", "b17", 5)
	add("alone: \x00\xff")
	many := strings.Repeat("k=1 ", maxFoldSlots) // too many slots to be folded
	for i := range splitFrom {                   // packed in bits
		at := time.Unix(0, rowTime(len(b.Rows))).UTC()
		add(many+`id=%04x split=%d text="%s" l=%s h=%s dec=%d fix=%03d dig=%s point=%d.%02d ip=10.0.%d.7 t=%s`, uint16(i+1)*40503, 48210000+i%2*2000000+i*31%97,
			strings.Repeat("x", i)+"y", []string{"info", "warn"}[i%2], []string{"a", "b"}[i%2], i*5-9, i*9, []string{"7", "07", "007"}[i%3]+fmt.Sprint(i), i-3, i*7%100, 255-i, at.Format("2006-01-02T15:04:05.000Z"))
	}
	l.append(b)
	return l
}

func rowTime(row int) int64 { return 1_700_000_000_000_000_000 + int64(row)*1_000_001 }

// columnsBlock is the block of a log, and all its columns by template.
func columnsBlock(t testing.TB, l *testLog) (*Block, *blockColumns) {
	t.Helper()
	o := l.open(vfs.NewMem(), "open-1", 1<<30)
	t.Cleanup(func() { o.Close() })
	b := o.Blocks()[0]
	c, err := b.columns()
	if err != nil || c == nil {
		t.Fatalf("columns: %v, %v", c, err)
	}
	for i := range c.templates {
		of, err := c.columnsOf(i)
		if err != nil {
			t.Fatal(err)
		}
		for k := range of.columns {
			if err := c.load(of, &of.columns[k]); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b, c
}

// The log that stands for all columns in other tests has all of them.
func TestColumnsLogHasAll(t *testing.T) {
	_, c := columnsBlock(t, columnsLog(t))
	encodings, formats, storages := map[columnEncoding]int{}, map[numberFormat]int{}, map[idStorage]int{}
	for i := range c.templates {
		for k := range c.templates[i].columns {
			col := &c.templates[i].columns[k]
			encodings[col.encoding]++
			if col.encoding == columnNumber || col.encoding == columnPlanes {
				formats[col.format]++
			}
			if col.count > 0 {
				storages[col.storage]++
			}
		}
	}
	if len(encodings) != 9 || len(formats) != 6 || len(storages) != 4 {
		t.Fatalf("encodings %v, formats %v, ids %v", encodings, formats, storages)
	}
}

// A value that is taken alone out of a column is the one of the decoded column.
func TestOneEqualsAppend(t *testing.T) {
	b, decoded := columnsBlock(t, columnsLog(t))
	sameSingles(t, b, decoded)
}

func sameSingles(t testing.TB, b *Block, decoded *blockColumns) {
	t.Helper()
	lazy, err := b.columns()
	if err != nil {
		t.Fatal(err)
	}
	times, err := b.timestamps()
	if err != nil {
		t.Fatal(err)
	}
	r := b.lazyReader()
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	for i := range decoded.templates {
		of := &decoded.templates[i]
		from, err := lazy.columnsOf(i)
		if err != nil {
			t.Fatal(err)
		}
		rows := r.rowsOf(i)
		for k := range of.columns {
			for rank, row := range rows {
				want := of.columns[k].append(nil, rank, times[row])
				got, err := lazy.one(nil, from, &from.columns[k], rank, times[row])
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("template %d, slot %d (encoding %d, format %d), value %d alone is %q, want %q: %v", i, k, of.columns[k].encoding, of.columns[k].format, rank, got, want, err)
				}
			}
		}
	}
}

// Ids can follow from those of any slot, also of one whose number takes two bytes.
func TestManySlots(t *testing.T) {
	l := newTestLog(t)
	b := &Batch{Streams: []*Stream{NewStream("t", nil)}}
	for i := range 40 {
		line := []byte("a=1")
		for k := range maxSlots - 1 {
			value := "same"
			if k >= 200 {
				value = []string{"x", "y", "z"}[(i*k/200+i)%3]
			}
			line = fmt.Appendf(line, " k%d=%s", k, value)
		}
		b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: line})
	}
	l.append(b)
	_, c := columnsBlock(t, l)
	of := &c.templates[0]
	if len(of.columns) != maxSlots || !slices.ContainsFunc(of.columns, func(c column) bool { return c.storage == idsDerived && c.source > 127 }) {
		t.Fatalf("%d slots, and none whose ids follow from those of one beyond 127", len(of.columns))
	}
	// One slot more, and the lines are stored as they are.
	for i := range b.Rows {
		b.Rows[i].Line = append(b.Rows[i].Line, " more=1"...)
	}
	l = newTestLog(t)
	l.append(b)
	o := l.open(vfs.NewMem(), "open-1", 1)
	defer o.Close()
	if m := o.Blocks()[0].Meta; m.bareRows() != m.Rows {
		t.Fatalf("%d rows of %d are stored as they are", m.bareRows(), m.Rows)
	}
}

// Lines of a template that occurs once, and was not there before, are stored as they are;
// the same in a later block is not new.
func TestFallback(t *testing.T) {
	l := newTestLog(t)
	stream := NewStream("t", nil)
	f := func(lines ...string) {
		b := &Batch{Streams: []*Stream{stream}}
		for i, line := range lines {
			b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: []byte(line)})
		}
		l.append(b)
	}
	f("twice 1", "once 1", "twice 2")
	f("twice 3", "once 2")
	f("once 3", "once 4", strings.Repeat("x", maxShredLine+1), strings.Repeat("1,", maxSlots+1), strings.Repeat("-", maxTemplateKey))
	o := l.open(vfs.NewMem(), "open-1", 1)
	defer o.Close()
	for i, want := range []uint32{1, 1, 3} {
		if got := o.Blocks()[i].Meta.bareRows(); got != want {
			t.Errorf("block %d: %d rows without a template, want %d", i, got, want)
		}
	}
	if n := len(o.table.templates); n != 2 {
		t.Errorf("%d templates, want 2", n)
	}
}

// Directories of columns that no writer makes are refused before anything is read by them.
func TestColumnsRefuse(t *testing.T) {
	dict := []byte{byte(columnDict), 2, 1, 'a', 1, 'b'}
	join := func(parts ...[]byte) []byte { return slices.Concat(parts...) }
	f := func(what string, raw []byte, ok bool) {
		t.Helper()
		var at [streamCount]int
		var columns []column
		r := reader{b: raw}
		var err error
		for len(r.b) > 0 && err == nil {
			var c column
			err = c.parse(&r, 10, columns, &at)
			columns = append(columns, c)
		}
		if ok != (err == nil) {
			t.Errorf("%s: %v", what, err)
		}
	}
	number := func(format numberFormat, parameter byte, rest ...byte) []byte {
		return append([]byte{byte(columnNumber), byte(format), parameter, 0, 8}, rest...)
	}
	split := func(format numberFormat, parameter, k byte, rest ...byte) []byte {
		return append([]byte{byte(columnSplit), byte(format), parameter, k}, rest...)
	}
	f("const", []byte{byte(columnConst), 1, 'a'}, true)
	f("const beyond the end", []byte{byte(columnConst), 2, 'a'}, false)
	f("an encoding that was never used", []byte{4}, false)
	f("an encoding to come", []byte{byte(columnSplit) + 1}, false)
	f("decimal", number(formatDecimal, 0), true)
	f("decimal with a parameter", number(formatDecimal, 1), false)
	f("more bits than a number has", []byte{byte(columnNumber), 0, 0, 0, 65}, false)
	f("fixed", number(formatFixed, maxDigits), true)
	f("fixed of no digits", number(formatFixed, 0), false)
	f("fixed of too many digits", number(formatFixed, maxDigits+1), false)
	f("digits", number(formatDigits, 0, 1, 3), true)
	f("digits, more than there can be", number(formatDigits, 0, maxDigits+1, 0), false)
	f("digits of long lengths", number(formatDigits, 0, 1, 9), false)
	f("point", number(formatPoint, 2), true)
	f("point behind nothing", number(formatPoint, 0), false)
	f("point too far left", number(formatPoint, maxDigits+1), false)
	f("time", number(formatTime, timePatterns-1), true)
	f("time of an unknown pattern", number(formatTime, timePatterns), false)
	f("format to come", number(formatTime+1, 0), false)
	f("dictionary", join(dict, []byte{byte(idsPacked)}), true)
	f("dictionary of nothing", []byte{byte(columnDict), 0, byte(idsPacked)}, false)
	f("dictionary too large", join([]byte{byte(columnDict), 0x81, 0x20}, bytes.Repeat([]byte{1, 'a'}, dictLimit+1), []byte{byte(idsPacked)}), false)
	f("ids stored in an unknown way", join(dict, []byte{byte(idsDerived) + 1}), false)
	f("derived", join(dict, []byte{byte(idsPacked)}, dict, []byte{byte(idsDerived), 0, 1, 0}), true)
	f("derived from itself", join(dict, []byte{byte(idsDerived), 0, 1, 0}), false)
	f("derived from a later one", join(dict, []byte{byte(idsPacked)}, dict, []byte{byte(idsDerived), 2, 1, 0}), false)
	f("derived from one without ids", join([]byte{byte(columnConst), 0}, dict, []byte{byte(idsDerived), 0, 1, 0}), false)
	f("derived from one that is derived", join(dict, []byte{byte(idsPacked)}, dict, []byte{byte(idsDerived), 0, 1, 0}, dict, []byte{byte(idsDerived), 1, 1, 0}), false)
	f("derived beyond the dictionary", join(dict, []byte{byte(idsPacked)}, dict, []byte{byte(idsDerived), 0, 1, 2}), false)
	f("hex", []byte{byte(columnHex), 1, 7}, true)
	f("hex of no digits", []byte{byte(columnHex), 0, 0}, false)
	f("hex of another case", []byte{byte(columnHex), 2, 7}, false)
	f("hex of too many digits", []byte{byte(columnHex), 0, 0x81, 8}, false)
	f("text", []byte{byte(columnText), 1, 32, 100}, true)
	f("text of long lengths", []byte{byte(columnText), 1, 33, 100}, false)
	f("split", split(formatDecimal, 0, 3, 1, 9, byte(idsPacked)), true)
	f("split times", split(formatTime, 0, 3, 1, 9, byte(idsPacked)), false)
	f("split of no digits", split(formatFixed, 0, 3, 1, 9, byte(idsPacked)), false)
	f("split of too many digits", split(formatDecimal, 0, maxDigits+1, 1, 9, byte(idsPacked)), false)
	f("split of nothing", split(formatDecimal, 0, 3, 0, byte(idsPacked)), false)
	f("split into too large numbers", split(formatDecimal, 0, maxDigits, 1, 10, byte(idsPacked)), false)
}

// A template's columns end where its numbers in COLUMNS say, the last one's too.
func TestColumnsEndElsewhere(t *testing.T) {
	b, c := columnsBlock(t, columnsLog(t))
	for k := range streamCount {
		moved := *c
		moved.templates = slices.Clone(c.templates)
		last := &moved.templates[len(moved.templates)-1]
		last.columns = nil
		moved.ends[k]++
		if _, err := moved.columnsOf(len(moved.templates) - 1); !errors.Is(err, ErrCorrupt) {
			t.Errorf("the last template of block %d ends one byte later in %s: %v", b.Meta.Number, streamKinds[k], err)
		}
		moved.templates[0].columns = nil
		moved.templates[1].at[k]++
		if _, err := moved.columnsOf(0); !errors.Is(err, ErrCorrupt) {
			t.Errorf("the first template ends one byte later in %s: %v", streamKinds[k], err)
		}
	}
}

// A table of templates is no larger than what a writer makes.
func TestTemplatesBounded(t *testing.T) {
	var table templateTable
	var all []*Template
	for i := 0; ; i++ {
		key := append([]byte{0, 0xf0, 0x7f}, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 0x3ff0/2)...)
		template, err := parseTemplate(key)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, template)
		if _, ok := table.add(key); !ok {
			break
		}
	}
	f := func(templates []*Template, ok bool) {
		t.Helper()
		r := reader{b: appendTemplates(nil, templates)}
		_, err := parseTemplates(&r)
		if err = errors.Join(err, r.done()); ok != (err == nil) {
			t.Errorf("%d templates: %v", len(templates), err)
		}
	}
	f(table.templates, true)
	f(all, false)
	if table.bytes > maxTemplateBytes || table.bytes < maxTemplateBytes-maxTemplateKey {
		t.Errorf("the table is full with %d bytes", table.bytes)
	}
}

// TestUUIDs: UUIDs are one value, whatever their groups look like, and only by themselves.
func TestUUIDs(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"req abcdefab-cdef-abcd-efab-cdefabcdefab done", "req ◊ done"},
		{"[12345678-1234-1234-1234-123456789012]", "[◊]"},
		{"0ABCDEF0-0ABC-4ABC-8ABC-0ABCDEF0ABCD", "◊"},
		{"abcdefab-cdef-abcd-efab-cdefabcdefabc", "abcdefab-cdef-abcd-efab-cdefabcdefabc"},
		{"abcdefag-cdef-abcd-efab-cdefabcdefab", "abcdefag-cdef-abcd-efab-cdefabcdefab"},
		{"abcdefab_cdef-abcd-efab-cdefabcdefab", "abcdefab_cdef-abcd-efab-cdefabcdefab"},
	} {
		var s shredder
		if !s.shred([]byte(c.line)) {
			t.Fatalf("%q is not cut", c.line)
		}
		template, err := parseTemplate(s.key)
		if err != nil {
			t.Fatal(err)
		}
		if got := template.text(); got != c.want {
			t.Errorf("%q is cut as %q, want %q", c.line, got, c.want)
		}
	}
}
