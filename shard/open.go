package shard

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// Open opens a replica by the rules O1 to O9 of doc.go: nothing that was fsynced is
// cut, nothing is reported as durable that this process has not itself synced or found
// below the mark, and damage is told from a torn end.
//
// The shard takes no writes and answers no reads before Lead. An error that is
// ErrLost or ErrForeign stays until somebody puts the folder right; any other may pass.
func Open(o Options) (*Shard, error) {
	o = o.withDefaults()
	s := &Shard{o: o, inFlight: map[keyPart]*item{}, failed: make(chan struct{}), closed: make(chan struct{})}
	s.room, s.work = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
	s.intern = s.streams.intern
	s.catalogue.files = o.Files
	s.fill = filler{fs: o.FS, fail: s.fail}
	if err := s.load(); err != nil {
		s.abort()
		return nil, fmt.Errorf("opening shard %d in %q: %w", o.Number, o.Dir, err)
	}
	s.wg.Go(s.writeLoop)
	return s, nil
}

// abort closes what a failed Open had opened.
func (s *Shard) abort() {
	for _, t := range s.tails {
		_ = t.release()
	}
	if s.open != nil {
		_ = s.open.release()
	}
	s.catalogue.close()
	if s.promise != nil && s.promise.file != nil {
		_ = s.promise.file.Close()
	}
}

func (s *Shard) path(name string) string { return s.o.Dir + "/" + name }

const promiseName = "PROMISE"

func (s *Shard) load() error {
	if err := s.identify(); err != nil {
		return err
	}
	promise, fault, err := openPromise(s.o.FS, s.path(promiseName), s.o.AfterFailure)
	if err != nil {
		return lost(err)
	}
	s.promise = promise
	s.noteRepair(fault)
	m, same, fault, err := readManifest(s.o.FS, s.o.Dir)
	if err != nil {
		return lost(err)
	}
	s.noteRepair(fault)
	if err := s.openTails(m); err != nil {
		return err
	}
	if err := s.recover(m); err != nil {
		return err
	}
	for _, sealed := range s.state.Sealed {
		s.view.sealed = append(s.view.sealed, s.newSealedFile(sealed))
		size, err := s.o.FS.Size(s.path(sealed.FileName()))
		if err == nil && uint64(size) != sealed.Length {
			err = fmt.Errorf("%d bytes long, want %d", size, sealed.Length)
		}
		if err != nil {
			s.note("sealed file of records %d to %d: %v", sealed.FirstIndex, sealed.LastIndex, err)
		}
	}
	s.loadCatalogue()
	switch {
	case s.manifestSequence != m.Sequence:
		return nil // recover has written it
	case same:
		// The process that renamed it, or IDENT, may have died before that was durable.
		return s.o.FS.SyncDir(s.o.Dir)
	default:
		return s.saveManifest()
	}
}

// note remembers for Status, and logs, what Open found.
func (s *Shard) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.faults = append(s.faults, text)
	s.o.Logger.Sugar().Warnw(text, "shard", s.o.Number)
}

// noteRepair notes damage to one of two copies, if there was any.
func (s *Shard) noteRepair(damage error) {
	if damage != nil {
		s.note("one of two copies is damaged and is written anew from the other: %v", damage)
	}
}

// lost wraps what means that this replica cannot know what it held or promised.
func lost(err error) error {
	if errors.Is(err, segment.ErrCorrupt) || errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	return err
}

// identify makes the folder of a new replica, or checks that the folder is this one's.
func (s *Shard) identify() error {
	id, damage, err := readIdent(s.o.FS, s.o.Dir)
	if errors.Is(err, fs.ErrNotExist) && s.o.Create {
		return s.create()
	}
	if err != nil {
		return lost(err)
	}
	s.noteRepair(damage)
	want := s.o.Ident
	if id.ClusterID != want.ClusterID || id.Shard != want.Shard || id.LogID != want.LogID || id.Replica != want.Replica {
		return fmt.Errorf("%w: it holds shard %d (log %x, replica %s) of cluster %s, this must be shard %d (log %x, replica %s) of cluster %s",
			ErrForeign, id.Shard, id.LogID, id.Replica, id.ClusterID, want.Shard, want.LogID, want.Replica, want.ClusterID)
	}
	return nil
}

// create makes an empty replica. IDENT comes last: without it nothing of the folder was
// ever used.
func (s *Shard) create() error {
	if err := s.checkUnused(); err != nil {
		return err
	}
	if err := s.o.FS.RemoveAll(s.o.Dir); err != nil {
		return err
	}
	if err := s.o.FS.MkdirAll(s.o.Dir); err != nil {
		return err
	}
	if err := (&promiseFile{}).write(s.o.FS, s.path(promiseName)); err != nil {
		return err
	}
	first := position{index: 1}
	t, err := createTail(s.o.FS, s.o.Dir, 1, s.o.Ident.LogID, first)
	if err != nil {
		return err
	}
	if err := t.release(); err != nil {
		return err
	}
	m := &manifest{Sequence: 1, Tails: []manifestTail{{Number: 1, First: first}}}
	if err := writeManifest(s.o.FS, s.o.Dir, m); err != nil {
		return err
	}
	// The mark is below everything from the first record on.
	if err := s.o.Floor.Set(s.o.Number, Mark{LogID: s.o.Ident.LogID, File: 1, Position: tailHeaderSize}); err != nil {
		return err
	}
	if err := s.o.Floor.Sync(); err != nil {
		return err
	}
	return writeIdent(s.o.FS, s.o.Dir, s.o.Ident)
}

// checkUnused refuses to make a replica where files lie that were in use: the absence
// of IDENT is no reason to delete (H20). What an interrupted create left may go.
func (s *Shard) checkUnused() error {
	names, err := s.o.FS.List(s.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		unused := false
		switch {
		case strings.HasSuffix(name, vfs.TempSuffix), name == manifestName, name == manifestCopy, name == identCopy:
			unused = true
		case name == promiseName:
			p, _, err := openPromise(s.o.FS, s.path(name), false)
			if err == nil {
				unused = p.promise == Promise{}
				err = p.file.Close()
			}
			if err != nil && !errors.Is(err, segment.ErrCorrupt) {
				return err
			}
		case name == tailBase(1):
			size, err := s.o.FS.Size(s.path(name))
			if err != nil {
				return err
			}
			unused = size <= tailHeaderSize
		}
		if !unused {
			return fmt.Errorf("%w: there is no IDENT, but %q was in use: put IDENT back, or move the folder away to begin an empty replica", ErrLost, s.path(name))
		}
	}
	return nil
}

func (s *Shard) openTails(m *manifest) error {
	for _, t := range m.Tails {
		name := tailName(s.o.Dir, t.Number)
		f, err := s.o.FS.OpenReadWrite(name)
		if err != nil {
			return lost(err)
		}
		tail := &tailFile{number: t.Number, path: name, file: f, end: tailHeaderSize, first: t.First}
		tail.references.Store(1)
		s.tails = append(s.tails, tail)
		b := make([]byte, tailHeaderSize)
		size, err := f.Size()
		if err != nil {
			return err
		}
		if size < tailHeaderSize {
			s.note("header of %q: the file is %d bytes long; MANIFEST has what it said", name, size)
			continue
		}
		if _, err := f.ReadAt(b, 0); err != nil {
			return err
		}
		p, err := parseTailHeader(b, s.o.Ident.LogID)
		switch {
		case errors.Is(err, segment.ErrVersion):
			return fmt.Errorf("%q: %w", name, err)
		case errors.Is(err, errTailHeader):
			s.note("header of %q: %v; MANIFEST has what it said", name, err)
		case err == nil && p != t.First:
			err = fmt.Errorf("it begins at record %d, MANIFEST says %d: files of different times are mixed", p.index, t.First.index)
			fallthrough
		case err != nil:
			return lost(&segment.CorruptError{Path: name, What: "tail file", Err: err})
		}
	}
	return nil
}
