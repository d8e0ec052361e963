package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// Pause between two tries of a call that an injected fault let fail.
	memRetryPause = 50 * time.Millisecond
	// How much later than its caller was told ErrUnknownOutcome a transaction with FaultLate is applied.
	memLateness = 2 * time.Second
)

// MemStore is a metadata store in memory: what a whole etcd cluster is to simulated nodes. Each node gets a client of
// its own from Client. It starts no goroutines; leases expire by time.AfterFunc, so that a testing/synctest bubble that
// made the store fakes their time.
type MemStore struct {
	mu        sync.Mutex
	revision  int64
	compacted int64 // Changes before this revision are no longer in history.
	keys      map[string]KeyValue
	history   []WatchEvent
	changed   chan struct{} // Closed, and made anew, at every change.
	leases    map[LeaseID]*memLease
	lastLease LeaseID
	inject    func(MemCall) MemFault
}

type memLease struct {
	ttl   time.Duration
	timer *time.Timer
	keys  map[string]struct{}
}

// MemCall describes a call to an injector.
type MemCall struct {
	Client string // The name that MemStore.Client was given.
	Method string // Name of the method of Meta: Get, List, Txn, Grant, KeepAlive, Revoke.
	Key    string // The key or prefix; of a transaction the first key it changes; "" for leases.
}

// MemFault is what an injector does to one try of a call.
type MemFault int

// The faults. All methods but Txn try again, as long as their context lasts, after any of them.
const (
	FaultNone    MemFault = iota // The call goes through.
	FaultRefused                 // Nothing is changed and the caller knows (ErrUnavailable).
	FaultLost                    // Nothing is changed and the caller does not know (ErrUnknownOutcome).
	FaultApplied                 // It is done and the caller does not know.
	FaultLate                    // As FaultApplied, but it is done, if its compares then hold, 2 s later.
)

// NewMemStore returns an empty store.
func NewMemStore() *MemStore {
	return &MemStore{
		keys:    make(map[string]KeyValue),
		changed: make(chan struct{}),
		leases:  make(map[LeaseID]*memLease),
	}
}

// Client returns a new client; the name is for injectors.
func (s *MemStore) Client(name string) *MemMeta {
	ctx, cancel := context.WithCancel(context.Background())
	return &MemMeta{store: s, name: name, closed: ctx, cancel: cancel}
}

// Inject has every try of every call ask the function first; nil ends it. The function is called without any lock, so it
// may use other clients of the store, or block.
func (s *MemStore) Inject(fault func(MemCall) MemFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inject = fault
}

// Compact forgets all changes so far: watches that have not seen them yet are told to begin anew.
func (s *MemStore) Compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = nil
	s.compacted = s.revision + 1
	s.wake()
}

// Expire ends a lease at once, as if nobody had kept it alive.
func (s *MemStore) Expire(id LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLease(id)
}

func (s *MemStore) fault(call MemCall) MemFault {
	s.mu.Lock()
	inject := s.inject
	s.mu.Unlock()
	if inject == nil {
		return FaultNone
	}
	return inject(call)
}

// wake tells all watches to look again. The caller holds the lock, as in all that follows.
func (s *MemStore) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// list returns copies of all keys with the prefix, sorted.
func (s *MemStore) list(prefix string) []KeyValue {
	var found []KeyValue
	for key, value := range s.keys {
		if strings.HasPrefix(key, prefix) {
			found = append(found, value)
		}
	}
	slices.SortFunc(found, func(a, b KeyValue) int { return strings.Compare(a.Key, b.Key) })
	return found
}

func (s *MemStore) get(key string) KeyValue {
	if found, ok := s.keys[key]; ok {
		return found
	}
	return KeyValue{Key: key}
}

// txn decides and applies a transaction that check has passed.
func (s *MemStore) txn(txn Txn) (TxnResult, error) {
	for _, compare := range txn.If {
		if s.keys[compare.Key].ModRevision != compare.ModRevision {
			return TxnResult{Revision: s.revision}, nil
		}
	}
	for _, op := range txn.Then {
		if op.Lease != 0 && s.leases[op.Lease] == nil {
			return TxnResult{}, fmt.Errorf("put %q: %w", op.Key, ErrLeaseNotFound)
		}
	}
	revision := s.revision + 1
	for _, op := range txn.Then {
		if op.Delete {
			s.remove(op.Key, revision)
		} else {
			s.put(op, revision)
		}
	}
	s.advance(revision)
	return TxnResult{Succeeded: true, Revision: s.revision}, nil
}

func (s *MemStore) put(op Op, revision int64) {
	if lease := s.leases[s.keys[op.Key].Lease]; lease != nil {
		delete(lease.keys, op.Key)
	}
	if lease := s.leases[op.Lease]; lease != nil {
		lease.keys[op.Key] = struct{}{}
	}
	value := KeyValue{Key: op.Key, Value: slices.Clone(op.Value), ModRevision: revision, Lease: op.Lease}
	s.keys[op.Key] = value
	s.history = append(s.history, WatchEvent{KeyValue: value})
}

func (s *MemStore) remove(key string, revision int64) {
	old, ok := s.keys[key]
	if !ok {
		return
	}
	if lease := s.leases[old.Lease]; lease != nil {
		delete(lease.keys, key)
	}
	delete(s.keys, key)
	s.history = append(s.history, WatchEvent{KeyValue: KeyValue{Key: key, ModRevision: revision}, Deleted: true})
}

// advance makes the revision current if anything was changed at it.
func (s *MemStore) advance(revision int64) {
	if n := len(s.history); n > 0 && s.history[n-1].ModRevision == revision {
		s.revision = revision
		s.wake()
	}
}

func (s *MemStore) grant(ttl time.Duration) LeaseID {
	s.lastLease++
	id := s.lastLease
	s.leases[id] = &memLease{
		ttl:   ttl,
		timer: time.AfterFunc(ttl, func() { s.Expire(id) }),
		keys:  make(map[string]struct{}),
	}
	return id
}

func (s *MemStore) keepAlive(id LeaseID) error {
	lease := s.leases[id]
	if lease == nil {
		return fmt.Errorf("keep lease %x alive: %w", int64(id), ErrLeaseNotFound)
	}
	lease.timer.Reset(lease.ttl)
	return nil
}

func (s *MemStore) endLease(id LeaseID) {
	lease := s.leases[id]
	if lease == nil {
		return
	}
	lease.timer.Stop()
	delete(s.leases, id)
	revision := s.revision + 1
	keys := make([]string, 0, len(lease.keys))
	for key := range lease.keys {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		s.remove(key, revision)
	}
	s.advance(revision)
}

// since returns what happened to keys with the prefix from a revision on, or that this is forgotten; the revision to ask
// for next; and a channel that is closed when there may be more.
func (s *MemStore) since(prefix string, from int64) (news WatchEvents, next int64, more <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next = max(from, s.revision+1)
	if from < s.compacted {
		return WatchEvents{Revision: s.revision, Reset: true}, next, s.changed
	}
	first, _ := slices.BinarySearchFunc(s.history, from, func(event WatchEvent, revision int64) int {
		return cmp.Compare(event.ModRevision, revision)
	})
	for _, event := range s.history[first:] {
		if strings.HasPrefix(event.Key, prefix) {
			news.Events = append(news.Events, event)
			news.Revision = event.ModRevision
		}
	}
	return news, next, s.changed
}

// MemMeta is one client of a MemStore: the in-memory twin of the embedded etcd's client.
type MemMeta struct {
	store  *MemStore
	name   string
	closed context.Context // Ends at Close.
	cancel context.CancelFunc

	mu      sync.Mutex // Orders the start of watches and Close.
	watches sync.WaitGroup
}

var _ Meta = (*MemMeta)(nil)

// Get is that of Meta.
func (m *MemMeta) Get(ctx context.Context, key string) (found KeyValue, err error) {
	err = m.retry(ctx, "Get", key, func() error {
		found = m.store.get(key)
		return nil
	})
	return found, err
}

// List is that of Meta.
func (m *MemMeta) List(ctx context.Context, prefix string) (found []KeyValue, revision int64, err error) {
	err = m.retry(ctx, "List", prefix, func() error {
		found, revision = m.store.list(prefix), m.store.revision
		return nil
	})
	return found, revision, err
}

// Txn is that of Meta.
func (m *MemMeta) Txn(ctx context.Context, txn Txn) (result TxnResult, err error) {
	if err := txn.check(); err != nil {
		return TxnResult{}, err
	}
	if err := m.usable(ctx); err != nil {
		return TxnResult{}, err
	}
	// A late transaction outlives the call, and the caller may use its slices again.
	txn.If, txn.Then = slices.Clone(txn.If), slices.Clone(txn.Then)
	apply := func() {
		m.store.mu.Lock()
		defer m.store.mu.Unlock()
		result, err = m.store.txn(txn)
	}
	switch fault := m.store.fault(MemCall{Client: m.name, Method: "Txn", Key: txn.Then[0].Key}); fault {
	case FaultNone:
		apply()
		return result, err
	case FaultRefused:
		return TxnResult{}, fmt.Errorf("transaction on %q: %w", txn.Then[0].Key, ErrUnavailable)
	case FaultApplied:
		apply()
	case FaultLate:
		store := m.store
		time.AfterFunc(memLateness, func() {
			store.mu.Lock()
			defer store.mu.Unlock()
			_, _ = store.txn(txn) // Nobody waits for the answer any more.
		})
	case FaultLost:
	}
	return TxnResult{}, fmt.Errorf("transaction on %q: %w", txn.Then[0].Key, ErrUnknownOutcome)
}

// Watch is that of Meta.
func (m *MemMeta) Watch(ctx context.Context, prefix string, from int64) <-chan WatchEvents {
	out := make(chan WatchEvents)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed.Err() != nil {
		close(out)
		return out
	}
	m.watches.Go(func() {
		defer close(out)
		m.watch(ctx, prefix, max(from, 1), out)
	})
	return out
}

func (m *MemMeta) watch(ctx context.Context, prefix string, from int64, out chan<- WatchEvents) {
	for ctx.Err() == nil && m.closed.Err() == nil {
		news, next, more := m.store.since(prefix, from)
		from = next
		var send chan<- WatchEvents
		if news.Reset || len(news.Events) > 0 {
			send, more = out, nil
		}
		select {
		case send <- news:
			if news.Reset {
				return
			}
		case <-more:
		case <-ctx.Done():
		case <-m.closed.Done():
		}
	}
}

// Grant is that of Meta.
func (m *MemMeta) Grant(ctx context.Context, ttl time.Duration) (id LeaseID, err error) {
	err = m.retry(ctx, "Grant", "", func() error {
		id = m.store.grant(time.Duration(leaseSeconds(ttl)) * time.Second)
		return nil
	})
	return id, err
}

// KeepAlive is that of Meta.
func (m *MemMeta) KeepAlive(ctx context.Context, id LeaseID) error {
	return m.retry(ctx, "KeepAlive", "", func() error { return m.store.keepAlive(id) })
}

// Revoke is that of Meta.
func (m *MemMeta) Revoke(ctx context.Context, id LeaseID) error {
	return m.retry(ctx, "Revoke", "", func() error {
		m.store.endLease(id)
		return nil
	})
}

// Close is that of Meta.
func (m *MemMeta) Close() error {
	m.mu.Lock()
	m.cancel()
	m.mu.Unlock()
	m.watches.Wait()
	return nil
}

func (m *MemMeta) usable(ctx context.Context) error {
	if m.closed.Err() != nil {
		return ErrMetaClosed
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// retry does something under the store's lock, trying again after injected faults until ctx ends.
func (m *MemMeta) retry(ctx context.Context, method, key string, do func() error) error {
	for {
		if err := m.usable(ctx); err != nil {
			return err
		}
		fault := m.store.fault(MemCall{Client: m.name, Method: method, Key: key})
		if fault == FaultNone || fault == FaultApplied {
			m.store.mu.Lock()
			err := do()
			m.store.mu.Unlock()
			if fault == FaultNone {
				return err
			}
		}
		pause := time.NewTimer(memRetryPause)
		select {
		case <-pause.C:
		case <-ctx.Done():
		case <-m.closed.Done():
		}
		pause.Stop()
	}
}
