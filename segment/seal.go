package segment

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"

	"github.com/logcluster/logcluster/internal/vfs"
)

// Seal finishes the file: tables, header, leaves and trailer, read back from the disk and
// compared, synced, and renamed to its final name in the same folder. open-N.aux stays
// until RemoveOpen.
//
// The blocks may be read all the while and after it, until Close. After an error the
// open segment must be closed and begun anew; the final name may exist all the same,
// and then the file is whole.
func (o *Open) Seal(r SealRange) (Sealed, error) {
	sealed, err := o.seal(r)
	if err != nil {
		return Sealed{}, fmt.Errorf("sealing %q: %w", o.path, err)
	}
	return sealed, nil
}

func (o *Open) seal(r SealRange) (Sealed, error) {
	if len(o.blocks) == 0 {
		return Sealed{}, errors.New("there is no block: a range without entries is not sealed")
	}
	t := o.trailer(r)
	tables, err := o.appendTables(&t)
	if err != nil {
		return Sealed{}, err
	}
	if _, err := o.file.WriteAt(tables, int64(o.size)); err != nil {
		return Sealed{}, err
	}
	h := fileHeader{UUID: segmentUUID(o.logID, r), FirstOffset: r.FirstOffset, Entries: t.Rows, Optional: optionalFilters}
	if len(o.table.folds.folds) > 0 {
		h.Required |= requiredFolds
	}
	if _, err := o.file.WriteAt(h.encode(), 0); err != nil {
		return Sealed{}, err
	}
	// The leaves are hashes of what the disk gives back. readBack compares the same bytes
	// with the chunks' checksums: what changed since they were written is found.
	end := o.size + uint64(len(tables))
	leaves, err := hashExtents(o.file, end)
	if err != nil {
		return Sealed{}, err
	}
	t.Extents[extentLeaves] = Extent{end, uint32(len(leaves))}
	t.Root = rootOf(leaves, t.encode())
	last := append(leaves, t.encode()...)
	if _, err := o.file.WriteAt(last, int64(end)); err != nil {
		return Sealed{}, err
	}
	length := end + uint64(len(last))
	if err := o.file.Truncate(int64(length)); err != nil {
		return Sealed{}, err
	}
	if err := o.file.Sync(); err != nil {
		return Sealed{}, err
	}
	sealed := t.sealed(length)
	if err := o.readBack(sealed); err != nil {
		return Sealed{}, fmt.Errorf("reading back: %w", err)
	}
	// The file stays open under its new name: queries read the blocks.
	dir := path.Dir(o.path)
	if err := o.fs.Rename(o.path, path.Join(dir, sealed.FileName())); err != nil {
		return Sealed{}, err
	}
	return sealed, o.fs.SyncDir(dir)
}

func (o *Open) trailer(r SealRange) trailer {
	t := trailer{FirstIndex: r.FirstIndex, LastIndex: r.LastIndex, FirstOffset: r.FirstOffset, EndOffset: r.EndOffset, Chain: r.Chain,
		LogID: o.logID, Blocks: uint32(len(o.blocks)), MinTimestamp: math.MaxInt64, MaxTimestamp: math.MinInt64}
	for _, b := range o.blocks {
		t.Rows += uint64(b.Meta.Rows)
		t.RawBytes += b.Meta.RawBytes
		t.Digest += b.Meta.Digest
		t.MinTimestamp = min(t.MinTimestamp, b.Meta.MinTimestamp)
		t.MaxTimestamp = max(t.MaxTimestamp, b.Meta.MaxTimestamp)
	}
	return t
}

// appendTables encodes STREAMS, TEMPLATES, FILTERS and INDEX, which stand behind the blocks.
func (o *Open) appendTables(t *trailer) ([]byte, error) {
	var out []byte
	add := func(extent int, kind ChunkKind, raw []byte) error {
		if len(raw) > maxChunk {
			return fmt.Errorf("%s of %d bytes: %w", kind, len(raw), ErrTooLarge)
		}
		b, ref, err := appendChunk(out, kind, 0, raw)
		if err != nil {
			return err
		}
		out = b
		t.Extents[extent] = Extent{o.size + ref.Offset, chunkHeaderSize + ref.Encoded}
		return nil
	}
	if err := add(extentStreams, ChunkStreams, encodeStreams(o.streams.Streams)); err != nil {
		return nil, err
	}
	if len(o.table.templates) > 0 {
		if err := add(extentTemplates, ChunkTemplates, appendTemplates(nil, o.table.templates)); err != nil {
			return nil, err
		}
	}
	if len(o.table.folds.folds) > 0 {
		if err := add(extentDictionary, ChunkDictionary, appendFolds(nil, o.table.folds.folds)); err != nil {
			return nil, err
		}
	}
	f, parts, err := buildFilters(o.blocks, o.table.templates, o.size)
	if err != nil {
		return nil, err
	}
	base := o.size + uint64(len(out))
	for _, part := range parts {
		var ref ChunkRef
		if out, ref, err = appendChunk(out, ChunkFilters, 0, part.encode()); err != nil {
			return nil, err
		}
		ref.Offset += o.size
		f.parts = append(f.parts, ref)
	}
	if err := add(extentFilters, ChunkFilters, f.append(nil, base)); err != nil {
		return nil, err
	}
	index := binary.AppendUvarint(nil, uint64(len(o.blocks)))
	for _, b := range o.blocks {
		index = b.Meta.append(index)
	}
	return out, add(extentIndex, ChunkIndex, index)
}

// readBack opens the finished file, checks every chunk of it and every leaf, and
// compares its tables with those in memory.
func (o *Open) readBack(want Sealed) error {
	s, err := openSealed(o.file, o.path)
	if err != nil {
		return err
	}
	if s.Sealed != want {
		return corrupt("segment file", "it says to be %+v, want %+v", s.Sealed, want)
	}
	if !slices.EqualFunc(s.Streams(), o.streams.Streams, (*Stream).Equal) {
		return corrupt("segment file", "its streams are not those of the blocks")
	}
	for i, b := range s.Blocks {
		if !bytes.Equal(b.Meta.append(nil), o.blocks[i].Meta.append(nil)) {
			return corrupt("segment file", "the directory of block %d is not the one of the block", i)
		}
	}
	return s.checkChunks()
}

// segmentUUID names a segment by what it stands for.
func segmentUUID(logID uint64, r SealRange) (id [16]byte) {
	b := binary.LittleEndian.AppendUint64([]byte("segment"), logID)
	b = binary.LittleEndian.AppendUint64(b, r.FirstIndex)
	b = binary.LittleEndian.AppendUint64(b, r.LastIndex)
	sum := sha256.Sum256(append(b, r.Chain[:]...))
	copy(id[:], sum[:])
	return id
}

// hashExtents returns the leaves of [0, end): SHA-256 of each 256 KiB.
func hashExtents(f vfs.File, end uint64) ([]byte, error) {
	b := make([]byte, leafExtent)
	var leaves []byte
	for at := uint64(0); at < end; at += leafExtent {
		n := min(leafExtent, end-at)
		if err := readFull(f, b[:n], int64(at)); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(b[:n])
		leaves = append(leaves, sum[:]...)
	}
	return leaves, nil
}

// rootOf hashes the leaves and the part of the encoded trailer that stands before the root.
func rootOf(leaves, encodedTrailer []byte) Root {
	h := sha256.New()
	h.Write(leaves)
	h.Write(encodedTrailer[:trailerRoot])
	return Root(h.Sum(nil))
}

func (t *trailer) sealed(length uint64) Sealed {
	return Sealed{
		SealRange: SealRange{FirstIndex: t.FirstIndex, LastIndex: t.LastIndex, FirstOffset: t.FirstOffset, EndOffset: t.EndOffset, Chain: t.Chain},
		Entries:   t.Rows, RawBytes: t.RawBytes, MinTimestamp: t.MinTimestamp, MaxTimestamp: t.MaxTimestamp,
		Digest: t.Digest, Length: length, Root: t.Root,
	}
}

// RemoveSealed removes a sealed file that no MANIFEST names any more.
func RemoveSealed(fsys vfs.FS, dir string, s *Sealed) error {
	err := fsys.Remove(path.Join(dir, s.FileName()))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
