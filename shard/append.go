package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// An item is a record on its way into the log.
type item struct {
	header  segment.Header
	payload []byte
	frame   *segment.Frame // of DATA: gives the payload back
	streams []*segment.Stream
	waiters []*waiter
	tail    *tailFile // once written
	at      int64
}

func control(t segment.RecordType, payload []byte) *item {
	return &item{header: segment.Header{Type: t, PayloadLength: uint32(len(payload)), RawLength: uint32(len(payload)),
		PayloadCRC: segment.Checksum(payload)}, payload: payload}
}

// finish answers all who wait for the item.
func (it *item) finish(err error) {
	for _, w := range it.waiters {
		w.done(it, err)
	}
	it.waiters = nil
	if it.frame != nil {
		it.frame.Release()
		it.frame, it.payload = nil, nil
	}
}

// A waiter waits for one or more items. Its fields but ready are guarded by the
// shard's mu.
type waiter struct {
	ready chan struct{}
	left  int
	err   error
	epoch uint64
	last  uint64 // highest offset
}

func newWaiter() *waiter { return &waiter{ready: make(chan struct{})} }

func (w *waiter) done(it *item, err error) {
	if err != nil && w.err == nil {
		w.err = err
	}
	if it.header.Count > 0 {
		w.last = max(w.last, it.header.Offset+uint64(it.header.Count)-1)
	}
	w.epoch = max(w.epoch, it.header.Epoch)
	w.left--
	if w.left == 0 {
		close(w.ready)
	}
}

// wait returns when all items are committed, or one failed, or ctx ended.
func (w *waiter) wait(ctx context.Context) error {
	select {
	case <-w.ready:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// frameMemory is about what a frame that no block holds takes in memory.
const frameMemory = 512

// queueLimit bounds the payload bytes that wait for the next group.
const queueLimit = 32 << 20

// enqueueLocked puts an item into the queue for the next group.
func (s *Shard) enqueueLocked(w *waiter, it *item) {
	it.waiters = append(it.waiters, w)
	w.left++
	s.queue = append(s.queue, it)
	s.queued += int64(len(it.payload))
	s.work.Signal()
}

// Append stores frames and returns when they are committed: fsynced on a majority of
// the replicas. Frames that an earlier request with the same key has stored are not
// stored again; the answer then waits for those to be committed.
//
// After an error the frames may or may not be stored; a repeat with the same key is
// safe. The frames belong to the shard from here on.
func (s *Shard) Append(ctx context.Context, frames []*segment.Frame) (segment.Position, bool, error) {
	s.mu.Lock()
	if err := s.admitLocked(ctx); err != nil {
		s.mu.Unlock()
		for _, f := range frames {
			f.Release()
		}
		return segment.Position{}, false, err
	}
	w := newWaiter()
	duplicate := len(frames) > 0
	position := segment.Position{Shard: s.o.Number, Epoch: s.leading}
	for _, f := range frames {
		if f.Header.Key != (segment.Key{}) {
			k := partOf(&f.Header)
			if r, ok := s.state.Keys.find(k); ok {
				position.Offset = max(position.Offset, r.last)
				f.Release()
				continue
			}
			if first := s.inFlight[k]; first != nil {
				first.waiters = append(first.waiters, w)
				w.left++
				f.Release()
				continue
			}
		}
		duplicate = false
		it := &item{header: f.Header, payload: f.Payload, frame: f, streams: f.Streams}
		if f.Header.Key != (segment.Key{}) {
			s.inFlight[partOf(&f.Header)] = it
		}
		s.enqueueLocked(w, it)
	}
	wait := w.left > 0
	s.mu.Unlock()
	if wait {
		if err := w.wait(ctx); err != nil {
			if ctx.Err() != nil {
				err = s.unavailable(fmt.Errorf("not committed in time, it may be stored or not: %w", err))
			}
			return segment.Position{}, false, err
		}
		position.Epoch, position.Offset = w.epoch, max(position.Offset, w.last)
	}
	return position, duplicate, nil
}

// admitLocked waits for room in the queue and the encoder's backlog, and refuses what
// this replica may not take.
func (s *Shard) admitLocked(ctx context.Context) error {
	var stop func() bool
	for {
		switch {
		case s.failure != nil:
			return s.unavailable(s.failure)
		case s.closing:
			return s.unavailable(ErrClosed)
		case s.leading == 0 || !s.serving:
			// Before the barrier is committed, the keys of what the log ends with are not
			// known yet.
			return s.unavailable(ErrNotOwner)
		case s.queued < queueLimit && s.backlog+int64(len(s.view.frames))*frameMemory < s.o.MaxBacklog:
			return nil
		case ctx.Err() != nil:
			return &Unavailable{Shard: s.o.Number, After: 2 * time.Second, Err: errors.Join(ErrBacklog, ctx.Err())}
		}
		if stop == nil {
			stop = context.AfterFunc(ctx, func() {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.room.Broadcast()
			})
			defer stop()
		}
		s.scheduleLocked()
		s.room.Wait()
	}
}
