package segment

import (
	"bytes"
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
		add(`{"t":"%s","l":"%s","h":"%s","n":%d,"c":"const"}`, at.Format(time.RFC3339Nano), []string{"info", "warn"}[i%2], []string{"a", "b"}[i%2], i*i*7%1009)
	}
	add("alone: \x00\xff")
	for i := range splitFrom { // packed in bits
		at := time.Unix(0, rowTime(len(b.Rows))).UTC()
		add(`id=%08x HEX=%05X split=%d text="%s" l=%s h=%s dec=%d fix=%03d dig=%s point=%d.%02d ip=10.0.%d.7 t=%s`, uint32(i+1)*2654435761, (i+1)*40503&0xfffff, 48210000+i%2*2000000+i*31%97,
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
	if len(encodings) != 7 || len(formats) != 6 || len(storages) != 3 {
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
