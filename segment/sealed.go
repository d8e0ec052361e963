package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/logcluster/logcluster/internal/vfs"
)

// SealRange is the part of the log that a segment file stands for: at least what its
// blocks hold, and the records without entries around them.
type SealRange struct {
	FirstIndex, LastIndex  uint64
	FirstOffset, EndOffset uint64 // [first, end)
	Chain                  Chain  // of the record LastIndex
}

// Sealed names a segment file and what it holds; the SEAL record carries it.
type Sealed struct {
	SealRange
	Entries, RawBytes          uint64
	MinTimestamp, MaxTimestamp int64
	Digest                     uint64
	Length                     uint64 // bytes of the file
	Root                       Root
}

// FileName is the name of the file in its shard's folder.
func (s *Sealed) FileName() string {
	return fmt.Sprintf("seg-%d-%d-%s", s.FirstIndex, s.LastIndex, s.Root)
}

// Append appends the encoded form to dst.
func (s *Sealed) Append(dst []byte) []byte {
	for _, v := range []uint64{s.FirstIndex, s.LastIndex, s.FirstOffset, s.EndOffset, s.Entries, s.RawBytes,
		uint64(s.MinTimestamp), uint64(s.MaxTimestamp), s.Digest, s.Length} {
		dst = binary.LittleEndian.AppendUint64(dst, v)
	}
	dst = append(dst, s.Chain[:]...)
	return append(dst, s.Root[:]...)
}

// SealedSize is the size of an encoded Sealed.
const SealedSize = 10*8 + 16 + 32

// ParseSealed decodes what Append encoded.
func ParseSealed(b []byte) (Sealed, error) {
	if len(b) != SealedSize {
		return Sealed{}, corrupt("sealed range", "%d bytes, want %d", len(b), SealedSize)
	}
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	s := Sealed{SealRange: SealRange{FirstIndex: u(0), LastIndex: u(1), FirstOffset: u(2), EndOffset: u(3)},
		Entries: u(4), RawBytes: u(5), MinTimestamp: int64(u(6)), MaxTimestamp: int64(u(7)), Digest: u(8), Length: u(9)}
	copy(s.Chain[:], b[80:])
	copy(s.Root[:], b[96:])
	if s.LastIndex < s.FirstIndex || s.EndOffset < s.FirstOffset || s.EndOffset-s.FirstOffset < s.Entries || s.Entries == 0 ||
		s.MaxTimestamp < s.MinTimestamp || s.Length > maxFile {
		return Sealed{}, corrupt("sealed range", "records %d to %d, offsets %d to %d, %d entries from %d to %d, %d bytes",
			s.FirstIndex, s.LastIndex, s.FirstOffset, s.EndOffset, s.Entries, s.MinTimestamp, s.MaxTimestamp, s.Length)
	}
	return s, nil
}

// A Segment is a sealed file, open for reading. It is immutable and safe for
// concurrent use.
type Segment struct {
	Sealed
	LogID  uint64
	Blocks []*Block

	path   string
	file   vfs.File
	header fileHeader
	leaves []byte
	end    trailer
}

// OpenSegment opens a sealed file: it reads and checks header, trailer, leaves, streams
// and index, and no block.
func OpenSegment(fsys vfs.FS, path string) (*Segment, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := openSealed(f, path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// Close closes the file. No block of it may be in use.
func (s *Segment) Close() error { return s.file.Close() }

// Path returns the name of the file.
func (s *Segment) Path() string { return s.path }

func openSealed(f vfs.File, path string) (*Segment, error) {
	s, err := openEnds(f, path)
	if err != nil {
		return nil, err
	}
	return s, s.loadTables()
}

// openEnds reads header, trailer and leaf hashes.
func openEnds(f vfs.File, path string) (*Segment, error) {
	s := &Segment{path: path, file: f}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	damaged := func(at int64, what string, err error) error { return damaged(path, at, what, err) }
	if size < fileHeaderSize+trailerSize || size > maxFile {
		return nil, damaged(0, "segment file", fmt.Errorf("%d bytes long", size))
	}
	b := make([]byte, trailerSize)
	if err := readFull(f, b[:fileHeaderSize], 0); err != nil {
		return nil, damaged(0, "segment header", err)
	}
	if s.header, err = parseFileHeader(b[:fileHeaderSize]); err != nil {
		return nil, damaged(0, "segment header", err)
	}
	trailerAt := size - trailerSize
	if err := readFull(f, b, trailerAt); err != nil {
		return nil, damaged(trailerAt, "segment trailer", err)
	}
	t, err := parseTrailer(b)
	if err != nil {
		return nil, damaged(trailerAt, "segment trailer", err)
	}
	leavesAt := t.Extents[extentLeaves]
	if leavesAt.Offset+uint64(leavesAt.Length) != uint64(trailerAt) || leavesAt.Offset%8 != 0 ||
		uint64(leavesAt.Length) != (leavesAt.Offset+leafExtent-1)/leafExtent*leafSize {
		return nil, damaged(trailerAt, "segment trailer", fmt.Errorf("leaves of %d bytes at %d", leavesAt.Length, leavesAt.Offset))
	}
	leaves := make([]byte, leavesAt.Length)
	if err := readFull(f, leaves, int64(leavesAt.Offset)); err != nil {
		return nil, damaged(int64(leavesAt.Offset), "leaf hashes", err)
	}
	if root := rootOf(leaves, b); root != t.Root {
		return nil, damaged(int64(leavesAt.Offset), "leaf hashes", fmt.Errorf("root %s, want %s", root, t.Root))
	}
	s.leaves, s.end, s.LogID, s.Sealed = leaves, t, t.LogID, t.sealed(uint64(size))
	if s.header.FirstOffset != t.FirstOffset || s.header.Entries != t.Rows {
		return nil, damaged(0, "segment header", errors.New("its counts are not those of the trailer"))
	}
	return s, nil
}

// loadTables reads STREAMS, TEMPLATES, FILTERS and INDEX.
func (s *Segment) loadTables() error {
	limit := s.end.Extents[extentLeaves].Offset
	chunks := chunkReader{s.file, s.path}
	read := func(extent int, kind ChunkKind) ([]byte, error) {
		e := s.end.Extents[extent]
		ref := ChunkRef{Kind: kind, Offset: e.Offset, Encoded: e.Length - chunkHeaderSize}
		if e.Length < chunkHeaderSize || ref.Encoded > maxChunk || e.Offset%8 != 0 || e.Offset < fileHeaderSize || e.Offset > limit || e.Offset+ref.size() > limit {
			return nil, chunks.damage(&ref, fmt.Errorf("extent of %d bytes at %d", e.Length, e.Offset))
		}
		h, err := chunks.header(kind, e.Offset)
		if err != nil {
			return nil, err
		}
		ref.Raw = h.raw
		return chunks.read(&ref, 0)
	}
	raw, err := read(extentStreams, ChunkStreams)
	if err != nil {
		return err
	}
	r := reader{b: raw}
	streams, err := parseStreams(&r, 0)
	if err == nil {
		err = r.done()
	}
	if err != nil {
		return &CorruptError{Path: s.path, Offset: int64(s.end.Extents[extentStreams].Offset), What: "STREAMS chunk", Err: err}
	}
	file := &blockFile{chunks: chunks, streams: streams}
	if s.end.Extents[extentTemplates] != (Extent{}) {
		if raw, err = read(extentTemplates, ChunkTemplates); err != nil {
			return err
		}
		r = reader{b: raw}
		file.templates, err = parseTemplates(&r)
		if err = errors.Join(err, r.done()); err != nil {
			return &CorruptError{Path: s.path, Offset: int64(s.end.Extents[extentTemplates].Offset), What: "TEMPLATES chunk", Err: err}
		}
	}
	if s.end.Extents[extentDictionary] != (Extent{}) {
		if raw, err = read(extentDictionary, ChunkDictionary); err != nil {
			return err
		}
		r = reader{b: raw}
		file.folds = parseFolds(&r)
		if err = r.done(); err != nil {
			return &CorruptError{Path: s.path, Offset: int64(s.end.Extents[extentDictionary].Offset), What: "DICT chunk", Err: err}
		}
	}
	if s.header.Optional&optionalFilters != 0 {
		if raw, err = read(extentFilters, ChunkFilters); err != nil {
			return err
		}
		if file.filter, err = s.parseFilter(raw, file); err != nil {
			return &CorruptError{Path: s.path, Offset: int64(s.end.Extents[extentFilters].Offset), What: "FILTERS chunk", Err: err}
		}
	}
	if raw, err = read(extentIndex, ChunkIndex); err != nil {
		return err
	}
	r = reader{b: raw}
	err = s.parseIndex(&r, file, min(limit, s.end.Extents[extentStreams].Offset))
	if err == nil {
		err = r.done()
	}
	if err != nil {
		return &CorruptError{Path: s.path, Offset: int64(s.end.Extents[extentIndex].Offset), What: "INDEX chunk", Err: err}
	}
	return nil
}

// parseFilter decodes FILTERS. Its parts stand between the table before it and itself.
func (s *Segment) parseFilter(raw []byte, file *blockFile) (*segmentFilter, error) {
	before := s.end.Extents[extentTemplates]
	if before == (Extent{}) {
		before = s.end.Extents[extentStreams]
	}
	if folds := s.end.Extents[extentDictionary]; folds != (Extent{}) {
		before = folds
	}
	base := padded(before.Offset + uint64(before.Length))
	f, err := parseFilter(raw, file.templates, base, s.end.Extents[extentFilters].Offset)
	if err == nil {
		f.file = file.chunks
	}
	return f, err
}

func (s *Segment) parseIndex(r *reader, file *blockFile, limit uint64) error {
	n := r.uvarint(MaxBlocks)
	if n != uint64(s.end.Blocks) || n == 0 {
		return fmt.Errorf("%d blocks, want %d", n, s.end.Blocks)
	}
	var rows, raw, digest uint64
	smallest, largest := int64(math.MaxInt64), int64(math.MinInt64)
	next, offset, at := s.FirstIndex, s.FirstOffset, uint64(fileHeaderSize)
	for i := range int(n) {
		m, err := parseBlockMeta(r, len(file.streams), len(file.templates), limit)
		if err != nil {
			return err
		}
		if int(m.Number) != i || m.FirstIndex < next || m.LastIndex > s.LastIndex || m.FirstOffset < offset || m.EndOffset > s.EndOffset {
			return fmt.Errorf("block %d of records %d to %d is out of order", m.Number, m.FirstIndex, m.LastIndex)
		}
		// Chunks stand one behind the other, so that no byte is outside all of them.
		for _, c := range m.Chunks {
			if c.Offset != at {
				return fmt.Errorf("chunk at %d, want %d", c.Offset, at)
			}
			at += c.size()
		}
		next, offset = m.LastIndex+1, m.EndOffset
		rows += uint64(m.Rows)
		raw += m.RawBytes
		digest += m.Digest
		smallest, largest = min(smallest, m.MinTimestamp), max(largest, m.MaxTimestamp)
		s.Blocks = append(s.Blocks, &Block{Meta: m, file: file})
	}
	if rows != s.Entries || raw != s.RawBytes || digest != s.Digest || smallest != s.MinTimestamp || largest != s.MaxTimestamp {
		return fmt.Errorf("%d rows of %d bytes from %d to %d with digest %#x, want %d of %d from %d to %d with %#x",
			rows, raw, smallest, largest, digest, s.Entries, s.RawBytes, s.MinTimestamp, s.MaxTimestamp, s.Digest)
	}
	return nil
}

// Streams returns the segment's streams. The slice must not be changed.
func (s *Segment) Streams() []*Stream { return s.Blocks[0].file.streams }
