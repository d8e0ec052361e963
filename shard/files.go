package shard

import (
	"container/list"
	"errors"
	"io/fs"
	"sync"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// FilesOptions bound what a node keeps in memory of its sealed files.
type FilesOptions struct {
	// MaxOpen is how many sealed files stay open. 0: 512.
	MaxOpen int
	// MaxTables is how many bytes the tables of the open files take: streams, templates,
	// directories of blocks. 0: 256 MiB.
	MaxTables int64
	// MaxCatalogue is how many bytes the catalogues of all shards take. 0: 64 MiB.
	MaxCatalogue int64
}

// Files are the sealed files that a node has open, of all its shards: what a node needs
// for reading does not depend on how much it holds (F1). A file that nobody reads is
// closed when the limits ask for it, the one that was not read for longest first. One
// that is read stays open: the limits are exceeded by what queries hold at the moment.
type Files struct {
	o FilesOptions

	mu        sync.Mutex
	open      int
	tables    int64
	catalogue int64
	idle      list.List // of *sealedFile: open and read by nobody, the longest unused first
}

// NewFiles returns an empty set. It needs no closing: the shards close what is theirs.
func NewFiles(o FilesOptions) *Files {
	setDefault(&o.MaxOpen, 512)
	setDefault(&o.MaxTables, 256<<20)
	setDefault(&o.MaxCatalogue, 64<<20)
	return &Files{o: o}
}

// FilesStatus says what a node has in memory of its sealed files.
type FilesStatus struct {
	Open      int
	Tables    int64 // bytes, about
	Catalogue int64 // bytes, about
}

// Status returns what is open now.
func (c *Files) Status() FilesStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return FilesStatus{c.open, c.tables, c.catalogue}
}

// reserve takes memory for a catalogue, if there is some left.
func (c *Files) reserve(bytes int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.catalogue+bytes > c.o.MaxCatalogue {
		return false
	}
	c.catalogue += bytes
	return true
}

// giveBack gives back what reserve has taken.
func (c *Files) giveBack(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.catalogue -= bytes
}

// A sealedFile is a segment file of a shard. It is opened when it is first read.
type sealedFile struct {
	segment.Sealed
	files  *Files
	fs     vfs.FS
	path   string
	report func(error) // of what goes wrong where nobody waits for an answer

	opening sync.Mutex // one at a time

	// Guarded by files.mu:
	references int // of the shard, and of readers that may still come to it
	readers    int // who reads it now
	open       *segment.Segment
	memory     int64         // of the tables
	place      *list.Element // in files.idle
	obsolete   bool          // no MANIFEST names it any more: it is removed with the last reference

	catalogued  *fileStreams // guarded by catalogue.mu; nil: not known
	undescribed bool         // guarded by Shard.mu: it cannot be read, or there is no room to describe it
}

func (s *Shard) newSealedFile(sealed segment.Sealed) *sealedFile {
	return &sealedFile{Sealed: sealed, files: s.o.Files, fs: s.o.FS, path: s.path(sealed.FileName()), references: 1, report: func(err error) {
		s.o.Logger.Sugar().Warnw("giving up a sealed file", "shard", s.o.Number, "error", err)
	}}
}

// acquire opens the file, if it is not open, and keeps it so until yield.
func (f *sealedFile) acquire() (*segment.Segment, error) {
	if s := f.hold(); s != nil {
		return s, nil
	}
	f.opening.Lock()
	defer f.opening.Unlock()
	if s := f.hold(); s != nil {
		return s, nil
	}
	s, err := f.read()
	if err != nil {
		return nil, err
	}
	c := f.files
	c.mu.Lock()
	f.open, f.memory, f.readers = s, s.MemoryBytes(), 1
	c.open++
	c.tables += f.memory
	closed := c.evictLocked()
	c.mu.Unlock()
	closeAll(closed)
	return s, nil
}

// read opens the file and checks that it is the one that was sealed.
func (f *sealedFile) read() (*segment.Segment, error) {
	s, err := segment.OpenSegment(f.fs, f.path)
	if err != nil {
		if !errors.Is(err, segment.ErrVersion) && !errors.Is(err, segment.ErrCorrupt) {
			err = &segment.CorruptError{Path: f.path, What: "segment file", Err: err}
		}
		return nil, err
	}
	if s.Sealed != f.Sealed {
		return nil, errors.Join(&segment.CorruptError{Path: f.path, What: "segment file", Err: errors.New("it is not the one that the log names")}, s.Close())
	}
	return s, nil
}

// hold returns the file if it is open.
func (f *sealedFile) hold() *segment.Segment {
	c := f.files
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.open == nil {
		return nil
	}
	f.readers++
	if f.place != nil {
		c.idle.Remove(f.place)
		f.place = nil
	}
	return f.open
}

// yield gives back what acquire has returned: nothing of it may be in use.
func (f *sealedFile) yield() {
	c := f.files
	c.mu.Lock()
	f.readers--
	var closed []*segment.Segment
	switch {
	case f.readers > 0:
	case f.references == 0:
		closed = append(closed, c.forgetLocked(f))
	default:
		f.place = c.idle.PushBack(f)
		closed = c.evictLocked()
	}
	remove := f.references == 0 && f.readers == 0 && f.obsolete
	c.mu.Unlock()
	closeAll(closed)
	if remove {
		f.remove()
	}
}

// retain keeps files from being removed, until release. It reports false, and does
// nothing, if one of them is given up already.
func (c *Files) retain(files []*sealedFile) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range files {
		if f.references == 0 {
			return false
		}
	}
	for _, f := range files {
		f.references++
	}
	return true
}

// release gives references back. With the last one a file is closed, and removed if it
// is obsolete.
func (c *Files) release(files ...*sealedFile) {
	c.mu.Lock()
	var closed []*segment.Segment
	var removed []*sealedFile
	for _, f := range files {
		f.references--
		if f.references > 0 || f.readers > 0 {
			continue
		}
		if f.open != nil {
			closed = append(closed, c.forgetLocked(f))
		}
		if f.obsolete {
			removed = append(removed, f)
		}
	}
	c.mu.Unlock()
	closeAll(closed)
	for _, f := range removed {
		f.remove()
	}
}

// discard says that no MANIFEST names the files any more, and gives the shard's
// reference back: they are removed as soon as no query may come to them (H2).
func (c *Files) discard(files []*sealedFile) {
	c.mu.Lock()
	for _, f := range files {
		f.obsolete = true
	}
	c.mu.Unlock()
	c.release(files...)
}

// remove removes the file from its folder. What could not be removed takes space and no
// more: the next owner removes it.
func (f *sealedFile) remove() {
	if err := f.fs.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.report(err)
	}
}

// evictLocked takes files that nobody reads off the books until the limits are kept,
// and returns them to be closed.
func (c *Files) evictLocked() (closed []*segment.Segment) {
	for (c.open > c.o.MaxOpen || c.tables > c.o.MaxTables) && c.idle.Len() > 0 {
		closed = append(closed, c.forgetLocked(c.idle.Front().Value.(*sealedFile)))
	}
	return closed
}

func (c *Files) forgetLocked(f *sealedFile) *segment.Segment {
	if f.place != nil {
		c.idle.Remove(f.place)
		f.place = nil
	}
	s := f.open
	c.open--
	c.tables -= f.memory
	f.open, f.memory = nil, 0
	return s
}

// closeAll closes files that were only read: an error of that loses nothing.
func closeAll(segments []*segment.Segment) {
	for _, s := range segments {
		_ = s.Close()
	}
}
