package shard

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// A Shard is one replica of a shard's log on this node.
//
// doc.go has the order of the locks. Nothing slow happens under mu but the rare write of
// a promise, which must not change beside the end of the log.
type Shard struct {
	o       Options
	promise *promiseFile
	streams interner
	// catalogue says which sealed files have which streams.
	catalogue catalogue
	intern    func(key []byte) (*segment.Stream, error) // of streams; one for all frames

	// sealMu is held by whoever encodes blocks or seals: there is one open segment.
	sealMu sync.Mutex
	open   *openSegment // guarded by sealMu; its blocks by mu

	// manifestMu orders the writes of MANIFEST.
	manifestMu       sync.Mutex
	manifestSequence uint64

	mu    sync.Mutex
	room  *sync.Cond // backlog or queue became smaller, or the shard ended
	work  *sync.Cond // queue grew, or the shard ends
	state state      // up to the commit index
	// end is where the next record goes; records up to it are written, up to durable
	// they are fsynced here, up to state.Index committed.
	end     position
	durable uint64
	group   uint64 // number of the last fsync group
	commit  uint64
	leading uint64 // epoch in which this replica is the owner; 0: it is none
	quorum  func(durable uint64) (commit uint64)
	serving bool // Lead has returned: entries may be appended and read (C4)
	fences  int  // calls of Fence under way: no group may begin

	queue       []*item
	queued      int64 // payload bytes in queue
	writing     bool
	inFlight    map[keyPart]*item // queued or written, not committed
	unapplied   []*item           // written, not committed, in order
	tails       []*tailFile       // in order; the last takes the writes
	view        view
	backlog     int64 // raw bytes of committed frames that no block holds
	backlogRow  int64
	encodeDue   bool // an encoder is on its way
	sealing     bool // Tick has sent an encoder to seal
	undescribed int  // sealed files that the catalogue may describe and does not
	describing  bool // an encoder is on its way to describe them
	// replaces counts the REPLACE records that were applied, replacesSaved those of them
	// that MANIFEST has; replaced are the files that are to be removed then.
	replaces      uint64
	replacesSaved uint64
	replaced      []*sealedFile
	merge         mergeState
	rollBytes     uint64    // raw bytes since the last seal
	rollRows      uint64    // entries since the last seal
	rollRecords   int       // frames since the last seal, without those that Open found in blocks
	firstAt       time.Time // when the oldest entry that is not sealed came
	frameAt       time.Time // when the oldest entry that is in no block came
	damages       []Damage
	faults        []string          // what Open found and repaired or could not read
	unreadable    map[string]string // files that queries found damaged, and how
	failure       error
	closing       bool
	released      bool // Close has closed the files

	halt   sync.Once
	failed chan struct{}
	closed chan struct{}
	wg     sync.WaitGroup
	fill   filler
}

// Failed is closed when the shard can no longer be written and must be opened again.
func (s *Shard) Failed() <-chan struct{} { return s.failed }

// Err returns why the shard failed, or nil.
func (s *Shard) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Number returns the shard's number.
func (s *Shard) Number() uint32 { return s.o.Number }

// fail ends the writing for ever. A failed write or fsync is final: what is in the
// page cache need not be on the disk any more, whatever a later fsync says (H13). Reads
// go on until Close.
func (s *Shard) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(err)
}

func (s *Shard) failLocked(err error) {
	if s.failure != nil {
		return
	}
	s.failure = err
	s.leading = 0
	close(s.failed)
	s.abandonLocked(errors.Join(ErrFailed, err))
	s.unapplied = nil
	s.room.Broadcast()
	s.work.Broadcast()
}

// abandonLocked answers all who wait, but for those of a group that is being written:
// what becomes of their records is not known.
func (s *Shard) abandonLocked(err error) {
	for _, it := range s.unapplied {
		it.finish(s.unavailable(err))
	}
	for _, it := range s.queue {
		it.finish(s.unavailable(err))
	}
	s.queue, s.queued, s.inFlight = nil, 0, map[keyPart]*item{}
}

func (s *Shard) unavailable(err error) error {
	return &Unavailable{Shard: s.o.Number, After: time.Second, Err: err}
}

// Halt ends all that the shard does by itself: what waits is written first, encoders
// are joined. One that failed can still be read, until Close: its view stays as it is
// while another opening of the same folder takes its place. A second call waits for the
// first and returns nil.
func (s *Shard) Halt() (err error) {
	s.halt.Do(func() { err = s.haltOnce() })
	return err
}

func (s *Shard) haltOnce() error {
	s.mu.Lock()
	s.closing = true
	close(s.closed)
	s.work.Broadcast()
	s.room.Broadcast()
	s.mu.Unlock()
	s.wg.Wait()
	err := s.fill.close()

	s.mu.Lock()
	whole := s.failure == nil
	if whole {
		s.failure = ErrClosed
	}
	s.leading = 0
	// What no majority has confirmed is unknown. An encoder may wait for it.
	s.abandonLocked(ErrClosed)
	s.mu.Unlock()
	s.o.Encoders.forget(s)
	s.sealMu.Lock()
	s.dropMerge()
	s.sealMu.Unlock()
	if whole {
		s.saveCatalogue(1)
	}
	return err
}

// Close halts the shard and closes its files. It does not seal. The files of queries
// that still run stay open until these end.
func (s *Shard) Close() error {
	errs := []error{s.Halt()}
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return nil
	}
	s.released = true
	failed := !errors.Is(s.failure, ErrClosed)
	if failed {
		s.failure = errors.Join(s.failure, ErrClosed) // it cannot be read any more either
	}
	if n := len(s.tails); n > 0 && !failed {
		// The zeros ahead of the end are of no use to the next process.
		errs = append(errs, s.tails[n-1].file.Truncate(s.tails[n-1].end))
	}
	for _, t := range s.tails {
		errs = append(errs, t.release())
	}
	if s.open != nil {
		errs = append(errs, s.open.release())
		s.open = nil
	}
	s.catalogue.forget(s.replaced)
	s.o.Files.release(s.replaced...)
	s.replaced = nil
	s.catalogue.forget(s.view.sealed)
	s.catalogue.close()
	s.o.Files.release(s.view.sealed...)
	s.view = view{}
	errs = append(errs, s.promise.file.Close())
	if failed {
		return nil // the failure was reported; closing what failed fails again
	}
	return errors.Join(errs...)
}

// Promise returns what the replica has promised.
func (s *Shard) Promise() Promise {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.promise.promise
}

// A FenceReply says what a replica holds, to an owner who takes over.
type FenceReply struct {
	LastEpoch, LastIndex uint64 // of the last record
	LastChain            segment.Chain
	Commit               uint64
	SealedEnd            uint64
	LogStart             uint64
	Damaged              bool
}

// Fence makes the promise to refuse epochs below the given one, durably, and only then
// answers (H5). What was being written is in the answer (H6).
func (s *Shard) Fence(p Promise) (FenceReply, error) {
	if err := p.check(); err != nil {
		return FenceReply{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.promise.promise.refuses(&p) {
		return FenceReply{}, ErrStale
	}
	s.fences++
	for s.writing && s.failure == nil {
		s.room.Wait()
	}
	s.fences--
	s.work.Broadcast()
	if s.failure != nil {
		return FenceReply{}, s.unavailable(s.failure)
	}
	// Another promise may have been made meanwhile.
	old := s.promise.promise
	if old.refuses(&p) {
		return FenceReply{}, ErrStale
	}
	if p != old {
		if s.leading != 0 && s.leading < p.Epoch {
			// An acknowledgement in the older epoch is over: another owner decides.
			s.leading, s.serving = 0, false
			s.abandonLocked(ErrNotOwner)
		}
		if err := s.promise.set(p); err != nil {
			s.failLocked(err)
			return FenceReply{}, s.unavailable(err)
		}
	}
	reply := FenceReply{LastEpoch: s.end.epoch, LastIndex: s.end.index - 1, LastChain: s.end.chain, Commit: s.commit,
		SealedEnd: s.state.sealedEnd(), LogStart: s.state.LogStart, Damaged: len(s.undeclaredLocked()) > 0}
	return reply, nil
}

// undeclaredLocked returns the damages that no LOSS record in the log speaks of.
func (s *Shard) undeclaredLocked() (losses []Loss) {
	for i := range s.damages {
		if l, some := withoutKnown(s.damages[i].Loss, s.state.Losses); some {
			losses = append(losses, l)
		}
	}
	return losses
}

// LeadOptions say how an owner commits.
type LeadOptions struct {
	// Quorum says up to where a majority holds the log, given what is fsynced here; it
	// must not block. nil: this replica is the only one.
	Quorum func(durable uint64) (commit uint64)
	// AcceptLoss: what is damaged here has no other copy. The owner declares it lost,
	// by records in the log, and goes on behind it.
	AcceptLoss bool
}

// Lead makes this replica the owner in the epoch that it has promised to itself. Its
// own log must be the one that the majority goes on with. It appends a barrier, and
// records of what is lost for good, and returns when they are committed: only then
// the shard can be written and read.
func (s *Shard) Lead(ctx context.Context, o LeadOptions) error {
	if o.Quorum == nil {
		o.Quorum = func(durable uint64) uint64 { return durable }
	}
	epoch, waiter, err := s.beginLead(o)
	if err != nil {
		return err
	}
	if err := waiter.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	if s.leading == epoch {
		s.serving = true
	}
	s.mu.Unlock()
	// Close does not begin to close files before this is through.
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	if err := s.writable(); err != nil {
		return err
	}
	if err := s.dropTails(); err != nil {
		return err
	}
	if err := s.forgetReplaced(); err != nil {
		return err
	}
	s.releaseMerge() // of an earlier epoch
	s.tidy()
	s.mu.Lock()
	s.merge.tidied = epoch
	s.mu.Unlock()
	return nil
}

// beginLead queues the first records of the epoch.
func (s *Shard) beginLead(o LeadOptions) (epoch uint64, w *waiter, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	epoch = s.promise.promise.Epoch
	losses := s.undeclaredLocked()
	switch {
	case s.failure != nil:
		return 0, nil, s.unavailable(s.failure)
	case s.closing:
		return 0, nil, s.unavailable(ErrClosed)
	case epoch <= s.end.epoch || epoch == s.leading:
		return 0, nil, ErrStale
	case len(losses) > 0 && !o.AcceptLoss:
		return 0, nil, ErrDamaged
	}
	s.leading, s.quorum = epoch, o.Quorum
	w = newWaiter()
	s.enqueueLocked(w, control(segment.RecordBarrier, nil))
	for i := range losses {
		e := encoder{}
		losses[i].encode(&e)
		s.enqueueLocked(w, control(segment.RecordLoss, e.b))
	}
	return epoch, w, nil
}

// Commit tells the owner or a replica that records up to index are committed.
func (s *Shard) Commit(index uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commitLocked(index)
}
