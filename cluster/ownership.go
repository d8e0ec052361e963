package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Ownership of a shard, in the metadata store: config/S holds the epoch and whom it was granted to, for ever; owner/S
// says the same under the owner's lease, so that it goes when the owner's process does. Both change in one transaction
// that compares both with what the candidate saw. What follows:
//
//   - An epoch is granted once, to one call of takeOver of one process (the nonce), and never falls, whatever becomes of
//     leases (replication.md, H2, H3).
//   - A grant is not a lock: its owner may be deposed at any moment without knowing. What protects the data is that
//     replicas refuse lower epochs than they have promised (invariant C2).
//   - A transaction of which the outcome is unknown is looked after until it is decided, or the caller is told (H4).

// Bits of an epoch that count grants. The bits above are the generation: restoring an older state of the metadata store
// raises it, and so leaves behind every epoch that was granted in the time that is gone (replication.md, H27).
const epochCounterBits = 40

var (
	// ErrOutrun says that the shard's ownership is no longer what the candidate saw: look again, then decide.
	ErrOutrun = errors.New("the shard's ownership changed meanwhile")
	// ErrOwned says that another node owns the shard, or may still.
	ErrOwned = errors.New("the shard has another owner")
	// ErrDeposed says that the epoch is over: a later one was granted.
	ErrDeposed = errors.New("the shard's epoch is over")
	// ErrNotReplica says that the node, with the data folder it has, holds no replica of the shard that counts.
	ErrNotReplica = errors.New("this node holds no replica of the shard")
	// ErrNoShard says that the cluster has no such shard.
	ErrNoShard = errors.New("there is no such shard")
	// ErrEpochs says that the epochs of a generation are used up, or that something claims so.
	ErrEpochs = errors.New("no higher epoch can be granted in this generation")
)

// Self is the process that wants to own shards.
type Self struct {
	Node   string
	Folder string // Id of its data folder.
	Boot   string // Id of this start.
	Addr   string // HOST:PORT for other nodes.
}

// ShardState is what the metadata store says of a shard.
type ShardState struct {
	Shard          uint32
	Config         ShardConfig // Read only: slices and pointers are shared.
	ConfigRevision int64
	Owner          *Owner // nil: nobody.
	OwnerRevision  int64  // 0: nobody.
	OwnerLease     LeaseID
}

// Grant is an epoch of a shard, granted to this process. It is a value: functions that change what stands in the
// metadata store return the new one.
type Grant struct {
	Shard          uint32
	Owner          Owner
	Config         ShardConfig // Read only.
	ConfigRevision int64
	OwnerRevision  int64
}

// Epoch is the epoch that was granted.
func (g Grant) Epoch() uint64 { return g.Owner.Epoch }

// readShard returns the state of one shard. Its two keys are read one after the other; a transaction that compares both
// revisions notices if they do not belong together.
func readShard(ctx context.Context, meta MetaStore, shard uint32) (ShardState, error) {
	config, err := meta.Get(ctx, configKey(shard))
	if err != nil {
		return ShardState{}, err
	}
	owner, err := meta.Get(ctx, ownerKey(shard))
	if err != nil {
		return ShardState{}, err
	}
	state := ShardState{Shard: shard}
	if config.ModRevision == 0 {
		return state, fmt.Errorf("shard %d: %w", shard, ErrNoShard)
	}
	if err := state.readConfig(config); err != nil {
		return state, err
	}
	return state, state.readOwner(owner)
}

// readShards returns the state of all shards, and the revision after which a watch goes on. It may tell again what the
// states hold already.
func readShards(ctx context.Context, meta MetaStore) (map[uint32]ShardState, int64, error) {
	configs, revision, err := meta.List(ctx, configPrefix)
	if err != nil {
		return nil, 0, err
	}
	owners, _, err := meta.List(ctx, ownerPrefix)
	if err != nil {
		return nil, 0, err
	}
	states := make(map[uint32]ShardState, len(configs))
	read := func(prefix string, kv KeyValue, into func(*ShardState, KeyValue) error) error {
		shard, err := shardOfKey(prefix, kv.Key)
		if err != nil {
			return err
		}
		state := states[shard]
		state.Shard = shard
		err = into(&state, kv)
		states[shard] = state
		return err
	}
	for _, kv := range configs {
		if err := read(configPrefix, kv, (*ShardState).readConfig); err != nil {
			return nil, 0, err
		}
	}
	for _, kv := range owners {
		if err := read(ownerPrefix, kv, (*ShardState).readOwner); err != nil {
			return nil, 0, err
		}
	}
	return states, revision, nil
}

func (s *ShardState) readConfig(kv KeyValue) (err error) {
	s.Config, err = decodeRecord[ShardConfig](kv)
	s.ConfigRevision = kv.ModRevision
	return err
}

// readOwner takes an owner's key, present or absent.
func (s *ShardState) readOwner(kv KeyValue) error {
	s.Owner, s.OwnerRevision, s.OwnerLease = nil, kv.ModRevision, kv.Lease
	if kv.ModRevision == 0 {
		return nil
	}
	owner, err := decodeRecord[Owner](kv)
	s.Owner = &owner
	return err
}

// claim takes a shard over that nobody else can be serving: it has no owner and never had one, or the last one was an
// earlier process of this node, which is dead, because the caller holds the lock of the data folder. Else ErrOwned, and
// only replicas that have not heard from that process (architecture.md, "Ownership") may allow takeOver. Call it, like
// takeOver, once at a time for a shard.
func claim(ctx context.Context, meta MetaStore, shard uint32, self Self, lease LeaseID, above uint64) (Grant, error) {
	for {
		seen, err := readShard(ctx, meta, shard)
		if err != nil {
			return Grant{}, err
		}
		if last := seen.Config.LastOwner; last != nil && last.Node != self.Node {
			return Grant{}, fmt.Errorf("shard %d: %w: node %s was granted epoch %d", shard, ErrOwned, last.Node, seen.Config.Epoch)
		}
		grant, err := takeOver(ctx, meta, seen, self, lease, above)
		if !errors.Is(err, ErrOutrun) {
			return grant, err
		}
	}
}

// takeOver makes this process the owner of a shard in a new epoch, higher than all before and than above (the highest
// that a replica was found to have promised; 0: none), if nothing has changed since the candidate saw the shard's state
// and decided that its owner, if any, is to be replaced. It looks after the transaction until it is decided.
//
// Errors: ErrOutrun, ErrNotReplica, ErrEpochs, ErrLeaseNotFound; nothing was granted. When ctx ends first, ErrUnknownOutcome
// or ErrUnavailable; after ErrUnknownOutcome the process may turn up as owner in an epoch that it must not use: it takes
// over again, or deletes that owner.
func takeOver(ctx context.Context, meta MetaStore, seen ShardState, self Self, lease LeaseID, above uint64) (Grant, error) {
	fail := func(err error) (Grant, error) {
		return Grant{}, fmt.Errorf("take over shard %d: %w", seen.Shard, err)
	}
	grant, err := newGrant(seen, self, above)
	if err != nil {
		return fail(err)
	}
	txn, err := grant.txn(seen, lease)
	if err != nil {
		return fail(err)
	}
	var doubt bool // A transaction of this call may yet be applied.
	err = settle(ctx, func() (bool, error) {
		result, err := meta.Txn(ctx, txn)
		switch {
		case err == nil && result.Succeeded:
			grant.ConfigRevision, grant.OwnerRevision = result.Revision, result.Revision
			return true, nil
		case errors.Is(err, ErrUnknownOutcome):
			doubt = true
		case err != nil:
			return false, err
		}
		now, readErr := readShard(ctx, meta, seen.Shard)
		if readErr != nil {
			return false, errors.Join(err, readErr)
		}
		return grant.decide(seen, now, err)
	})
	final := errors.Is(err, ErrOutrun) || errors.Is(err, ErrLeaseNotFound)
	switch {
	case err == nil:
		return grant, nil
	case doubt && !final && !errors.Is(err, ErrUnknownOutcome):
		return fail(fmt.Errorf("%w: %w", ErrUnknownOutcome, err))
	default:
		return fail(err)
	}
}

// newGrant is what a successful takeover would bring, but for the revisions.
func newGrant(seen ShardState, self Self, above uint64) (Grant, error) {
	isSelf := func(r Replica) bool { return r.Node == self.Node && r.Folder == self.Folder }
	if !slices.ContainsFunc(seen.Config.Replicas, isSelf) {
		return Grant{}, fmt.Errorf("%w: node %s with data folder %s", ErrNotReplica, self.Node, self.Folder)
	}
	epoch, err := nextEpoch(seen.Config.Epoch, above)
	if err != nil {
		return Grant{}, err
	}
	owner := Owner{Epoch: epoch, Node: self.Node, Boot: self.Boot, Addr: self.Addr, Nonce: newUUID()}
	config := seen.Config
	config.Epoch, config.Generation = epoch, epoch>>epochCounterBits
	config.LastOwner = &LastOwner{Node: owner.Node, Boot: owner.Boot, Nonce: owner.Nonce}
	return Grant{Shard: seen.Shard, Owner: owner, Config: config}, nil
}

// nextEpoch is the lowest epoch above both.
func nextEpoch(last, above uint64) (uint64, error) {
	highest := max(last, above)
	if (highest+1)&(1<<epochCounterBits-1) == 0 {
		return 0, fmt.Errorf("%w: epoch %#x is its last", ErrEpochs, highest)
	}
	return highest + 1, nil
}

func (g Grant) txn(seen ShardState, lease LeaseID) (Txn, error) {
	config, err := encodeRecord(g.Config)
	if err != nil {
		return Txn{}, err
	}
	owner, err := encodeRecord(g.Owner)
	if err != nil {
		return Txn{}, err
	}
	return Txn{
		If: []Compare{
			{Key: configKey(seen.Shard), ModRevision: seen.ConfigRevision},
			{Key: ownerKey(seen.Shard), ModRevision: seen.OwnerRevision},
		},
		Then: []Op{PutOp(configKey(seen.Shard), config, 0), PutOp(ownerKey(seen.Shard), owner, lease)},
	}, nil
}

// holds says whether the grant is the shard's last.
func (g Grant) holds(now ShardState) bool {
	return now.Config.LastOwner != nil && now.Config.LastOwner.Nonce == g.Owner.Nonce
}

// decide judges a takeover by what is read after it; undecided is the error of the transaction itself, if any.
func (g *Grant) decide(seen, now ShardState, undecided error) (bool, error) {
	switch {
	case g.holds(now) && now.Owner == nil:
		// It was applied, and its lease has ended since.
		return false, ErrLeaseNotFound
	case g.holds(now):
		g.ConfigRevision, g.OwnerRevision = now.ConfigRevision, now.OwnerRevision
		return true, nil
	case now.ConfigRevision == seen.ConfigRevision && now.OwnerRevision == seen.OwnerRevision:
		return false, undecided
	default:
		// No try of this call can be applied any more: its compares do not hold.
		return false, ErrOutrun
	}
}

// reassert puts owner/S back under a new lease of the same process, which lost its old one (a machine that was
// suspended, say) and may well be owner still: if nobody was granted a later epoch. Else ErrDeposed. It returns the
// grant as it stands now.
func reassert(ctx context.Context, meta MetaStore, grant Grant, lease LeaseID) (Grant, error) {
	value, err := encodeRecord(grant.Owner)
	if err != nil {
		return grant, err
	}
	err = settle(ctx, func() (bool, error) {
		now, err := readShard(ctx, meta, grant.Shard)
		if err != nil {
			return false, err
		}
		if !grant.holds(now) {
			return false, fmt.Errorf("%w: epoch %d was granted, after %d", ErrDeposed, now.Config.Epoch, grant.Epoch())
		}
		grant.Config, grant.ConfigRevision, grant.OwnerRevision = now.Config, now.ConfigRevision, now.OwnerRevision
		if now.Owner != nil && now.OwnerLease == lease {
			return true, nil
		}
		result, err := meta.Txn(ctx, Txn{
			If: []Compare{
				{Key: configKey(grant.Shard), ModRevision: now.ConfigRevision},
				{Key: ownerKey(grant.Shard), ModRevision: now.OwnerRevision},
			},
			Then: []Op{PutOp(ownerKey(grant.Shard), value, lease)},
		})
		if err == nil && result.Succeeded {
			grant.OwnerRevision = result.Revision
			return true, nil
		}
		return false, err
	})
	if err != nil {
		return grant, fmt.Errorf("put the ownership of shard %d back: %w", grant.Shard, err)
	}
	return grant, nil
}

// release gives the shard up: it deletes owner/S if that is still this grant's. The process must have stopped serving
// the shard before, and must not use the epoch again.
func release(ctx context.Context, meta MetaStore, grant Grant) error {
	key := ownerKey(grant.Shard)
	err := settle(ctx, func() (bool, error) {
		kv, err := meta.Get(ctx, key)
		if err != nil {
			return false, err
		}
		var now ShardState
		if err := now.readOwner(kv); err != nil {
			return false, err
		}
		if now.Owner == nil || now.Owner.Nonce != grant.Owner.Nonce {
			return true, nil
		}
		result, err := meta.Txn(ctx, Txn{If: []Compare{{Key: key, ModRevision: kv.ModRevision}}, Then: []Op{DeleteOp(key)}})
		return result.Succeeded, err
	})
	if err != nil {
		return fmt.Errorf("give up shard %d: %w", grant.Shard, err)
	}
	return nil
}

const (
	// How long after a process fell silent the metadata store takes it for dead: the backstop behind takeovers, which do
	// not wait for it. At least three election timeouts of etcd (replication.md, H31).
	leaseTTL = 15 * time.Second
	// Renewals in a time to live.
	leaseRenewals = 3
)

// session keeps one lease of the process alive and, when the store has let it end, gets another. All that the process
// put under the old one is then gone, and is put back by whoever put it there: see Changed.
type session struct {
	meta    MetaLeases
	ttl     time.Duration
	logger  *zap.Logger
	changed chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup

	mu    sync.Mutex
	lease LeaseID
}

// openSession gets the first lease, retrying until ctx ends, and starts to keep it alive. ttl 0 is 15 s; a nil logger
// logs nothing.
func openSession(ctx context.Context, meta MetaLeases, ttl time.Duration, logger *zap.Logger) (*session, error) {
	if ttl <= 0 {
		ttl = leaseTTL
	}
	if logger == nil {
		logger = zap.NewNop()
	}
	lease, err := meta.Grant(ctx, ttl)
	if err != nil {
		return nil, fmt.Errorf("get a lease for this process: %w", err)
	}
	running, cancel := context.WithCancel(context.Background())
	s := &session{meta: meta, ttl: ttl, logger: logger, changed: make(chan struct{}, 1), cancel: cancel, lease: lease}
	s.done.Go(func() { s.run(running) })
	return s, nil
}

// Lease returns the lease of the moment; 0 while the old one is lost and there is no new one.
func (s *session) Lease() LeaseID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lease
}

// Changed delivers when Lease has changed since the last delivery: the lease was lost (0), or there is a new one, under
// which node/N and every owner/S is to be put back. One receiver.
func (s *session) Changed() <-chan struct{} { return s.changed }

// Close stops the renewals and revokes the lease, and with it deletes all that hangs on it, until ctx ends; else the
// lease ends by itself within its time to live.
func (s *session) Close(ctx context.Context) error {
	s.cancel()
	s.done.Wait()
	s.mu.Lock()
	lease := s.lease
	s.lease = 0
	s.mu.Unlock()
	if lease == 0 {
		return nil
	}
	return s.meta.Revoke(ctx, lease)
}

func (s *session) run(ctx context.Context) {
	interval := s.ttl / leaseRenewals
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	var silent bool
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		err := s.renew(ctx, interval)
		if !errors.Is(err, ErrLeaseNotFound) {
			// Without an answer the lease may live on: a store that has lost its majority lets no lease end.
			if err != nil && !silent && ctx.Err() == nil {
				s.logger.Warn("the lease of this process could not be renewed; going on trying", zap.Error(err))
			}
			silent = err != nil
			continue
		}
		s.logger.Warn("the lease of this process ended: the process, or the metadata store, stood still for longer than its time to live",
			zap.Duration("ttl", s.ttl))
		s.set(0)
		lease, err := s.meta.Grant(ctx, s.ttl)
		if err != nil {
			return // The session or the store's client was closed: nothing else ends Grant.
		}
		s.set(lease)
	}
}

func (s *session) renew(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return s.meta.KeepAlive(ctx, s.Lease())
}

func (s *session) set(lease LeaseID) {
	s.mu.Lock()
	s.lease = lease
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}
