package segment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// smallLog is a log that uses every part of the format in few bytes.
func smallLog(t testing.TB) *testLog {
	l := newTestLog(t)
	web := NewStream("t", Labels{{"app", "web"}})
	db := NewStream("t", Labels{{"app", "db"}, {"host", "a"}})
	l.append(&Batch{Streams: []*Stream{web, db}, Metadata: []Labels{{{"trace", "abc"}}}, Rows: []Row{
		{Timestamp: 1000, Line: []byte("GET / 200"), Stream: 0},
		{Timestamp: 1001, Line: []byte("GET /a 404"), Stream: 0, Metadata: 1},
		{Timestamp: 999, Line: []byte("connection refused"), Stream: 1},
	}})
	l.control()
	l.gap(2)
	l.append(&Batch{Streams: []*Stream{web}, Rows: []Row{
		{Timestamp: 2000, Line: []byte("GET / 200, and a line that is long enough to be compressed compressed compressed"), Stream: 0},
		{Timestamp: 2000, Line: nil, Stream: 0},
		{Timestamp: 1500, Line: []byte("\x00\xff\n"), Stream: 0},
	}})
	return l
}

func fileBytes(t testing.TB, fsys vfs.FS, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(fsys, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func writeBytes(t testing.TB, fsys vfs.FS, name string, b []byte) {
	t.Helper()
	if err := vfs.WriteFile(fsys, name, b); err != nil {
		t.Fatal(err)
	}
}

// readDamaged reads what it can of a file that was damaged: the entries, or an error.
func readDamaged(fsys vfs.FS, path string) ([]Entry, error) {
	s, err := OpenSegment(fsys, path)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return drain(SelectUnits(context.Background(), 0, blockUnits(s.Blocks), everything(), nil))
}

// S3: every changed byte of a sealed file is found by Verify, and a read yields what was
// written or an error that calls it damage.
func TestS3EveryByte(t *testing.T) {
	t.Run("lines", func(t *testing.T) { everyByte(t, smallLog(t), 4) })
	t.Run("columns", func(t *testing.T) { everyByte(t, columnsLog(t), 0) })
}

// everyByte changes each byte of a log's file by one bit and, if more is positive, by all
// bits and as many random masks, and what begins and ends the file in every way.
func everyByte(t *testing.T, l *testLog, more int) {
	fsys := vfs.NewMem()
	path := l.seal(fsys, 1)
	whole := fileBytes(t, fsys, path)
	want, err := readDamaged(fsys, path)
	if err != nil || len(want) != len(l.entries) {
		t.Fatalf("%d entries: %v", len(want), err)
	}
	rng := seeded(t, 3)
	leaves := len(whole) - trailerSize - leafSize
	for at := range whole {
		masks := []byte{1 << (at % 8)}
		if more > 0 {
			masks = append(masks, 0xff, 0x80)
		}
		for range more {
			masks = append(masks, byte(1+rng.IntN(255)))
		}
		if more > 0 && (at < fileHeaderSize+2*chunkHeaderSize || at >= len(whole)-trailerSize) {
			masks = masks[:0]
			for m := 1; m < 256; m++ { // every value where most is decided
				masks = append(masks, byte(m))
			}
		}
		for _, mask := range masks {
			if err := fsys.Corrupt(path, int64(at), mask); err != nil {
				t.Fatal(err)
			}
			report, err := Verify(fsys, path)
			switch {
			case errors.Is(err, ErrVersion) || errors.Is(err, ErrCorrupt):
			case err != nil:
				t.Fatalf("byte %d mask %#x: verify: %v", at, mask, err)
			case len(report.Faults) == 0:
				t.Fatalf("byte %d mask %#x: verify finds nothing", at, mask)
			case at >= fileHeaderSize && at < leaves && !strings.Contains(report.Faults[0].Error(), "corrupt extent of"):
				// With whole ends the bad extent is named, so that it can be fetched.
				t.Fatalf("byte %d mask %#x: %v", at, mask, report.Faults)
			}
			got, err := readDamaged(fsys, path)
			switch {
			case err == nil:
				sameEntries(t, fmt.Sprintf("byte %d mask %#x", at, mask), got, want)
			case !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion):
				t.Fatalf("byte %d mask %#x: %v does not say that it is damage", at, mask, err)
			}
			if err := fsys.Corrupt(path, int64(at), mask); err != nil {
				t.Fatal(err)
			}
		}
	}
	if report, err := Verify(fsys, path); err != nil || len(report.Faults) > 0 {
		t.Fatalf("the restored file: %+v, %v", report, err)
	}
}

// A file that was cut, or that got more bytes, is refused.
func TestS3Truncated(t *testing.T) {
	fsys := vfs.NewMem()
	path := smallLog(t).seal(fsys, 1)
	whole := fileBytes(t, fsys, path)
	f := func(b []byte) {
		t.Helper()
		writeBytes(t, fsys, path, b)
		if _, err := OpenSegment(fsys, path); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a file of %d bytes instead of %d: %v", len(b), len(whole), err)
		}
		report, err := Verify(fsys, path)
		if err != nil || len(report.Faults) == 0 {
			t.Fatalf("verify of %d bytes instead of %d: %+v, %v", len(b), len(whole), report, err)
		}
	}
	for n := range whole {
		f(whole[:n])
	}
	f(append(whole[:len(whole):len(whole)], 0))
	f(append(whole[:len(whole):len(whole)], whole...))
	f(whole[1:])
}

// Damage in one block takes that block only if the query allows it, and no count twice.
func TestDamagedBlock(t *testing.T) {
	for _, kind := range []ChunkKind{ChunkTimestamps, ChunkOrder, ChunkFallback, ChunkMetadata, ChunkTemplateIDs, ChunkColumns, ChunkNumbers} {
		t.Run(kind.String(), func(t *testing.T) {
			fsys := vfs.NewMem()
			l := newTestLog(t)
			web, db := NewStream("t", Labels{{"app", "web"}}), NewStream("t", Labels{{"app", "db"}})
			for i := range 3 {
				b := &Batch{Streams: []*Stream{web, db}, Metadata: []Labels{{{"k", "v"}}}}
				for k := range 200 {
					b.Rows = append(b.Rows, Row{Timestamp: int64(1000*i + k), Line: lineOf(kind, k, i), Stream: uint32(k / 100), Metadata: 1})
				}
				l.append(b)
			}
			path := l.seal(fsys, 1)
			s := openSegment(t, fsys, path)
			ref := s.Blocks[1].Meta.find(kind)
			if err := fsys.Corrupt(path, int64(ref.Offset)+chunkHeaderSize, 1); err != nil {
				t.Fatal(err)
			}
			ctx := context.Background()
			q := everything()
			if _, err := drain(SelectUnits(ctx, 0, blockUnits(s.Blocks), q, nil)); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("strict select: %v", err)
			}
			var told []error
			q.OnDamage = func(err error) { told = append(told, err) }
			got, err := drain(SelectUnits(ctx, 0, blockUnits(s.Blocks), q, nil))
			if err != nil || len(told) != 1 {
				t.Fatalf("%d damages, %v", len(told), err)
			}
			sameEntries(t, "the other blocks", got, append(l.entries[:200:200], l.entries[400:]...))
			var damage *CorruptError
			if !errors.As(told[0], &damage) || damage.Path != path || damage.Offset != int64(ref.Offset) {
				t.Fatalf("the damage is not said to be at %d: %v", ref.Offset, told[0])
			}

			// The web run of the bad block falls into one window, the db run does
			// not when the window ends in its middle.
			f, err := NewLineFilter(MatchEqual, "line")
			if err != nil {
				t.Fatal(err)
			}
			for _, filters := range [][]*LineFilter{nil, {f}} {
				told = nil
				q.Filters = filters
				a := &Aggregation{Measure: MeasureBytes, First: 1100, Step: 1000, Steps: 3, Range: 5000, Grouping: Grouping{Names: []string{"app"}}}
				p := NewPartial(a)
				if err := AggregateUnits(ctx, blockUnits(s.Blocks), q, a, p); err != nil {
					t.Fatal(err)
				}
				rest := append(l.entries[:200:200], l.entries[400:]...)
				if len(told) == 0 { // the answer did not need the damaged chunk
					rest = l.entries
				}
				sameSeries(t, "the other blocks", rendered(p), naive(a, found(q, rest)))
			}
		})
	}
}

// lineOf makes lines of one template, or of none.
func lineOf(kind ChunkKind, k, i int) []byte {
	if kind == ChunkFallback {
		return fmt.Appendf(nil, "line %s of %s", strings.Repeat("x", k), strings.Repeat("y", i))
	}
	return fmt.Appendf(nil, "line %d of %d", k, i)
}

// Each flipped bit of a frame is found.
func TestS3FrameBits(t *testing.T) {
	l := smallLog(t)
	for i := range l.records {
		r := &l.records[i]
		frame := AppendHeader(nil, &r.Header)
		frame = append(frame, r.payload...)
		frame = AppendTrailer(frame, Trailer{Group: NewGroup(77, 3), Commit: 5}, frame)
		if len(frame) != r.Size() {
			t.Fatalf("frame of %d bytes, want %d", len(frame), r.Size())
		}
		check := func() error {
			h, err := ParseHeader(frame)
			if err != nil {
				return err
			}
			if len(frame) != h.Size() {
				return errors.New("size")
			}
			_, err = ParseTrailer(frame[len(frame)-TrailerSize:], frame)
			return errors.Join(err, h.CheckPayload(frame[HeaderSize:len(frame)-TrailerSize]))
		}
		if err := check(); err != nil {
			t.Fatal(err)
		}
		for bit := range len(frame) * 8 {
			frame[bit/8] ^= 1 << (bit % 8)
			if err := check(); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("record %d: bit %d of byte %d: %v", i, bit%8, bit/8, err)
			}
			frame[bit/8] ^= 1 << (bit % 8)
		}
	}
}

// The chain covers every shipped field and the payload.
func TestChainCovers(t *testing.T) {
	r := &smallLog(t).records[0]
	base := r.NextChain(Chain{1}, r.payload)
	if base == r.NextChain(Chain{2}, r.payload) {
		t.Fatal("the chain does not cover the chain before it")
	}
	encoded := AppendHeader(nil, &r.Header)
	for at := range chainOffset {
		if at < 5 || at == 8 || at == 9 { // constants: magic, version, header length
			continue
		}
		b := append([]byte(nil), encoded...)
		b[at] ^= 1
		reseal(b)
		h, err := ParseHeader(b)
		if errors.Is(err, ErrCorrupt) {
			continue // out of bounds, and refused for it
		}
		if err != nil || h.NextChain(Chain{1}, r.payload) == base {
			t.Fatalf("the chain does not cover byte %d of the header: %v", at, err)
		}
	}
	for at := range r.payload {
		p := append([]byte(nil), r.payload...)
		p[at] ^= 1
		if r.NextChain(Chain{1}, p) == base {
			t.Fatalf("the chain does not cover byte %d of the payload", at)
		}
	}
}
