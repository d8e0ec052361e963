package shard

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// Encoders are the few goroutines of a node that encode blocks and seal segments, for
// all its shards: each holds an encoder's scratch memory.
type Encoders struct {
	mu      sync.Mutex
	wake    *sync.Cond
	tasks   []encodeTask
	idle    []encodeTask // that wait until there are no other tasks
	running map[*Shard]bool
	merging *Shard // the one shard that merges segments
	closed  bool
	wg      sync.WaitGroup
}

type encodeTask struct {
	shard *Shard
	run   func(*segment.BlockEncoder)
}

// NewEncoders starts n encoders. Close them after the shards that use them.
func NewEncoders(n int) *Encoders {
	e := &Encoders{running: map[*Shard]bool{}}
	e.wake = sync.NewCond(&e.mu)
	for range n {
		e.wg.Go(e.work)
	}
	return e
}

func (e *Encoders) work() {
	defer lowerPriority()()
	scratch := &segment.BlockEncoder{}
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		next := e.nextLocked()
		for next < 0 && !e.closed {
			e.wake.Wait()
			next = e.nextLocked()
		}
		if e.closed {
			return
		}
		t := e.takeLocked(next)
		e.running[t.shard] = true
		e.mu.Unlock()
		t.run(scratch)
		e.mu.Lock()
		delete(e.running, t.shard)
		e.wake.Broadcast()
	}
}

// nextLocked returns the oldest task whose shard no other encoder works for, or -1: two
// tasks of one shard would wait for each other, and keep all other shards waiting. Those
// that can wait are counted behind the others.
func (e *Encoders) nextLocked() int {
	ready := func(t encodeTask) bool { return !e.running[t.shard] }
	next := slices.IndexFunc(e.tasks, ready)
	if next < 0 {
		if next = slices.IndexFunc(e.idle, ready); next >= 0 {
			next += len(e.tasks)
		}
	}
	return next
}

func (e *Encoders) takeLocked(next int) (t encodeTask) {
	if n := len(e.tasks); next >= n {
		t = e.idle[next-n]
		e.idle = slices.Delete(e.idle, next-n, next-n+1)
		return t
	}
	t = e.tasks[next]
	e.tasks = slices.Delete(e.tasks, next, next+1)
	return t
}

// do runs a task of a shard on one of the encoders, later.
func (e *Encoders) do(s *Shard, run func(*segment.BlockEncoder)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks = append(e.tasks, encodeTask{s, run})
	e.wake.Broadcast()
}

// later is do for what can wait until there is nothing else to do. Such a task should be
// short, and come again if there is more: no encoder can be taken from it.
func (e *Encoders) later(s *Shard, run func(*segment.BlockEncoder)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle = append(e.idle, encodeTask{s, run})
	e.wake.Broadcast()
}

// claimMerge lets a shard merge segments, if no other does: a merge has an open segment's
// tables in memory, and is in no hurry.
func (e *Encoders) claimMerge(s *Shard) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.merging != nil {
		return false
	}
	e.merging = s
	return true
}

// endMerge lets others merge, if it was this shard's turn.
func (e *Encoders) endMerge(s *Shard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.merging == s {
		e.merging = nil
	}
}

// forget drops the tasks of a shard that closes and waits for those that run.
func (e *Encoders) forget(s *Shard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	of := func(t encodeTask) bool { return t.shard == s }
	e.tasks, e.idle = slices.DeleteFunc(e.tasks, of), slices.DeleteFunc(e.idle, of)
	for e.running[s] {
		e.wake.Wait()
	}
}

// Close ends the encoders and joins them.
func (e *Encoders) Close() {
	e.mu.Lock()
	e.closed = true
	e.wake.Broadcast()
	e.mu.Unlock()
	e.wg.Wait()
}

// blockDueLocked reports whether enough entries for a block wait.
func (s *Shard) blockDueLocked() bool {
	return s.backlog >= segment.MaxBlockRaw || s.backlogRow >= segment.MaxBlockRows
}

// scheduleLocked sends an encoder, if none is on its way.
func (s *Shard) scheduleLocked() {
	if s.encodeDue || s.closing || s.failure != nil || len(s.view.frames) == 0 {
		return
	}
	s.encodeDue = true
	s.o.Encoders.do(s, func(e *segment.BlockEncoder) {
		full, err := s.encodeBlock(e)
		s.mu.Lock()
		s.encodeDue = false
		switch {
		case err != nil:
		case full:
			s.sealLaterLocked()
		case s.blockDueLocked():
			s.scheduleLocked()
		}
		s.mu.Unlock()
		if err != nil {
			s.encodeFailed(err)
		}
	})
}

// encodeFailed reports an error of the encoder. The entries stay in the tail, where
// they are safe and found; the open segment is begun anew.
func (s *Shard) encodeFailed(err error) {
	s.o.Logger.Sugar().Errorw("encoding a block; its entries stay in the log's tail", "shard", s.o.Number, "error", err)
	if errors.Is(err, errTailRead) && errors.Is(err, segment.ErrCorrupt) {
		// Reading the tail again will not help: the shard is opened again and finds the
		// damage by the rules.
		s.fail(err)
	}
}

// errTailRead: a record could not be read from the tail to be encoded.
var errTailRead = errors.New("reading the tail")

// encodeBlock encodes one block of the oldest entries that are in none. It reports
// whether the open segment is full, and does nothing then.
func (s *Shard) encodeBlock(e *segment.BlockEncoder) (full bool, err error) {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	return s.encodeBlockHeld(e, ^uint64(0))
}

// encodeBlockHeld is encodeBlock with sealMu held, for records up to `last`.
func (s *Shard) encodeBlockHeld(e *segment.BlockEncoder, last uint64) (full bool, err error) {
	s.mu.Lock()
	frames := s.view.frames
	s.mu.Unlock()
	if len(frames) == 0 || frames[0].Header.Index > last {
		return false, nil
	}
	if s.open == nil {
		o, err := segment.CreateOpen(s.o.FS, s.openPath(frames[0].Header.Index), s.o.Ident.LogID)
		if err != nil {
			return false, err
		}
		s.setOpen(o)
	}
	if s.open.Full() {
		return true, nil
	}
	first := &frames[0].Header
	e.Reset(uint16(len(s.open.Blocks())), first.Index, first.Offset)
	decoder := segment.FrameDecoder{Intern: s.streams.intern}
	n := 0
	var raw, rows int64
	for n < len(frames) && frames[n].Header.Index <= last && e.Fits(&frames[n].Header) {
		f := frames[n]
		payload, err := f.load()
		if err != nil {
			return false, fmt.Errorf("%w: %w", errTailRead, err)
		}
		data, err := decoder.Decode(&f.Header, payload)
		if err != nil {
			return false, fmt.Errorf("record %d of %q: %w", f.Header.Index, f.tail.path, err)
		}
		if err := e.Add(&f.Header, data, s.open.Streams()); err != nil {
			return false, err
		}
		raw += int64(f.Header.RawLength)
		rows += int64(f.Header.Count)
		n++
	}
	block, err := s.open.Append(e)
	if err != nil {
		return false, s.dropOpen(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.blocks = append(s.view.blocks, block)
	s.view.frames = append([]*frame(nil), s.view.frames[n:]...)
	s.backlog -= raw
	s.backlogRow -= rows
	s.frameAt = time.Time{}
	if len(s.view.frames) > 0 {
		s.frameAt = time.Now()
	}
	s.room.Broadcast()
	return false, nil
}

func (s *Shard) openPath(first uint64) string { return fmt.Sprintf("%s/open-%d", s.o.Dir, first) }

func (s *Shard) setOpen(o *segment.Open) {
	open := &openSegment{Open: o}
	open.references.Store(1)
	s.mu.Lock()
	s.open = open
	s.mu.Unlock()
}

// dropOpen throws the open segment away after an error, which it returns: its files are never synced
// again (H13). Its entries are taken from the tail again; if readers see blocks of it,
// only after the shard is opened again, since the frames of these are no longer listed.
func (s *Shard) dropOpen(cause error) error {
	s.mu.Lock()
	open, seen := s.open, len(s.view.blocks) > 0
	if !seen {
		s.open = nil
	}
	s.mu.Unlock()
	err := errors.Join(cause, segment.RemoveOpen(s.o.FS, open.Path()))
	if seen {
		s.fail(fmt.Errorf("the open segment is lost: %w", err))
		return err
	}
	return errors.Join(err, open.release())
}
