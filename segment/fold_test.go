package segment

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// foldLog has lines whose values come together in a few ways, of which each record brings
// further ones, and from its middle on the lines of a template are others.
func foldLog(t testing.TB) *testLog {
	l := newTestLog(t)
	rng := seeded(t, 11)
	for record := range 12 {
		b := &Batch{Streams: []*Stream{NewStream("t", Labels{{"app", "a"}})}}
		for range 60 + record/6*80 { // more of the others: only then they count
			way := rng.IntN(3 + record)
			line := fmt.Appendf(nil, "worker-%d took job %d%03d of 10.%d.0.%d%d, state st%dx", way%4, 8100+way, rng.IntN(1000), way, way%3, rng.IntN(10), way%2)
			switch {
			case record >= 6:
				line = fmt.Appendf(nil, "worker-%d took job %d of 10.%d.0.%d, state st%dx", rng.IntN(100000), way, rng.IntN(256), rng.IntN(256), rng.IntN(50))
			case rng.IntN(40) == 0:
				line = fmt.Appendf(nil, "worker-%d took job %d of 10.0.0.%d, state st%dx", way, rng.IntN(20), way, way) // shorter than what is left to blocks
			}
			b.Rows = append(b.Rows, Row{Timestamp: int64(1e18) + int64(record*1000+len(b.Rows)), Line: line})
		}
		l.append(b)
	}
	return l
}

// TestFoldsGrow: blocks read well whatever later blocks add to their folds (G3), and a
// segment that was resumed between any two blocks becomes the same file (G4).
func TestFoldsGrow(t *testing.T) {
	l := foldLog(t)
	whole := vfs.NewMem()
	o := l.open(whole, "open-1", 1)
	if n := len(o.table.folds.folds); n < 2 {
		t.Fatalf("%d folds, want some that follow each other", n)
	}
	for _, f := range o.table.folds.folds {
		if f.variants < 2 {
			t.Fatalf("fold with %d variants", f.variants)
		}
	}
	for i, b := range o.Blocks() {
		if err := b.verify(); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
	sealed, err := o.Seal(l.sealRange())
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	want := fileBytes(t, whole, sealed.FileName())

	for at := range l.records {
		fsys := vfs.NewMem()
		first, err := CreateOpen(fsys, "open-1", l.at.LogID)
		if err != nil {
			t.Fatal(err)
		}
		l.encode(first, l.records[:at], 1)
		first.Close()
		again, err := ResumeOpen(fsys, "open-1", l.at.LogID, func(*BlockMeta) bool { return true })
		if err != nil || len(again.Blocks()) != at {
			t.Fatalf("%d blocks after a restart, want %d: %v", len(again.Blocks()), at, err)
		}
		l.encode(again, l.records[at:], 1)
		s, err := again.Seal(l.sealRange())
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
		if !bytes.Equal(fileBytes(t, fsys, s.FileName()), want) {
			t.Fatalf("resumed behind %d blocks the segment is another", at)
		}
	}
}

// TestFoldsAreBounded: a table that is full takes no more, and blocks are as good without.
func TestFoldsAreBounded(t *testing.T) {
	l := foldLog(t)
	o, err := CreateOpen(vfs.NewMem(), "open-1", l.at.LogID)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	l.encode(o, l.records[:4], 1)
	before := o.table.folds.bytes
	o.table.folds.bytes = maxFoldBytes + 1
	l.encode(o, l.records[4:], 1)
	if after := o.table.folds.bytes - maxFoldBytes - 1; after != 0 || before == 0 {
		t.Fatalf("%d bytes were added to a full table of %d", after, before)
	}
	for i, b := range o.Blocks() {
		if err := b.verify(); err != nil {
			t.Fatalf("block %d: %v", i, err)
		}
	}
}

// TestFoldConditions: what is said of values that begin in a way and go on with digits is
// what all such values together say.
func TestFoldConditions(t *testing.T) {
	rng := seeded(t, 12)
	const alphabet = "01aA-"
	text := func(n int) []byte {
		b := make([]byte, rng.IntN(n+1))
		for i := range b {
			b[i] = alphabet[rng.IntN(len(alphabet))]
		}
		return b
	}
	yes := 0
	for range 20_000 {
		begin, n := text(4), rng.IntN(3)
		c := &slotCondition{kind: []conditionKind{valueContains, valueBegins, valueEnds, valueEquals}[rng.IntN(4)], text: text(4), fold: rng.IntN(2) == 0}
		if c.fold {
			c.text = bytes.ToLower(c.text)
		}
		want := false
		for i := range int(powersOf10[n]) {
			value := begin
			if n > 0 {
				value = fmt.Appendf(bytes.Clone(begin), "%0*d", n, i)
			}
			want = want || c.test(value)
		}
		if want {
			yes++
		}
		if got := c.testBegin(begin, n); got != want {
			t.Fatalf("%q and %d digits, condition %d on %q, fold %v: %v, want %v", begin, n, c.kind, c.text, c.fold, got, want)
		}
	}
	if yes < 1000 {
		t.Fatalf("only %d conditions held", yes)
	}
}

// FuzzFold: what is no fold is refused, and what is one is encoded as it was.
func FuzzFold(f *testing.F) {
	l := foldLog(f)
	o := l.open(vfs.NewMem(), "open-1", 3)
	defer o.Close()
	templates := o.table.templates
	for _, fold := range o.table.folds.folds {
		f.Add(fold.append(nil, nil))
	}
	f.Add([]byte{0, 1, 0, 2, 2, 2, 0, 1, 1, 1, 'a', 'b', 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		bounded(t, 16<<20, func() {
			lazy := &fold{raw: b}
			if len(b) == 0 {
				return
			}
			d, err := lazy.decoded(templates)
			if err != nil {
				return
			}
			if again := d.append(nil, nil); !bytes.Equal(again, b) {
				t.Fatalf("%x is encoded as %x", b, again)
			}
		})
	})
}

// TestFoldsOfMisfits: rows that are not like those that a fold was chosen for are stored as
// if there were none.
func TestFoldsOfMisfits(t *testing.T) {
	rng := seeded(t, 13)
	size := func(nice bool) (length uint64, variants int) {
		l := newTestLog(t)
		stream := []*Stream{NewStream("t", nil)}
		b := &Batch{Streams: stream}
		for i := range 2000 {
			if nice {
				b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: fmt.Appendf(nil, "a%dx id %016x n %d took %d of %d", i%8, i%8*12345, i%8, i%8*3, i%8+7)})
			}
		}
		if nice {
			l.append(b)
		}
		for range 3 {
			b := &Batch{Streams: stream}
			for i := range 3000 {
				b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: fmt.Appendf(nil, "a%dx id %016x n %d took %d of %d", rng.IntN(100000), rng.Uint64(), rng.IntN(10000), rng.IntN(1000), rng.IntN(100))})
			}
			l.append(b)
		}
		o := l.open(vfs.NewMem(), "open-1", 1)
		defer o.Close()
		s, err := o.Seal(l.sealRange())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range o.table.folds.folds {
			variants += f.variants
		}
		return s.Length, variants
	}
	alone, _ := size(false)
	both, variants := size(true)
	if variants > 200 || both > alone+alone/20+4000 {
		t.Fatalf("%d bytes with %d variants, and %d without the rows that are alike", both, variants, alone)
	}
}

// TestFoldValuesAreDistinct: many values that are the same would take far more in memory
// than in the file.
func TestFoldValuesAreDistinct(t *testing.T) {
	templates := []*Template{foldTemplate(t)}
	values := []byte{0, 1, 0, 0, 2, 2, 0, 1, 0, 1, 'a', 'b', 0, 1}
	if f, err := (&fold{raw: values}).decoded(templates); err != nil || f.variants != 2 {
		t.Fatalf("a sound fold: %v", err)
	}
	values[11] = 'a'
	if _, err := (&fold{raw: values}).decoded(templates); err == nil {
		t.Fatal("a fold with a value twice was accepted")
	}
}

func foldTemplate(t *testing.T) *Template {
	var s shredder
	if !s.shred([]byte("job 17")) {
		t.Fatal("not cut")
	}
	template, err := parseTemplate(s.key)
	if err != nil {
		t.Fatal(err)
	}
	return template
}

// TestFoldAdditionsAreTheBlocks: an encoder that made blocks with folds makes one without
// any template for another segment: nothing of the earlier ones gets into that.
func TestFoldAdditionsAreTheBlocks(t *testing.T) {
	var e BlockEncoder
	var d FrameDecoder
	add := func(l *testLog, name string) *Open {
		o, err := CreateOpen(vfs.NewMem(), name, l.at.LogID)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { o.Close() })
		r := &l.records[0]
		e.Reset(0, r.Index, r.Offset)
		data, err := d.Decode(&r.Header, r.payload)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Add(&r.Header, data, o.Streams()); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Append(&e); err != nil {
			t.Fatal(err)
		}
		return o
	}
	if o := add(foldLog(t), "open-1"); len(o.table.folds.folds) == 0 {
		t.Fatal("no folds")
	}
	l := newTestLog(t)
	l.append(&Batch{Streams: []*Stream{NewStream("t", nil)}, Rows: []Row{{Timestamp: 1, Line: []byte("hello world")}}})
	o := add(l, "open-2")
	if n := len(o.table.folds.folds); n != 0 {
		t.Fatalf("%d folds of another segment", n)
	}
	again, err := o.parseAux(fileChunk(t, o), o.size)
	if err != nil || len(again.changed) != 0 {
		t.Fatalf("open-2.aux has additions to %v: %v", again, err)
	}
}

// fileChunk is the content of the first record of open-N.aux.
func fileChunk(t *testing.T, o *Open) []byte {
	t.Helper()
	chunks := chunkReader{o.aux, "aux"}
	h, err := chunks.header(ChunkOpenBlock, 0)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := chunks.read(&ChunkRef{Kind: ChunkOpenBlock, Encoded: h.encoded, Raw: h.raw}, 0)
	if err != nil {
		t.Fatal(err)
	}
	// As a restart reads it, nothing is known yet.
	o.streams, o.table = StreamTable{}, templateTable{}
	return raw
}
