package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemMeta(t *testing.T) {
	testMeta(t, func(t *testing.T, part func(*testing.T, metaUnderTest)) {
		synctest.Test(t, func(t *testing.T) {
			store := NewMemStore()
			client := store.Client("a")
			defer client.Close()
			part(t, metaUnderTest{Meta: client, compact: func(*testing.T) { store.Compact() }})
		})
	})
}

// onFirst injects a fault into the first call of the method by the client.
func onFirst(client, method string, fault MemFault) func(MemCall) MemFault {
	return onNth(client, method, 1, fault)
}

// onNth injects a fault into the n-th call, counted from 1, of the method by the client.
func onNth(client, method string, n int, fault MemFault) func(MemCall) MemFault {
	return func(call MemCall) MemFault {
		if call.Client != client || call.Method != method {
			return FaultNone
		}
		if n--; n == 0 {
			return fault
		}
		return FaultNone
	}
}

// inMemory runs a test in a bubble, with a store and a client of it named a.
func inMemory(t *testing.T, test func(t *testing.T, store *MemStore, meta *MemMeta)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		store := NewMemStore()
		meta := store.Client("a")
		defer meta.Close()
		test(t, store, meta)
	})
}

func TestMemTxnFaults(t *testing.T) {
	for _, test := range []struct {
		name       string
		fault      MemFault
		want       error
		now, later bool // Whether it is applied.
	}{
		{"none", FaultNone, nil, true, true},
		{"refused", FaultRefused, ErrUnavailable, false, false},
		{"lost", FaultLost, ErrUnknownOutcome, false, false},
		{"applied", FaultApplied, ErrUnknownOutcome, true, true},
		{"late", FaultLate, ErrUnknownOutcome, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
				store.Inject(onFirst("a", "Txn", test.fault))
				txn := Txn{If: []Compare{{Key: "k"}}, Then: []Op{PutOp("k", []byte("1"), 0)}}
				result, err := meta.Txn(t.Context(), txn)
				if !errors.Is(err, test.want) || result.Succeeded != (err == nil) {
					t.Fatalf("%+v, %v; want %v", result, err, test.want)
				}
				txn.Then[0].Value, txn.Then[0].Key = nil, "changed" // It is the caller's again.
				if applied := mustGet(t, meta, "k").ModRevision != 0; applied != test.now {
					t.Errorf("applied: %v, want %v", applied, test.now)
				}
				time.Sleep(2 * memLateness)
				if kv := mustGet(t, meta, "k"); (string(kv.Value) == "1") != test.later {
					t.Errorf("later: %+v, want it applied: %v", kv, test.later)
				}
			})
		})
	}
}

// TestMemLateTxn has a late transaction's compare no longer hold when it comes.
func TestMemLateTxn(t *testing.T) {
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		other := store.Client("b")
		defer other.Close()
		store.Inject(onFirst("a", "Txn", FaultLate))
		txn := Txn{If: []Compare{{Key: "k"}}, Then: []Op{PutOp("k", []byte("late"), 0)}}
		if _, err := meta.Txn(t.Context(), txn); !errors.Is(err, ErrUnknownOutcome) {
			t.Fatal(err)
		}
		mustTxn(t, other, Txn{Then: []Op{PutOp("k", []byte("first"), 0)}})
		time.Sleep(2 * memLateness)
		if kv := mustGet(t, meta, "k"); string(kv.Value) != "first" {
			t.Errorf("got %+v", kv)
		}
	})
}

func TestMemRetries(t *testing.T) {
	for method, call := range map[string]func(ctx context.Context, meta Meta, lease LeaseID) error{
		"Get": func(ctx context.Context, meta Meta, _ LeaseID) error {
			_, err := meta.Get(ctx, "k")
			return err
		},
		"List": func(ctx context.Context, meta Meta, _ LeaseID) error {
			_, _, err := meta.List(ctx, "k")
			return err
		},
		"Grant": func(ctx context.Context, meta Meta, _ LeaseID) error {
			_, err := meta.Grant(ctx, time.Second)
			return err
		},
		"KeepAlive": func(ctx context.Context, meta Meta, lease LeaseID) error { return meta.KeepAlive(ctx, lease) },
		"Revoke":    func(ctx context.Context, meta Meta, lease LeaseID) error { return meta.Revoke(ctx, lease) },
	} {
		t.Run(method, func(t *testing.T) {
			inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
				for _, fault := range []MemFault{FaultRefused, FaultLost, FaultApplied, FaultLate} {
					lease := mustGrant(t, meta, time.Minute)
					store.Inject(onFirst("a", method, fault))
					if err := call(t.Context(), meta, lease); err != nil {
						t.Errorf("after fault %d: %v", fault, err)
					}
				}
				lease := mustGrant(t, meta, time.Minute)
				store.Inject(func(call MemCall) MemFault { return FaultLost })
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if err := call(ctx, meta, lease); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("without an answer: %v, want ErrUnavailable and DeadlineExceeded", err)
				}
				if took := time.Since(began); took != 10*time.Second {
					t.Errorf("gave up after %v, want 10s", took)
				}
			})
		})
	}
}

func TestMemLeaseTime(t *testing.T) {
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		lease := mustGrant(t, meta, 14*time.Second+1)
		mustTxn(t, meta, Txn{Then: []Op{PutOp("k", nil, lease)}})
		alive := func(after time.Duration, want bool) {
			t.Helper()
			time.Sleep(after)
			if alive := mustGet(t, meta, "k").ModRevision != 0; alive != want {
				t.Fatalf("alive: %v, want %v", alive, want)
			}
		}
		alive(15*time.Second-1, true)
		if err := meta.KeepAlive(t.Context(), lease); err != nil {
			t.Fatal(err)
		}
		alive(15*time.Second-1, true)
		alive(2, false)

		lease = mustGrant(t, meta, time.Hour)
		mustTxn(t, meta, Txn{Then: []Op{PutOp("k", nil, lease)}})
		store.Expire(lease)
		alive(0, false)
	})
}
