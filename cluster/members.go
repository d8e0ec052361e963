package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Pause before a transaction that was not decided is looked after.
const settlePause = 50 * time.Millisecond

var (
	// ErrForeignFolder says that the node's name and its data folder do not belong together.
	ErrForeignFolder = errors.New("this data folder is not that of the node")
	// ErrForeignCluster says that the data folder and the metadata store are of different clusters.
	ErrForeignCluster = errors.New("this data folder is not of this cluster")
	// ErrShardCount says that the cluster was created with another number of shards than was asked for.
	ErrShardCount = errors.New("the number of shards cannot be changed")
	// ErrReplicaCount says that the cluster was created with another number of replicas than was asked for.
	ErrReplicaCount = errors.New("the number of replicas cannot be changed at a start")
	// ErrReplaced says that another process has registered itself as this node, from a copy of its data folder.
	ErrReplaced = errors.New("another process runs as this node")
)

// bootstrapOptions says who the node is and what cluster it wants to be in.
type bootstrapOptions struct {
	Self Member // Name and Folder required.
	// Peers names all nodes that a new cluster begins with, this one too or not; empty: this node alone.
	Peers []string
	// Shards and Replicas as the operator gave them; 0: not given.
	Shards, Replicas int
	// ClusterID is the cluster that the data folder is known to belong to; "": none yet.
	ClusterID string
	// Waiting is called with the peers that have not registered yet, whenever that changes; nil: not.
	Waiting func(missing []string)
}

// bootstrap registers the node and returns the cluster, creating it if there is none: once, by one transaction, when all
// peers have registered. It is idempotent, waits as long as ctx lasts, and survives transactions of unknown outcome.
// Errors: ErrForeignFolder, ErrForeignCluster, ErrShardCount, ErrReplicaCount, ErrBadRecord, those of Meta.
func bootstrap(ctx context.Context, meta Meta, options bootstrapOptions) (Cluster, error) {
	if err := options.check(); err != nil {
		return Cluster{}, err
	}
	cluster, created, err := readCluster(ctx, meta)
	if err != nil {
		return Cluster{}, err
	}
	// Nothing is registered in a store that is not the folder's.
	if err := options.accept(cluster, created); err != nil {
		return Cluster{}, err
	}
	if err := registerMember(ctx, meta, options.Self); err != nil {
		return Cluster{}, err
	}
	if created {
		return cluster, nil
	}
	members, err := options.waitForPeers(ctx, meta)
	if err != nil {
		return Cluster{}, err
	}
	cluster, err = createCluster(ctx, meta, options.plan(), members)
	if err != nil {
		return Cluster{}, err
	}
	return cluster, options.accept(cluster, true)
}

func (o bootstrapOptions) check() error {
	if err := checkName(o.Self.Name); err != nil {
		return err
	}
	for _, name := range o.Peers {
		if err := checkName(name); err != nil {
			return err
		}
	}
	if err := o.Self.check(); err != nil {
		return err
	}
	if o.Shards != 0 && !oneTo(o.Shards, MaxShards) {
		return fmt.Errorf("--shards %d: a cluster has 1–%d shards", o.Shards, MaxShards)
	}
	if o.Replicas != 0 && !oneTo(o.Replicas, MaxReplicas) {
		return fmt.Errorf("--replicas %d: a shard has 1–%d replicas", o.Replicas, MaxReplicas)
	}
	return nil
}

// accept compares the cluster with what the folder and the operator say of it.
func (o bootstrapOptions) accept(cluster Cluster, created bool) error {
	switch {
	case !created && o.ClusterID != "":
		// That metadata is missing is never a reason to begin anew over data (replication.md, H20).
		return fmt.Errorf("%w: it belongs to cluster %s, but its metadata store is empty: the etcd folder in it was lost or replaced; put it back, or start with another --data", ErrForeignCluster, o.ClusterID)
	case !created:
		return nil
	case o.ClusterID != "" && o.ClusterID != cluster.ID:
		return fmt.Errorf("%w: it belongs to cluster %s, but the metadata store is that of %s; start with the --data and --peers that belong together", ErrForeignCluster, o.ClusterID, cluster.ID)
	case o.Shards != 0 && o.Shards != cluster.Shards:
		return fmt.Errorf("%w: the cluster was created with --shards %d, not %d; start without --shards", ErrShardCount, cluster.Shards, o.Shards)
	case o.Replicas != 0 && o.Replicas != cluster.Replicas:
		return fmt.Errorf("%w: the cluster was created with --replicas %d, not %d; start without --replicas", ErrReplicaCount, cluster.Replicas, o.Replicas)
	}
	return nil
}

// plan is the cluster that this node would create.
func (o bootstrapOptions) plan() Cluster {
	plan := Cluster{ID: newUUID(), Shards: o.Shards, Replicas: o.Replicas, Created: time.Now().UTC().Truncate(time.Second)}
	if plan.Shards == 0 {
		plan.Shards = DefaultShards
	}
	if plan.Replicas == 0 {
		plan.Replicas = DefaultReplicas
	}
	return plan
}

// waitForPeers returns all that a new cluster begins with, sorted by name, once they have registered.
func (o bootstrapOptions) waitForPeers(ctx context.Context, meta Meta) ([]Member, error) {
	names := slices.Compact(slices.Sorted(slices.Values(append([]string{o.Self.Name}, o.Peers...))))
	told, first := names, true
	for {
		registered, revision, err := readMembers(ctx, meta)
		if err != nil {
			return nil, fmt.Errorf("wait until %s have registered: %w", strings.Join(told, ", "), err)
		}
		var missing []string
		var members []Member
		for _, name := range names {
			if member, ok := registered[name]; ok {
				members = append(members, member)
			} else {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 {
			return members, nil
		}
		if o.Waiting != nil && (first || !slices.Equal(missing, told)) {
			o.Waiting(missing)
		}
		told, first = missing, false
		watch, cancel := context.WithCancel(ctx)
		<-meta.Watch(watch, memberPrefix, revision+1)
		cancel()
	}
}

func readCluster(ctx context.Context, meta MetaStore) (cluster Cluster, created bool, err error) {
	kv, err := meta.Get(ctx, clusterKey)
	if err != nil || kv.ModRevision == 0 {
		return Cluster{}, false, err
	}
	cluster, err = decodeRecord[Cluster](kv)
	return cluster, err == nil, err
}

// readMembers returns all registered nodes by name, and the revision of that.
func readMembers(ctx context.Context, meta MetaStore) (map[string]Member, int64, error) {
	found, revision, err := meta.List(ctx, memberPrefix)
	if err != nil {
		return nil, 0, err
	}
	members := make(map[string]Member, len(found))
	for _, kv := range found {
		member, err := decodeRecord[Member](kv)
		if err != nil {
			return nil, 0, err
		}
		member.Name = strings.TrimPrefix(kv.Key, memberPrefix)
		members[member.Name] = member
	}
	return members, revision, nil
}

// registerMember makes the node known by its name, or its new addresses if it is.
func registerMember(ctx context.Context, meta MetaStore, self Member) error {
	value, err := encodeRecord(self)
	if err != nil {
		return err
	}
	key := memberKey(self.Name)
	return settle(ctx, func() (bool, error) {
		members, _, err := readMembers(ctx, meta)
		if err != nil {
			return false, err
		}
		for _, member := range members {
			if member.Folder == self.Folder && member.Name != self.Name {
				return false, fmt.Errorf("%w: it is that of node %s; start with --name %s, or with another --data", ErrForeignFolder, member.Name, member.Name)
			}
		}
		known, registered := members[self.Name]
		if registered && known.Folder != self.Folder {
			return false, fmt.Errorf("%w: node %s is registered with folder %s, and this one is %s; start with the --data that it had, or as a new node, with another --name", ErrForeignFolder, self.Name, known.Folder, self.Folder)
		}
		if registered && known == self {
			return true, nil
		}
		txn := Txn{Then: []Op{PutOp(key, value, 0)}}
		if !registered {
			txn.If = []Compare{{Key: key}}
		}
		result, err := meta.Txn(ctx, txn)
		return result.Succeeded, err
	})
}

// createCluster writes the plan and all that follows from it, unless somebody has written his before, and returns what
// holds.
func createCluster(ctx context.Context, meta MetaStore, plan Cluster, members []Member) (Cluster, error) {
	then, err := clusterKeys(plan, members)
	if err != nil {
		return Cluster{}, err
	}
	cluster := plan
	err = settle(ctx, func() (created bool, err error) {
		if cluster, created, err = readCluster(ctx, meta); created || err != nil {
			return created, err
		}
		_, err = meta.Txn(ctx, Txn{If: []Compare{{Key: clusterKey}}, Then: then})
		return false, err
	})
	return cluster, err
}

// clusterKeys returns the contents of a new cluster: its id, its routing map and a configuration for each shard.
func clusterKeys(plan Cluster, members []Member) ([]Op, error) {
	route := Route{Shards: make([]uint32, plan.Shards)}
	for shard := range route.Shards {
		route.Shards[shard] = uint32(shard)
	}
	var ops []Op
	var failed error
	put := func(key string, value []byte, err error) {
		ops, failed = append(ops, PutOp(key, value, 0)), errors.Join(failed, err)
	}
	value, err := encodeRecord(plan)
	put(clusterKey, value, err)
	value, err = encodeRecord(route)
	put(routeKey(1), value, err)
	for _, shard := range route.Shards {
		value, err = encodeRecord(ShardConfig{LogID: newLogID(), Version: 1, Replicas: placeShard(shard, members, plan.Replicas)})
		put(configKey(shard), value, err)
	}
	return ops, failed
}

// placeShard chooses the first replicas of a shard, round robin over the members, which are sorted by name.
func placeShard(shard uint32, members []Member, replicas int) []Replica {
	set := make([]Replica, replicaCount(len(members), replicas))
	for i := range set {
		member := members[(int(shard)+i)%len(members)]
		set[i] = Replica{Node: member.Name, Folder: member.Folder, Incarnation: 1}
	}
	return set
}

// replicaCount is how many replicas a shard gets from so many nodes: as many as are wanted or, if there are not enough
// nodes, an odd number. Two of three wanted would survive the loss of neither, and so be worse than one.
func replicaCount(members, wanted int) int {
	if members >= wanted {
		return wanted
	}
	return (members-1)/2*2 + 1
}

// registerNode says, under the lease, that this process now runs as the node. It replaces what an earlier process of the
// node said: the caller holds the lock of the data folder, so that one is dead. Call it once a start.
func registerNode(ctx context.Context, meta MetaStore, name string, state NodeState, lease LeaseID) error {
	value, err := encodeRecord(state)
	if err != nil {
		return err
	}
	return settle(ctx, func() (bool, error) {
		result, err := meta.Txn(ctx, Txn{Then: []Op{PutOp(nodeKey(name), value, lease)}})
		return result.Succeeded, err
	})
}

// reassertNode says the same again, after the lease was lost or the state has changed. It never replaces another
// process: ErrReplaced says that there is one, which only a copy of the data folder can explain, and the caller stops.
func reassertNode(ctx context.Context, meta MetaStore, name string, state NodeState, lease LeaseID) error {
	value, err := encodeRecord(state)
	if err != nil {
		return err
	}
	key := nodeKey(name)
	return settle(ctx, func() (bool, error) {
		kv, err := meta.Get(ctx, key)
		if err != nil {
			return false, err
		}
		if kv.ModRevision != 0 {
			known, err := decodeRecord[NodeState](kv)
			if err != nil {
				return false, err
			}
			if known.Boot != state.Boot {
				return false, fmt.Errorf("%w: node %s at %s; stop one of the two; a copy of a data folder is no node of its own: that needs an empty --data and another --name", ErrReplaced, name, known.Addresses.HTTP)
			}
		}
		result, err := meta.Txn(ctx, Txn{If: []Compare{{Key: key, ModRevision: kv.ModRevision}}, Then: []Op{PutOp(key, value, lease)}})
		return result.Succeeded, err
	})
}

// settle repeats a step until it is done, or fails for good, or ctx ends. A step reads what holds, and returns true if
// that is what is wanted; else it tries a transaction, of which ErrUnknownOutcome and ErrUnavailable say that it is time
// for a pause. (Reads retry by themselves: their ErrUnavailable means that ctx has ended.)
func settle(ctx context.Context, step func() (bool, error)) error {
	for {
		done, err := step()
		if done && err == nil {
			return nil
		}
		retry := err == nil || errors.Is(err, ErrUnknownOutcome) || errors.Is(err, ErrUnavailable)
		if !retry || ctx.Err() != nil {
			if err == nil {
				err = fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
			}
			return err
		}
		if err == nil {
			continue
		}
		pause := time.NewTimer(settlePause)
		select {
		case <-pause.C:
		case <-ctx.Done():
		}
		pause.Stop()
	}
}
