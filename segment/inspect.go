package segment

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
)

// An Inspection is what a sealed file says of itself: all but the entries.
type Inspection struct {
	Path string
	Sealed
	Major, Minor       uint16   // version of the format
	Required, Optional uint32   // feature bits
	UUID               [16]byte // names the part of the log that the file stands for
	LogID              uint64
	Leaves             int // hashes of 256 KiB each
	Streams            []*Stream
	Blocks             []InspectedBlock
	Tables             []InspectedChunk // of the whole segment, in the order of the file
}

// An InspectedBlock is a block's directory, and its chunks as they stand in the file.
type InspectedBlock struct {
	*BlockMeta
	Chunks []InspectedChunk
}

// An InspectedChunk is a chunk with what its header says.
type InspectedChunk struct {
	ChunkRef
	Codec Codec
}

// Ratio is how many raw bytes a byte in the file stands for, header and padding
// included.
func (c *InspectedChunk) Ratio() float64 { return float64(c.Raw) / float64(c.size()) }

// Inspect reads the directory of a sealed file and the headers of its chunks. It
// checks header, trailer, leaf hashes, streams and index, as OpenSegment does, and no
// block; Verify does.
func Inspect(fsys vfs.FS, path string) (*Inspection, error) {
	s, err := OpenSegment(fsys, path)
	if err != nil {
		return nil, err
	}
	in, err := s.inspect()
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, err
	}
	return in, nil
}

func (s *Segment) inspect() (*Inspection, error) {
	in := &Inspection{Path: s.path, Sealed: s.Sealed, Major: s.header.Major, Minor: s.header.Minor, Required: s.header.Required,
		Optional: s.header.Optional, UUID: s.header.UUID, LogID: s.LogID, Leaves: int(s.end.Extents[extentLeaves].Length / leafSize),
		Streams: s.Streams()}
	chunks := chunkReader{s.file, s.path}
	for _, b := range s.Blocks {
		block := InspectedBlock{BlockMeta: b.Meta}
		for _, ref := range b.Meta.Chunks {
			h, err := chunks.header(ref.Kind, ref.Offset)
			if err != nil {
				return nil, err
			}
			block.Chunks = append(block.Chunks, InspectedChunk{ref, h.codec})
		}
		in.Blocks = append(in.Blocks, block)
	}
	if f := s.Blocks[0].file.filter; f != nil {
		for _, ref := range f.parts {
			h, err := chunks.header(ref.Kind, ref.Offset)
			if err != nil {
				return nil, err
			}
			in.Tables = append(in.Tables, InspectedChunk{ref, h.codec})
		}
	}
	for _, t := range []struct {
		extent int
		kind   ChunkKind
	}{{extentStreams, ChunkStreams}, {extentTemplates, ChunkTemplates}, {extentDictionary, ChunkDictionary}, {extentFilters, ChunkFilters}, {extentIndex, ChunkIndex}} {
		if s.end.Extents[t.extent] == (Extent{}) {
			continue
		}
		at := s.end.Extents[t.extent].Offset
		h, err := chunks.header(t.kind, at)
		if err != nil {
			return nil, err
		}
		in.Tables = append(in.Tables, InspectedChunk{ChunkRef{Kind: h.kind, Offset: at, Encoded: h.encoded, Raw: h.raw}, h.codec})
	}
	return in, nil
}

// WriteTo writes the inspection as text for people. Names and values from the file are
// quoted: none can send a terminal a command.
func (in *Inspection) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	fmt.Fprintf(&b, "%q\n", in.Path)
	line("format", "%d.%d, required features %#x, optional %#x", in.Major, in.Minor, in.Required, in.Optional)
	line("uuid", "%x", in.UUID)
	line("log", "%x", in.LogID)
	line("records", "%d to %d", in.FirstIndex, in.LastIndex)
	line("offsets", "%d to %d, end not included", in.FirstOffset, in.EndOffset)
	line("entries", "%d, lines of %d bytes", in.Entries, in.RawBytes)
	line("time", "%s to %s", stamp(in.MinTimestamp), stamp(in.MaxTimestamp))
	line("file", "%d bytes, ratio %.2f, %.2f bytes an entry", in.Length, float64(in.RawBytes)/float64(in.Length), float64(in.Length)/float64(in.Entries))
	line("chain", "%x", in.Chain)
	line("digest", "%016x", in.Digest)
	line("root", "%s over %d leaves", in.Root, in.Leaves)
	in.writeTotals(&b)
	in.writeBlocks(&b)
	fmt.Fprintf(&b, "\n%d streams\n", len(in.Streams))
	for i, s := range in.Streams {
		fmt.Fprintf(&b, "  %d  %s {", i, s.Tenant)
		for k, l := range s.Labels {
			if k > 0 {
				b.WriteString(", ")
			}
			name := l.Name
			if !ValidLabelName(name) {
				name = strconv.Quote(name)
			}
			b.WriteString(name + "=" + strconv.Quote(l.Value))
		}
		b.WriteString("}\n")
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// writeTotals sums up the chunks by kind.
func (in *Inspection) writeTotals(b *strings.Builder) {
	type total struct{ chunks, raw, size uint64 }
	totals := map[ChunkKind]total{}
	add := func(c *InspectedChunk) {
		t := totals[c.Kind]
		totals[c.Kind] = total{t.chunks + 1, t.raw + uint64(c.Raw), t.size + c.size()}
	}
	for i := range in.Blocks {
		for k := range in.Blocks[i].Chunks {
			add(&in.Blocks[i].Chunks[k])
		}
	}
	for i := range in.Tables {
		add(&in.Tables[i])
	}
	fmt.Fprintf(b, "\n%-14s %8s %14s %14s %8s %8s\n", "kind", "chunks", "raw bytes", "file bytes", "ratio", "of file")
	for kind := range 256 {
		if t, ok := totals[ChunkKind(kind)]; ok {
			fmt.Fprintf(b, "%-14s %8d %14d %14d %8.2f %7.2f%%\n", ChunkKind(kind), t.chunks, t.raw, t.size, float64(t.raw)/float64(t.size), 100*float64(t.size)/float64(in.Length))
		}
	}
}

func (in *Inspection) writeBlocks(b *strings.Builder) {
	row := func(c *InspectedChunk) {
		fmt.Fprintf(b, "  %-8s at %d: %d bytes of %d, codec %s, ratio %.2f", c.Kind, c.Offset, c.size(), c.Raw, c.Codec, c.Ratio())
		if c.Rows > 0 {
			fmt.Fprintf(b, ", rows %d to %d", c.FirstRow, c.FirstRow+c.Rows-1)
		}
		b.WriteByte('\n')
	}
	for i := range in.Blocks {
		m := &in.Blocks[i]
		fmt.Fprintf(b, "\nblock %d: records %d to %d, offsets %d to %d, %d rows of %d streams, lines of %d bytes\n  time %s to %s, digest %016x\n",
			m.Number, m.FirstIndex, m.LastIndex, m.FirstOffset, m.EndOffset, m.Rows, len(m.Runs), m.RawBytes, stamp(m.MinTimestamp), stamp(m.MaxTimestamp), m.Digest)
		for k := range m.Chunks {
			row(&m.Chunks[k])
		}
	}
	b.WriteString("\ntables\n")
	for i := range in.Tables {
		row(&in.Tables[i])
	}
}

// stamp writes a timestamp with nanoseconds, in UTC.
func stamp(t int64) string { return time.Unix(0, t).UTC().Format("2006-01-02T15:04:05.000000000Z") }
