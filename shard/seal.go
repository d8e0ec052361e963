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
// does nothing if there are no entries that are not sealed.
func (s *Shard) Seal(ctx context.Context) (SealResult, error) {
	type outcome struct {
		result SealResult
		err    error
	}
	done := make(chan outcome, 1)
	s.mu.Lock()
	if err := s.writableLocked(); err != nil {
		s.mu.Unlock()
		return SealResult{}, err
	}
	s.mu.Unlock()
	s.o.Encoders.do(s, func(e *segment.BlockEncoder) {
		result, err := s.seal(ctx, e)
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

func (s *Shard) writableLocked() error {
	switch {
	case s.failure != nil:
		return s.unavailable(s.failure)
	case s.closing:
		return s.unavailable(ErrClosed)
	case s.leading == 0:
		return s.unavailable(ErrNotOwner)
	}
	return nil
}

// appendControl appends a control record and waits until it is committed.
func (s *Shard) appendControl(ctx context.Context, it *item) error {
	s.mu.Lock()
	if err := s.writableLocked(); err != nil {
		s.mu.Unlock()
		return err
	}
	w := newWaiter()
	s.enqueueLocked(w, it)
	s.mu.Unlock()
	return w.wait(ctx)
}

func (s *Shard) seal(ctx context.Context, e *segment.BlockEncoder) (SealResult, error) {
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
		result, err := s.sealOnce(ctx, e)
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
func (s *Shard) sealOnce(ctx context.Context, e *segment.BlockEncoder) (SealResult, error) {
	roll := &item{header: segment.Header{Type: segment.RecordBarrier, Flags: segment.FlagRoll}}
	if err := s.appendControl(ctx, roll); err != nil {
		return SealResult{}, err
	}
	last := roll.header.Index - 1
	for {
		s.mu.Lock()
		left := len(s.view.frames) > 0 && s.view.frames[0].Header.Index <= last
		full := s.open != nil && s.open.Full()
		s.mu.Unlock()
		if !left || full {
			break
		}
		if err := s.encodeBlockHeld(e, last); err != nil {
			s.encodeFailed(err)
			return SealResult{}, err
		}
	}
	r, err := s.sealRange(last)
	if err != nil {
		return SealResult{}, err
	}
	open := s.open
	sealed, err := open.Seal(r)
	if err != nil {
		return SealResult{}, errors.Join(err, s.dropOpen())
	}
	if err := s.appendControl(ctx, control(segment.RecordSeal, sealed.Append(nil))); err != nil {
		// Whether SEAL is in the log is not known. Opening the shard again decides.
		s.fail(fmt.Errorf("committing SEAL: %w", err))
		return SealResult{}, err
	}
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

// dropTails removes the tail files whose records all stand in sealed files that this
// replica holds whole. MANIFEST forgets them first.
func (s *Shard) dropTails() error {
	s.mu.Lock()
	sealed := s.view.sealed
	s.mu.Unlock()
	held := uint64(0)
	for _, f := range sealed {
		if _, err := f.segment(); err != nil {
			s.o.Logger.Sugar().Errorw("a sealed file cannot be read; the log's tail is kept", "shard", s.o.Number, "error", err)
			return nil
		}
		held = f.LastIndex
	}
	s.mu.Lock()
	damaged := map[uint64]bool{}
	for _, d := range s.damages {
		damaged[d.File] = true
	}
	var gone, kept []*tailFile
	for i, t := range s.tails {
		// A file ends where the next one begins.
		if i+1 < len(s.tails) && s.tails[i+1].first.index <= held+1 {
			gone = append(gone, t)
		} else {
			kept = append(kept, t)
		}
	}
	s.tails = kept
	s.mu.Unlock()
	if len(gone) == 0 {
		return nil
	}
	if err := s.saveManifest(); err != nil {
		s.fail(fmt.Errorf("writing the manifest: %w", err))
		return err
	}
	var errs []error
	for _, t := range gone {
		// A damaged file belongs to the log no more, but is kept for people to look at.
		if !damaged[t.number] {
			errs = append(errs, s.o.FS.Remove(t.path))
		}
		errs = append(errs, t.release())
	}
	if err := errors.Join(append(errs, s.o.FS.SyncDir(s.o.Dir))...); err != nil {
		// What could not be removed takes space and no more: the next owner removes it.
		s.o.Logger.Sugar().Warnw("removing what a sealed segment replaces", "shard", s.o.Number, "error", err)
	}
	return nil
}

// sealDueLocked reports whether the open segment is large or old enough.
func (s *Shard) sealDueLocked(now time.Time) bool {
	if s.rollRows == 0 || s.leading == 0 {
		return false
	}
	age := now.Sub(s.firstAt)
	return s.rollBytes >= s.o.SealBytes || s.rollRows >= s.o.SealRows || s.open != nil && s.open.Full() ||
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
	if s.sealing || !s.sealDueLocked(now) {
		return
	}
	s.sealing = true
	s.o.Encoders.do(s, func(e *segment.BlockEncoder) {
		_, err := s.seal(context.Background(), e)
		s.mu.Lock()
		s.sealing = false
		s.mu.Unlock()
		if err != nil {
			s.o.Logger.Sugar().Errorw("sealing; the entries stay in the log's tail", "shard", s.o.Number, "error", err)
		}
	})
}
