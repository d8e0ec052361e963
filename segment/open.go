package segment

import (
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
// Its methods are for one goroutine at a time; the blocks it returns are for any, until
// Close.
type Open struct {
	fs        vfs.FS
	path      string
	logID     uint64
	file      vfs.File
	aux       vfs.File
	size      uint64 // of file
	auxSize   uint64
	indexSize uint64 // of the blocks' directories in INDEX
	streams   StreamTable
	table     templateTable
	blocks    []*Block
	known     int // streams that aux holds
	shapes    int // templates that aux holds
	key       []byte
	closed    bool
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
	for len(o.blocks) < MaxBlocks && o.resumeBlock(uint64(size), accept) {
	}
}

// resumeBlock takes over the next block if it is intact. If not, nothing changes.
func (o *Open) resumeBlock(size uint64, accept func(*BlockMeta) bool) bool {
	chunks := chunkReader{o.aux, o.path + auxSuffix}
	h, err := chunks.header(ChunkOpenBlock, o.auxSize)
	if err != nil {
		return false
	}
	ref := ChunkRef{Kind: ChunkOpenBlock, Offset: o.auxSize, Encoded: h.encoded, Raw: h.raw}
	raw, err := chunks.read(&ref, uint16(len(o.blocks)))
	if err != nil {
		return false
	}
	aux, err := o.parseAux(raw, size)
	if err != nil || int(aux.meta.Number) != len(o.blocks) {
		return false
	}
	end := o.size
	for _, c := range aux.meta.Chunks {
		if c.Offset != end {
			return false
		}
		end += c.size()
	}
	// The block's own tables, until it is known to be whole.
	streams := append(o.streams.Streams[:len(o.streams.Streams):len(o.streams.Streams)], aux.streams...)
	if o.block(aux.meta, streams, aux.templates, aux.folds).verify() != nil || !o.table.takes(aux.templates[o.shapes:]) || !accept(aux.meta) {
		return false
	}
	for _, s := range aux.streams {
		o.streams.Ref(s, &o.key)
	}
	for _, t := range aux.templates[o.shapes:] {
		o.table.add(t.key)
	}
	for _, number := range aux.changed {
		o.table.folds.take(number, aux.folds[number])
	}
	o.blocks = append(o.blocks, o.block(aux.meta, o.streams.Streams, o.table.templates, o.table.folds.folds))
	o.known, o.shapes = len(o.streams.Streams), len(o.table.templates)
	o.auxSize += ref.size()
	o.indexSize += uint64(len(aux.meta.append(nil)))
	o.size = end
	return true
}

// An auxRecord is what a block added to the segment.
type auxRecord struct {
	streams   []*Stream   // new
	templates []*Template // all, those before included
	folds     []*fold     // all, those before included
	changed   []int       // numbers of the folds that are new or have new variants
	meta      *BlockMeta
}

// parseAux decodes a record of open-N.aux: the streams, templates and variants that the
// block added, each of them new, and its directory.
func (o *Open) parseAux(raw []byte, size uint64) (*auxRecord, error) {
	r := reader{b: raw}
	a := &auxRecord{}
	var err error
	if a.streams, err = parseStreams(&r, o.streams.bytes); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, s := range a.streams {
		key := string(s.AppendKey(nil))
		if _, ok := o.streams.refs[key]; ok || seen[key] {
			return nil, fmt.Errorf("stream %s is defined twice", s.Labels)
		}
		seen[key] = true
	}
	added, err := parseTemplates(&r)
	if err != nil {
		return nil, err
	}
	a.templates = append(slices.Clip(o.table.templates), added...)
	if a.folds, a.changed, err = o.table.folds.parseAdditions(&r, a.templates); err != nil {
		return nil, err
	}
	if a.meta, err = parseBlockMeta(&r, len(o.streams.Streams)+len(a.streams), len(a.templates), size); err != nil {
		return nil, err
	}
	return a, r.done()
}

func (o *Open) block(m *BlockMeta, streams []*Stream, templates []*Template, folds []*fold) *Block {
	// The tables grow on; what a block refers to is in them now. Of folds others take the
	// places.
	return &Block{Meta: m, file: &blockFile{chunks: chunkReader{o.file, o.path}, streams: slices.Clip(streams), templates: slices.Clip(templates), folds: slices.Clone(folds)}}
}

// Blocks returns the blocks so far. The slice must not be changed.
func (o *Open) Blocks() []*Block { return o.blocks }

// Path returns the name of the file.
func (o *Open) Path() string { return o.path }

// Full reports whether a further block might not fit, and the segment is to be sealed.
// Ask before the encoder is given a block's first record.
func (o *Open) Full() bool {
	// A block adds at most the streams of payloads of MaxPayload, and one run a row.
	return len(o.blocks) >= MaxBlocks || o.size > maxFile/2 || o.indexSize > maxChunk/2 ||
		len(o.streams.Streams) > maxStreams-MaxBlockRows || o.streams.bytes > maxChunk/3
}

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
	switch {
	case int(meta.Number) != len(o.blocks):
		return nil, fmt.Errorf("block number %d, want %d", meta.Number, len(o.blocks))
	case len(o.blocks) >= MaxBlocks || len(o.streams.Streams) > maxStreams || o.streams.bytes > maxStreamBytes:
		return nil, fmt.Errorf("open segment %q: %w for another block: seal it when it is full", o.path, ErrTooLarge)
	}
	if _, err := o.file.WriteAt(bytes, int64(o.size)); err != nil {
		return nil, err
	}
	raw := encodeStreams(o.streams.Streams[o.known:])
	raw = appendTemplates(raw, o.table.templates[o.shapes:])
	raw = o.table.folds.appendAdditions(raw, e.shred.columns.added)
	tables := len(raw)
	raw = meta.append(raw)
	if len(raw) > maxChunk {
		return nil, fmt.Errorf("directory of block %d of %d bytes: %w", meta.Number, len(raw), ErrTooLarge)
	}
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
	o.indexSize += uint64(len(raw) - tables)
	block := o.block(meta, o.streams.Streams, o.table.templates, o.table.folds.folds)
	o.blocks = append(o.blocks, block)
	return block, nil
}

// Close closes the files, which stay where they are, also after Seal. No block may be
// in use. Further calls do nothing.
func (o *Open) Close() error {
	if o.closed {
		return nil
	}
	o.closed = true
	return errors.Join(o.file.Close(), o.aux.Close())
}

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
