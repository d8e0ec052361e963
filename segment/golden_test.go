package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/segment anew")

const goldenFolder = "../testdata/segment"

// goldenLog is the log behind the files in testdata/segment. It never changes: a change
// of the format adds files, made from another log if need be.
func goldenLog(t testing.TB) *testLog {
	l := newTestLog(t)
	web := NewStream("t", Labels{{"app", "web"}, {"host", "a"}})
	db := NewStream("t", Labels{{"app", "db"}})
	l.append(&Batch{Key: Key{0xaa, 15: 0xbb}, Streams: []*Stream{web, db}, Metadata: []Labels{{{"trace", "abc"}, {"user", "7"}}}, Rows: []Row{
		{Timestamp: 1_700_000_000_000_000_000, Line: []byte("GET / 200"), Stream: 0},
		{Timestamp: 1_700_000_000_000_000_300, Line: []byte("GET /a 404"), Stream: 0, Metadata: 1},
		{Timestamp: 1_699_999_999_999_999_999, Line: []byte("slow query"), Stream: 1},
		{Timestamp: 1_700_000_000_000_000_100, Line: []byte{}, Stream: 0},
	}})
	l.control()
	l.gap(3)
	l.append(&Batch{Streams: []*Stream{db}, Rows: []Row{
		{Timestamp: 1_700_000_000_000_000_000, Line: []byte("after a gap")},
	}})
	l.append(&Batch{Streams: []*Stream{db}, Rows: []Row{
		// Something that zstd makes smaller and s2, whose output differs between machines, does not.
		{Timestamp: -1, Line: []byte("3141592653589793238462643383279502884197169399375105820974944592307816406286208998628034825342117067")},
		{Timestamp: 0, Line: []byte("\x00\xff\r\n")},
	}})
	// Lines that share templates: text, JSON and logfmt.
	b := &Batch{Streams: []*Stream{web}}
	for i, line := range goldenLines {
		b.Rows = append(b.Rows, Row{Timestamp: 1_700_000_001_000_000_000 + int64(i)*1e6, Line: []byte(line)})
	}
	l.appendPlain(b)
	l.append(&Batch{Streams: []*Stream{web}, Rows: []Row{
		{Timestamp: 1_700_000_002_000_000_000, Line: []byte(goldenLines[0])}, // of a known template: it has columns
		{Timestamp: 1_700_000_002_000_000_001, Line: []byte("alone 1")},      // of a new one: it has none
	}})
	return l
}

// TestGoldenWrites: today's writer makes the same bytes of the same log, and the
// descriptions beside them hold. If the format or a compressor changed on purpose: give
// the old segment.hex another name, so that it is still opened, and run with -rewrite.
func TestGoldenWrites(t *testing.T) {
	l := goldenLog(t)
	fsys := vfs.NewMem()
	o := l.open(fsys, "open-1", 2)
	aux := fileBytes(t, fsys, "open-1.aux")
	sealed, err := o.Seal(l.sealRange())
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	in, err := Inspect(fsys, sealed.FileName())
	if err != nil {
		t.Fatal(err)
	}
	var inspected strings.Builder
	if _, err := in.WriteTo(&inspected); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"frames.hex":  describeFrames(l),
		"segment.hex": describeSegment(t, fileBytes(t, fsys, sealed.FileName())),
		"aux.hex":     describeAux(t, aux),
		"inspect.txt": inspected.String(),
	} {
		path := filepath.Join(goldenFolder, name)
		if *rewrite {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if text != string(want) {
			a, b := strings.Split(text, "\n"), strings.Split(string(want), "\n")
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					t.Fatalf("%s: line %d is\n%s\nwant\n%s", name, i+1, a[i], b[i])
				}
			}
			t.Fatalf("%s has %d lines, want %d", name, len(a), len(b))
		}
	}
}

// TestGoldenOpens: every file that any version ever put into testdata/segment opens, is
// whole, and holds the entries of its log.
func TestGoldenOpens(t *testing.T) {
	names, err := filepath.Glob(goldenFolder + "/segment*.hex")
	if err != nil || len(names) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fsys := vfs.NewMem()
		writeBytes(t, fsys, "golden", parseHex(t, string(text)))
		report, err := Verify(fsys, "golden")
		if err != nil || len(report.Faults) > 0 {
			t.Fatalf("%s: %+v, %v", name, report, err)
		}
		s := openSegment(t, fsys, "golden")
		got, err := drain(SelectUnits(context.Background(), 0, blockUnits(s.Blocks), everything(), nil))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sameEntries(t, name, byOffset(got), goldenLog(t).entries)
	}
	text, err := os.ReadFile(goldenFolder + "/frames.hex")
	if err != nil {
		t.Fatal(err)
	}
	b := parseHex(t, string(text))
	l := goldenLog(t)
	for i := range l.records {
		h, err := ParseHeader(b)
		if err != nil {
			t.Fatal(err)
		}
		if h != l.records[i].Header {
			t.Fatalf("record %d is %+v, want %+v", i, h, l.records[i].Header)
		}
		if _, err := ParseTrailer(b[h.Size()-TrailerSize:], b); err != nil {
			t.Fatal(err)
		}
		b = b[h.Size():]
	}
}

// parseHex reads the bytes of an annotated file: lines of a position, bytes, and a
// description behind a bar.
func parseHex(t testing.TB, text string) []byte {
	t.Helper()
	var out []byte
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "|")
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] == "#" {
			continue
		}
		if fields[0] != fmt.Sprintf("%04x", len(out)) {
			t.Fatalf("line %d is at %s, want %04x", i+1, fields[0], len(out))
		}
		b, err := hex.DecodeString(strings.Join(fields[1:], ""))
		if err != nil {
			t.Fatalf("line %d: %v", i+1, err)
		}
		out = append(out, b...)
	}
	return out
}

func describeFrames(l *testLog) string {
	a := &annotator{}
	for i := range l.records {
		r := &l.records[i]
		begin := len(a.b)
		a.b = append(AppendHeader(a.b, &r.Header), r.payload...)
		a.b = AppendTrailer(a.b, Trailer{Group: NewGroup(7, i), Commit: uint64(i)}, a.b[begin:])
		a.title("record %d: %s", r.Index, r.Type)
		a.field(4, "magic %q", a.b[a.at:a.at+4])
		a.number(1, "version")
		a.field(1, "type: %s", r.Type)
		a.field(1, "codec: %s", r.Codec)
		a.number(1, "flags")
		a.number(2, "header length")
		a.field(2, "part: %d, last: %t", r.Part&^PartLast, r.Part&PartLast != 0)
		a.number(4, "payload length")
		a.number(4, "raw length")
		a.number(4, "entries")
		a.number(4, "streams")
		a.field(8, "log id: %x", r.LogID)
		a.number(8, "index")
		a.number(8, "offset")
		a.number(8, "epoch")
		a.number(8, "previous epoch")
		a.signed("smallest timestamp")
		a.signed("largest timestamp")
		a.field(16, "idempotency key")
		a.field(8, "digest A: %016x", r.DigestA)
		a.field(8, "digest B: %016x", r.DigestB)
		a.field(4, "CRC32C of the payload")
		a.field(16, "chain")
		a.field(4, "CRC32C of the header")
		if len(r.payload) > 0 {
			a.field(len(r.payload), "payload as stored")
		}
		a.field(8, "fsync group 7, place %d", i)
		a.number(8, "commit")
		a.field(4, "CRC32C of the trailer")
		if r.Type == RecordData {
			describePayload(l.t, a, r)
		}
	}
	return a.out.String()
}

// describePayload writes a payload decompressed, as lines that parseHex skips.
func describePayload(t testing.TB, to *annotator, r *testRecord) {
	raw, err := decompress(nil, r.Codec, r.payload, int(r.RawLength))
	if err != nil {
		t.Fatal(err)
	}
	a := &annotator{b: raw}
	var sections [5]uint64
	for i, name := range []string{"streams", "runs", "timestamps", "lengths", "metadata"} {
		sections[i] = a.number(4, "bytes of "+name)
	}
	for i := range r.streams {
		a.text(fmt.Sprint("stream ", i))
	}
	for end := a.at + int(sections[1]); a.at < end; {
		a.varints(2, false, "run: stream, entries")
	}
	a.varints(int(r.Count), true, "timestamps")
	a.varints(int(r.Count), false, "lengths")
	if sections[4] > 0 {
		describeMetadata(a, int(r.Count))
	}
	a.field(len(raw)-a.at, "lines: %q", raw[a.at:])
	to.title("the payload, decompressed:")
	for line := range strings.Lines(a.out.String()) {
		to.title("%s", strings.TrimRight(line, "\n"))
	}
}

func describeMetadata(a *annotator, rows int) {
	var lists []uint64
	for range a.varints(1, false, "lists of names")[0] {
		n := a.varints(1, false, "names")[0]
		lists = append(lists, n)
		for range n {
			a.text("name")
		}
	}
	for range rows {
		if ref := a.varints(1, false, "entry's list")[0]; ref > 0 {
			for range lists[ref-1] {
				a.text("value")
			}
		}
	}
}

// chunk describes a chunk and its content.
func (a *annotator) chunk(t testing.TB, content func(a *annotator, kind ChunkKind)) ChunkKind {
	h, err := parseChunkHeader(a.b[a.at:])
	if err != nil {
		t.Fatal(err)
	}
	a.title("chunk %s", h.kind)
	a.number(4, "stored length")
	a.number(4, "raw length")
	a.field(1, "codec: %s", h.codec)
	a.field(1, "kind: %s", h.kind)
	a.number(2, "block")
	a.field(4, "CRC32C")
	payload := a.b[a.at : a.at+int(h.encoded)]
	raw, err := decompress(nil, h.codec, payload, int(h.raw))
	if err != nil {
		t.Fatal(err)
	}
	if h.codec == CodecNone {
		content(a, h.kind)
	} else {
		a.field(len(payload), "payload, compressed")
		inner := &annotator{b: raw}
		content(inner, h.kind)
		a.title("decompressed:")
		for line := range strings.Lines(inner.out.String()) {
			a.title("%s", strings.TrimRight(line, "\n"))
		}
	}
	if pad := -a.at & 7; pad > 0 {
		a.field(pad, "padding")
	}
	return h.kind
}

// describeSegment follows the file from its header to its trailer.
func describeSegment(t testing.TB, b []byte) string {
	fsys := vfs.NewMem()
	writeBytes(t, fsys, "f", b)
	s := openSegment(t, fsys, "f")
	a := &annotator{b: b}
	a.title("HEADER")
	a.field(8, "magic %q", b[:8])
	a.number(2, "major version")
	a.number(2, "minor version")
	a.number(4, "required features")
	a.number(4, "optional features")
	a.field(4, "reserved")
	a.field(16, "uuid")
	a.number(8, "first offset")
	a.number(8, "entries")
	a.field(4, "reserved")
	a.field(4, "CRC32C of the header")
	for _, block := range s.Blocks {
		a.title("block %d", block.Meta.Number)
		for i := range block.Meta.Chunks {
			ref := &block.Meta.Chunks[i]
			a.chunk(t, func(a *annotator, kind ChunkKind) { describeChunk(t, a, kind, block, ref) })
		}
	}
	a.title("tables")
	a.chunk(t, func(a *annotator, _ ChunkKind) { describeStreams(a) })
	if s.end.Extents[extentTemplates] != (Extent{}) {
		a.chunk(t, func(a *annotator, _ ChunkKind) { describeTemplates(a) })
	}
	if s.end.Extents[extentDictionary] != (Extent{}) {
		a.chunk(t, func(a *annotator, _ ChunkKind) { describeFolds(a) })
	}
	for range s.Blocks[0].file.filter.parts {
		a.chunk(t, func(a *annotator, _ ChunkKind) { describeValues(a) })
	}
	a.chunk(t, func(a *annotator, _ ChunkKind) { describeFilters(a) })
	a.chunk(t, func(a *annotator, _ ChunkKind) {
		for range a.varints(1, false, "blocks")[0] {
			describeDirectory(a)
		}
	})
	a.title("LEAVES")
	for a.at < len(b)-trailerSize {
		a.field(leafSize, "SHA-256")
	}
	describeTrailer(a)
	return a.out.String()
}

func describeTrailer(a *annotator) {
	a.title("TRAILER")
	for _, name := range []string{"INDEX", "LEAVES", "STREAMS", "ORDER", "TEMPLATES", "DICT", "FILTERS"} {
		le := binary.LittleEndian
		a.field(12, "%s at %d, %d bytes", name, le.Uint64(a.b[a.at:]), le.Uint32(a.b[a.at+8:]))
	}
	a.field(4, "reserved")
	a.number(8, "rows")
	a.number(8, "bytes of the lines")
	a.signed("smallest timestamp")
	a.signed("largest timestamp")
	a.field(8, "digest")
	for _, name := range []string{"first index", "last index", "first offset", "end offset"} {
		a.number(8, name)
	}
	a.field(8, "log id")
	a.number(2, "major version")
	a.number(2, "minor version")
	a.number(4, "blocks")
	a.field(16, "chain")
	a.field(20, "reserved")
	a.field(32, "root")
	a.field(4, "CRC32C of the trailer")
	a.field(8, "magic %q", a.b[a.at:])
}

func describeChunk(t testing.TB, a *annotator, kind ChunkKind, block *Block, ref *ChunkRef) {
	m := block.Meta
	rows := int(m.Rows)
	switch kind {
	case ChunkTimestamps:
		a.number(1, "encoding")
		width := int(a.number(1, "bytes of a distance"))
		a.signed("smallest distance")
		a.varints(len(m.Runs), false, "first timestamps, less the runs' smallest")
		for w := range width {
			a.field(rows-len(m.Runs), "plane %d", w)
		}
	case ChunkOrder:
		for end := a.at + int(ref.Raw); a.at < end; {
			a.varints(2, false, "1 + run, rows")
		}
	case ChunkFallback:
		a.number(4, "bytes of lengths")
		n := uint64(0)
		for _, length := range a.varints(int(ref.Rows), false, "lengths") {
			n += length
		}
		a.field(int(n), "lines: %q", a.b[a.at:a.at+int(n)])
	case ChunkTemplateIDs:
		a.field(rows, "place of each row's template in the directory, lower byte; ff ff: none")
		a.field(rows, "higher byte")
	case ChunkColumns:
		describeColumns(t, a, block)
	case ChunkNumbers, ChunkIDs, ChunkStrings, ChunkBinary:
		a.field(int(ref.Raw), "payloads of columns, in their order")
	case ChunkMetadata:
		describeMetadata(a, int(ref.Rows))
	default:
		t.Fatalf("chunk %s", kind)
	}
}

// describeValues is a part of the filter of values.
func describeValues(a *annotator) {
	a.field(8, "seed")
	size := a.number(4, "places in a segment")
	segments := a.number(4, "segments less two")
	a.field(int((segments+2)*size), "fingerprints")
}

func describeFilters(a *annotator) {
	for range a.varints(1, false, "sets of bytes")[0] {
		a.field(16, "set")
	}
	slots := int(a.varints(1, false, "slots")[0])
	a.varints(slots, false, "sets")
	a.varints(slots, false, "shortest values")
	a.varints(slots, false, "longest, less the shortest")
	a.varints(slots, false, "1 listed, 2 grams")
	grams := a.varints(1, false, "bytes of the filter of grams")[0]
	a.field(int(grams), "grams")
	for range a.varints(1, false, "parts of the filter of values")[0] {
		a.varints(3, false, "position behind the first, stored, raw")
	}
}

func describeStreams(a *annotator) {
	for range a.varints(1, false, "streams")[0] {
		a.varints(1, false, "bytes shared with the one before")
		a.text("the rest")
	}
}

func describeDirectory(a *annotator) {
	a.varints(1, false, "number")
	a.varints(2, false, "first index, last less first")
	a.varints(2, false, "first offset, end less first")
	a.varints(2, false, "rows, bytes of the lines")
	a.varints(1, true, "smallest timestamp")
	a.varints(1, false, "largest less smallest")
	a.field(8, "digest")
	a.field(16, "chain")
	for range a.varints(1, false, "runs")[0] {
		a.varints(5, false, "stream, rows, smallest less the block's, largest less smallest, bytes")
	}
	for range a.varints(1, false, "templates")[0] {
		a.varints(2, false, "number, rows")
	}
	for range a.varints(1, false, "chunks")[0] {
		a.varints(6, false, "kind, position, stored, raw, first row, rows")
	}
}

func describeAux(t testing.TB, b []byte) string {
	a := &annotator{b: b}
	folds := map[uint64][]int{}
	for a.at < len(b) {
		a.chunk(t, func(a *annotator, kind ChunkKind) {
			describeStreams(a)
			describeTemplates(a)
			describeFoldAdditions(a, folds)
			describeDirectory(a)
		})
	}
	if !bytes.Equal(parseHex(t, a.out.String()), b) {
		t.Fatal("the description is not of these bytes")
	}
	return a.out.String()
}
