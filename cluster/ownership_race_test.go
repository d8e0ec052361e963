package cluster

import (
	"errors"
	"maps"
	"testing"
	"time"
)

// between has something happen right before the next transaction of client a: after it has read what it compares.
func between(store *MemStore, happen func()) {
	var happened bool
	store.Inject(func(call MemCall) MemFault {
		if call.Client == "a" && call.Method == "Txn" && !happened {
			happened = true
			happen()
		}
		return FaultNone
	})
}

// TestTransactionsCompare has the state change between what a process reads and its transaction.
func TestTransactionsCompare(t *testing.T) {
	for name, test := range map[string]func(t *testing.T, store *MemStore, a, b process){
		"take over from an owner that lost its lease and is back": func(t *testing.T, store *MemStore, a, b process) {
			held := b.mustTakeOver(t)
			store.Expire(b.lease)
			b.lease = mustGrant(t, b, time.Hour)
			seen := a.see(t)
			between(store, func() {
				var err error
				if held, err = reassert(t.Context(), b, held, b.lease); err != nil {
					t.Error(err)
				}
			})
			if _, err := takeOver(t.Context(), a, seen, a.self, a.lease, 0); !errors.Is(err, ErrOutrun) {
				t.Errorf("%v, want ErrOutrun", err)
			}
			b.owns(t, held, b.lease)
		},
		"put back what was taken and given up": func(t *testing.T, store *MemStore, a, b process) {
			held := a.mustTakeOver(t)
			store.Expire(a.lease)
			between(store, func() {
				if err := release(t.Context(), b, b.mustTakeOver(t)); err != nil {
					t.Error(err)
				}
			})
			if _, err := reassert(t.Context(), a, held, mustGrant(t, a, time.Hour)); !errors.Is(err, ErrDeposed) {
				t.Errorf("%v, want ErrDeposed", err)
			}
			if state := a.see(t); state.Owner != nil {
				t.Errorf("%+v owns it, want nobody", state.Owner)
			}
		},
		"give up what was taken": func(t *testing.T, store *MemStore, a, b process) {
			held := a.mustTakeOver(t)
			var taken Grant
			between(store, func() { taken = b.mustTakeOver(t) })
			if err := release(t.Context(), a, held); err != nil {
				t.Error(err)
			}
			b.owns(t, taken, b.lease)
		},
		"register a name that was taken": func(t *testing.T, store *MemStore, a, b process) {
			other := testMember("d")
			between(store, func() {
				if err := registerMember(t.Context(), b, other); err != nil {
					t.Error(err)
				}
			})
			mine := other
			mine.Folder = testID("another")
			if err := registerMember(t.Context(), a, mine); !errors.Is(err, ErrForeignFolder) {
				t.Errorf("%v, want ErrForeignFolder", err)
			}
			if members, _, err := readMembers(t.Context(), a); err != nil || members["d"] != other {
				t.Errorf("%+v, %v; want %+v", members["d"], err, other)
			}
		},
		"register a process that was replaced": func(t *testing.T, store *MemStore, a, b process) {
			mine, other := NodeState{Boot: a.self.Boot, Folder: a.self.Folder}, NodeState{Boot: b.self.Boot, Folder: a.self.Folder}
			between(store, func() {
				if err := registerNode(t.Context(), b, "a", other, b.lease); err != nil {
					t.Error(err)
				}
			})
			if err := reassertNode(t.Context(), a, "a", mine, a.lease); !errors.Is(err, ErrReplaced) {
				t.Errorf("%v, want ErrReplaced", err)
			}
			if kv := mustGet(t, a, nodeKey("a")); kv.Lease != b.lease {
				t.Errorf("%+v, want it under %x", kv, b.lease)
			}
		},
		"create a cluster that was created otherwise": func(t *testing.T, store *MemStore, a, b process) {
			mustTxn(t, b, Txn{Then: []Op{DeleteOp(clusterKey)}})
			between(store, func() {
				if _, err := createCluster(t.Context(), b, Cluster{ID: newUUID(), Shards: 3, Replicas: 1}, []Member{testMember("b")}); err != nil {
					t.Error(err)
				}
			})
			options := testOptions("a")
			options.Shards = 4
			if cluster, err := bootstrap(t.Context(), a, options); !errors.Is(err, ErrShardCount) {
				t.Errorf("%+v, %v; want ErrShardCount", cluster, err)
			}
		},
		"create a cluster that was created": func(t *testing.T, store *MemStore, a, b process) {
			mustTxn(t, b, Txn{Then: []Op{DeleteOp(clusterKey)}})
			members := []Member{testMember("a")}
			mine := Cluster{ID: newUUID(), Shards: 2, Replicas: 1}
			other := Cluster{ID: newUUID(), Shards: 3, Replicas: 1}
			var before map[string]string
			between(store, func() {
				if _, err := createCluster(t.Context(), b, other, members); err != nil {
					t.Error(err)
				}
				before = dumpMeta(t, b)
			})
			if cluster, err := createCluster(t.Context(), a, mine, members); err != nil || cluster != other {
				t.Errorf("%+v, %v; want %+v", cluster, err, other)
			}
			if after := dumpMeta(t, b); !maps.Equal(before, after) {
				t.Errorf("%v became %v", before, after)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inCluster(t, func(t *testing.T, store *MemStore) {
				test(t, store, newProcess(t, store, "a"), newProcess(t, store, "b"))
			})
		})
	}
}
