package cluster

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// process is a process of a node that takes part in a test: a client of the store and a lease.
type process struct {
	*MemMeta
	self  Self
	lease LeaseID
}

func newProcess(t *testing.T, store *MemStore, name string) process {
	t.Helper()
	p := process{
		MemMeta: store.Client(name),
		self:    Self{Node: name, Folder: testMember(name).Folder, Boot: newUUID(), Addr: name + ":3101"},
	}
	t.Cleanup(func() { p.Close() })
	p.lease = mustGrant(t, p, time.Hour)
	return p
}

// inCluster runs a test in a bubble, on a cluster of the nodes a, b and c with one shard.
func inCluster(t *testing.T, test func(t *testing.T, store *MemStore)) {
	t.Helper()
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		for _, name := range []string{"b", "c"} {
			if err := registerMember(t.Context(), meta, testMember(name)); err != nil {
				t.Fatal(err)
			}
		}
		options := testOptions("a")
		options.Peers, options.Shards = []string{"a", "b", "c"}, 1
		mustBootstrap(t, meta, options)
		test(t, store)
	})
}

func (p process) see(t *testing.T) ShardState {
	t.Helper()
	state, err := readShard(t.Context(), p, 0)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

func (p process) mustTakeOver(t *testing.T) Grant {
	t.Helper()
	grant, err := takeOver(t.Context(), p, p.see(t), p.self, p.lease, 0)
	if err != nil {
		t.Fatal(err)
	}
	return grant
}

// owns checks that the store says what the grant does.
func (p process) owns(t *testing.T, grant Grant, lease LeaseID) {
	t.Helper()
	state := p.see(t)
	if state.Owner == nil || *state.Owner != grant.Owner || state.OwnerRevision != grant.OwnerRevision || state.OwnerLease != lease {
		t.Fatalf("owner %+v at %d under %x, want %+v at %d under %x",
			state.Owner, state.OwnerRevision, state.OwnerLease, grant.Owner, grant.OwnerRevision, lease)
	}
	if !reflect.DeepEqual(state.Config, grant.Config) || state.ConfigRevision != grant.ConfigRevision {
		t.Fatalf("config %+v at %d, want %+v at %d", state.Config, state.ConfigRevision, grant.Config, grant.ConfigRevision)
	}
	if want := (LastOwner{Node: p.self.Node, Boot: p.self.Boot, Nonce: grant.Owner.Nonce}); *state.Config.LastOwner != want {
		t.Fatalf("last owner %+v, want %+v", state.Config.LastOwner, want)
	}
}

// TestH2EpochOutlivesLease takes a shard over from an owner that lives and from one whose lease has ended.
func TestH2EpochOutlivesLease(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		a, b := newProcess(t, store, "a"), newProcess(t, store, "b")
		before := a.see(t).Config
		first := a.mustTakeOver(t)
		a.owns(t, first, a.lease)
		if first.Epoch() != 1 || first.Config.LogID != before.LogID || first.Config.Version != before.Version || !reflect.DeepEqual(first.Config.Replicas, before.Replicas) {
			t.Fatalf("%+v became %+v", before, first.Config)
		}
		second := b.mustTakeOver(t)
		b.owns(t, second, b.lease)
		store.Expire(b.lease)
		if state := a.see(t); state.Owner != nil || state.Config.Epoch != 2 {
			t.Fatalf("after the lease: %+v", state)
		}
		third := a.mustTakeOver(t)
		a.owns(t, third, a.lease)
		if second.Epoch() != 2 || third.Epoch() != 3 {
			t.Fatalf("epochs %d, %d after 1", second.Epoch(), third.Epoch())
		}
	})
}

// TestTakeOverRace has many candidates that all saw the same: one of them wins.
func TestTakeOverRace(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		for round := range 20 {
			var candidates sync.WaitGroup
			grants := make(chan Grant, 6)
			observer := newProcess(t, store, "a")
			seen := observer.see(t)
			for _, name := range []string{"a", "b", "c", "a", "b", "c"} {
				candidate := newProcess(t, store, name)
				candidates.Go(func() {
					grant, err := takeOver(t.Context(), candidate, seen, candidate.self, candidate.lease, 0)
					if err == nil {
						grants <- grant
					} else if !errors.Is(err, ErrOutrun) {
						t.Errorf("%v, want ErrOutrun", err)
					}
				})
			}
			candidates.Wait()
			close(grants)
			winner, ok := <-grants
			if second, more := <-grants; !ok || more || winner.Epoch() != uint64(round+1) {
				t.Fatalf("round %d: winners %+v and %+v", round, winner, second)
			}
			if state := observer.see(t); *state.Owner != winner.Owner {
				t.Fatalf("round %d: owner %+v, want %+v", round, state.Owner, winner.Owner)
			}
		}
	})
}

// TestH3Restart starts a node again within the lease of its last process.
func TestH3Restart(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		old := newProcess(t, store, "a")
		first, err := claim(t.Context(), old, 0, old.self, old.lease, 0)
		if err != nil {
			t.Fatal(err)
		}
		restarted := newProcess(t, store, "a")
		second, err := claim(t.Context(), restarted, 0, restarted.self, restarted.lease, 0)
		if err != nil || second.Epoch() != first.Epoch()+1 {
			t.Fatalf("epoch %d after %d, %v", second.Epoch(), first.Epoch(), err)
		}
		restarted.owns(t, second, restarted.lease)
		// The same process again, after a failed fsync, gets no epoch twice either.
		third, err := claim(t.Context(), restarted, 0, restarted.self, restarted.lease, 0)
		if err != nil || third.Epoch() != second.Epoch()+1 {
			t.Fatalf("epoch %d after %d, %v", third.Epoch(), second.Epoch(), err)
		}
		// The end of the first lease takes nothing from the second.
		store.Expire(old.lease)
		restarted.owns(t, third, restarted.lease)
		if _, err := reassert(t.Context(), old, first, newProcess(t, store, "a").lease); !errors.Is(err, ErrDeposed) {
			t.Fatalf("the old process: %v, want ErrDeposed", err)
		}
	})
}

func TestClaimLeavesOthersAlone(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		a, b := newProcess(t, store, "a"), newProcess(t, store, "b")
		grant := b.mustTakeOver(t)
		refused := func() {
			t.Helper()
			if _, err := claim(t.Context(), a, 0, a.self, a.lease, 0); !errors.Is(err, ErrOwned) || !strings.Contains(err.Error(), "node b") {
				t.Fatalf("%v, want ErrOwned and whose", err)
			}
		}
		refused()
		b.owns(t, grant, b.lease)
		// The owner may have lost its lease only, and serve on.
		store.Expire(b.lease)
		refused()
		if _, err := claim(t.Context(), a, 1, a.self, a.lease, 0); !errors.Is(err, ErrNoShard) {
			t.Fatalf("no such shard: %v", err)
		}
	})
}

// TestClaimLooksAgain has the process's own shard change between its look and its transaction.
func TestClaimLooksAgain(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		old, restarted := newProcess(t, store, "a"), newProcess(t, store, "a")
		old.mustTakeOver(t)
		var expired bool
		store.Inject(func(call MemCall) MemFault {
			if call.Method == "Txn" && !expired {
				expired = true
				store.Expire(old.lease)
			}
			return FaultNone
		})
		grant, err := claim(t.Context(), restarted, 0, restarted.self, restarted.lease, 0)
		if err != nil || !expired || grant.Epoch() != 2 {
			t.Fatalf("epoch %d, %v", grant.Epoch(), err)
		}
		restarted.owns(t, grant, restarted.lease)
	})
}

// TestH16OtherFolder has a node whose data folder is not the one in the replica set try to own the shard.
func TestH16OtherFolder(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		for name, change := range map[string]func(*Self){
			"folder": func(s *Self) { s.Folder = testID("empty disk") },
			"node":   func(s *Self) { s.Node = "d" },
		} {
			a := newProcess(t, store, "a")
			change(&a.self)
			if _, err := takeOver(t.Context(), a, a.see(t), a.self, a.lease, 0); !errors.Is(err, ErrNotReplica) {
				t.Errorf("other %s: %v, want ErrNotReplica", name, err)
			}
			if state := a.see(t); state.Config.Epoch != 0 || state.Owner != nil {
				t.Errorf("other %s: %+v", name, state)
			}
		}
	})
}

// TestH27HigherPromise raises the epoch above one that a replica has promised.
func TestH27HigherPromise(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		a := newProcess(t, store, "a")
		for _, test := range []struct{ above, want uint64 }{{0, 1}, {1, 2}, {1, 3}, {100, 101}, {50, 102}, {2<<40 | 7, 2<<40 | 8}, {0, 2<<40 | 9}} {
			grant, err := takeOver(t.Context(), a, a.see(t), a.self, a.lease, test.above)
			if err != nil || grant.Epoch() != test.want || grant.Config.Generation != test.want>>40 {
				t.Fatalf("above %d: epoch %d of generation %d, %v; want epoch %d", test.above, grant.Epoch(), grant.Config.Generation, err, test.want)
			}
			a.owns(t, grant, a.lease)
		}
		for _, above := range []uint64{1<<64 - 1, 3<<40 - 1} {
			if _, err := takeOver(t.Context(), a, a.see(t), a.self, a.lease, above); !errors.Is(err, ErrEpochs) {
				t.Fatalf("above %#x: %v, want ErrEpochs", above, err)
			}
		}
	})
}

var allFaults = []MemFault{FaultRefused, FaultLost, FaultApplied, FaultLate}

// TestH4TakeOver has the transaction meet every fault, and the one after it too: the epoch is granted once, and held.
func TestH4TakeOver(t *testing.T) {
	for _, first := range allFaults {
		for _, second := range append([]MemFault{FaultNone}, allFaults...) {
			t.Run(fmt.Sprintf("faults %d and %d", first, second), func(t *testing.T) {
				inCluster(t, func(t *testing.T, store *MemStore) {
					a := newProcess(t, store, "a")
					faults := []MemFault{first, second}
					store.Inject(func(call MemCall) MemFault {
						if call.Method != "Txn" || len(faults) == 0 {
							return FaultNone
						}
						fault := faults[0]
						faults = faults[1:]
						return fault
					})
					grant := a.mustTakeOver(t)
					if grant.Epoch() != 1 {
						t.Errorf("epoch %d, want 1", grant.Epoch())
					}
					a.owns(t, grant, a.lease)
					time.Sleep(2 * memLateness)
					a.owns(t, grant, a.lease)
				})
			})
		}
	}
}

// TestH4Outrun has another candidate win while the outcome of a transaction is unknown.
func TestH4Outrun(t *testing.T) {
	for _, fault := range allFaults {
		t.Run(fmt.Sprint("fault ", fault), func(t *testing.T) {
			inCluster(t, func(t *testing.T, store *MemStore) {
				a, b := newProcess(t, store, "a"), newProcess(t, store, "b")
				seen := a.see(t)
				var granted Grant
				var calls int
				store.Inject(func(call MemCall) MemFault {
					if call.Client != "a" {
						return FaultNone
					}
					switch calls++; calls {
					case 1:
						return fault
					case 2:
						granted = b.mustTakeOver(t)
					}
					return FaultNone
				})
				grant, err := takeOver(t.Context(), a, seen, a.self, a.lease, 0)
				if !errors.Is(err, ErrOutrun) || errors.Is(err, ErrUnknownOutcome) {
					t.Fatalf("%+v, %v; want ErrOutrun", grant, err)
				}
				time.Sleep(2 * memLateness)
				b.owns(t, granted, b.lease)
			})
		})
	}
}

// TestH4InDoubt ends the context before the outcome is known.
func TestH4InDoubt(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		a := newProcess(t, store, "a")
		seen := a.see(t)
		for _, test := range []struct {
			first, then MemFault // Of the first transaction, and of everything after it.
			reads       bool     // Reads are answered all the same.
			doubt       bool
		}{
			{FaultRefused, FaultRefused, false, false},
			{FaultLost, FaultRefused, false, true},
			{FaultLost, FaultRefused, true, true},
			{FaultLost, FaultLost, false, true},
			{FaultApplied, FaultLost, false, true},
		} {
			var calls int
			store.Inject(func(call MemCall) MemFault {
				calls++
				switch {
				case calls == 1:
					return test.first
				case test.reads && call.Method == "Get":
					return FaultNone
				default:
					return test.then
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := takeOver(ctx, a, seen, a.self, a.lease, 0)
			cancel()
			if errors.Is(err, ErrUnknownOutcome) != test.doubt || !errors.Is(err, ErrUnavailable) && !test.doubt {
				t.Errorf("%+v: %v, want doubt: %v", test, err, test.doubt)
			}
		}
		// The last one was applied. What this process does next gets an epoch that nothing was ever done in.
		store.Inject(nil)
		if state := a.see(t); state.Config.Epoch != 1 || state.Owner.Boot != a.self.Boot {
			t.Fatalf("%+v", state)
		}
		grant, err := claim(t.Context(), a, 0, a.self, a.lease, 0)
		if err != nil || grant.Epoch() != 2 {
			t.Fatalf("epoch %d, %v", grant.Epoch(), err)
		}
		// Its lease ends before the answer comes.
		store.Inject(func(call MemCall) MemFault {
			if call.Method == "Txn" {
				return FaultApplied
			}
			store.Expire(a.lease)
			return FaultNone
		})
		if _, err := takeOver(t.Context(), a, ShardState{Config: grant.Config, ConfigRevision: grant.ConfigRevision, OwnerRevision: grant.OwnerRevision}, a.self, a.lease, 0); !errors.Is(err, ErrLeaseNotFound) {
			t.Fatalf("%v, want ErrLeaseNotFound", err)
		}
	})
}

// TestReassert puts the ownership back after the lease was lost.
func TestReassert(t *testing.T) {
	for _, fault := range append([]MemFault{FaultNone}, allFaults...) {
		t.Run(fmt.Sprint("fault ", fault), func(t *testing.T) {
			inCluster(t, func(t *testing.T, store *MemStore) {
				a, b := newProcess(t, store, "a"), newProcess(t, store, "b")
				held := a.mustTakeOver(t)
				store.Expire(a.lease)
				second, third := mustGrant(t, a, time.Hour), mustGrant(t, a, time.Hour)
				// The third is granted while the second still lives.
				for _, lease := range []LeaseID{second, third, third} {
					store.Inject(onFirst("a", "Txn", fault))
					again, err := reassert(t.Context(), a, held, lease)
					if err != nil || again.Epoch() != held.Epoch() {
						t.Fatalf("%+v, %v", again, err)
					}
					a.owns(t, again, lease)
					held = again
					time.Sleep(2 * memLateness)
					a.owns(t, held, lease)
				}
				store.Expire(second)
				a.owns(t, held, third)
				store.Inject(nil)
				taken := b.mustTakeOver(t)
				store.Expire(b.lease)
				if _, err := reassert(t.Context(), a, held, third); !errors.Is(err, ErrDeposed) {
					t.Fatalf("%v, want ErrDeposed", err)
				}
				if state := a.see(t); state.Owner != nil || state.Config.Epoch != taken.Epoch() {
					t.Fatalf("%+v", state)
				}
				if _, err := reassert(t.Context(), b, taken, b.lease); !errors.Is(err, ErrLeaseNotFound) {
					t.Fatalf("under a lease that ended: %v, want ErrLeaseNotFound", err)
				}
			})
		})
	}
}

func TestRelease(t *testing.T) {
	for _, fault := range append([]MemFault{FaultNone}, allFaults...) {
		t.Run(fmt.Sprint("fault ", fault), func(t *testing.T) {
			inCluster(t, func(t *testing.T, store *MemStore) {
				a, b := newProcess(t, store, "a"), newProcess(t, store, "b")
				held := a.mustTakeOver(t)
				for range 2 {
					store.Inject(onFirst("a", "Txn", fault))
					if err := release(t.Context(), a, held); err != nil {
						t.Fatal(err)
					}
					if state := a.see(t); state.Owner != nil || state.Config.Epoch != 1 {
						t.Fatalf("%+v", state)
					}
				}
				taken := b.mustTakeOver(t)
				if err := release(t.Context(), a, held); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * memLateness)
				b.owns(t, taken, b.lease)
			})
		})
	}
}

func TestReadShards(t *testing.T) {
	inCluster(t, func(t *testing.T, store *MemStore) {
		a := newProcess(t, store, "a")
		grant := a.mustTakeOver(t)
		states, revision, err := readShards(t.Context(), a)
		if err != nil || len(states) != 1 || !reflect.DeepEqual(states[0], a.see(t)) || revision < grant.OwnerRevision {
			t.Fatalf("%+v at %d, %v", states, revision, err)
		}
		for _, key := range []string{"config/x", "config/01", "owner/-1", "owner/4294967296", "config/"} {
			at := mustTxn(t, a, Txn{Then: []Op{PutOp(key, nil, 0)}})
			if _, _, err := readShards(t.Context(), a); !errors.Is(err, ErrBadRecord) || !strings.Contains(err.Error(), key) {
				t.Errorf("%s: %v, want ErrBadRecord and the key", key, err)
			}
			mustTxn(t, a, Txn{If: []Compare{{Key: key, ModRevision: at}}, Then: []Op{DeleteOp(key)}})
		}
		mustTxn(t, a, Txn{Then: []Op{PutOp(ownerKey(0), []byte("{}"), 0)}})
		if _, err := readShard(t.Context(), a, 0); !errors.Is(err, ErrBadRecord) {
			t.Errorf("%v, want ErrBadRecord", err)
		}
	})
}
