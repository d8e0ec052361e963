package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"

	"github.com/logcluster/logcluster/internal/vfs"
)

// seedBlock is a block of a small log, with the raw bytes of its chunks by kind.
func seedBlock(t testing.TB) (*Block, map[ChunkKind][]byte) {
	fsys := vfs.NewMem()
	o := smallLog(t).open(fsys, "open-1", 10)
	t.Cleanup(func() { o.Close() })
	b := o.Blocks()[0]
	raw := map[ChunkKind][]byte{}
	for i := range b.Meta.Chunks {
		ref := &b.Meta.Chunks[i]
		c, err := b.read(ref)
		if err != nil {
			t.Fatal(err)
		}
		raw[ref.Kind] = c
	}
	return b, raw
}

func FuzzParseBlockMeta(f *testing.F) {
	b, _ := seedBlock(f)
	f.Add(b.Meta.append(nil), uint8(len(b.file.streams)), uint64(1<<20))
	f.Add(b.Meta.append(nil), uint8(0), uint64(1<<20)) // no stream to refer to
	f.Add(b.Meta.append(nil), uint8(9), uint64(64))
	columns, _ := columnsBlock(f, columnsLog(f))
	f.Add(columns.Meta.append(nil), uint8(2), uint64(1<<20))
	f.Fuzz(func(t *testing.T, raw []byte, streams uint8, end uint64) {
		r := reader{b: raw}
		var m *BlockMeta
		var err error
		bounded(t, 16*uint64(len(raw)), func() { m, err = parseBlockMeta(&r, int(streams), 2*int(streams), end%(maxFile+1)) })
		if err != nil {
			return
		}
		if again := m.append(nil); !bytes.Equal(again, raw[:len(raw)-len(r.b)]) {
			t.Fatalf("directory %x is written as %x", raw[:len(raw)-len(r.b)], again)
		}
		row := uint32(0)
		for _, run := range m.Runs {
			if int(run.Stream) >= int(streams) || run.FirstRow != row || run.Rows == 0 || run.MinTimestamp < m.MinTimestamp || run.MinTimestamp > run.MaxTimestamp || run.MaxTimestamp > m.MaxTimestamp {
				t.Fatalf("run %+v", run)
			}
			row += run.Rows
		}
		if row != m.Rows || m.Rows > MaxBlockRows || m.EndOffset < m.FirstOffset || m.LastIndex < m.FirstIndex {
			t.Fatalf("directory %+v", m)
		}
		for _, use := range m.Templates {
			if int(use.ID) >= 2*int(streams) || use.Rows == 0 {
				t.Fatalf("template %+v of %d", use, 2*int(streams))
			}
		}
		for row := range m.bareRows() {
			covered := 0
			for _, c := range m.Chunks {
				if c.Kind == ChunkFallback && row >= c.FirstRow && row < c.FirstRow+c.Rows {
					covered++
				}
			}
			if covered != 1 {
				t.Fatalf("row %d without a template stands in %d chunks", row, covered)
			}
		}
	})
}

// shape is a directory with runs of the given sizes, whatever the bytes are.
func shape(sizes []byte, times int64, span uint64) *BlockMeta {
	m := &BlockMeta{FirstOffset: 100, MinTimestamp: times, MaxTimestamp: int64(uint64(times) + span)}
	if m.MaxTimestamp < m.MinTimestamp {
		m.MaxTimestamp = math.MaxInt64
	}
	for i, n := range sizes {
		if n == 0 || i > 100 {
			continue
		}
		m.Runs = append(m.Runs, BlockRun{Stream: uint32(i), FirstRow: m.Rows, Rows: uint32(n), MinTimestamp: m.MinTimestamp, MaxTimestamp: m.MaxTimestamp})
		m.Rows += uint32(n)
	}
	m.EndOffset = m.FirstOffset + uint64(m.Rows) + 1000
	return m
}

func FuzzDecodeTimestamps(f *testing.F) {
	b, raw := seedBlock(f)
	sizes := make([]byte, len(b.Meta.Runs))
	for i, run := range b.Meta.Runs {
		sizes[i] = byte(run.Rows)
	}
	f.Add(raw[ChunkTimestamps], sizes, b.Meta.MinTimestamp, uint64(b.Meta.MaxTimestamp-b.Meta.MinTimestamp))
	f.Add([]byte{1, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []byte{1}, int64(math.MinInt64), uint64(math.MaxUint64))
	f.Add([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11}, []byte{1}, int64(0), uint64(10)) // behind the run's largest
	f.Fuzz(func(t *testing.T, raw, sizes []byte, times int64, span uint64) {
		m := shape(sizes, times, span)
		out, err := decodeTimestamps(m, raw)
		if err != nil {
			return
		}
		if len(out) != int(m.Rows) {
			t.Fatalf("%d timestamps, want %d", len(out), m.Rows)
		}
		for _, ts := range out {
			if ts < m.MinTimestamp || ts > m.MaxTimestamp {
				t.Fatalf("timestamp %d outside %d to %d", ts, m.MinTimestamp, m.MaxTimestamp)
			}
		}
	})
}

// FuzzTimestamps: any timestamps come back, also where distances overflow.
func FuzzTimestamps(f *testing.F) {
	number := func(v ...int64) (b []byte) {
		for _, v := range v {
			b = binary.LittleEndian.AppendUint64(b, uint64(v))
		}
		return b
	}
	f.Add(number(1, 2, 3), uint8(1))
	f.Add(number(math.MinInt64, math.MaxInt64, math.MinInt64, 0, -1), uint8(1))
	f.Add(number(math.MaxInt64, math.MinInt64), uint8(2))
	f.Add(number(math.MinInt64, 0, math.MaxInt64, math.MaxInt64), uint8(1))
	f.Add(number(5, 5, 5, 4, 3, 1<<62, -1<<62), uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, streams uint8) {
		var e BlockEncoder
		var table StreamTable
		e.Reset(0, 1, 0)
		var rows []Row
		all := []*Stream{}
		for i := range int(streams)%5 + 1 {
			all = append(all, NewStream("t", Labels{{"n", string(rune('a' + i))}}))
		}
		for i := 0; len(b) >= 8; i++ {
			rows = append(rows, Row{Timestamp: int64(binary.LittleEndian.Uint64(b)), Stream: uint32(i % len(all))})
			b = b[8:]
		}
		if len(rows) == 0 {
			return
		}
		l := newTestLog(t)
		l.append(&Batch{Streams: all, Rows: rows})
		for i := range l.records {
			r := &l.records[i]
			d, err := (&FrameDecoder{}).Decode(&r.Header, r.payload)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Add(&r.Header, d, &table); err != nil {
				t.Fatal(err)
			}
		}
		// Encode decodes the block again and compares every row.
		if _, _, err := e.Encode(64, &table, &templateTable{}); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzDecodeOrder(f *testing.F) {
	b, raw := seedBlock(f)
	sizes := make([]byte, len(b.Meta.Runs))
	for i, run := range b.Meta.Runs {
		sizes[i] = byte(run.Rows)
	}
	f.Add(raw[ChunkOrder], sizes, uint64(10))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 2}, []byte{2}, uint64(math.MaxUint64))
	f.Add([]byte{1, 2, 2, 1}, []byte{1, 2}, uint64(0)) // a row too many in the first run
	f.Fuzz(func(t *testing.T, raw, sizes []byte, gaps uint64) {
		m := shape(sizes, 0, 0)
		if m.EndOffset = m.FirstOffset + uint64(m.Rows) + gaps; m.EndOffset < m.FirstOffset {
			m.EndOffset = math.MaxUint64
		}
		out, err := decodeOrder(m, raw)
		if err != nil {
			return
		}
		if len(out) != int(m.Rows) {
			t.Fatalf("%d offsets, want %d", len(out), m.Rows)
		}
		for _, run := range m.Runs {
			if own := out[run.FirstRow : run.FirstRow+run.Rows]; !slices.IsSorted(own) {
				t.Fatalf("offsets of a run are out of order: %d", own)
			}
		}
		slices.Sort(out)
		for i, o := range out {
			if o < m.FirstOffset || o >= m.EndOffset || i > 0 && o == out[i-1] {
				t.Fatalf("offset %d, behind another, in %d to %d", o, m.FirstOffset, m.EndOffset)
			}
		}
	})
}

func FuzzDecodeLines(f *testing.F) {
	b, raw := seedBlock(f)
	f.Add(raw[ChunkFallback], b.Meta.Rows)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, uint32(1))
	f.Add([]byte{1, 0, 0, 0, 0}, uint32(1))
	f.Fuzz(func(t *testing.T, raw []byte, rows uint32) {
		ref := &ChunkRef{Rows: rows%MaxBlockRows + 1}
		var l *lines
		var err error
		bounded(t, 8*MaxBlockRows, func() { l, err = decodeLines(ref, raw) })
		if err != nil {
			return
		}
		var again []byte
		for i := range l.ends {
			again = append(again, l.line(i)...)
		}
		if len(l.ends) != int(ref.Rows) || !bytes.Equal(again, l.text) {
			t.Fatalf("%d lines of %d bytes, want %d of %d", len(l.ends), len(again), ref.Rows, len(l.text))
		}
	})
}

func FuzzParseStreams(f *testing.F) {
	f.Add(encodeStreams([]*Stream{NewStream("t", nil), NewStream("t", Labels{{"a", "b"}}), NewStream("t", Labels{{"a", "c"}, {"b", ""}})}))
	// Front coding makes much of little: each stream repeats a long one and adds nothing.
	long := NewStream("t", Labels{{"a", string(make([]byte, 100_000))}}).AppendKey(nil)
	bomb := binary.AppendUvarint(nil, 3000)
	bomb = append(binary.AppendUvarint(append(bomb, 0), uint64(len(long))), long...)
	for range 2999 {
		bomb = append(binary.AppendUvarint(bomb, uint64(len(long))), 0)
	}
	f.Add(bomb)
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := reader{b: raw}
		var streams []*Stream
		var err error
		bounded(t, 12*maxStreamBytes+100*uint64(len(raw)), func() { streams, err = parseStreams(&r, 0) })
		if err != nil {
			return
		}
		total := 0
		for _, s := range streams {
			total += len(s.AppendKey(nil))
		}
		if total > maxStreamBytes {
			t.Fatalf("%d bytes of streams", total)
		}
		r = reader{b: encodeStreams(streams)}
		again, err := parseStreams(&r, 0)
		if err != nil || r.done() != nil || !slices.EqualFunc(again, streams, (*Stream).Equal) {
			t.Fatalf("%d streams are read again as %d: %v", len(streams), len(again), err)
		}
	})
}

// FuzzDecompress: whatever the bytes, no more than the stated length is made of them.
func FuzzDecompress(f *testing.F) {
	zeros := make([]byte, 4<<20)
	bomb, _, err := compress(nil, zeros)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(bomb, uint8(2), uint32(100))
	f.Add(bomb, uint8(2), uint32(len(zeros)))
	large, _, err := compress(nil, make([]byte, maxChunk-1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(large, uint8(2), uint32(100))
	f.Add(slices.Concat(bomb, bomb), uint8(2), uint32(len(zeros)))
	f.Add(s2.Encode(nil, zeros), uint8(1), uint32(100))
	f.Add(s2.Encode(nil, []byte("abcabcabcabc")), uint8(1), uint32(12))
	f.Add([]byte("plain"), uint8(0), uint32(5))
	// A frame that does not state its size.
	var streamed bytes.Buffer
	w, err := zstd.NewWriter(&streamed)
	if err != nil {
		f.Fatal(err)
	}
	if _, err := w.Write(zeros); err != nil || w.Close() != nil {
		f.Fatal(err)
	}
	f.Add(streamed.Bytes(), uint8(2), uint32(len(zeros)))
	f.Fuzz(func(t *testing.T, b []byte, codec uint8, rawLen uint32) {
		rawLen %= 8 << 20
		var out []byte
		var err error
		// The zstd decoder has some memory of its own when it is made.
		bounded(t, 2*uint64(rawLen)+100*uint64(len(b))+16<<20, func() { out, err = decompress(nil, Codec(codec), b, int(rawLen)) })
		if err == nil && len(out) != int(rawLen) {
			t.Fatalf("%d bytes, want %d", len(out), rawLen)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
			t.Fatalf("%v is no damage", err)
		}
	})
}

// FuzzOpenSealed opens, reads and verifies files with bytes changed and all checksums
// made right again, as only an enemy would.
func FuzzOpenSealed(f *testing.F) {
	fsys := vfs.NewMem()
	path := smallLog(f).seal(fsys, 1)
	whole := fileBytes(f, fsys, path)
	f.Add(uint32(0), []byte{1}, uint8(0))
	for at := 0; at < len(whole); at += 7 {
		f.Add(uint32(at), []byte{0xff, 1, 0x80}, uint8(at))
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte, fix uint8) {
		b := bytes.Clone(whole)
		for i, c := range change[:min(len(change), 64)] {
			b[(int(at)+i)%len(b)] ^= c
		}
		forge(b, fix)
		fsys := vfs.NewMem()
		writeBytes(t, fsys, "f", b)
		bounded(t, 64<<20, func() {
			if report, err := Verify(fsys, "f"); err == nil && report == nil {
				t.Fatal("neither a report nor an error")
			}
			if _, err := readDamaged(fsys, "f"); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("%v is no damage", err)
			}
			if _, err := Inspect(fsys, "f"); err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Fatalf("%v is no damage", err)
			}
		})
	})
}

// forge makes the checksums of a changed file right: of its chunks, header, leaves and
// trailer, so that what is behind them is reached.
func forge(b []byte, which uint8) {
	le := binary.LittleEndian
	t := b[len(b)-trailerSize:]
	end := le.Uint64(t[12*extentLeaves:])
	if which&1 == 0 {
		for at := uint64(fileHeaderSize); at+chunkHeaderSize <= min(end, uint64(len(b))); {
			n := uint64(le.Uint32(b[at:]))
			if n > uint64(len(b)) || at+chunkHeaderSize+n > uint64(len(b)) {
				break
			}
			le.PutUint32(b[at+12:], chunkSum(b[at:at+chunkHeaderSize+n]))
			at += padded(chunkHeaderSize + n)
		}
	}
	if which&2 == 0 {
		le.PutUint32(b[60:], Checksum(b[:60]))
	}
	if which&4 == 0 && end <= uint64(len(b)-trailerSize) {
		fsys := vfs.NewMem()
		f, err := fsys.Create("x")
		if err == nil {
			_, err = f.WriteAt(b, 0)
		}
		leaves, err2 := hashExtents(f, end)
		if err == nil && err2 == nil {
			copy(b[end:len(b)-trailerSize], leaves)
			root := rootOf(b[end:len(b)-trailerSize], t)
			copy(t[trailerRoot:], root[:])
		}
	}
	if which&8 == 0 {
		le.PutUint32(t[244:], Checksum(t[:244]))
	}
}

// FuzzResumeOpen resumes from changed files with the checksums made right.
func FuzzResumeOpen(f *testing.F) {
	l := blockLog(f, 3)
	file, aux, _, _, _ := left(f, l)
	f.Add(uint32(0), []byte{0}, true)
	for at := 0; at < len(aux); at += 5 {
		f.Add(uint32(at), []byte{1, 0x80}, true)
	}
	for at := 0; at < len(file); at += 50 {
		f.Add(uint32(at), []byte{0xff}, false)
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte, inAux bool) {
		file, aux := bytes.Clone(file), bytes.Clone(aux)
		b, first := file, uint64(fileHeaderSize)
		if inAux {
			b, first = aux, 0
		}
		for i, c := range change[:min(len(change), 64)] {
			b[(int(at)+i)%len(b)] ^= c
		}
		for at := first; at+chunkHeaderSize <= uint64(len(b)); {
			n := uint64(binary.LittleEndian.Uint32(b[at:]))
			if at+chunkHeaderSize+n > uint64(len(b)) {
				break
			}
			binary.LittleEndian.PutUint32(b[at+12:], chunkSum(b[at:at+chunkHeaderSize+n]))
			at += padded(chunkHeaderSize + n)
		}
		fsys := vfs.NewMem()
		writeBytes(t, fsys, "open-1", file)
		writeBytes(t, fsys, "open-1.aux", aux)
		bounded(t, 64<<20, func() {
			o, err := ResumeOpen(fsys, "open-1", l.at.LogID, func(*BlockMeta) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			defer o.Close()
			if _, err := drain(SelectUnits(context.Background(), 0, blockUnits(o.Blocks()), everything(), nil)); err != nil {
				t.Fatalf("a block was resumed that cannot be read: %v", err)
			}
			blocks := o.Blocks()
			if len(blocks) == 0 {
				return
			}
			first, last := blocks[0].Meta, blocks[len(blocks)-1].Meta
			r := SealRange{FirstIndex: first.FirstIndex, LastIndex: last.LastIndex, FirstOffset: first.FirstOffset, EndOffset: last.EndOffset}
			if sealed, err := o.Seal(r); err == nil {
				if report, err := Verify(fsys, sealed.FileName()); err != nil || len(report.Faults) > 0 {
					t.Fatalf("sealed what does not verify: %+v, %v", report, err)
				}
			}
		})
	})
}

func FuzzParseSealed(f *testing.F) {
	fsys := vfs.NewMem()
	s := openSegment(f, fsys, smallLog(f).seal(fsys, 1)).Sealed
	f.Add(s.Append(nil))
	f.Add(make([]byte, SealedSize))
	f.Add(bytes.Repeat([]byte{0xff}, SealedSize))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSealed(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v is no damage", err)
			}
			return
		}
		if again := s.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x is written as %x", b, again)
		}
		if s.LastIndex < s.FirstIndex || s.EndOffset < s.FirstOffset || s.Length > maxFile || s.MaxTimestamp < s.MinTimestamp {
			t.Fatalf("sealed range %+v", s)
		}
	})
}
