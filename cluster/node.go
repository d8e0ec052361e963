package cluster

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/logcluster/logcluster/segment"
	"github.com/logcluster/logcluster/shard"
)

// A Node is one process of the cluster: it holds replicas of shards, owns some of them,
// and takes any request for any shard. Its methods are safe for concurrent use.
type Node struct {
	o        Options
	boot     string
	began    time.Time
	folder   *folder
	etcd     *etcdServer // nil if Options.meta is used
	meta     Meta
	session  *session
	cluster  Cluster
	route    Route
	floor    *shard.Floor
	encoders *shard.Encoders
	workers  *workers
	files    *shard.Files
	replicas map[uint32]*replica // fixed after Open
	metrics  *metrics

	frames sync.Pool // of *segment.FrameEncoder

	cancel context.CancelFunc
	wg     sync.WaitGroup
	close  sync.Once
	done   chan struct{} // closed when the node cannot go on
	mu     sync.Mutex
	err    error // why; guarded by mu
}

// Open starts a node: it locks the data folder, starts etcd, joins or creates the
// cluster, opens its replicas and becomes the owner of the shards that are its own. It
// returns when that is done; ctx bounds it. A shard that cannot be opened does not hold
// the others up: Status tells of it.
func Open(ctx context.Context, o Options) (*Node, error) {
	o = o.withDefaults()
	n := &Node{o: o, boot: newUUID(), began: time.Now(), replicas: map[uint32]*replica{}, workers: newWorkers(runtime.GOMAXPROCS(0)), done: make(chan struct{})}
	n.frames.New = func() any { return &segment.FrameEncoder{} }
	if err := n.open(ctx); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (n *Node) open(ctx context.Context) error {
	var err error
	if n.folder, err = openFolder(n.o.FS, n.o.Dir); err != nil {
		return err
	}
	if err := n.openMeta(ctx); err != nil {
		return err
	}
	addresses := Addresses{HTTP: n.o.HTTP, Peer: n.o.Peer, Etcd: n.o.Etcd}
	if n.etcd != nil {
		addresses.Etcd = n.etcd.Address() // port 0 was replaced by a free one
	}
	n.cluster, err = bootstrap(ctx, n.meta, bootstrapOptions{
		Self: Member{Name: n.o.Name, Folder: n.folder.uuid, Addresses: addresses}, Peers: n.o.Peers,
		Shards: n.o.Shards, Replicas: n.o.Replicas, ClusterID: n.folder.known,
	})
	if err != nil {
		return err
	}
	if err := n.folder.join(n.cluster.ID); err != nil {
		return err
	}
	if n.session, err = openSession(ctx, n.meta, 0, n.o.Logger); err != nil {
		return err
	}
	state := NodeState{Boot: n.boot, Folder: n.folder.uuid, Addresses: addresses, Disk: "ok"}
	if err := registerNode(ctx, n.meta, n.o.Name, state, n.session.Lease()); err != nil {
		return err
	}
	if n.route, err = n.readRoute(ctx); err != nil {
		return err
	}
	if n.floor, err = shard.OpenFloor(n.o.FS, n.o.Dir+"/node/FLOOR"); err != nil {
		return err
	}
	n.encoders = shard.NewEncoders(min(2, runtime.GOMAXPROCS(0)))
	n.files = shard.NewFiles(shard.FilesOptions{})
	n.metrics = newMetrics(n)
	if err := n.openReplicas(ctx); err != nil {
		return err
	}
	var running context.Context
	running, n.cancel = context.WithCancel(context.Background())
	for _, r := range n.replicas {
		n.wg.Go(func() { r.run(running) })
	}
	n.wg.Go(func() { n.run(running, state) })
	return n.metrics.register(n.o.Registerer)
}

func (n *Node) openMeta(ctx context.Context) error {
	if n.o.meta != nil {
		n.meta = n.o.meta
		return nil
	}
	var err error
	n.etcd, err = startEtcd(ctx, etcdOptions{Dir: n.o.Dir + "/etcd", Name: n.o.Name, Listen: n.o.Etcd, HTTP: "http://" + n.o.HTTP,
		Insecure: n.o.Insecure, UnsafeNoFsync: n.o.noFsync, Logger: n.o.Logger})
	if err != nil {
		return err
	}
	n.meta = n.etcd.Meta()
	return nil
}

// readRoute returns the newest routing map: the one for writes.
func (n *Node) readRoute(ctx context.Context) (Route, error) {
	found, _, err := n.meta.List(ctx, routePrefix)
	if err != nil {
		return Route{}, err
	}
	if len(found) == 0 {
		return Route{}, fmt.Errorf("%w: the cluster has no routing map", ErrBadRecord)
	}
	newest := slices.MaxFunc(found, func(a, b KeyValue) int { return int(a.ModRevision - b.ModRevision) })
	return decodeRecord[Route](newest)
}

// openReplicas opens all replicas of this node, remembers that it holds them, and makes
// it their owner.
func (n *Node) openReplicas(ctx context.Context) error {
	states, _, err := readShards(ctx, n.meta)
	if err != nil {
		return err
	}
	held := map[uint32]string{}
	for number, st := range states {
		for _, r := range st.Config.Replicas {
			if r.Node == n.o.Name && r.Folder == n.folder.uuid {
				id := fmt.Sprintf("%s/%d", r.Folder, r.Incarnation)
				n.replicas[number] = newReplica(n, number, st.Config, id)
				held[number] = id
			}
		}
	}
	var group errgroup.Group
	group.SetLimit(4)
	for _, r := range n.replicas {
		r.create = n.folder.shards[r.number] != r.id
		group.Go(func() error {
			if err := r.open(false); err != nil {
				n.o.Logger.Sugar().Errorw("a shard cannot be opened", "shard", r.number, "error", err)
			}
			return nil
		})
	}
	_ = group.Wait()
	// From here on a missing folder is a lost one. Those that could not be made are not
	// listed: they hold nothing.
	for number, r := range n.replicas {
		if r.create && r.current() == nil {
			delete(held, number)
		}
	}
	if err := n.folder.holds(held); err != nil {
		return err
	}
	for _, r := range n.replicas {
		group.Go(func() error {
			r.create = r.create && held[r.number] == ""
			if r.current() == nil {
				return nil
			}
			if err := r.lead(ctx); err != nil {
				n.o.Logger.Sugar().Errorw("a shard cannot be owned; trying on", "shard", r.number, "error", err)
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

// run does what is due for the whole node: one ticker for all its shards.
func (n *Node) run(ctx context.Context, state NodeState) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	var etcdDone <-chan struct{}
	if n.etcd != nil {
		etcdDone = n.etcd.Done()
	}
	lost := false // what hung on the lease is not all back yet
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if lost {
				lost = !n.reassert(ctx, state)
			}
			if err := n.floor.Sync(); err != nil {
				n.o.Logger.Sugar().Errorw("syncing the marks of what is synced", "error", err)
			}
			for _, r := range n.replicas {
				if s := r.current(); s != nil {
					s.Tick(now)
				}
			}
		case <-n.session.Changed():
			lost = !n.reassert(ctx, state)
		case <-etcdDone:
			if ctx.Err() == nil {
				n.stop(fmt.Errorf("etcd ended: %w", n.etcd.Err()))
			}
			return
		}
	}
}

// reassert puts back what hung on a lease that was lost, and reports whether all of it
// is back.
func (n *Node) reassert(ctx context.Context, state NodeState) bool {
	lease := n.session.Lease()
	if lease == 0 {
		return true // there is no new one yet: Changed will tell
	}
	done := true
	if err := reassertNode(ctx, n.meta, n.o.Name, state, lease); err != nil {
		if errors.Is(err, ErrReplaced) {
			n.stop(err)
			return true
		}
		n.o.Logger.Sugar().Warnw("telling that this node runs", "error", err)
		done = false
	}
	for _, r := range n.replicas {
		if err := r.reassert(ctx, lease); err != nil && ctx.Err() == nil {
			n.o.Logger.Sugar().Warnw("putting the ownership of a shard back", "shard", r.number, "error", err)
			done = done && errors.Is(err, ErrDeposed)
		}
	}
	return done
}

// stop ends the node from within.
func (n *Node) stop(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err == nil {
		n.err = err
		close(n.done)
	}
}

// Done is closed when the node cannot go on by itself; Err says why.
func (n *Node) Done() <-chan struct{} { return n.done }

// Err returns why the node cannot go on, or nil.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.err
}

// Close stops the node in this order:
//
//  1. the node's loops, and with them the shards: what waits is written, sealing ends
//  2. the encoders
//  3. the marks of what is synced, for the last time
//  4. the lease: others need not wait for it to end
//  5. etcd, which hands its leadership over
//  6. the lock of the data folder
func (n *Node) Close() error {
	var errs []error
	n.close.Do(func() {
		if n.cancel != nil {
			n.cancel()
		}
		n.wg.Wait()
		for _, r := range n.replicas {
			errs = append(errs, r.close())
		}
		if n.encoders != nil {
			n.encoders.Close()
		}
		if n.floor != nil {
			errs = append(errs, n.floor.Close())
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if n.session != nil {
			if err := n.session.Close(ctx); err != nil {
				n.o.Logger.Sugar().Warnw("giving the lease back; it ends by itself", "error", err)
			}
		}
		switch {
		case n.etcd != nil:
			errs = append(errs, n.etcd.Close())
		case n.meta != nil:
			errs = append(errs, n.meta.Close())
		}
		if n.folder != nil {
			errs = append(errs, n.folder.close())
		}
		if n.metrics != nil {
			n.metrics.unregister(n.o.Registerer)
		}
	})
	return errors.Join(errs...)
}
