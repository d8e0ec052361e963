package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// testMember is a member with a name, and a folder made of it.
func testMember(name string) Member {
	return Member{Name: name, Folder: testID("folder of " + name), Addresses: Addresses{HTTP: name + ":3100"}}
}

// testID is a readable 32-digit id.
func testID(text string) string {
	id := fmt.Sprintf("%x", text)
	return (id + strings.Repeat("0", 32))[:32]
}

func testOptions(name string) bootstrapOptions { return bootstrapOptions{Self: testMember(name)} }

func mustBootstrap(t *testing.T, meta Meta, options bootstrapOptions) Cluster {
	t.Helper()
	cluster, err := bootstrap(t.Context(), meta, options)
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

// dumpMeta returns the whole store as text without revisions.
func dumpMeta(t *testing.T, meta MetaStore) map[string]string {
	t.Helper()
	all, _, err := meta.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	contents := make(map[string]string, len(all))
	for _, kv := range all {
		contents[kv.Key] = string(kv.Value)
	}
	return contents
}

func TestBootstrapAlone(t *testing.T) {
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		options := testOptions("a")
		cluster := mustBootstrap(t, meta, options)
		want := Cluster{ID: cluster.ID, Shards: DefaultShards, Replicas: DefaultReplicas, Created: time.Now().UTC()}
		if !reflect.DeepEqual(cluster, want) || !isUUID(cluster.ID) {
			t.Fatalf("got %+v, want %+v", cluster, want)
		}
		states, _, err := readShards(t.Context(), meta)
		if err != nil {
			t.Fatal(err)
		}
		logs := make(map[uint64]bool)
		for shard := range uint32(DefaultShards) {
			state := states[shard]
			logs[state.Config.LogID] = true
			config := ShardConfig{LogID: state.Config.LogID, Version: 1, Replicas: []Replica{{Node: "a", Folder: options.Self.Folder, Incarnation: 1}}}
			if !reflect.DeepEqual(state.Config, config) || state.Owner != nil {
				t.Errorf("shard %d: %+v, want %+v and no owner", shard, state, config)
			}
		}
		if len(states) != DefaultShards || len(logs) != DefaultShards {
			t.Errorf("%d shards with %d log ids, want %d", len(states), len(logs), DefaultShards)
		}
		route, err := decodeRecord[Route](mustGet(t, meta, routeKey(1)))
		if err != nil || len(route.Shards) != DefaultShards || route.Shards[3] != 3 {
			t.Errorf("route %+v, %v", route, err)
		}

		// Starting again changes nothing, whatever is said that is true.
		before := dumpMeta(t, meta)
		for range 2 {
			options.ClusterID, options.Shards, options.Replicas = cluster.ID, DefaultShards, DefaultReplicas
			if again := mustBootstrap(t, meta, options); !reflect.DeepEqual(again, cluster) {
				t.Fatalf("the second start: %+v, want %+v", again, cluster)
			}
		}
		if after := dumpMeta(t, meta); !maps.Equal(before, after) {
			t.Errorf("the second start changed %v to %v", before, after)
		}
		options.Self.Addresses.HTTP = "a:80"
		mustBootstrap(t, meta, options)
		members, _, err := readMembers(t.Context(), meta)
		if err != nil || len(members) != 1 || members["a"] != options.Self {
			t.Errorf("members %+v, %v; want %+v", members, err, options.Self)
		}
	})
}

// TestBootstrapRefuses checks that what is refused leaves no trace, and says what to do.
func TestBootstrapRefuses(t *testing.T) {
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		refused := func(what string, want error, change func(*bootstrapOptions), texts ...string) {
			t.Helper()
			options := testOptions("a")
			change(&options)
			before := dumpMeta(t, meta)
			_, err := bootstrap(t.Context(), meta, options)
			if err == nil || want != nil && !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
				return
			}
			for _, text := range texts {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%s: %q does not say %q", what, err, text)
				}
			}
			if after := dumpMeta(t, meta); !maps.Equal(before, after) {
				t.Errorf("%s: changed %v to %v", what, before, after)
			}
		}
		lost := testID("lost")
		refused("lost metadata", ErrForeignCluster, func(o *bootstrapOptions) { o.ClusterID = lost }, lost, "etcd", "--data")
		refused("no name", nil, func(o *bootstrapOptions) { o.Self.Name = "" }, "name")
		refused("a slash in a name", nil, func(o *bootstrapOptions) { o.Self.Name = "a/b" }, `"a/b"`)
		refused("a bad peer", nil, func(o *bootstrapOptions) { o.Peers = []string{"a", ".."} }, `".."`)
		refused("no folder", ErrBadRecord, func(o *bootstrapOptions) { o.Self.Folder = "x" })
		refused("too many shards", nil, func(o *bootstrapOptions) { o.Shards = MaxShards + 1 }, "--shards", "1024")
		refused("negative shards", nil, func(o *bootstrapOptions) { o.Shards = -1 }, "--shards")
		refused("too many replicas", nil, func(o *bootstrapOptions) { o.Replicas = MaxReplicas + 1 }, "--replicas")

		cluster := mustBootstrap(t, meta, bootstrapOptions{Self: testMember("a"), Shards: 4, Replicas: 1})
		refused("another number of shards", ErrShardCount, func(o *bootstrapOptions) { o.Shards = 5 }, "--shards 4", "start without")
		refused("another number of replicas", ErrReplicaCount, func(o *bootstrapOptions) { o.Replicas = 3 }, "--replicas 1", "start without")
		refused("another cluster", ErrForeignCluster, func(o *bootstrapOptions) { o.ClusterID = lost }, lost, cluster.ID)
		refused("another folder", ErrForeignFolder, func(o *bootstrapOptions) { o.Self.Folder = testID("new") }, testMember("a").Folder, "--name", "--data")
		refused("another name", ErrForeignFolder, func(o *bootstrapOptions) { o.Self.Name = "b" }, "--name a")
		mustTxn(t, meta, Txn{Then: []Op{PutOp(clusterKey, []byte(`{"v":2,"data":{}}`), 0)}})
		refused("a newer release's cluster", ErrBadRecord, func(*bootstrapOptions) {}, clusterKey, "format 2")
	})
}

func TestBootstrapWaitsForPeers(t *testing.T) {
	inMemory(t, func(t *testing.T, store *MemStore, _ *MemMeta) {
		peers := []string{"c", "a", "b"}
		clusters := make(chan Cluster, len(peers))
		var waited []string
		start := func(ctx context.Context, name string) error {
			meta := store.Client(name)
			defer meta.Close()
			options := testOptions(name)
			options.Peers, options.Shards = peers, 6
			if name == "b" {
				options.Waiting = func(missing []string) { waited = append(waited, strings.Join(missing, " ")) }
			}
			cluster, err := bootstrap(ctx, meta, options)
			if err == nil {
				clusters <- cluster
			}
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := start(ctx, "b")
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "a, c") {
			t.Fatalf("one of three: %v, want DeadlineExceeded and whom it waits for", err)
		}
		for _, name := range []string{"b", "c", "a"} {
			go func() {
				if err := start(t.Context(), name); err != nil {
					t.Error(err)
				}
			}()
			time.Sleep(time.Hour)
		}
		first, second, third := <-clusters, <-clusters, <-clusters
		if first != second || first != third || first.Shards != 6 {
			t.Errorf("clusters %+v, %+v, %+v; want one", first, second, third)
		}
		// Whoever comes later has nobody to wait for.
		if err := start(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if want := []string{"a c", "a c", "a"}; !slices.Equal(waited, want) {
			t.Errorf("waited for %q, want %q", waited, want)
		}
		meta := store.Client("d")
		defer meta.Close()
		states, _, err := readShards(t.Context(), meta)
		if err != nil {
			t.Fatal(err)
		}
		for shard, want := range []string{"a b c", "b c a", "c a b", "a b c", "b c a", "c a b"} {
			var nodes []string
			for _, replica := range states[uint32(shard)].Config.Replicas {
				nodes = append(nodes, replica.Node)
			}
			if got := strings.Join(nodes, " "); got != want {
				t.Errorf("shard %d is on %s, want %s", shard, got, want)
			}
		}
	})
}

func TestReplicaCount(t *testing.T) {
	for _, test := range []struct{ members, wanted, want int }{
		{1, 3, 1}, {2, 3, 1}, {3, 3, 3}, {4, 3, 3}, {100, 3, 3},
		{1, 1, 1}, {5, 1, 1},
		{1, 2, 1}, {2, 2, 2}, {3, 2, 2},
		{2, 5, 1}, {3, 5, 3}, {4, 5, 3}, {5, 5, 5},
		{4, 4, 4}, {3, 4, 3},
	} {
		if got := replicaCount(test.members, test.wanted); got != test.want {
			t.Errorf("%d members, %d wanted: %d, want %d", test.members, test.wanted, got, test.want)
		}
	}
}

// TestBootstrapLargest creates the largest cluster that can be asked for, with the longest names.
func TestBootstrapLargest(t *testing.T) {
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		var peers []string
		for i := range MaxReplicas {
			member := testMember(fmt.Sprint(strings.Repeat("n", 252), i))
			member.Folder = testID(fmt.Sprint(i))
			peers = append(peers, member.Name)
			if err := registerMember(t.Context(), meta, member); err != nil {
				t.Fatal(err)
			}
		}
		self := testMember(peers[0])
		self.Folder = testID("0")
		cluster := mustBootstrap(t, meta, bootstrapOptions{Self: self, Peers: peers, Shards: MaxShards, Replicas: MaxReplicas})
		states, _, err := readShards(t.Context(), meta)
		if err != nil || len(states) != cluster.Shards || len(states[MaxShards-1].Config.Replicas) != MaxReplicas {
			t.Fatalf("%d shards, %v", len(states), err)
		}
	})
}

// TestH4Bootstrap has every transaction of a bootstrap meet every fault: the outcome is the same.
func TestH4Bootstrap(t *testing.T) {
	for _, fault := range []MemFault{FaultRefused, FaultLost, FaultApplied, FaultLate} {
		for n := 1; n <= 2; n++ {
			t.Run(fmt.Sprintf("fault %d of transaction %d", fault, n), func(t *testing.T) {
				inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
					store.Inject(onNth("a", "Txn", n, fault))
					cluster := mustBootstrap(t, meta, testOptions("a"))
					before := dumpMeta(t, meta)
					time.Sleep(2 * memLateness)
					if after := dumpMeta(t, meta); !maps.Equal(before, after) {
						t.Errorf("it changed later from %v to %v", before, after)
					}
					if again := mustBootstrap(t, meta, testOptions("a")); again != cluster {
						t.Errorf("%+v, then %+v", cluster, again)
					}
					if len(before) != DefaultShards+3 {
						t.Errorf("%d keys, want %d", len(before), DefaultShards+3)
					}
				})
			})
		}
	}
}

// TestH28Node registers processes of one node.
func TestH28Node(t *testing.T) {
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		state := func(boot string) NodeState {
			return NodeState{Boot: testID(boot), Folder: testMember("a").Folder, Addresses: Addresses{HTTP: boot + ":3100"}, Disk: "ok"}
		}
		registered := func(want NodeState, lease LeaseID) {
			t.Helper()
			kv := mustGet(t, meta, nodeKey("a"))
			got, err := decodeRecord[NodeState](kv)
			if err != nil || got != want || kv.Lease != lease {
				t.Fatalf("%+v under %x, %v; want %+v under %x", got, kv.Lease, err, want, lease)
			}
		}
		first, second, third := mustGrant(t, meta, time.Hour), mustGrant(t, meta, time.Hour), mustGrant(t, meta, time.Hour)
		for _, fault := range []MemFault{FaultNone, FaultApplied, FaultLost} {
			store.Inject(onFirst("a", "Txn", fault))
			if err := registerNode(t.Context(), meta, "a", state("one"), first); err != nil {
				t.Fatal(err)
			}
			registered(state("one"), first)
		}
		// The process was killed, and its next start does not wait for the old lease.
		if err := registerNode(t.Context(), meta, "a", state("two"), second); err != nil {
			t.Fatal(err)
		}
		registered(state("two"), second)
		// It was not killed, but its folder copied.
		err := reassertNode(t.Context(), meta, "a", state("one"), first)
		if !errors.Is(err, ErrReplaced) || !strings.Contains(err.Error(), "two:3100") {
			t.Fatalf("%v, want ErrReplaced and where the other is", err)
		}
		registered(state("two"), second)
		full := state("two")
		full.Disk = "full"
		if err := reassertNode(t.Context(), meta, "a", full, second); err != nil {
			t.Fatal(err)
		}
		registered(full, second)
		store.Expire(second)
		for _, fault := range []MemFault{FaultNone, FaultApplied, FaultLost} {
			store.Inject(onFirst("a", "Txn", fault))
			if err := reassertNode(t.Context(), meta, "a", full, third); err != nil {
				t.Fatal(err)
			}
			registered(full, third)
		}
		store.Expire(third)
		if err := registerNode(t.Context(), meta, "a", full, third); !errors.Is(err, ErrLeaseNotFound) {
			t.Fatalf("under a lease that ended: %v, want ErrLeaseNotFound", err)
		}
	})
}

// TestBootstrapOnEtcd is the way of a node that is alone: metadata member, cluster, session, ownership; twice.
func TestBootstrapOnEtcd(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	options := newEtcdOptions(t)
	var cluster Cluster
	for start := range uint64(2) {
		server, err := startEtcd(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		meta := server.Meta()
		wanted := bootstrapOptions{Self: testMember("a"), Shards: MaxShards, ClusterID: cluster.ID}
		cluster = mustBootstrap(t, meta, wanted)
		session, err := openSession(t.Context(), meta, 0, nil)
		if err != nil {
			t.Fatal(err)
		}
		self := Self{Node: "a", Folder: wanted.Self.Folder, Boot: newUUID(), Addr: "a:3101"}
		for shard := range uint32(4) {
			grant, err := claim(t.Context(), meta, shard, self, session.Lease(), 0)
			if err != nil || grant.Epoch() != start+1 {
				t.Fatalf("start %d, shard %d: epoch %d, %v", start, shard, grant.Epoch(), err)
			}
		}
		if start == 0 {
			// The first process is killed: it neither releases its shards nor ends its lease.
			session.cancel()
			session.done.Wait()
		} else if err := session.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if owners, _, err := meta.List(t.Context(), ownerPrefix); err != nil || len(owners) != 4*int(1-start) {
			t.Errorf("start %d leaves %d owners, %v", start, len(owners), err)
		}
		closeEtcd(t, server)
	}
}
