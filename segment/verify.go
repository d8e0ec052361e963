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
	// Faults are the damages: extents that are not what was hashed, then what is found
	// in tables and blocks. A file without any is whole.
	Faults []error
}

// Verify reads a whole sealed file: every leaf hash, every chunk, every entry, and
// compares their digest with the trailer's. The error is set if the file could not be
// opened or is of a later version; what is damaged stands in the report.
func Verify(fsys vfs.FS, path string) (*Report, error) {
	f, err := fsys.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	report := &Report{}
	s, err := openEnds(f, path)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		report.Faults = append(report.Faults, err)
		return report, nil
	}
	// With whole ends every damaged extent can be named, whatever it held.
	report.Sealed, report.LogID, report.Blocks = s.Sealed, s.LogID, int(s.end.Blocks)
	report.Faults = s.checkLeaves()
	if err := s.loadTables(); err != nil {
		if !errors.Is(err, ErrCorrupt) {
			return nil, err
		}
		report.Faults = append(report.Faults, err)
		return report, nil
	}
	report.Streams = len(s.Streams())
	for _, b := range s.Blocks {
		if err := b.verify(); err != nil {
			report.Faults = append(report.Faults, err)
		}
	}
	// What a damaged block holds cannot be compared.
	if len(report.Faults) == 0 {
		if err := s.checkFilter(); err != nil {
			report.Faults = append(report.Faults, err)
		}
	}
	return report, nil
}

// checkLeaves compares every 256 KiB of the file with its leaf hash.
func (s *Segment) checkLeaves() []error {
	end := s.end.Extents[extentLeaves].Offset
	var faults []error
	b := make([]byte, leafExtent)
	for i := 0; i*leafSize < len(s.leaves); i++ {
		at := uint64(i) * leafExtent
		n := min(leafExtent, end-at)
		err := readFull(s.file, b[:n], int64(at))
		if err == nil && sha256.Sum256(b[:n]) != [leafSize]byte(s.leaves[i*leafSize:]) {
			err = errors.New("its hash is not the one in LEAVES")
		}
		if err != nil {
			faults = append(faults, damaged(s.path, int64(at), fmt.Sprintf("extent of %d bytes", n), err))
		}
	}
	return faults
}

// checkChunks checks the leaves and every chunk's checksum and structure, without a
// comparison of the entries' digest.
func (s *Segment) checkChunks() error {
	if faults := s.checkLeaves(); len(faults) > 0 {
		return errors.Join(faults...)
	}
	if f := s.Blocks[0].file.filter; f != nil {
		for i := range f.parts {
			if err := f.file.check(&f.parts[i], 0); err != nil {
				return err
			}
		}
	}
	for _, b := range s.Blocks {
		for i := range b.Meta.Chunks {
			if err := b.file.chunks.check(&b.Meta.Chunks[i], b.Meta.Number); err != nil {
				return err
			}
		}
	}
	return nil
}
