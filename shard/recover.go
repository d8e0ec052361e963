package shard

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// recover reads the tails, brings the state up to date, and sets up where the log goes
// on.
func (s *Shard) recover(m *manifest) error {
	s.state, s.damages, s.manifestSequence = m.State.clone(), m.Damages, m.Sequence
	s.commit = s.state.Index
	if first, end := beginOfTails(s.tails), s.state.sealedEnd(); first > end+1 {
		return lost(&segment.CorruptError{Path: s.tails[0].path, What: "log", Err: fmt.Errorf("sealed files end with record %d, the tail begins with %d", end, first)})
	}
	open, err := s.resumeOpen()
	if err != nil {
		return err
	}
	r := &recovery{shard: s, open: open, mark: s.mark()}
	err = r.scan(m)
	if err == nil && open != nil && r.block < len(open.Blocks()) {
		err = errOtherLog
	}
	if errors.Is(err, errOtherLog) {
		// The blocks are not those of this log: the entries are encoded again.
		if err := errors.Join(open.Close(), segment.RemoveOpen(s.o.FS, open.Path())); err != nil {
			return err
		}
		s.state, s.commit, s.replaces = m.State.clone(), m.State.Index, 0
		r = &recovery{shard: s, mark: r.mark}
		err = r.scan(m)
	}
	if err == nil && r.open != nil && len(r.open.Blocks()) == 0 {
		open, r.open = r.open, nil
		err = errors.Join(open.Close(), segment.RemoveOpen(s.o.FS, open.Path()))
	}
	if err != nil {
		if r.open != nil {
			err = errors.Join(err, r.open.Close())
		}
		return lost(err)
	}
	if r.open != nil {
		s.setOpen(r.open)
		s.view.blocks = slices.Clone(r.open.Blocks())
		for _, b := range s.view.blocks {
			s.rollBytes += b.Meta.RawBytes
			s.rollRows += uint64(b.Meta.Rows)
		}
		s.firstAt = time.Now()
	}
	s.end, s.group = r.found.end, r.found.group
	if p := s.promise.promise.Epoch; p < s.end.epoch {
		return lost(&segment.CorruptError{Path: s.path(promiseName), What: "promise", Err: fmt.Errorf("epoch %d, but the log has records of epoch %d: an old copy was put in its place", p, s.end.epoch)})
	}
	for _, d := range r.found.damages {
		s.note("damage in %q at byte %d: %s", tailName(s.o.Dir, d.File), d.Position, &d.Loss)
		s.damages = append(s.damages, d)
	}
	commit := r.found.commit
	if n := len(s.view.blocks); n > 0 {
		commit = max(commit, s.view.blocks[n-1].Meta.LastIndex) // nothing else is encoded
	}
	if err := r.applyTo(commit); err != nil {
		return err
	}
	if err := s.carryForward(r); err != nil {
		return err
	}
	for _, rec := range r.pending {
		s.unapplied = append(s.unapplied, &item{header: rec.header, payload: rec.payload, tail: rec.tail, at: rec.at})
	}
	s.durable = s.end.index - 1
	return nil
}

// mark returns what FLOOR says of this log, or nil.
func (s *Shard) mark() *Mark {
	m, ok := s.o.Floor.Get(s.o.Number)
	if ok && m.LogID == s.o.Ident.LogID {
		return &m
	}
	s.note("FLOOR has no mark of this log: a torn end of the log counts as damage")
	return nil
}

// A recovery gathers what the scan finds.
type recovery struct {
	shard   *Shard
	open    *segment.Open
	mark    *Mark
	found   scanned
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

func (r *recovery) scan(m *manifest) error {
	known := slices.Clone(m.State.Losses)
	for i := range m.Damages {
		known = append(known, m.Damages[i].Loss)
	}
	slices.SortFunc(known, func(a, b Loss) int { return cmp.Compare(a.FirstIndex, b.FirstIndex) })
	s := scanner{logID: r.shard.o.Ident.LogID, tails: r.shard.tails, mark: r.mark, committed: m.State.end(), known: known, visit: r.visit}
	err := s.scan()
	r.found = s.scanned
	return err
}

func (r *recovery) visit(rec *record, payload []byte) error {
	s := r.shard
	x := &recovered{record: *rec}
	h := &x.header
	if h.Type != segment.RecordData {
		x.payload = slices.Clone(payload)
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
		if x.header.Type == segment.RecordReplace {
			s.replaces++
		}
		if x.header.Type == segment.RecordData && !r.covered(x.header.Index) {
			r.shown = append(r.shown, x)
		}
		n++
	}
	r.pending = r.pending[n:]
	return nil
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
		path := s.path(name)
		if err := errors.Join(copyAnew(s.o.FS, path), copyAnew(s.o.FS, path+".aux")); err != nil {
			// Its entries are in the tail.
			s.o.Logger.Sugar().Warnw("the open segment is encoded again", "shard", s.o.Number, "error", err)
			return nil, segment.RemoveOpen(s.o.FS, path)
		}
		next := first
		return segment.ResumeOpen(s.o.FS, path, s.o.Ident.LogID, func(m *segment.BlockMeta) bool {
			ok := m.FirstIndex >= next && m.LastIndex >= m.FirstIndex && m.LastIndex < math.MaxUint64
			next = m.LastIndex + 1
			return ok
		})
	}
	return nil, nil
}

// copyAnew puts a copy in the place of a file that was never synced. If the last process
// saw an fsync of it fail, what reads well need not be on the disk, and no later fsync
// would write it or tell (H13).
func copyAnew(fsys vfs.FS, name string) (err error) {
	from, err := fsys.Open(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	size, err := from.Size()
	if err != nil {
		return err
	}
	temp := name + vfs.TempSuffix
	if err := fsys.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	w := &windowReader{file: from, size: size}
	for at := int64(0); at < size && err == nil; at += window {
		var b []byte
		if b, err = w.bytes(at, window); err == nil {
			_, err = to.WriteAt(b, at)
		}
	}
	if err = errors.Join(err, to.Close()); err != nil {
		return errors.Join(err, fsys.Remove(temp))
	}
	return fsys.Rename(temp, name)
}
