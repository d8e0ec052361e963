package shard

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"regexp"
	"sync"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// Open opens a replica by the rules that doc.go numbers: nothing that was fsynced is
// cut, nothing is reported as durable that this process has not itself synced or found
// below the mark, and damage is told from a torn end.
//
// The shard takes no writes before Fence and Lead, and answers no reads before Lead.
func Open(o Options) (*Shard, error) {
	o = o.withDefaults()
	s := &Shard{o: o, inFlight: map[keyPart]*item{}, failed: make(chan struct{}), closed: make(chan struct{})}
	s.room, s.work = sync.NewCond(&s.mu), sync.NewCond(&s.mu)
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
	if s.promise != nil && s.promise.file != nil {
		_ = s.promise.file.Close()
	}
}

func (s *Shard) path(name string) string { return s.o.Dir + "/" + name }

func (s *Shard) load() error {
	if err := s.identify(); err != nil {
		return err
	}
	var err error
	if s.promise, err = openPromise(s.o.FS, s.path("PROMISE")); err != nil {
		return lost(err)
	}
	m, fault, err := readManifest(s.o.FS, s.o.Dir)
	if err != nil {
		return lost(err)
	}
	if fault != nil {
		s.note("a copy of the manifest is damaged, it is written anew: %v", fault)
	}
	if err := s.openTails(m); err != nil {
		return err
	}
	if err := s.recover(m); err != nil {
		return err
	}
	for _, sealed := range s.state.Sealed {
		s.view.sealed = append(s.view.sealed, newSealedFile(s.o.FS, s.o.Dir, sealed))
		size, err := s.o.FS.Size(s.path(sealed.FileName()))
		if err == nil && uint64(size) != sealed.Length {
			err = fmt.Errorf("%d bytes long, want %d", size, sealed.Length)
		}
		if err != nil {
			s.note("sealed file of records %d to %d: %v", sealed.FirstIndex, sealed.LastIndex, err)
		}
	}
	return s.saveManifest()
}

// note remembers for Status, and logs, what Open found.
func (s *Shard) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.faults = append(s.faults, text)
	s.o.Logger.Sugar().Warnw(text, "shard", s.o.Number)
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
	id, err := readIdent(s.o.FS, s.path("IDENT"))
	if errors.Is(err, fs.ErrNotExist) && s.o.Create {
		return s.create()
	}
	if err != nil {
		return lost(err)
	}
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
	if err := s.o.FS.RemoveAll(s.o.Dir); err != nil {
		return err
	}
	if err := s.o.FS.MkdirAll(s.o.Dir); err != nil {
		return err
	}
	if err := createPromise(s.o.FS, s.path("PROMISE")); err != nil {
		return err
	}
	t, err := createTail(s.o.FS, s.o.Dir, 1, s.o.Ident.LogID, position{index: 1})
	if err != nil {
		return err
	}
	if err := t.release(); err != nil {
		return err
	}
	m := &manifest{Sequence: 1, Tails: []manifestTail{{Number: 1, FirstIndex: 1}}}
	if err := writeManifest(s.o.FS, s.o.Dir, m); err != nil {
		return err
	}
	// The mark is below everything from the first record on.
	if err := s.o.Floor.Set(s.o.Number, Mark{File: 1, Position: tailHeaderSize}); err != nil {
		return err
	}
	if err := s.o.Floor.Sync(); err != nil {
		return err
	}
	return writeIdent(s.o.FS, s.path("IDENT"), s.o.Ident)
}

func (s *Shard) openTails(m *manifest) error {
	for _, t := range m.Tails {
		name := tailName(s.o.Dir, t.Number)
		f, err := s.o.FS.OpenReadWrite(name)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = &segment.CorruptError{Path: name, What: "tail file", Err: err}
			}
			return lost(err)
		}
		tail := &tailFile{number: t.Number, path: name, file: f, end: tailHeaderSize}
		tail.references.Store(1)
		s.tails = append(s.tails, tail)
		b := make([]byte, tailHeaderSize)
		if n, err := f.ReadAt(b, 0); n < len(b) {
			return lost(&segment.CorruptError{Path: name, What: "tail file", Err: err})
		}
		p, err := parseTailHeader(b, s.o.Ident.LogID)
		if err == nil && p.index != t.FirstIndex {
			err = fmt.Errorf("it begins at record %d, the manifest says %d", p.index, t.FirstIndex)
		}
		if errors.Is(err, segment.ErrVersion) {
			return fmt.Errorf("%q: %w", name, err)
		}
		if err != nil {
			return lost(&segment.CorruptError{Path: name, What: "tail file", Err: err})
		}
		tail.first = p
	}
	return nil
}

// recover reads the tails, brings the state up to date, and sets up where the log goes
// on.
func (s *Shard) recover(m *manifest) error {
	s.state, s.damages, s.manifestSequence = m.State, m.Damages, m.Sequence
	s.commit = s.state.Index
	known := append([]Loss(nil), s.state.Losses...)
	for _, d := range s.damages {
		known = append(known, d.Loss)
	}
	var mark *Mark
	if m, ok := s.o.Floor.Get(s.o.Number); ok {
		mark = &m
	} else {
		s.note("the mark in FLOOR is damaged: a torn end of the log counts as damage")
	}
	open, err := s.resumeOpen()
	if err != nil {
		return err
	}
	r := &recovery{shard: s, open: open, mark: mark}
	found, err := scanTails(s.o.Ident.LogID, s.tails, mark, known, r.visit)
	if err == nil && open != nil && r.block < len(open.Blocks()) {
		err = errOtherLog
	}
	if errors.Is(err, errOtherLog) {
		// The blocks are not those of this log: the entries are encoded again.
		if err := errors.Join(open.Close(), segment.RemoveOpen(s.o.FS, open.Path())); err != nil {
			return err
		}
		s.state, s.commit = m.State, m.State.Index
		r = &recovery{shard: s, mark: mark}
		found, err = scanTails(s.o.Ident.LogID, s.tails, mark, known, r.visit)
	}
	if err != nil {
		if r.open != nil {
			return errors.Join(err, r.open.Close())
		}
		return err
	}
	s.end, s.group = found.end, found.group
	if mark != nil {
		s.group = max(s.group, mark.Group)
	}
	if found.end.index <= s.state.Index {
		return lost(&segment.CorruptError{Path: s.o.Dir, What: "log", Err: fmt.Errorf("it ends before record %d, the manifest is at %d", found.end.index, s.state.Index)})
	}
	for _, d := range found.damages {
		s.note("damage in %q at byte %d: %s", tailName(s.o.Dir, d.File), d.Position, &d.Loss)
		s.damages = append(s.damages, d)
	}
	if r.open != nil && len(r.open.Blocks()) == 0 {
		if err := errors.Join(r.open.Close(), segment.RemoveOpen(s.o.FS, r.open.Path())); err != nil {
			return err
		}
	} else if r.open != nil {
		s.setOpen(r.open)
		s.view.blocks = r.open.Blocks()
		for _, b := range s.view.blocks {
			s.rollBytes += b.Meta.RawBytes
			s.rollRows += uint64(b.Meta.Rows)
		}
		s.firstAt = time.Now()
	}
	if err := r.applyTo(found.commit); err != nil {
		return err
	}
	if err := s.carryForward(r, found); err != nil {
		return err
	}
	for _, rec := range r.pending {
		s.unapplied = append(s.unapplied, &item{header: rec.header, payload: rec.payload, tail: rec.tail, at: rec.at})
	}
	s.durable = s.end.index - 1
	return nil
}

// A recovery gathers what the scan finds.
type recovery struct {
	shard   *Shard
	open    *segment.Open
	mark    *Mark
	pending []*recovered // above the commit index, in order
	shown   []*recovered // applied and in no block or segment
	beyond  []*recovered // above the mark: to be carried forward
	block   int          // next block of open that the scan comes to
}

// A recovered record, with the payload if it is a control record.
type recovered struct {
	record
	payload []byte
}

var errOtherLog = errors.New("the open segment does not fit the log")

func (r *recovery) visit(rec *record, payload []byte) error {
	s := r.shard
	x := &recovered{record: *rec}
	h := &x.header
	if h.Type != segment.RecordData {
		x.payload = append([]byte(nil), payload...)
	}
	if r.open != nil && r.block < len(r.open.Blocks()) {
		if m := r.open.Blocks()[r.block].Meta; h.Index == m.LastIndex {
			if h.Chain != m.Chain {
				return errOtherLog
			}
			r.block++
		} else if h.Index > m.LastIndex {
			return errOtherLog
		}
	}
	if r.mark == nil || rec.tail.number > r.mark.File || rec.tail.number == r.mark.File && rec.at >= r.mark.Position {
		r.beyond = append(r.beyond, x)
	}
	if h.Index > s.state.Index {
		r.pending = append(r.pending, x)
	} else if h.Type == segment.RecordData && !r.covered(h.Index) {
		r.shown = append(r.shown, x)
	}
	// A trailer says what was committed when it was written: the rest stays undecided
	// until there is an owner.
	return r.applyTo(rec.trailer.Commit)
}

// covered reports whether a record's entries stand in a segment file or a block.
func (r *recovery) covered(index uint64) bool {
	if index <= r.shard.state.sealedEnd() {
		return true
	}
	if r.open == nil || len(r.open.Blocks()) == 0 {
		return false
	}
	blocks := r.open.Blocks()
	return index <= blocks[len(blocks)-1].Meta.LastIndex
}

// applyTo applies pending records up to index to the state.
func (r *recovery) applyTo(index uint64) error {
	s := r.shard
	n := 0
	for n < len(r.pending) && r.pending[n].header.Index <= index {
		x := r.pending[n]
		if err := s.state.apply(&x.header, x.payload); err != nil {
			return err
		}
		s.commit = x.header.Index
		if x.header.Type == segment.RecordData && !r.covered(x.header.Index) {
			r.shown = append(r.shown, x)
		}
		n++
	}
	r.pending = r.pending[n:]
	return nil
}

// carryForward makes sure of what may stand in the page cache only: records above the
// mark are copied into a new tail file and synced there, before this replica answers
// anything. A torn end is left behind with its file. If there is neither, the log goes
// on in its last file.
func (s *Shard) carryForward(r *recovery, found *scanned) error {
	last := s.tails[len(s.tails)-1]
	fresh := found.torn || s.o.AfterFailure || len(found.damages) > 0
	if len(r.beyond) == 0 && !fresh {
		r.show()
		return nil
	}
	number := last.number
	var written []*tailFile
	for i := 0; i < len(r.beyond); {
		// Records with a hole between them go into different files.
		j := i + 1
		for j < len(r.beyond) && r.beyond[j].header.Index == r.beyond[j-1].header.Index+1 {
			j++
		}
		number++
		t, err := s.copyRecords(number, r.beyond[i:j])
		if err != nil {
			return err
		}
		written = append(written, t)
		i = j
	}
	end := s.end
	if n := len(written); n == 0 || written[n-1].last+1 != end.index {
		number++
		t, err := createTail(s.o.FS, s.o.Dir, number, s.o.Ident.LogID, end)
		if err != nil {
			return err
		}
		written = append(written, t)
	}
	s.tails = append(s.tails, written...)
	if err := s.saveManifest(); err != nil {
		return err
	}
	t := s.tails[len(s.tails)-1]
	mark := Mark{File: t.number, Position: t.end, Epoch: end.epoch, Index: end.index - 1, NextOffset: end.offset, Chain: end.chain, Group: s.group}
	if err := s.o.Floor.Set(s.o.Number, mark); err != nil {
		return err
	}
	r.show()
	return nil
}

// copyRecords writes records, which follow each other, into a new tail file, byte by
// byte but for the fsync group, and changes their places.
func (s *Shard) copyRecords(number uint64, records []*recovered) (*tailFile, error) {
	first := records[0]
	t, err := createTail(s.o.FS, s.o.Dir, number, s.o.Ident.LogID, first.before)
	if err != nil {
		return nil, err
	}
	s.group++
	var buf []byte
	flush := func() error {
		_, err := t.file.WriteAt(buf, t.end)
		t.end += int64(len(buf))
		buf = buf[:0]
		return err
	}
	place := 0
	for _, x := range records {
		payload, err := x.tail.load(&x.header, x.at)
		if err != nil {
			return nil, errors.Join(err, t.release())
		}
		if place == segment.MaxGroupRecords {
			place = 0
			s.group++
		}
		x.tail, x.at = t, t.end+int64(len(buf))
		mark := len(buf)
		buf = segment.AppendHeader(buf, &x.header)
		buf = append(buf, payload...)
		buf = segment.AppendTrailer(buf, segment.Trailer{Group: segment.NewGroup(s.group, place), Commit: x.trailer.Commit}, buf[mark:])
		place++
		t.last = x.header.Index
		if len(buf) > 1<<20 {
			if err := flush(); err != nil {
				return nil, errors.Join(err, t.release())
			}
		}
	}
	if err := errors.Join(flush(), t.file.Sync()); err != nil {
		return nil, errors.Join(err, t.release())
	}
	return t, nil
}

// show lists the committed frames for readers, at their final places.
func (r *recovery) show() {
	s := r.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range r.shown {
		if !r.covered(x.header.Index) {
			s.showLocked(x.header, nil, x.tail, x.at)
		}
	}
}

// resumeOpen opens the open segment that the last process left, if it continues what is
// sealed.
func (s *Shard) resumeOpen() (*segment.Open, error) {
	names, err := s.o.FS.List(s.o.Dir)
	if err != nil {
		return nil, err
	}
	end := s.state.sealedEnd()
	for _, name := range names {
		var first uint64
		if _, err := fmt.Sscanf(name, "open-%d", &first); err != nil || name != fmt.Sprintf("open-%d", first) || first <= end {
			continue
		}
		next := first
		return segment.ResumeOpen(s.o.FS, s.path(name), s.o.Ident.LogID, func(m *segment.BlockMeta) bool {
			ok := m.FirstIndex >= next && m.LastIndex >= m.FirstIndex && m.LastIndex < math.MaxUint64
			next = m.LastIndex + 1
			return ok
		})
	}
	return nil, nil
}

var sealedName = regexp.MustCompile(`^seg-[0-9]+-[0-9]+-[0-9a-f]{64}$`)

// tidy removes what earlier processes left and what nothing needs: files of seals that
// were never committed, whose entries the tails hold, and tails and open segments that
// the manifest no longer names. It runs once this replica is the owner and knows what
// is committed.
func (s *Shard) tidy() error {
	s.mu.Lock()
	needed := map[string]bool{}
	for _, f := range s.view.sealed {
		needed[path.Base(f.path)] = true
	}
	for i := range s.state.Sealed {
		needed[s.state.Sealed[i].FileName()] = true
	}
	for _, t := range s.tails {
		needed[path.Base(t.path)] = true
	}
	for _, d := range s.damages {
		needed[path.Base(tailName("", d.File))] = true
	}
	if s.open != nil {
		needed[path.Base(s.open.Path())] = true
		needed[path.Base(s.open.Path())+".aux"] = true
	}
	s.mu.Unlock()
	names, err := s.o.FS.List(s.o.Dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		var n uint64
		_, tail := fmt.Sscanf(name, "tail-%d", &n)
		_, open := fmt.Sscanf(name, "open-%d", &n)
		if needed[name] || tail != nil && open != nil && !sealedName.MatchString(name) {
			continue
		}
		if err := s.o.FS.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
