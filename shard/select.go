package shard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/logcluster/logcluster/segment"
)

// A reading is what a reader sees: all that was committed when it was taken, each entry
// in one place (C3). Nothing of it is removed before its release.
type reading struct {
	shard   *Shard
	q       *segment.Query
	files   []*sealedFile // that may hold what is asked for; each is opened when it is read
	streams []*segment.Stream
	units   []segment.Unit // blocks of the open segment, and frames
	tails   []*tailFile
	open    *openSegment
}

// read returns what a reader sees now, as far as q asks for it: the sealed files
// that may have entries for it or, with streams, only those of which the catalogue does
// not know the streams. It also reports what is lost of the shard.
func (s *Shard) read(q *segment.Query, streams bool) (*reading, error) {
	for {
		n, all, losses, err := s.lookAt(q)
		if err != nil {
			return nil, err
		}
		found := s.catalogue.find(all, q, streams)
		if !s.o.Files.retain(found.read) {
			n.release() // a merge has replaced one of them meanwhile
			continue
		}
		n.files, n.streams = found.read, found.streams
		for i := range losses {
			err := &segment.CorruptError{What: fmt.Sprintf("log of shard %d", s.o.Number), Err: fmt.Errorf("lost for good: %s", &losses[i])}
			if err := n.q.Damaged(err); err != nil {
				n.release()
				return nil, err
			}
		}
		return n, nil
	}
}

// lookAt takes all of a reading but the sealed files, which it returns.
func (s *Shard) lookAt(q *segment.Query) (*reading, []*sealedFile, []Loss, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A shard that failed is still read, also halted: all that was acknowledged is in the
	// view.
	if ended := s.released || errors.Is(s.failure, ErrClosed); ended || !s.serving {
		err := ErrNotOwner
		if ended {
			err = ErrClosed
		}
		return nil, nil, nil, s.unavailable(err)
	}
	n := &reading{shard: s, q: s.noting(q), tails: append([]*tailFile(nil), s.tails...), open: s.open}
	for _, t := range n.tails {
		t.retain()
	}
	if n.open != nil {
		n.open.retain()
	}
	for _, b := range s.view.blocks {
		n.units = append(n.units, b)
	}
	for _, f := range s.view.frames {
		n.units = append(n.units, &f.FrameUnit)
	}
	return n, s.view.sealed, s.state.Losses, nil
}

func (n *reading) release() {
	var errs []error
	for _, t := range n.tails {
		errs = append(errs, t.release())
	}
	if n.open != nil {
		errs = append(errs, n.open.release())
	}
	n.shard.o.Files.release(n.files...)
	n.tails, n.open, n.files = nil, nil, nil
	if err := errors.Join(errs...); err != nil {
		n.shard.o.Logger.Sugar().Warnw("closing a file behind a query", "error", err)
	}
}

// acquire opens one of the files, until its yield. Without an error and without a file it
// is damaged, and the query goes on without it.
func (n *reading) acquire(f *sealedFile) (*segment.Segment, error) {
	s, err := f.acquire()
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, fs.ErrNotExist) && n.shard.Err() != nil:
		// The shard was opened again behind this one, and has replaced the file.
		return nil, n.shard.unavailable(errors.Join(ErrFailed, err))
	case errors.Is(err, segment.ErrCorrupt):
		return nil, n.q.Damaged(err)
	}
	return nil, err
}

// Select returns the shard's committed entries that q asks for, in its order.
func (s *Shard) Select(ctx context.Context, q *segment.Query) (segment.Iterator, error) {
	n, err := s.read(q, false)
	if err != nil {
		return nil, err
	}
	return newFileMerge(ctx, n), nil
}

// filesAtOnce is how many sealed files an aggregation holds open at a time.
const filesAtOnce = 16

// Aggregate adds the shard's committed entries that q asks for to p.
func (s *Shard) Aggregate(ctx context.Context, q *segment.Query, a *segment.Aggregation, p *segment.Partial) error {
	n, err := s.read(q, false)
	if err != nil {
		return err
	}
	defer n.release()
	if err := segment.AggregateUnits(ctx, n.units, n.q, a, p); err != nil {
		return err
	}
	for files := n.files; len(files) > 0; {
		some := files[:min(filesAtOnce, len(files))]
		files = files[len(some):]
		if err := n.aggregate(ctx, some, a, p); err != nil {
			return err
		}
	}
	return nil
}

func (n *reading) aggregate(ctx context.Context, files []*sealedFile, a *segment.Aggregation, p *segment.Partial) error {
	var units []segment.Unit
	for _, f := range files {
		s, err := n.acquire(f)
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		defer f.yield()
		for _, b := range s.Blocks {
			units = append(units, b)
		}
	}
	return segment.AggregateUnits(ctx, units, n.q, a, p)
}

// Streams calls f with the streams that match q and may have entries in its time
// range; with some of them more than once. The catalogue answers for the files that it
// describes.
func (s *Shard) Streams(ctx context.Context, q *segment.Query, f func(*segment.Stream)) error {
	n, err := s.read(q, true)
	if err != nil {
		return err
	}
	defer n.release()
	for _, st := range n.streams {
		f(st)
	}
	told := map[*segment.Stream]bool{}
	if err := n.eachStream(ctx, n.units, told, f); err != nil {
		return err
	}
	for _, file := range n.files {
		s, err := n.acquire(file)
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		units := make([]segment.Unit, len(s.Blocks))
		for i, b := range s.Blocks {
			units[i] = b
		}
		clear(told) // the streams of one file are others than those of the next
		err = n.eachStream(ctx, units, told, f)
		file.yield()
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *reading) eachStream(ctx context.Context, units []segment.Unit, told map[*segment.Stream]bool, f func(*segment.Stream)) error {
	for _, u := range units {
		if lo, hi := u.Bounds(); lo >= n.q.End || hi < n.q.Start {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := u.EachStream(n.q, func(st *segment.Stream) bool {
			if !told[st] {
				told[st] = true
				if n.q.MatchesStream(st) {
					f(st)
				}
			}
			return true
		})
		if errors.Is(err, segment.ErrCorrupt) {
			err = n.q.Damaged(err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
