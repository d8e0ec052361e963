package segment

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/logcluster/logcluster/internal/vfs"
)

// A Report is what Verify found.
type Report struct {
	Sealed
	LogID   uint64
	Blocks  int
	Streams int
	// Faults are the damages, in the order of the file. A file without any is whole.
	Faults []error
}

// Verify reads a whole sealed file: every leaf hash, every chunk, every entry, and
// compares their digest with the trailer's. The error is set if the file could not be
// read at all; what is damaged stands in the report.
func Verify(fsys vfs.FS, path string) (*Report, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	report := &Report{}
	s, err := openSealed(f, path)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		report.Faults = append(report.Faults, err)
		return report, nil
	}
	report.Sealed, report.LogID, report.Blocks, report.Streams = s.Sealed, s.LogID, len(s.Blocks), len(s.Streams())
	faults, err := s.checkLeaves()
	if err != nil {
		return nil, err
	}
	report.Faults = append(report.Faults, faults...)
	for _, b := range s.Blocks {
		if err := b.verify(); err != nil {
			report.Faults = append(report.Faults, err)
		}
	}
	return report, nil
}

// checkLeaves compares every 256 KiB of the file with its leaf hash.
func (s *Segment) checkLeaves() ([]error, error) {
	e := s.end.Extents[extentLeaves]
	leaves := make([]byte, e.Length)
	if err := readFull(s.file, leaves, int64(e.Offset)); err != nil {
		return nil, err
	}
	var faults []error
	b := make([]byte, leafExtent)
	for i := 0; i*leafSize < len(leaves); i++ {
		at := uint64(i) * leafExtent
		n := min(leafExtent, e.Offset-at)
		err := readFull(s.file, b[:n], int64(at))
		if err == nil && sha256.Sum256(b[:n]) != [leafSize]byte(leaves[i*leafSize:]) {
			err = errors.New("its hash is not the one in LEAVES")
		}
		if err != nil {
			faults = append(faults, &CorruptError{Path: s.path, Offset: int64(at), What: fmt.Sprintf("extent of %d bytes", n), Err: err})
		}
	}
	return faults, nil
}

// checkChunks checks the leaves and every chunk's checksum and structure, without a
// comparison of the entries' digest.
func (s *Segment) checkChunks() error {
	faults, err := s.checkLeaves()
	if err != nil || len(faults) > 0 {
		return errors.Join(append(faults, err)...)
	}
	for _, b := range s.Blocks {
		for i := range b.Meta.Chunks {
			if err := b.check(&b.Meta.Chunks[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// check verifies a chunk's header and checksum without decompressing it.
func (b *Block) check(ref *ChunkRef) error {
	c := b.file.chunks
	pooled := getBuffer(int(ref.size()))
	defer putBuffer(pooled)
	if err := readFull(c.r, *pooled, int64(ref.Offset)); err != nil {
		return c.damage(ref, err)
	}
	h, err := parseChunkHeader(*pooled)
	if err != nil {
		return c.damage(ref, err)
	}
	end := chunkHeaderSize + int(ref.Encoded)
	if h.encoded != ref.Encoded || h.raw != ref.Raw || h.kind != ref.Kind || h.block != b.Meta.Number || chunkSum((*pooled)[:end]) != h.sum {
		return c.damage(ref, errors.New("header or checksum differ"))
	}
	for _, p := range (*pooled)[end:] {
		if p != 0 {
			return c.damage(ref, errors.New("padding is not zero"))
		}
	}
	return nil
}
