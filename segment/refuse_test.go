package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

func TestHeaderBounds(t *testing.T) {
	good := smallLog(t).records[0].Header
	f := func(what string, change func(*Header)) {
		t.Helper()
		h := good
		change(&h)
		if _, err := ParseHeader(AppendHeader(nil, &h)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("payload", func(h *Header) { h.PayloadLength = MaxPayload + 1 })
	f("raw length", func(h *Header) { h.RawLength = MaxPayload + 1 })
	f("entries", func(h *Header) { h.Count = MaxFrameEntries + 1 })
	f("streams", func(h *Header) { h.Streams = h.Count + 1 })
	if h, err := ParseHeader(AppendHeader(nil, &good)); err != nil || h != good {
		t.Errorf("%+v, %v", h, err)
	}
}

// Payloads with right checksums and wrong content are refused.
func TestDecodeRefuses(t *testing.T) {
	stream := NewStream("t", Labels{{"a", "b"}}).AppendKey(nil)
	header := Header{Type: RecordData, Count: 2, Streams: 1, MinTimestamp: 10, MaxTimestamp: 20}
	type parts struct {
		header                                         Header
		streams, runs, times, lengths, metadata, lines []byte
	}
	f := func(what string, change func(*parts), ok bool) {
		t.Helper()
		p := parts{header: header, streams: append([]byte{byte(len(stream))}, stream...), runs: []byte{0, 2}, times: []byte{20, 20}, lengths: []byte{1, 2}, lines: []byte("abb")}
		change(&p)
		var raw []byte
		for _, s := range [][]byte{p.streams, p.runs, p.times, p.lengths, p.metadata} {
			raw = binary.LittleEndian.AppendUint32(raw, uint32(len(s)))
		}
		raw = slices.Concat(raw, p.streams, p.runs, p.times, p.lengths, p.metadata, p.lines)
		p.header.RawLength, p.header.PayloadLength, p.header.PayloadCRC = uint32(len(raw)), uint32(len(raw)), Checksum(raw)
		_, err := (&FrameDecoder{}).Decode(&p.header, raw)
		if ok != (err == nil) || !ok && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("as it must be", func(*parts) {}, true)
	f("no data record", func(p *parts) { p.header.Type = RecordSeal }, false)
	f("more streams", func(p *parts) { p.streams = append(p.streams, p.streams...) }, false)
	f("fewer streams", func(p *parts) { p.header.Streams = 2 }, false)
	f("no streams", func(p *parts) { p.header.Streams, p.streams = 0, nil }, false)
	f("bad stream", func(p *parts) { p.streams = []byte{2, 1, '/'} }, false)
	f("run of an unknown stream", func(p *parts) { p.runs = []byte{1, 2} }, false)
	f("runs too short", func(p *parts) { p.runs = []byte{0, 1} }, false)
	f("runs too long", func(p *parts) { p.runs = []byte{0, 2, 0, 1} }, false)
	f("empty run", func(p *parts) { p.runs = []byte{0, 1, 0, 0, 0, 1} }, false)
	f("empty run at the end", func(p *parts) { p.runs = []byte{0, 2, 0, 0} }, false)
	f("half a run", func(p *parts) { p.runs = []byte{0, 2, 0} }, false)
	f("number in a longer form", func(p *parts) { p.runs = []byte{0, 0x82, 0} }, false)
	f("too early", func(p *parts) { p.times = []byte{18, 0} }, false)
	f("too late", func(p *parts) { p.times = []byte{20, 22} }, false)
	f("timestamps too many", func(p *parts) { p.times = []byte{20, 20, 0} }, false)
	f("timestamp cut", func(p *parts) { p.times = []byte{20, 0x80} }, false)
	f("lengths too long", func(p *parts) { p.lengths = []byte{1, 3} }, false)
	f("lengths too short", func(p *parts) { p.lengths = []byte{1, 1} }, false)
	f("lengths too many", func(p *parts) { p.lengths = []byte{1, 2, 0} }, false)
	f("fewer lengths than entries", func(p *parts) { p.lengths = []byte{3} }, false)
	f("metadata", func(p *parts) { p.metadata = []byte{1, 1, 1, 'k', 1, 1, 'v', 0} }, true)
	f("metadata of one entry", func(p *parts) { p.metadata = []byte{1, 1, 1, 'k', 1, 1, 'v'} }, false)
	f("unknown list", func(p *parts) { p.metadata = []byte{1, 1, 1, 'k', 2, 1, 'v', 0} }, false)
	f("names out of order", func(p *parts) { p.metadata = []byte{1, 2, 1, 'k', 1, 'k', 1, 0, 0, 0} }, false)
	f("lists that no entry can use", func(p *parts) { p.metadata = []byte{3, 0, 0, 0, 1, 0} }, false)
	f("checksum", func(p *parts) { p.header.PayloadCRC++ }, true) // set by f, as all lengths are
	h := header
	h.RawLength = MaxPayload + 1
	h.PayloadCRC = Checksum(nil)
	if _, err := (&FrameDecoder{}).Decode(&h, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("raw length beyond the limit: %v", err)
	}
	h.PayloadCRC++
	h.RawLength = 0
	if _, err := (&FrameDecoder{}).Decode(&h, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("wrong checksum: %v", err)
	}
}

// A directory that does not tell the truth of its block is found out, by its reader or
// at the latest by Verify.
func TestDirectoryLies(t *testing.T) {
	plain, _ := seedBlock(t)
	columns, _ := columnsBlock(t, columnsLog(t))
	t.Run("lines", func(t *testing.T) { directoryLies(t, plain) })
	t.Run("columns", func(t *testing.T) { directoryLies(t, columns) })
}

func directoryLies(t *testing.T, b *Block) {
	f := func(what string, change func(m *BlockMeta)) {
		t.Helper()
		m := *b.Meta
		m.Runs, m.Chunks, m.Templates = slices.Clone(m.Runs), slices.Clone(m.Chunks), slices.Clone(m.Templates)
		change(&m)
		r := reader{b: m.append(nil)}
		parsed, err := parseBlockMeta(&r, len(b.file.streams), len(b.file.templates), 1<<20)
		if err == nil {
			block := &Block{Meta: parsed, file: b.file}
			err = block.verify()
		}
		if (err == nil) != (what == "") {
			t.Errorf("%s: %v", what, err)
		}
	}
	f("", func(*BlockMeta) {})
	f("rows", func(m *BlockMeta) { m.Rows++ })
	f("bytes", func(m *BlockMeta) { m.RawBytes++ })
	f("bytes of block and run", func(m *BlockMeta) { m.RawBytes++; m.Runs[0].RawBytes++ })
	f("bytes of two runs", func(m *BlockMeta) { m.Runs[0].RawBytes++; m.Runs[1].RawBytes-- })
	f("digest", func(m *BlockMeta) { m.Digest++ })
	f("first offset", func(m *BlockMeta) { m.FirstOffset++ })
	f("smallest timestamp", func(m *BlockMeta) { m.MinTimestamp-- })
	f("largest timestamp", func(m *BlockMeta) { m.MaxTimestamp++ })
	f("run's smallest", func(m *BlockMeta) { m.MinTimestamp--; m.Runs[0].MinTimestamp-- })
	f("run's largest", func(m *BlockMeta) { m.MaxTimestamp++; m.Runs[0].MaxTimestamp++ })
	f("run that begins too late", func(m *BlockMeta) { m.Runs[0].MinTimestamp++ })
	f("run that ends too early", func(m *BlockMeta) { m.Runs[0].MaxTimestamp-- })
	f("run that ends behind its block", func(m *BlockMeta) { m.Runs[0].MaxTimestamp = m.MaxTimestamp + 1 })
	f("unknown stream", func(m *BlockMeta) { m.Runs[1].Stream = 2 })
	f("runs out of order", func(m *BlockMeta) { m.Runs[0].Stream, m.Runs[1].Stream = 1, 0 })
	f("empty run", func(m *BlockMeta) { m.Runs[1].Rows, m.Rows = 0, m.Runs[0].Rows })
	f("no runs", func(m *BlockMeta) { m.Runs, m.Rows, m.RawBytes = nil, 0, 0 })
	f("rows of two runs", func(m *BlockMeta) { m.Runs[0].Rows--; m.Runs[1].Rows++ })
	f("more rows than offsets", func(m *BlockMeta) { m.EndOffset = m.FirstOffset + uint64(m.Rows) - 1 })
	f("offsets that wrap", func(m *BlockMeta) { m.FirstOffset, m.EndOffset = 5, 4 })
	f("indexes that wrap", func(m *BlockMeta) { m.LastIndex = m.FirstIndex - 1 })
	for kind := range chunkNames {
		i := slices.IndexFunc(b.Meta.Chunks, func(c ChunkRef) bool { return c.Kind == kind })
		if i < 0 {
			continue
		}
		f("no "+kind.String(), func(m *BlockMeta) {
			m.Chunks = slices.Delete(m.Chunks, i, i+1)
			if kind == ChunkMetadata { // a block may have none: the digest tells
				m.Chunks = m.Chunks[:3]
			}
		})
		f("twice "+kind.String(), func(m *BlockMeta) { m.Chunks = append(m.Chunks, m.Chunks[i]) })
		f("rows of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Rows-- })
		f("first row of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].FirstRow, m.Chunks[i].Rows = 1, m.Chunks[i].Rows-1 })
		if b.Meta.Chunks[i].Rows > 0 {
			f("no rows of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Rows = 0 })
		} else {
			f("a row of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Rows = 1 })
			f("a first row of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].FirstRow = 1 })
		}
		f("stored length of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Encoded++ })
		f("raw length of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Raw++ })
		f("kind of "+kind.String(), func(m *BlockMeta) {
			if m.Chunks[i].Kind--; m.Chunks[i].Kind == 0 {
				m.Chunks[i].Kind = ChunkFallback
			}
		})
		f("place of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Offset += 8 })
		f("crooked place of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Offset++ })
		f("place before the file of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Offset = 0 })
		f("place behind the file of "+kind.String(), func(m *BlockMeta) { m.Chunks[i].Offset = 1 << 20 })
	}
	f("unknown template", func(m *BlockMeta) {
		m.Templates = append(m.Templates, TemplateUse{ID: uint32(len(b.file.templates)), Rows: 1})
	})
	for i, use := range b.Meta.Templates {
		other := (i + 1) % len(b.Meta.Templates)
		f("no template", func(m *BlockMeta) { m.Templates = slices.Delete(m.Templates, i, i+1) })
		f("template twice", func(m *BlockMeta) { m.Templates = append(m.Templates, TemplateUse{use.ID, 1}) })
		f("template cut in two", func(m *BlockMeta) {
			m.Templates[i].Rows--
			m.Templates = append(m.Templates, TemplateUse{use.ID, 1})
		})
		f("template unknown", func(m *BlockMeta) { m.Templates[i].ID = uint32(len(b.file.templates)) })
		f("templates swapped", func(m *BlockMeta) {
			m.Templates[i].ID, m.Templates[other].ID = m.Templates[other].ID, use.ID
		})
		f("template without rows", func(m *BlockMeta) { m.Templates[i].Rows = 0 })
		f("template of fewer rows", func(m *BlockMeta) { m.Templates[i].Rows-- })
		f("template of more rows", func(m *BlockMeta) { m.Templates[i].Rows++ })
		f("template of more rows than the block", func(m *BlockMeta) { m.Templates[i].Rows = m.Rows + 1 })
		f("rows of two templates", func(m *BlockMeta) { m.Templates[i].Rows--; m.Templates[other].Rows++ })
	}
	if len(b.Meta.Templates) > 0 {
		f("no templates", func(m *BlockMeta) { m.Templates = nil })
	}
	// A kind that this version does not know may be there without a required feature bit.
	f("", func(m *BlockMeta) { m.Chunks = append(m.Chunks, ChunkRef{Kind: 200, Offset: 64}) })
	f("chunks that decode to too much", func(m *BlockMeta) {
		for range maxBlockStored/maxChunk + 1 {
			m.Chunks = append(m.Chunks, ChunkRef{Kind: 200, Offset: 64, Raw: maxChunk})
		}
	})
}

// Trailers with right checksums that do not fit their file are refused.
func TestForgedTrailer(t *testing.T) {
	t.Run("lines", func(t *testing.T) { forgedTrailer(t, smallLog(t), extentIndex, extentStreams) })
	t.Run("columns", func(t *testing.T) {
		l := columnsLog(t)
		l.append(&Batch{Streams: []*Stream{NewStream("t", nil)}, Rows: []Row{{Timestamp: 5, Line: []byte("x")}}})
		l.control()
		forgedTrailer(t, l, extentIndex, extentStreams, extentTemplates)
	})
}

func forgedTrailer(t *testing.T, l *testLog, tables ...int) {
	fsys := vfs.NewMem()
	path := l.seal(fsys, 1)
	whole := fileBytes(t, fsys, path)
	f := func(what string, change func(b []byte, t *trailer), which uint8) {
		t.Helper()
		b := bytes.Clone(whole)
		at := len(b) - trailerSize
		tr, err := parseTrailer(b[at:])
		if err != nil {
			t.Fatal(err)
		}
		change(b, &tr)
		copy(b[at:], tr.encode())
		forge(b, which)
		writeBytes(t, fsys, path, b)
		_, oerr := OpenSegment(fsys, path)
		report, verr := Verify(fsys, path)
		if what == "" {
			if oerr != nil || verr != nil || len(report.Faults) > 0 {
				t.Errorf("the file as it is: %v, %v, %+v", oerr, verr, report)
			}
			return
		}
		if !errors.Is(oerr, ErrCorrupt) || verr != nil || len(report.Faults) == 0 {
			t.Errorf("%s: open: %v; verify: %v", what, oerr, verr)
		}
	}
	le := binary.LittleEndian
	f("", func([]byte, *trailer) {}, 0)
	f("root", func(_ []byte, t *trailer) { t.Root[5]++ }, 4)
	f("rows", func(b []byte, t *trailer) { t.Rows--; le.PutUint64(b[48:], t.Rows) }, 0)
	f("rows of the header", func(b []byte, t *trailer) { le.PutUint64(b[48:], t.Rows-1) }, 0)
	f("bytes", func(_ []byte, t *trailer) { t.RawBytes++ }, 0)
	f("digest", func(_ []byte, t *trailer) { t.Digest++ }, 0)
	f("smallest timestamp", func(_ []byte, t *trailer) { t.MinTimestamp++ }, 0)
	f("largest timestamp", func(_ []byte, t *trailer) { t.MaxTimestamp++ }, 0)
	f("timestamps the wrong way round", func(_ []byte, t *trailer) { t.MinTimestamp, t.MaxTimestamp = 5, 4 }, 0)
	f("blocks", func(_ []byte, t *trailer) { t.Blocks-- }, 0)
	f("more blocks than there can be", func(_ []byte, t *trailer) { t.Blocks = MaxBlocks + 1 }, 0)
	f("first index", func(_ []byte, t *trailer) { t.FirstIndex = 2 }, 0)
	f("last index", func(_ []byte, t *trailer) { t.LastIndex = 1 }, 0)
	f("first offset", func(_ []byte, t *trailer) { t.FirstOffset++ }, 0)
	f("end offset", func(_ []byte, t *trailer) { t.EndOffset-- }, 0)
	for _, e := range tables {
		f("place of a table", func(_ []byte, t *trailer) { t.Extents[e].Offset += 8 }, 0)
		f("crooked place of a table", func(_ []byte, t *trailer) { t.Extents[e].Offset++ }, 0)
		f("place that wraps", func(_ []byte, t *trailer) { t.Extents[e].Offset = math.MaxUint64 - 7 }, 0)
		f("table in the header", func(_ []byte, t *trailer) { t.Extents[e].Offset = 0 }, 0)
		f("no table", func(_ []byte, t *trailer) { t.Extents[e] = Extent{} }, 0)
		f("length of a table", func(_ []byte, t *trailer) { t.Extents[e].Length++ }, 0)
		f("long table", func(_ []byte, t *trailer) { t.Extents[e].Length = math.MaxUint32 }, 0)
	}
	f("tables changed", func(_ []byte, t *trailer) {
		t.Extents[extentIndex], t.Extents[extentStreams] = t.Extents[extentStreams], t.Extents[extentIndex]
	}, 0)
	f("leaves", func(_ []byte, t *trailer) { t.Extents[extentLeaves].Offset -= 8 }, 2)
	f("more leaves", func(_ []byte, t *trailer) { t.Extents[extentLeaves].Offset -= 32; t.Extents[extentLeaves].Length += 32 }, 2)
	f("leaves behind the end", func(_ []byte, t *trailer) { t.Extents[extentLeaves].Offset = math.MaxUint64 - 31 }, 2)
}

// The blocks of an open segment follow each other without room between.
func TestResumeRefusesRoom(t *testing.T) {
	l := blockLog(t, 2)
	file, _, _, _, _ := left(t, l)
	fsys := vfs.NewMem()
	o, err := CreateOpen(fsys, "open-1", l.at.LogID)
	if err != nil {
		t.Fatal(err)
	}
	o.size += 8
	l.encode(o, l.records, 1)
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(fileBytes(t, fsys, "open-1")); n != len(file)+8 {
		t.Fatalf("the file has %d bytes", n)
	}
	if o, err = ResumeOpen(fsys, "open-1", l.at.LogID, func(*BlockMeta) bool { return true }); err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if len(o.Blocks()) != 0 {
		t.Fatalf("%d blocks are resumed", len(o.Blocks()))
	}
}
