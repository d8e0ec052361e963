package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// view is what readers see: all committed entries, each in one place. Guarded by
// Shard.mu; what it points at does not change.
type view struct {
	sealed []*sealedFile
	blocks []*segment.Block // of the open segment
	frames []*frame         // committed and in no block
}

// A frame is a committed DATA record in a tail file.
type frame struct {
	segment.FrameUnit
	tail *tailFile
	at   int64
}

// A sealedFile is a segment file of the shard. It is opened when first asked for.
type sealedFile struct {
	segment.Sealed
	fs   vfs.FS
	path string

	references atomic.Int32
	mu         sync.Mutex
	open       *segment.Segment // guarded by mu
}

func newSealedFile(fsys vfs.FS, dir string, s segment.Sealed) *sealedFile {
	f := &sealedFile{Sealed: s, fs: fsys, path: dir + "/" + s.FileName()}
	f.references.Store(1)
	return f
}

// segment opens the file, if it is not open, and checks that it is the one that was
// sealed.
func (f *sealedFile) segment() (*segment.Segment, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open != nil {
		return f.open, nil
	}
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
	f.open = s
	return s, nil
}

func (f *sealedFile) retain() { f.references.Add(1) }

func (f *sealedFile) release() error {
	if f.references.Add(-1) != 0 {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		return nil
	}
	return f.open.Close()
}

// An openSegment is the segment that grows, with the readers that hold its file open.
type openSegment struct {
	*segment.Open
	references atomic.Int32
}

func (o *openSegment) retain() { o.references.Add(1) }

func (o *openSegment) release() error {
	if o.references.Add(-1) == 0 {
		return o.Close()
	}
	return nil
}

// showLocked adds a committed DATA record to the view.
func (s *Shard) showLocked(h segment.Header, streams []*segment.Stream, t *tailFile, at int64) {
	f := &frame{tail: t, at: at, FrameUnit: segment.FrameUnit{Header: h, Streams: streams, Intern: s.intern}}
	f.Load = f.load
	s.listLocked(f)
}

// showSealedLocked puts a sealed file in the place of the blocks and frames that it
// stands for.
func (s *Shard) showSealedLocked(sealed segment.Sealed) {
	file := newSealedFile(s.o.FS, s.o.Dir, sealed)
	s.view.sealed = append(s.view.sealed[:len(s.view.sealed):len(s.view.sealed)], file)
	var blocks []*segment.Block
	for _, b := range s.view.blocks {
		if b.Meta.LastIndex > sealed.LastIndex {
			blocks = append(blocks, b)
		}
	}
	frames := s.view.frames
	s.view.blocks, s.view.frames = blocks, nil
	s.backlog, s.backlogRow, s.rollBytes, s.rollRows, s.rollRecords = 0, 0, 0, 0, 0
	s.firstAt, s.frameAt = time.Time{}, time.Time{}
	for _, f := range frames {
		if f.Header.Index > sealed.LastIndex {
			s.listLocked(f)
		}
	}
}

// listLocked appends a frame to the view and counts it.
func (s *Shard) listLocked(f *frame) {
	h := &f.Header
	s.view.frames = append(s.view.frames, f)
	s.backlog += int64(h.RawLength)
	s.backlogRow += int64(h.Count)
	s.rollBytes += uint64(h.RawLength)
	s.rollRows += uint64(h.Count)
	s.rollRecords++
	now := time.Now()
	if s.firstAt.IsZero() {
		s.firstAt = now
	}
	if s.frameAt.IsZero() {
		s.frameAt = now
	}
}

func (f *frame) load() ([]byte, error) { return f.tail.load(&f.Header, f.at) }

// snapshot returns the units that a reader sees now, and what gives them back. It also
// reports what is lost of the shard.
func (s *Shard) snapshot(q *segment.Query) (*segment.Query, []segment.Unit, func(), error) {
	s.mu.Lock()
	// A shard that failed is still read, also halted: all that was acknowledged is in the
	// view.
	if ended := s.released || errors.Is(s.failure, ErrClosed); ended || !s.serving {
		err := ErrNotOwner
		if ended {
			err = ErrClosed
		}
		s.mu.Unlock()
		return nil, nil, nil, s.unavailable(err)
	}
	v := view{sealed: s.view.sealed, blocks: s.view.blocks, frames: s.view.frames}
	tails := append([]*tailFile(nil), s.tails...)
	losses := s.state.Losses
	open := s.open
	for _, t := range tails {
		t.retain()
	}
	if open != nil {
		open.retain()
	}
	for _, f := range v.sealed {
		f.retain()
	}
	s.mu.Unlock()
	release := func() {
		var errs []error
		for _, t := range tails {
			errs = append(errs, t.release())
		}
		if open != nil {
			errs = append(errs, open.release())
		}
		for _, f := range v.sealed {
			errs = append(errs, f.release())
		}
		if err := errors.Join(errs...); err != nil {
			s.o.Logger.Sugar().Warnw("closing a file behind a query", "error", err)
		}
	}
	q = s.noting(q)
	units, err := s.units(q, v, losses)
	if err != nil {
		release()
		return nil, nil, nil, err
	}
	return q, units, release, nil
}

// noting returns a query that tells Status, too, of the damage it comes upon.
func (s *Shard) noting(q *segment.Query) *segment.Query {
	if q.OnDamage == nil {
		return q
	}
	noted := *q
	noted.OnDamage = func(err error) {
		s.noteDamage(err)
		q.OnDamage(err)
	}
	return &noted
}

// noteDamage remembers for Status what reading has found, once for each file.
func (s *Shard) noteDamage(err error) {
	var c *segment.CorruptError
	if !errors.As(err, &c) || c.Path == "" {
		return
	}
	s.mu.Lock()
	_, known := s.unreadable[c.Path]
	if !known && len(s.unreadable) < maxUnreadable {
		if s.unreadable == nil {
			s.unreadable = map[string]string{}
		}
		s.unreadable[c.Path] = err.Error()
	}
	s.mu.Unlock()
	if !known {
		s.o.Logger.Sugar().Errorw("damage found by a query", "shard", s.o.Number, "error", err)
	}
}

// maxUnreadable bounds the files that Status tells of.
const maxUnreadable = 100

func (s *Shard) units(q *segment.Query, v view, losses []Loss) ([]segment.Unit, error) {
	for i := range losses {
		err := &segment.CorruptError{What: fmt.Sprintf("log of shard %d", s.o.Number), Err: fmt.Errorf("lost for good: %s", &losses[i])}
		if err := q.Damaged(err); err != nil {
			return nil, err
		}
	}
	var units []segment.Unit
	for _, f := range v.sealed {
		if f.MinTimestamp >= q.End || f.MaxTimestamp < q.Start {
			continue
		}
		seg, err := f.segment()
		if err != nil {
			if !errors.Is(err, segment.ErrCorrupt) {
				return nil, err
			}
			if err := q.Damaged(err); err != nil {
				return nil, err
			}
			continue
		}
		for _, b := range seg.Blocks {
			units = append(units, b)
		}
	}
	for _, b := range v.blocks {
		units = append(units, b)
	}
	for _, f := range v.frames {
		units = append(units, &f.FrameUnit)
	}
	return units, nil
}

// Select returns the shard's committed entries that q asks for, in its order.
func (s *Shard) Select(ctx context.Context, q *segment.Query) (segment.Iterator, error) {
	q, units, release, err := s.snapshot(q)
	if err != nil {
		return nil, err
	}
	return segment.SelectUnits(ctx, s.o.Number, units, q, release), nil
}

// Aggregate adds the shard's committed entries that q asks for to p.
func (s *Shard) Aggregate(ctx context.Context, q *segment.Query, a *segment.Aggregation, p *segment.Partial) error {
	q, units, release, err := s.snapshot(q)
	if err != nil {
		return err
	}
	defer release()
	return segment.AggregateUnits(ctx, units, q, a, p)
}

// Streams calls f with the streams that match q and may have entries in its time
// range; with some of them more than once.
func (s *Shard) Streams(ctx context.Context, q *segment.Query, f func(*segment.Stream)) error {
	q, units, release, err := s.snapshot(q)
	if err != nil {
		return err
	}
	defer release()
	seen := map[*segment.Stream]bool{}
	for _, u := range units {
		if lo, hi := u.Bounds(); lo >= q.End || hi < q.Start {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		err := u.EachStream(q, func(st *segment.Stream) bool {
			if !seen[st] {
				seen[st] = true
				if q.MatchesStream(st) {
					f(st)
				}
			}
			return true
		})
		if errors.Is(err, segment.ErrCorrupt) {
			err = q.Damaged(err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// interner makes one Stream of each canonical form that is seen again and again.
type interner struct {
	mu   sync.Mutex
	byID map[string]*segment.Stream
}

// internLimit is when the interner forgets all: streams that come once only must not
// fill the memory.
const internLimit = 1 << 16

func (n *interner) intern(key []byte) (*segment.Stream, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.byID[string(key)]; ok {
		return s, nil
	}
	s, err := segment.ParseStream(key)
	if err != nil {
		return nil, err
	}
	if n.byID == nil || len(n.byID) >= internLimit {
		n.byID = map[string]*segment.Stream{}
	}
	n.byID[string(key)] = s
	return s, nil
}
