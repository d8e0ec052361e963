package segment

import (
	"errors"
	"fmt"

	"github.com/logcluster/logcluster/internal/vfs"
)

// A Segment is a sealed file, open for reading. It is immutable and safe for
// concurrent use.
type Segment struct {
	Sealed
	LogID  uint64
	Blocks []*Block

	path   string
	file   vfs.File
	header fileHeader
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
	s := &Segment{path: path, file: f}
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	damaged := func(at int64, what string, err error) error {
		return &CorruptError{Path: path, Offset: at, What: what, Err: err}
	}
	if size < fileHeaderSize+trailerSize || size > maxFile {
		return nil, damaged(0, "segment file", fmt.Errorf("%d bytes long", size))
	}
	b := make([]byte, trailerSize)
	if err := readFull(f, b[:fileHeaderSize], 0); err != nil {
		return nil, err
	}
	if s.header, err = parseFileHeader(b[:fileHeaderSize]); err != nil {
		if errors.Is(err, ErrVersion) {
			return nil, fmt.Errorf("%q: %w", path, err)
		}
		return nil, damaged(0, "segment header", err)
	}
	trailerAt := size - trailerSize
	if err := readFull(f, b, trailerAt); err != nil {
		return nil, err
	}
	t, err := parseTrailer(b)
	if err != nil {
		if errors.Is(err, ErrVersion) {
			return nil, fmt.Errorf("%q: %w", path, err)
		}
		return nil, damaged(trailerAt, "segment trailer", err)
	}
	leavesAt := t.Extents[extentLeaves]
	if leavesAt.Offset+uint64(leavesAt.Length) != uint64(trailerAt) || leavesAt.Offset%8 != 0 ||
		uint64(leavesAt.Length) != (leavesAt.Offset+leafExtent-1)/leafExtent*leafSize {
		return nil, damaged(trailerAt, "segment trailer", fmt.Errorf("leaves of %d bytes at %d", leavesAt.Length, leavesAt.Offset))
	}
	leaves := make([]byte, leavesAt.Length)
	if err := readFull(f, leaves, int64(leavesAt.Offset)); err != nil {
		return nil, err
	}
	if root := rootOf(leaves, b); root != t.Root {
		return nil, damaged(int64(leavesAt.Offset), "leaf hashes", fmt.Errorf("root %s, want %s", root, t.Root))
	}
	s.end, s.LogID, s.Sealed = t, t.LogID, t.sealed(uint64(size))
	if s.header.FirstOffset != t.FirstOffset || s.header.Entries != t.Rows {
		return nil, damaged(0, "segment header", errors.New("its counts are not those of the trailer"))
	}
	if err := s.loadTables(); err != nil {
		return nil, err
	}
	return s, nil
}

// loadTables reads STREAMS and INDEX.
func (s *Segment) loadTables() error {
	limit := s.end.Extents[extentLeaves].Offset
	chunks := chunkReader{s.file, s.path}
	read := func(extent int, kind ChunkKind) ([]byte, error) {
		e := s.end.Extents[extent]
		ref := ChunkRef{Kind: kind, Offset: e.Offset, Encoded: e.Length - chunkHeaderSize}
		if e.Length < chunkHeaderSize || ref.Encoded > maxChunk || e.Offset%8 != 0 || e.Offset < fileHeaderSize || e.Offset+ref.size() > limit {
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
	streams, err := parseStreams(&r)
	if err = errors.Join(err, r.done()); err != nil {
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
	if raw, err = read(extentIndex, ChunkIndex); err != nil {
		return err
	}
	r = reader{b: raw}
	err = s.parseIndex(&r, file, min(limit, s.end.Extents[extentStreams].Offset))
	if err = errors.Join(err, r.done()); err != nil {
		return &CorruptError{Path: s.path, Offset: int64(s.end.Extents[extentIndex].Offset), What: "INDEX chunk", Err: err}
	}
	return nil
}

func (s *Segment) parseIndex(r *reader, file *blockFile, limit uint64) error {
	n := r.uvarint(MaxBlocks)
	if n != uint64(s.end.Blocks) || n == 0 {
		return fmt.Errorf("%d blocks, want %d", n, s.end.Blocks)
	}
	var rows, raw, digest uint64
	next, offset, at := s.FirstIndex, s.FirstOffset, uint64(fileHeaderSize)
	for i := range int(n) {
		m, err := parseBlockMeta(r, len(file.streams), len(file.templates), limit)
		if err != nil {
			return err
		}
		if int(m.Number) != i || m.FirstIndex < next || m.LastIndex < m.FirstIndex || m.LastIndex > s.LastIndex || m.FirstOffset < offset || m.EndOffset > s.EndOffset {
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
		s.Blocks = append(s.Blocks, &Block{Meta: m, file: file})
	}
	if rows != s.Entries || raw != s.RawBytes || digest != s.Digest {
		return fmt.Errorf("%d rows of %d bytes, want %d of %d", rows, raw, s.Entries, s.RawBytes)
	}
	return nil
}

// Streams returns the segment's streams. The slice must not be changed.
func (s *Segment) Streams() []*Stream { return s.Blocks[0].file.streams }
