package shard

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

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
	file := s.newSealedFile(sealed)
	s.view.sealed = append(s.view.sealed[:len(s.view.sealed):len(s.view.sealed)], file)
	s.undescribed++ // until whoever has sealed it describes it
	s.merge.settled = false
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
