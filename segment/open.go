package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/logcluster/logcluster/internal/vfs"
)

// An Open segment is one that still grows: blocks in a file `open-N`, and beside it
// `open-N.aux` with one checksummed record a block: its directory and the streams that
// it was the first to use. Neither file is synced before the seal. All of it can be made again from
// the log; after a restart what is intact is used again.
//
// Its methods are for one goroutine at a time; the blocks it returns are for any.
type Open struct {
	fs      vfs.FS
	path    string
	logID   uint64
	file    vfs.File
	aux     vfs.File
	size    uint64 // of file
	auxSize uint64
	streams StreamTable
	table   templateTable
	blocks  []*Block
	encoder *BlockEncoder
	known   int // streams that aux holds
	shapes  int // templates that aux holds
}

// auxSuffix names the file beside an open segment.
const auxSuffix = ".aux"

// CreateOpen begins an open segment at path, replacing what may be there.
func CreateOpen(fsys vfs.FS, path string, logID uint64) (*Open, error) {
	for _, name := range []string{path, path + auxSuffix} {
		if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	o := &Open{fs: fsys, path: path, logID: logID, size: fileHeaderSize}
	var err error
	if o.file, err = fsys.Create(path); err != nil {
		return nil, err
	}
	if o.aux, err = fsys.Create(path + auxSuffix); err != nil {
		return nil, errors.Join(err, o.file.Close())
	}
	return o, nil
}

// ResumeOpen opens an open segment that a process left behind and keeps the leading
// blocks that are intact and that accept, given their directory, agrees to: it must
// compare range and chain with the log. The rest is encoded again by the caller. If
// there is nothing to resume, the segment is begun anew.
func ResumeOpen(fsys vfs.FS, path string, logID uint64, accept func(*BlockMeta) bool) (*Open, error) {
	o := &Open{fs: fsys, path: path, logID: logID, size: fileHeaderSize}
	var err error
	o.file, err = fsys.OpenReadWrite(path)
	if err == nil {
		if o.aux, err = fsys.OpenReadWrite(path + auxSuffix); err != nil {
			o.file.Close()
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return CreateOpen(fsys, path, logID)
	}
	if err != nil {
		return nil, err
	}
	o.resume(accept)
	if err := errors.Join(o.file.Truncate(int64(o.size)), o.aux.Truncate(int64(o.auxSize))); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

func (o *Open) resume(accept func(*BlockMeta) bool) {
	size, err := o.file.Size()
	if err != nil {
		return
	}
	for len(o.blocks) < MaxBlocks {
		var b [chunkHeaderSize]byte
		if readFull(o.aux, b[:], int64(o.auxSize)) != nil {
			return
		}
		h, err := parseChunkHeader(b[:])
		if err != nil || h.kind != ChunkOpenBlock {
			return
		}
		ref := ChunkRef{Kind: ChunkOpenBlock, Offset: o.auxSize, Encoded: h.encoded, Raw: h.raw}
		raw, err := chunkReader{o.aux, o.path}.read(&ref, uint16(len(o.blocks)))
		if err != nil {
			return
		}
		added, shapes, meta, err := o.parseAux(raw, uint64(size))
		if err != nil || int(meta.Number) != len(o.blocks) || !accept(meta) {
			return
		}
		before := len(o.streams.Streams)
		for _, s := range added {
			o.streams.Ref(s, &o.encoderScratch().key)
		}
		for _, t := range shapes {
			if _, ok := o.table.find(t.key); ok {
				return
			}
			if _, ok := o.table.add(t.key); !ok {
				return
			}
		}
		block := o.block(meta)
		if len(o.streams.Streams) != before+len(added) || block.verify() != nil {
			return
		}
		o.blocks = append(o.blocks, block)
		o.known, o.shapes = len(o.streams.Streams), len(o.table.templates)
		o.auxSize += ref.size()
		for i := range meta.Chunks {
			o.size = max(o.size, meta.Chunks[i].Offset+meta.Chunks[i].size())
		}
	}
}

// parseAux decodes a record of open-N.aux: the streams and templates that the block
// added, and its directory.
func (o *Open) parseAux(raw []byte, size uint64) ([]*Stream, []*Template, *BlockMeta, error) {
	r := reader{b: raw}
	added, err := parseStreams(&r)
	if err != nil {
		return nil, nil, nil, err
	}
	templates, err := parseTemplates(&r)
	if err != nil {
		return nil, nil, nil, err
	}
	meta, err := parseBlockMeta(&r, len(o.streams.Streams)+len(added), len(o.table.templates)+len(templates), size)
	if err != nil {
		return nil, nil, nil, err
	}
	return added, templates, meta, r.done()
}

func (o *Open) encoderScratch() *BlockEncoder {
	if o.encoder == nil {
		o.encoder = &BlockEncoder{}
	}
	return o.encoder
}

func (o *Open) block(m *BlockMeta) *Block {
	// The tables grow on; what a block refers to is in them now.
	return &Block{Meta: m, file: &blockFile{chunks: chunkReader{o.file, o.path}, streams: slices.Clip(o.streams.Streams), templates: slices.Clip(o.table.templates)}}
}

// Blocks returns the blocks so far. The slice must not be changed.
func (o *Open) Blocks() []*Block { return o.blocks }

// Path returns the name of the file.
func (o *Open) Path() string { return o.path }

// Full reports whether no further block fits.
func (o *Open) Full() bool { return len(o.blocks) >= MaxBlocks || o.size > maxFile/2 }

// Size returns the bytes of the file so far.
func (o *Open) Size() uint64 { return o.size }

// Streams is the table that the blocks' encoder numbers streams with.
func (o *Open) Streams() *StreamTable { return &o.streams }

// Append encodes what the encoder has gathered and adds it as the next block. After an
// error the segment must be closed and begun anew.
func (o *Open) Append(e *BlockEncoder) (*Block, error) {
	bytes, meta, err := e.Encode(o.size, &o.streams, &o.table)
	if err != nil {
		return nil, err
	}
	if int(meta.Number) != len(o.blocks) {
		return nil, fmt.Errorf("block number %d, want %d", meta.Number, len(o.blocks))
	}
	if _, err := o.file.WriteAt(bytes, int64(o.size)); err != nil {
		return nil, err
	}
	raw := appendStreams(nil, o.streams.Streams[o.known:])
	raw = appendTemplates(raw, o.table.templates[o.shapes:])
	raw = meta.append(raw)
	record, _, err := appendChunk(nil, ChunkOpenBlock, meta.Number, raw)
	if err != nil {
		return nil, err
	}
	if _, err := o.aux.WriteAt(record, int64(o.auxSize)); err != nil {
		return nil, err
	}
	o.known, o.shapes = len(o.streams.Streams), len(o.table.templates)
	o.size += uint64(len(bytes))
	o.auxSize += uint64(len(record))
	block := o.block(meta)
	o.blocks = append(o.blocks, block)
	return block, nil
}

// Close closes the files, which stay where they are.
func (o *Open) Close() error { return errors.Join(o.file.Close(), o.aux.Close()) }

// RemoveOpen removes the files of an open segment, if they are there.
func RemoveOpen(fsys vfs.FS, path string) error {
	var errs []error
	for _, name := range []string{path + auxSuffix, path} {
		if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

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
	if s.LastIndex < s.FirstIndex || s.EndOffset < s.FirstOffset || s.EndOffset-s.FirstOffset < s.Entries || s.Length > maxFile {
		return Sealed{}, corrupt("sealed range", "records %d to %d, offsets %d to %d", s.FirstIndex, s.LastIndex, s.FirstOffset, s.EndOffset)
	}
	return s, nil
}
