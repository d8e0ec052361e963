package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// check seals the log and reads it back.
func (l *testLog) check(maxRecords int) *Segment {
	l.t.Helper()
	fsys := vfs.NewMem()
	path := l.seal(fsys, maxRecords)
	report, err := Verify(fsys, path)
	if err != nil || len(report.Faults) > 0 {
		l.t.Fatalf("verify: %+v, %v", report, err)
	}
	s := openSegment(l.t, fsys, path)
	got, err := drain(SelectUnits(context.Background(), 0, blockUnits(s.Blocks), everything(), nil))
	if err != nil {
		l.t.Fatal(err)
	}
	sameEntries(l.t, "sealed", byOffset(got), found(everything(), l.entries))
	return s
}

// A batch of more entries than a frame holds becomes parts; the fullest block holds
// 65,536 rows.
func TestFullBlock(t *testing.T) {
	l := newTestLog(t)
	streams := []*Stream{NewStream("t", Labels{{"app", "a"}}), NewStream("t", Labels{{"app", "b"}})}
	b := &Batch{Streams: streams, Key: Key{1}}
	for i := range MaxFrameEntries + 1 {
		b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: []byte("x"), Stream: uint32(i) % 2})
	}
	l.append(b)
	l.append(&Batch{Streams: streams, Rows: b.Rows[:1]})
	if n := len(l.records); n != 3 || l.records[0].Count != MaxFrameEntries || l.records[1].Count != 1 {
		t.Fatalf("%d records, of %d and %d entries", n, l.records[0].Count, l.records[1].Count)
	}
	if l.records[0].Part != 0 || l.records[1].Part != 1|PartLast || l.records[2].Part != PartLast || l.records[0].Key != b.Key || l.records[1].Key != b.Key {
		t.Fatalf("parts %#x, %#x, %#x", l.records[0].Part, l.records[1].Part, l.records[2].Part)
	}
	s := l.check(10)
	if len(s.Blocks) != 2 || s.Blocks[0].Meta.Rows != MaxBlockRows {
		t.Fatalf("%d blocks, the first of %d rows", len(s.Blocks), s.Blocks[0].Meta.Rows)
	}
}

// The longest line goes through; a longer one is refused, and so is a row that no
// payload holds.
func TestLongestLine(t *testing.T) {
	l := newTestLog(t)
	s := NewStream("t", nil)
	line := bytes.Repeat([]byte("0123456789abcdef"), MaxLine/16)
	rows := []Row{{Line: []byte("before")}, {Line: line, Timestamp: 1}, {Line: []byte("after"), Timestamp: 2}}
	l.append(&Batch{Streams: []*Stream{s}, Rows: rows})
	if len(l.records) != 3 || l.records[1].RawLength < MaxLine {
		t.Fatalf("%d records", len(l.records))
	}
	l.check(10)

	f := func(what string, b *Batch) {
		t.Helper()
		b.Streams = []*Stream{s}
		frames, err := (&FrameEncoder{}).Encode(b, []uint32{0, 1})
		if !errors.Is(err, ErrTooLarge) || frames != nil {
			t.Errorf("%s: %d frames, %v", what, len(frames), err)
		}
	}
	f("line of a byte too many", &Batch{Rows: []Row{{}, {Line: append(line[:MaxLine:MaxLine], 'x')}}})
	large := string(bytes.Repeat([]byte("v"), MaxPayload-MaxLine))
	f("longest line with as much metadata", &Batch{Rows: []Row{{}, {Line: line, Metadata: 1}}, Metadata: []Labels{{{"k", large}}}})
}

// Frames stay below their size, except those of one row, and hold the rows in order.
func TestFrameSizes(t *testing.T) {
	rng := seeded(t, 8)
	line := make([]byte, 3<<20)
	for i := range line {
		line[i] = byte(rng.Uint32())
	}
	for range 4 {
		b := &Batch{}
		for i := range 20 {
			b.Streams = append(b.Streams, NewStream("t", Labels{{"n", fmt.Sprint(i, string(make([]byte, rng.IntN(50_000))))}}))
			b.Metadata = append(b.Metadata, Labels{{fmt.Sprint("k", i), string(make([]byte, rng.IntN(50_000)))}})
		}
		for range 300 {
			n := rng.IntN(100)
			if rng.IntN(30) == 0 {
				n = rng.IntN(len(line))
			}
			b.Rows = append(b.Rows, Row{Timestamp: int64(rng.Uint64()), Line: line[:n], Stream: uint32(rng.IntN(20)), Metadata: uint32(rng.IntN(21))})
		}
		l := newTestLog(t)
		l.append(b)
		for i := range l.records {
			if h := &l.records[i].Header; h.RawLength > MaxFrameRaw && h.Count > 1 {
				t.Fatalf("frame of %d rows has %d bytes", h.Count, h.RawLength)
			}
		}
		if len(l.records) < 2 {
			t.Fatal("the batch was not cut")
		}
	}
}

// A repeat of a batch of which other rows are refused is cut at the same rows.
func TestPartsAreCutAlike(t *testing.T) {
	rng := seeded(t, 9)
	line := make([]byte, 1<<20)
	b := &Batch{}
	for i := range 200 {
		// What defines a stream and what has metadata is as large as the lines are.
		b.Streams = append(b.Streams, NewStream("t", Labels{{"n", fmt.Sprint(i, string(line[:rng.IntN(len(line)/4)]))}}))
		b.Metadata = append(b.Metadata, Labels{{"n", string(line[:rng.IntN(len(line)/4)])}})
		b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: line[:rng.IntN(len(line)/2)], Stream: uint32(rng.IntN(i + 1)), Metadata: uint32(rng.IntN(i + 1))})
	}
	rows := make([]uint32, len(b.Rows))
	for i := range rows {
		rows[i] = uint32(i)
	}
	partOf := map[int64]uint16{} // row → part
	for range 6 {
		refused := rng.IntN(100)
		for i := range b.Rows {
			// Whole stretches too, so that parts without any accepted row occur.
			b.Rows[i].Refused = rng.IntN(100) < refused || refused > 50 && i/20%2 == 0
		}
		frames, err := (&FrameEncoder{}).Encode(b, rows)
		if err != nil {
			t.Fatal(err)
		}
		last := 0
		for _, f := range frames {
			d, err := (&FrameDecoder{}).Decode(&f.Header, f.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if f.Header.Part&PartLast != 0 {
				last++
			}
			part := f.Header.Part &^ PartLast
			for _, ts := range d.Timestamps {
				if known, ok := partOf[ts]; ok && known != part {
					t.Fatalf("row %d is in part %d, and was in %d", ts, part, known)
				}
				partOf[ts] = part
			}
			f.Release()
		}
		if len(frames) > 0 && (last != 1 || frames[len(frames)-1].Header.Part&PartLast == 0) {
			t.Fatalf("%d parts of %d are the last", last, len(frames))
		}
	}
	if len(partOf) < 100 {
		t.Fatalf("only %d rows were ever stored", len(partOf))
	}
}

// Part numbers do not run into the flag beside them.
func TestTooManyParts(t *testing.T) {
	line := make([]byte, MaxFrameRaw)
	b := &Batch{Streams: []*Stream{NewStream("t", nil)}}
	rows := make([]uint32, PartLast+1)
	for i := range rows {
		rows[i] = uint32(i)
		b.Rows = append(b.Rows, Row{Line: line, Refused: true})
	}
	b.Rows[PartLast-1] = Row{Line: []byte("the last part that there can be")}
	b.Rows[PartLast-2] = Row{Line: line[:MaxFrameRaw-100]}
	frames, err := (&FrameEncoder{}).Encode(b, rows[:PartLast])
	if err != nil || len(frames) != 2 || frames[1].Header.Part != math.MaxUint16 || frames[0].Header.Part != PartLast-2 {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
	if frames, err := (&FrameEncoder{}).Encode(b, rows); !errors.Is(err, ErrTooLarge) || frames != nil {
		t.Fatalf("%d frames, %v", len(frames), err)
	}
}

// What a reader would refuse is refused before it is in the log.
func TestEncodeRefuses(t *testing.T) {
	f := func(what string, b *Batch) {
		t.Helper()
		if frames, err := (&FrameEncoder{}).Encode(b, []uint32{0}); err == nil || frames != nil {
			t.Errorf("%s: encoded", what)
		}
	}
	good := NewStream("t", nil)
	f("labels out of order", &Batch{Streams: []*Stream{NewStream("t", Labels{{"b", "1"}, {"a", "1"}})}, Rows: []Row{{}}})
	f("a label twice", &Batch{Streams: []*Stream{NewStream("t", Labels{{"a", "1"}, {"a", "1"}})}, Rows: []Row{{}}})
	f("a bad tenant", &Batch{Streams: []*Stream{NewStream("a/b", nil)}, Rows: []Row{{}}})
	f("metadata out of order", &Batch{Streams: []*Stream{good}, Metadata: []Labels{{{"b", "1"}, {"a", "1"}}}, Rows: []Row{{Metadata: 1}}})
}

// A gap of offsets that no block can span begins another block.
func TestWideGap(t *testing.T) {
	l := newTestLog(t)
	b := &Batch{Streams: []*Stream{NewStream("t", nil)}, Rows: []Row{{Line: []byte("x")}}}
	l.append(b)
	l.gap(math.MaxUint32 - 2)
	l.append(b) // just within
	l.gap(1 << 40)
	l.append(b)
	s := l.check(10)
	if len(s.Blocks) != 2 || s.Blocks[0].Meta.Rows != 2 {
		t.Fatalf("%d blocks, the first of %d rows", len(s.Blocks), s.Blocks[0].Meta.Rows)
	}
	// The very last offsets of a log.
	l = newTestLog(t)
	l.at.Offset = math.MaxUint64 - 2
	l.append(b)
	l.check(1)
}

// The encoder refuses records that it was not asked about or that do not follow.
func TestBlockEncoderRefuses(t *testing.T) {
	l := newTestLog(t)
	b := &Batch{Streams: []*Stream{NewStream("t", nil)}}
	for range 40_000 {
		b.Rows = append(b.Rows, Row{})
	}
	l.append(b)
	l.append(b)
	data := func(i int) *Data {
		d, err := (&FrameDecoder{}).Decode(&l.records[i].Header, l.records[i].payload)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	var table StreamTable
	var e BlockEncoder
	first, second := &l.records[0].Header, &l.records[1].Header
	if err := e.Add(first, data(0), &table); err == nil {
		t.Error("taken without Reset")
	}
	e.Reset(0, second.Index, second.Offset)
	if err := e.Add(first, data(0), &table); !errors.Is(err, ErrCorrupt) {
		t.Errorf("record before the block's first: %v", err)
	}
	e.Reset(0, first.Index, first.Offset)
	if _, _, err := e.Encode(64, &table); err == nil {
		t.Error("a block without rows is encoded")
	}
	if err := e.Add(first, data(0), &table); err != nil {
		t.Fatal(err)
	}
	if err := e.Add(first, data(0), &table); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the same record again: %v", err)
	}
	if e.Fits(second) {
		t.Error("80,000 rows fit")
	}
	if err := e.Add(second, data(1), &table); !errors.Is(err, ErrTooLarge) {
		t.Errorf("80,000 rows: %v", err)
	}
	wrong := *first
	wrong.Index, wrong.Offset, wrong.Count = second.Index, second.Offset, 5
	if err := e.Add(&wrong, data(0), &table); err == nil {
		t.Error("another count than was decoded is taken")
	}
	// A digest in a header that is not the entries' shows when the block is encoded.
	e.Reset(0, first.Index, first.Offset)
	lying := *first
	lying.DigestB++
	if err := e.Add(&lying, data(0), &table); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Encode(64, &table); err == nil {
		t.Error("a wrong digest is not noticed")
	}
}

// A segment is full before its tables are too large to be written, and can be sealed
// then.
func TestFull(t *testing.T) {
	l := newTestLog(t)
	fsys := vfs.NewMem()
	o, err := CreateOpen(fsys, "open-1", l.at.LogID)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for n := 0; !o.Full(); n++ {
		b := &Batch{}
		for i := range 4000 {
			// Values that front coding and zstd can do little about.
			value := fmt.Sprintf("%x", seeded(t, uint64(n*4000+i)).Uint64())
			b.Streams = append(b.Streams, NewStream("t", Labels{{"v", value + string(bytes.Repeat([]byte(value), 60))}}))
			b.Rows = append(b.Rows, Row{Stream: uint32(i), Line: []byte("x")})
		}
		before := len(l.records)
		l.append(b)
		l.encode(o, l.records[before:], 100)
	}
	if n := o.streams.bytes; n > maxChunk/2 {
		t.Fatalf("full only with %d bytes of streams", n)
	}
	var index uint64
	for _, b := range o.Blocks() {
		index += uint64(len(b.Meta.append(nil)))
	}
	if index != o.indexSize {
		t.Fatalf("the index is said to have %d bytes, and has %d", o.indexSize, index)
	}
	sealed, err := o.Seal(l.sealRange())
	if err != nil {
		t.Fatal(err)
	}
	if report, err := Verify(fsys, sealed.FileName()); err != nil || len(report.Faults) > 0 {
		t.Fatalf("verify: %+v, %v", report, err)
	}
	full := func(change func(*Open)) {
		t.Helper()
		o := &Open{}
		if o.Full() {
			t.Fatal("an empty segment is full")
		}
		if change(o); !o.Full() {
			t.Error("not full")
		}
	}
	full(func(o *Open) { o.blocks = make([]*Block, MaxBlocks) })
	full(func(o *Open) { o.indexSize = maxChunk/2 + 1 })
	full(func(o *Open) { o.streams.Streams = make([]*Stream, maxStreams-MaxBlockRows+1) })
	full(func(o *Open) { o.size = maxFile/2 + 1 })
}

// A limit that no answer reaches is like none.
func TestHugeLimit(t *testing.T) {
	l := newTestLog(t)
	newGenerator(seeded(t, 2)).log(l, 4, 2000)
	s := l.check(2)
	for _, units := range [][]Unit{l.frames(), blockUnits(s.Blocks)} {
		q := everything()
		want, err := drain(SelectUnits(context.Background(), 0, units, q, nil))
		if err != nil {
			t.Fatal(err)
		}
		q.Limit = math.MaxInt
		got, err := drain(SelectUnits(context.Background(), 0, units, q, nil))
		if err != nil {
			t.Fatal(err)
		}
		sameEntries(t, "with a huge limit", got, want)
	}
}

// A later version is refused as such, and never taken for damage; unknown optional
// features are no matter.
func TestVersions(t *testing.T) {
	fsys := vfs.NewMem()
	path := smallLog(t).seal(fsys, 1)
	whole := fileBytes(t, fsys, path)
	le := binary.LittleEndian
	f := func(what string, change func(b []byte), want error) {
		t.Helper()
		b := bytes.Clone(whole)
		change(b)
		forge(b, 0)
		writeBytes(t, fsys, path, b)
		_, verr := Verify(fsys, path)
		_, oerr := OpenSegment(fsys, path)
		for _, err := range []error{verr, oerr} {
			if !errors.Is(err, want) || errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
	}
	f("optional feature", func(b []byte) { le.PutUint32(b[16:], 1) }, nil)
	f("minor version", func(b []byte) { le.PutUint16(b[10:], 7) }, nil)
	f("required feature", func(b []byte) { le.PutUint32(b[12:], 1<<31) }, ErrVersion)
	f("major version", func(b []byte) { le.PutUint16(b[8:], 2) }, ErrVersion)
	f("major version 0", func(b []byte) { le.PutUint16(b[8:], 0) }, ErrVersion)
	f("trailer's version", func(b []byte) { le.PutUint16(b[len(b)-trailerSize+168:], 2) }, ErrVersion)

	h := AppendHeader(nil, &smallLog(t).records[0].Header)
	h[4] = 2
	reseal(h)
	if _, err := ParseHeader(h); !errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt) {
		t.Errorf("frame of version 2: %v", err)
	}
}
