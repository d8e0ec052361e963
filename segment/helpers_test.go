package segment

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// seeded returns a generator whose seed is printed if the test fails. The variable
// SEGMENT_SEED runs a test with one seed again.
func seeded(t testing.TB, seed uint64) *rand.Rand {
	if s := os.Getenv("SEGMENT_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("seed: SEGMENT_SEED=%d", seed)
		}
	})
	return rand.New(rand.NewPCG(seed, 0x5e6))
}

// A testRecord is a record with its place in the log.
type testRecord struct {
	Header
	payload []byte
	streams []*Stream
}

// A testLog makes records as a shard does, and remembers every entry.
type testLog struct {
	t       testing.TB
	at      Header // index, offset, epoch and chain of the next record
	encoder FrameEncoder
	records []testRecord
	entries []Entry
}

func newTestLog(t testing.TB) *testLog {
	return &testLog{t: t, at: Header{LogID: 0x1234567890abcdef, Index: 1, Offset: 0, Epoch: 3, PreviousEpoch: 3}}
}

// append gives the batch's frames their places in the log.
func (l *testLog) append(b *Batch) {
	l.t.Helper()
	rows := make([]uint32, len(b.Rows))
	for i := range rows {
		rows[i] = uint32(i)
	}
	frames, err := l.encoder.Encode(b, rows)
	if err != nil {
		l.t.Fatalf("encoding a batch: %v", err)
	}
	offset := l.at.Offset
	for _, f := range frames {
		l.place(f.Header, bytes.Clone(f.Payload), f.Streams)
		f.Release()
	}
	for _, r := range b.Rows {
		if r.Refused {
			continue
		}
		e := Entry{Timestamp: r.Timestamp, Stream: b.Streams[r.Stream], Line: bytes.Clone(r.Line), Offset: offset}
		if r.Metadata > 0 && len(b.Metadata[r.Metadata-1]) > 0 {
			e.Metadata = b.Metadata[r.Metadata-1]
		}
		l.entries = append(l.entries, e)
		offset++
	}
	if offset != l.at.Offset {
		l.t.Fatalf("the frames hold %d entries, want %d", l.at.Offset-offset, len(b.Rows))
	}
}

// control appends a record without entries.
func (l *testLog) control() {
	l.place(Header{Type: RecordBarrier, PayloadCRC: Checksum(nil)}, nil, nil)
}

func (l *testLog) place(h Header, payload []byte, streams []*Stream) {
	h.LogID, h.Index, h.Offset, h.Epoch, h.PreviousEpoch = l.at.LogID, l.at.Index, l.at.Offset, l.at.Epoch, l.at.PreviousEpoch
	h.Chain = h.NextChain(l.at.Chain, payload)
	l.records = append(l.records, testRecord{h, payload, streams})
	l.at.Index, l.at.Offset, l.at.Chain = h.Index+1, h.Offset+uint64(h.Count), h.Chain
}

// gap skips offsets and one index, as a loss does.
func (l *testLog) gap(offsets uint64) {
	l.at.Index++
	l.at.Offset += offsets
}

// digest is Σ RangeDigest over the records.
func (l *testLog) digest() (sum uint64) {
	for i := range l.records {
		sum += l.records[i].RangeDigest()
	}
	return sum
}

// open encodes the log as blocks of an open segment; a block is cut after maxRecords
// records or where it is full.
func (l *testLog) open(fsys vfs.FS, path string, maxRecords int) *Open {
	l.t.Helper()
	o, err := CreateOpen(fsys, path, l.at.LogID)
	if err != nil {
		l.t.Fatal(err)
	}
	l.encode(o, l.records, maxRecords)
	return o
}

// encode appends records as blocks.
func (l *testLog) encode(o *Open, records []testRecord, maxRecords int) {
	l.t.Helper()
	if err := encodeBlocks(o, records, maxRecords); err != nil {
		l.t.Fatal(err)
	}
}

func encodeBlocks(o *Open, records []testRecord, maxRecords int) error {
	var e BlockEncoder
	var d FrameDecoder
	n := 0
	for i := range records {
		r := &records[i]
		if r.Type != RecordData {
			continue
		}
		if n > 0 && (n >= maxRecords || !e.Fits(&r.Header)) {
			if _, err := o.Append(&e); err != nil {
				return err
			}
			n = 0
		}
		if n == 0 {
			e.Reset(uint16(len(o.Blocks())), r.Index, r.Offset)
		}
		data, err := d.Decode(&r.Header, r.payload)
		if err != nil {
			return err
		}
		if err := e.Add(&r.Header, data, o.Streams()); err != nil {
			return err
		}
		n++
	}
	if n == 0 {
		return nil
	}
	_, err := o.Append(&e)
	return err
}

// sealRange stands for the whole log.
func (l *testLog) sealRange() SealRange {
	return SealRange{FirstIndex: 1, LastIndex: l.at.Index - 1, FirstOffset: 0, EndOffset: l.at.Offset, Chain: l.at.Chain}
}

// seal makes a sealed file of the log and returns its path.
func (l *testLog) seal(fsys vfs.FS, maxRecords int) string {
	l.t.Helper()
	o := l.open(fsys, "open-1", maxRecords)
	sealed, err := o.Seal(l.sealRange())
	if err != nil {
		l.t.Fatalf("sealing: %v", err)
	}
	if err := o.Close(); err != nil {
		l.t.Fatalf("closing what was sealed: %v", err)
	}
	return sealed.FileName()
}

// frames returns the log's records as units of the tail.
func (l *testLog) frames() []Unit {
	var units []Unit
	for i := range l.records {
		r := &l.records[i]
		if r.Type != RecordData {
			continue
		}
		u := &FrameUnit{Header: r.Header, Load: func() ([]byte, error) { return r.payload, nil }}
		if i%2 == 0 {
			u.Streams = r.streams
		}
		units = append(units, u)
	}
	return units
}

func blockUnits(blocks []*Block) []Unit {
	units := make([]Unit, len(blocks))
	for i, b := range blocks {
		units[i] = b
	}
	return units
}

// openSegment opens a sealed file and closes it with the test.
func openSegment(t testing.TB, fsys vfs.FS, path string) *Segment {
	t.Helper()
	s, err := OpenSegment(fsys, path)
	if err != nil {
		t.Fatalf("opening a sealed file: %v", err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// everything asks for all entries of all time but the very last nanosecond, which no
// query can name.
func everything() *Query {
	return &Query{Tenant: "t", Start: math.MinInt64, End: math.MaxInt64, Direction: Forward}
}

// sameEntry says how two entries differ, or "".
func sameEntry(got, want *Entry) string {
	switch {
	case got.Offset != want.Offset:
		return fmt.Sprintf("offset %d, want %d", got.Offset, want.Offset)
	case got.Timestamp != want.Timestamp:
		return fmt.Sprintf("offset %d: timestamp %d, want %d", got.Offset, got.Timestamp, want.Timestamp)
	case !got.Stream.Equal(want.Stream):
		return fmt.Sprintf("offset %d: stream %s, want %s", got.Offset, got.Stream.Labels, want.Stream.Labels)
	case !bytes.Equal(got.Line, want.Line):
		return fmt.Sprintf("offset %d: line %.60q of %d bytes, want %.60q of %d", got.Offset, got.Line, len(got.Line), want.Line, len(want.Line))
	case !got.Metadata.Equal(want.Metadata):
		return fmt.Sprintf("offset %d: metadata %s, want %s", got.Offset, got.Metadata, want.Metadata)
	}
	return ""
}

func sameEntries(t testing.TB, what string, got, want []Entry) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if d := sameEntry(&got[i], &want[i]); d != "" {
			t.Fatalf("%s: entry %d: %s", what, i, d)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d entries, want %d", what, len(got), len(want))
	}
}

// drain reads an iterator to its end, keeps what At allows to keep, and closes it.
func drain(it Iterator) ([]Entry, error) {
	var out []Entry
	for it.Next() {
		e := *it.At()
		e.Line = bytes.Clone(e.Line)
		out = append(out, e)
	}
	err := it.Err()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	return out, err
}

func byOffset(entries []Entry) []Entry {
	slices.SortFunc(entries, func(a, b Entry) int { return cmp.Compare(a.Offset, b.Offset) })
	return entries
}
