package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/logcluster/logcluster/shard"
)

// A replica is this node's copy of one shard, and its part in who owns the shard. The
// shard itself is opened again after a failure: a new shard.Shard, in a new epoch.
type replica struct {
	node   *Node
	number uint32
	config ShardConfig
	id     string // folder uuid and incarnation
	create bool   // the folder holds none yet; used at the start only

	mu      sync.Mutex
	shard   *shard.Shard // nil while it is not open
	serving bool         // its owner is this node, and its barrier is committed
	stale   *shard.Shard // one that failed, halted: it is read until another one serves
	grant   Grant
	failure error         // why it is not open or not serving
	changed chan struct{} // closed and made anew at every change
}

func newReplica(n *Node, number uint32, config ShardConfig, id string) *replica {
	return &replica{node: n, number: number, config: config, id: id, changed: make(chan struct{})}
}

// set changes the state under mu and wakes those who wait for it.
func (r *replica) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *replica) current() *shard.Shard {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.shard
}

// open opens the shard.
func (r *replica) open(afterFailure bool) error {
	n := r.node
	s, err := shard.Open(shard.Options{
		FS: n.o.FS, Dir: fmt.Sprintf("%s/shards/%d", n.o.Dir, r.number), Number: r.number,
		Ident:  shard.Ident{ClusterID: n.cluster.ID, Shard: r.number, LogID: r.config.LogID, Node: n.o.Name, Replica: r.id},
		Create: r.create, AfterFailure: afterFailure, Floor: n.floor, Encoders: n.encoders, Files: n.files, Logger: n.o.Logger,
		SealBytes: n.o.SealBytes, ObserveFsync: n.metrics.fsync.Observe,
	})
	r.set(func() { r.shard, r.serving, r.failure = s, false, err })
	return err
}

// lead makes this node the owner in a new epoch: granted by the metadata store,
// promised by the replicas, and begun with a barrier.
func (r *replica) lead(ctx context.Context) error {
	n, s := r.node, r.current()
	err := r.takeOver(ctx, s)
	if err != nil {
		r.set(func() { r.failure = err })
		return err
	}
	var stale *shard.Shard
	r.set(func() { stale, r.stale, r.serving, r.failure = r.stale, nil, true, nil })
	if stale != nil {
		if err := stale.Close(); err != nil {
			n.o.Logger.Sugar().Warnw("closing a shard that failed", "shard", r.number, "error", err)
		}
	}
	n.o.Logger.Sugar().Debugw("owner of a shard", "shard", r.number, "epoch", r.grant.Epoch())
	return nil
}

func (r *replica) takeOver(ctx context.Context, s *shard.Shard) error {
	n := r.node
	lease := n.session.Lease()
	if lease == 0 {
		return fmt.Errorf("shard %d: this process has no lease at the moment", r.number)
	}
	self := Self{Node: n.o.Name, Folder: n.folder.uuid, Boot: n.boot, Addr: n.o.Peer}
	above := s.Promise().Epoch
	for {
		grant, err := claim(ctx, n.meta, r.number, self, lease, above)
		if err != nil {
			return err
		}
		promise := shard.Promise{Epoch: grant.Epoch(), Node: n.o.Name, Boot: n.boot, ConfigVersion: grant.Config.Version}
		_, err = s.Fence(promise)
		if errors.Is(err, shard.ErrStale) && s.Promise().Epoch >= grant.Epoch() {
			above = s.Promise().Epoch
			continue
		}
		if err != nil {
			return err
		}
		r.set(func() { r.grant = grant })
		// A replica set of one has no other copy: what is damaged here is lost, and said to be.
		return s.Lead(ctx, shard.LeadOptions{AcceptLoss: len(grant.Config.Replicas) == 1})
	}
}

// run keeps the shard open and owned until ctx ends.
func (r *replica) run(ctx context.Context) {
	pause := r.node.o.ReopenPause
	for {
		s := r.current()
		r.mu.Lock()
		serving, changed := r.serving, r.changed
		r.mu.Unlock()
		if serving {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				continue
			case <-s.Failed():
			}
			pause = r.node.o.ReopenPause
			r.node.o.Logger.Sugar().Errorw("a shard failed and is opened again", "shard", r.number, "error", s.Err())
		}
		if s != nil {
			r.retire(s, serving)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, 16*r.node.o.ReopenPause)
		if err := r.open(true); err != nil {
			if !errors.Is(err, shard.ErrLost) && !errors.Is(err, shard.ErrForeign) {
				r.node.o.Logger.Sugar().Errorw("a shard cannot be opened; trying on", "shard", r.number, "error", err)
			}
			continue
		}
		if err := r.lead(ctx); err != nil && ctx.Err() == nil {
			r.node.o.Logger.Sugar().Errorw("a shard cannot be owned; trying on", "shard", r.number, "error", err)
		}
	}
}

// retire takes a shard that failed, or could not be led, out of service. What it holds is
// read on from there until another opening serves: a full disk takes no reads away.
func (r *replica) retire(s *shard.Shard, served bool) {
	err := s.Err()
	keep := served && err != nil
	if keep {
		_ = s.Halt() // why it failed was told
	}
	r.set(func() {
		r.shard, r.serving = nil, false
		if keep {
			r.stale = s
		}
		if err != nil {
			r.failure = err
		}
	})
	if keep {
		return
	}
	if err := s.Close(); err != nil {
		r.node.o.Logger.Sugar().Warnw("closing a shard", "shard", r.number, "error", err)
	}
}

// serve returns the shard once this node owns it, and waits a while for that.
func (r *replica) serve(ctx context.Context) (*shard.Shard, error) { return r.await(ctx, false) }

// read is serve for queries: one that failed answers them meanwhile. It holds all that
// was acknowledged, and nobody else can write.
func (r *replica) read(ctx context.Context) (*shard.Shard, error) { return r.await(ctx, true) }

func (r *replica) await(ctx context.Context, read bool) (*shard.Shard, error) {
	var timeout <-chan time.Time
	for {
		r.mu.Lock()
		s, serving, failure, changed, stale := r.shard, r.serving, r.failure, r.changed, r.stale
		r.mu.Unlock()
		if serving && s.Err() == nil {
			return s, nil
		}
		if read && stale != nil {
			return stale, nil
		}
		if timeout == nil {
			timer := time.NewTimer(r.node.o.OwnerWait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, &shard.Unavailable{Shard: r.number, After: time.Second, Err: errors.Join(shard.ErrNotOwner, ctx.Err())}
		case <-timeout:
			return nil, &shard.Unavailable{Shard: r.number, After: 2 * time.Second, Err: errors.Join(ErrNoOwner, failure)}
		}
	}
}

// ErrNoOwner says that a shard has no owner that serves.
var ErrNoOwner = errors.New("the shard has no owner at the moment")

// reassert puts owner/S back under a new lease.
func (r *replica) reassert(ctx context.Context, lease LeaseID) error {
	r.mu.Lock()
	grant, serving := r.grant, r.serving
	r.mu.Unlock()
	if !serving {
		return nil
	}
	grant, err := reassert(ctx, r.node.meta, grant, lease)
	if errors.Is(err, ErrDeposed) {
		// Somebody else was granted a later epoch: this process serves the shard no more.
		r.set(func() { r.serving, r.failure = false, err })
	}
	if err != nil {
		return err
	}
	r.set(func() { r.grant = grant })
	return nil
}

func (r *replica) close() error {
	r.mu.Lock()
	s, stale := r.shard, r.stale
	r.mu.Unlock()
	r.set(func() { r.shard, r.stale, r.serving = nil, nil, false })
	var errs []error
	for _, s := range []*shard.Shard{s, stale} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
