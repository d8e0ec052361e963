package shard

import (
	"errors"
	"fmt"
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
	running map[*Shard]int
	closed  bool
	wg      sync.WaitGroup
}

type encodeTask struct {
	shard *Shard
	run   func(*segment.BlockEncoder)
}

// NewEncoders starts n encoders. Close them after the shards that use them.
func NewEncoders(n int) *Encoders {
	e := &Encoders{running: map[*Shard]int{}}
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
		for len(e.tasks) == 0 && !e.closed {
			e.wake.Wait()
		}
		if e.closed {
			return
		}
		t := e.tasks[0]
		e.tasks = e.tasks[1:]
		e.running[t.shard]++
		e.mu.Unlock()
		t.run(scratch)
		e.mu.Lock()
		if e.running[t.shard]--; e.running[t.shard] == 0 {
			delete(e.running, t.shard)
		}
		e.wake.Broadcast()
	}
}

// do runs a task of a shard on one of the encoders, later.
func (e *Encoders) do(s *Shard, run func(*segment.BlockEncoder)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks = append(e.tasks, encodeTask{s, run})
	e.wake.Broadcast()
}

// forget drops the tasks of a shard that closes and waits for those that run.
func (e *Encoders) forget(s *Shard) {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept := e.tasks[:0]
	for _, t := range e.tasks {
		if t.shard != s {
			kept = append(kept, t)
		}
	}
	e.tasks = kept
	for e.running[s] > 0 {
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
		err := s.encodeBlock(e, ^uint64(0))
		s.mu.Lock()
		s.encodeDue = false
		if err == nil && s.blockDueLocked() {
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
	if errors.Is(err, segment.ErrCorrupt) {
		// Reading the tail again will not help: the shard is opened again and finds the
		// damage by the rules.
		s.fail(err)
	}
}

// encodeBlock encodes one block of the oldest entries that are in none, up to the
// record `last`.
func (s *Shard) encodeBlock(e *segment.BlockEncoder, last uint64) error {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	return s.encodeBlockHeld(e, last)
}

// encodeBlockHeld is encodeBlock with sealMu held.
func (s *Shard) encodeBlockHeld(e *segment.BlockEncoder, last uint64) error {
	s.mu.Lock()
	frames := s.view.frames
	s.mu.Unlock()
	if len(frames) == 0 || frames[0].Header.Index > last {
		return nil
	}
	if s.open == nil {
		o, err := segment.CreateOpen(s.o.FS, s.openPath(frames[0].Header.Index), s.o.Ident.LogID)
		if err != nil {
			return err
		}
		s.setOpen(o)
	}
	if s.open.Full() {
		return nil // the seal is due
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
			return err
		}
		data, err := decoder.Decode(&f.Header, payload)
		if err != nil {
			return fmt.Errorf("record %d of %q: %w", f.Header.Index, f.tail.path, err)
		}
		if err := e.Add(&f.Header, data, s.open.Streams()); err != nil {
			return err
		}
		raw += int64(f.Header.RawLength)
		rows += int64(f.Header.Count)
		n++
	}
	block, err := s.open.Append(e)
	if err != nil {
		return errors.Join(err, s.dropOpen())
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
	return nil
}

func (s *Shard) openPath(first uint64) string { return fmt.Sprintf("%s/open-%d", s.o.Dir, first) }

func (s *Shard) setOpen(o *segment.Open) {
	open := &openSegment{Open: o}
	open.references.Store(1)
	s.mu.Lock()
	s.open = open
	s.mu.Unlock()
}

// dropOpen throws the open segment away after an error. Its entries are taken from the
// tail again.
func (s *Shard) dropOpen() error {
	s.mu.Lock()
	open := s.open
	s.open = nil
	blocks := len(s.view.blocks)
	s.mu.Unlock()
	if open == nil {
		return nil
	}
	err := errors.Join(open.release(), segment.RemoveOpen(s.o.FS, open.Path()))
	if blocks > 0 {
		// Their frames are no longer listed: opening the shard again lists them.
		s.fail(fmt.Errorf("the open segment is lost: %w", errors.Join(ErrFailed, err)))
	}
	return err
}
