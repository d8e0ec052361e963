package shard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// SealResult counts what a seal did.
type SealResult struct {
	Segments  int
	Entries   uint64
	RawBytes  uint64 // of the lines
	FileBytes uint64
}

// Seal rolls the tail, encodes everything up to there, seals it into a segment file,
// and returns when SEAL is committed and the tail files that it stands for are gone. It
// does nothing if there are no entries that are not sealed. If ctx ends it goes on
// without the caller.
func (s *Shard) Seal(ctx context.Context) (SealResult, error) {
	type outcome struct {
		result SealResult
		err    error
	}
	done := make(chan outcome, 1)
	if err := s.writable(); err != nil {
		return SealResult{}, err
	}
	s.o.Encoders.do(s, func(e *segment.BlockEncoder) {
		result, err := s.seal(e)
		done <- outcome{result, err}
	})
	select {
	case o := <-done:
		return o.result, o.err
	case <-ctx.Done():
		return SealResult{}, ctx.Err()
	case <-s.failed:
		return SealResult{}, s.unavailable(s.Err())
	case <-s.closed:
		return SealResult{}, s.unavailable(ErrClosed)
	}
}

func (s *Shard) writable() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writableLocked()
}

func (s *Shard) writableLocked() error {
	switch {
	case s.failure != nil:
		return s.unavailable(s.failure)
	case s.closing:
		return s.unavailable(ErrClosed)
	case s.leading == 0 || !s.serving:
		return s.unavailable(ErrNotOwner)
	}
	return nil
}

// appendControl appends a control record and waits until it is committed, or cannot be:
// the shard failed, was fenced or is closed.
func (s *Shard) appendControl(it *item) error {
	s.mu.Lock()
	if err := s.writableLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	w := newWaiter()
	s.enqueueLocked(w, it)
	s.mu.Unlock()
	return w.wait(context.Background())
}

func (s *Shard) seal(e *segment.BlockEncoder) (SealResult, error) {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	// An open segment that is full, or whose blocks cannot take all that waits, is
	// sealed as it is, and what is left goes into the next.
	var total SealResult
	for {
		s.mu.Lock()
		some := len(s.view.frames)+len(s.view.blocks) > 0
		s.mu.Unlock()
		if !some {
			return total, nil
		}
		result, err := s.sealOnce(e)
		if err != nil {
			return total, err
		}
		total.Segments += result.Segments
		total.Entries += result.Entries
		total.RawBytes += result.RawBytes
		total.FileBytes += result.FileBytes
		s.mu.Lock()
		again := len(s.view.blocks) > 0 || len(s.view.frames) > 0 && s.view.frames[0].Header.Index <= s.tails[len(s.tails)-1].first.index
		s.mu.Unlock()
		if !again {
			return total, nil
		}
	}
}

// sealOnce seals one segment.
func (s *Shard) sealOnce(e *segment.BlockEncoder) (SealResult, error) {
	last, err := s.rolled()
	if err != nil {
		return SealResult{}, err
	}
	for {
		s.mu.Lock()
		left := len(s.view.frames) > 0 && s.view.frames[0].Header.Index <= last
		s.mu.Unlock()
		if !left {
			break
		}
		full, err := s.encodeBlockHeld(e, last)
		if err != nil {
			s.encodeFailed(err)
			return SealResult{}, err
		}
		if full {
			break
		}
	}
	r, err := s.sealRange(last)
	if err != nil {
		return SealResult{}, err
	}
	open := s.open
	sealed, err := open.Seal(r)
	if err != nil {
		return SealResult{}, s.dropOpen(err)
	}
	if err := s.appendControl(control(segment.RecordSeal, sealed.Append(nil))); err != nil {
		// Whether SEAL is in the log is not known. Opening the shard again decides.
		s.fail(fmt.Errorf("committing SEAL: %w", err))
		return SealResult{}, err
	}
	s.describe(&sealed, open.Blocks())
	s.mu.Lock()
	s.open = nil
	s.mu.Unlock()
	if err := errors.Join(open.release(), segment.RemoveOpen(s.o.FS, open.Path())); err != nil {
		s.o.Logger.Sugar().Warnw("removing the open segment behind its seal", "shard", s.o.Number, "error", err)
	}
	if err := s.dropTails(); err != nil {
		return SealResult{}, err
	}
	return SealResult{Segments: 1, Entries: sealed.Entries, RawBytes: sealed.RawBytes, FileBytes: sealed.Length}, nil
}

// rolled returns the last record before the last tail file, with all entries that are to
// be sealed: it rolls, unless a seal that failed has done so already.
func (s *Shard) rolled() (last uint64, err error) {
	s.mu.Lock()
	first := s.tails[len(s.tails)-1].first
	done := !first.unchained && s.commit+1 >= first.index
	if n := len(s.view.frames); n > 0 {
		done = done && s.view.frames[n-1].Header.Index < first.index
	}
	if n := len(s.view.blocks); n > 0 {
		done = done && s.view.blocks[n-1].Meta.LastIndex < first.index
	}
	s.mu.Unlock()
	if done {
		return first.index - 1, nil
	}
	roll := &item{header: segment.Header{Type: segment.RecordBarrier, Flags: segment.FlagRoll}}
	if err := s.appendControl(roll); err != nil {
		return 0, err
	}
	return roll.header.Index - 1, nil
}

// sealRange is the part of the log that the open segment stands for: it begins behind
// the last sealed one, and ends with record last or, if that is too much for one
// segment, with its last block.
func (s *Shard) sealRange(last uint64) (segment.SealRange, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || len(s.open.Blocks()) == 0 {
		return segment.SealRange{}, errors.New("there is nothing to seal")
	}
	r := segment.SealRange{FirstIndex: s.state.sealedEnd() + 1}
	if n := len(s.state.Sealed); n > 0 {
		r.FirstOffset = s.state.Sealed[n-1].EndOffset
	}
	tail := s.tails[len(s.tails)-1]
	blocks := s.open.Blocks()
	if b := blocks[len(blocks)-1].Meta; len(s.view.frames) > 0 && s.view.frames[0].Header.Index <= last {
		r.LastIndex, r.EndOffset, r.Chain = b.LastIndex, b.EndOffset, b.Chain
		return r, nil
	}
	if tail.first.index != last+1 {
		return segment.SealRange{}, fmt.Errorf("the tail was rolled at record %d, not at %d", tail.first.index, last+1)
	}
	r.LastIndex, r.EndOffset, r.Chain = last, tail.first.offset, tail.first.chain
	return r, nil
}

// sealDueLocked reports whether the open segment is large or old enough.
func (s *Shard) sealDueLocked(now time.Time) bool {
	if s.rollRows == 0 || s.leading == 0 {
		return false
	}
	age := now.Sub(s.firstAt)
	return s.rollBytes >= s.o.SealBytes || s.rollRows >= s.o.SealRows || s.rollRecords >= sealRecords ||
		age >= s.o.SealAge || age >= s.o.SealAgeLarge && s.rollBytes >= largeSegment
}

// Tick does what is due by size and age. The node calls it about once a second; it
// does not block.
func (s *Shard) Tick(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure != nil || s.closing {
		return
	}
	if s.blockDueLocked() || !s.frameAt.IsZero() && now.Sub(s.frameAt) >= s.o.BlockAge && s.backlog >= smallBlock {
		s.scheduleLocked()
	}
	if s.sealDueLocked(now) {
		s.sealLaterLocked()
	}
	s.describeLaterLocked()
	s.mergeLaterLocked(now)
}

// sealLaterLocked sends an encoder to seal, if none is on its way.
func (s *Shard) sealLaterLocked() {
	if s.sealing || s.closing || s.writableLocked() != nil {
		return
	}
	s.sealing = true
	s.o.Encoders.do(s, func(e *segment.BlockEncoder) {
		_, err := s.seal(e)
		s.mu.Lock()
		s.sealing = false
		s.mu.Unlock()
		if err != nil {
			s.o.Logger.Sugar().Errorw("sealing; the entries stay in the log's tail", "shard", s.o.Number, "error", err)
		}
	})
}
