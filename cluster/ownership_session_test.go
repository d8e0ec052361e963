package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// inSession runs a test in a bubble with a session of client a and the keys that hang on it.
func inSession(t *testing.T, test func(t *testing.T, store *MemStore, meta *MemMeta, s *session, logged *observer.ObservedLogs)) {
	t.Helper()
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		core, logged := observer.New(zap.DebugLevel)
		s, err := openSession(t.Context(), meta, 0, zap.New(core))
		if err != nil {
			t.Fatal(err)
		}
		mustTxn(t, meta, Txn{Then: []Op{PutOp("mine", nil, s.Lease())}})
		test(t, store, meta, s, logged)
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if kv := mustGet(t, meta, "mine"); kv.ModRevision != 0 || s.Lease() != 0 {
			t.Errorf("after Close there is %+v, and lease %x", kv, s.Lease())
		}
	})
}

func TestSessionKeepsItsLease(t *testing.T) {
	inSession(t, func(t *testing.T, store *MemStore, meta *MemMeta, s *session, logged *observer.ObservedLogs) {
		first := s.Lease()
		time.Sleep(24*time.Hour + time.Second)
		// Silence that is shorter than the lease costs nothing, and is mentioned once.
		store.Inject(func(MemCall) MemFault { return FaultLost })
		time.Sleep(10 * time.Second)
		store.Inject(nil)
		time.Sleep(time.Hour)
		if kv := mustGet(t, meta, "mine"); kv.Lease != first || s.Lease() != first {
			t.Errorf("lease %x became %x, of the key %x", first, s.Lease(), kv.Lease)
		}
		select {
		case <-s.Changed():
			t.Error("told of a change")
		default:
		}
		if n := logged.Len(); n != 1 {
			t.Errorf("logged %d messages, want 1: %v", n, logged.All())
		}
	})
}

func TestSessionLosesItsLease(t *testing.T) {
	inSession(t, func(t *testing.T, store *MemStore, meta *MemMeta, s *session, logged *observer.ObservedLogs) {
		first := s.Lease()
		store.Inject(func(MemCall) MemFault { return FaultRefused })
		time.Sleep(2 * leaseTTL)
		// Nothing is known to be lost until the store says so.
		if s.Lease() != first {
			t.Errorf("lease %x became %x", first, s.Lease())
		}
		store.Inject(func(call MemCall) MemFault {
			if call.Method == "Grant" {
				return FaultRefused
			}
			return FaultNone
		})
		<-s.Changed()
		if lease := s.Lease(); lease != 0 {
			t.Errorf("lease %x, want none", lease)
		}
		store.Inject(nil)
		<-s.Changed()
		second := s.Lease()
		if second == 0 || second == first {
			t.Fatalf("lease %x after %x", second, first)
		}
		if kv := mustGet(t, meta, "mine"); kv.ModRevision != 0 {
			t.Errorf("%+v outlived its lease", kv)
		}
		mustTxn(t, meta, Txn{Then: []Op{PutOp("mine", nil, second)}})
		time.Sleep(time.Hour)
		if kv := mustGet(t, meta, "mine"); kv.Lease != second {
			t.Errorf("%+v, want it under %x", kv, second)
		}
		var texts []string
		for _, entry := range logged.All() {
			texts = append(texts, entry.Message)
		}
		if len(texts) != 2 || !strings.Contains(texts[0], "renewed") || !strings.Contains(texts[1], "stood still") {
			t.Errorf("logged %q", texts)
		}
	})
}

// TestSessionCloses ends sessions while the store does not answer.
func TestSessionCloses(t *testing.T) {
	inMemory(t, func(t *testing.T, store *MemStore, meta *MemMeta) {
		silent := func(MemCall) MemFault { return FaultLost }
		store.Inject(silent)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := openSession(ctx, meta, 0, nil); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("%v, want ErrUnavailable", err)
		}
		for _, during := range []string{"nothing", "renewal", "grant"} {
			store.Inject(nil)
			s, err := openSession(t.Context(), meta, 3*time.Second, nil)
			if err != nil {
				t.Fatal(err)
			}
			switch during {
			case "renewal":
				store.Inject(silent)
				time.Sleep(2 * time.Second)
			case "grant":
				store.Inject(func(call MemCall) MemFault {
					if call.Method == "Grant" {
						return FaultLost
					}
					return FaultNone
				})
				store.Expire(s.Lease())
				<-s.Changed()
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err = s.Close(ctx)
			cancel()
			if wants := map[string]error{"renewal": ErrUnavailable}; !errors.Is(err, wants[during]) {
				t.Errorf("during %s: %v, want %v", during, err, wants[during])
			}
			if err := s.Close(t.Context()); err != nil {
				t.Errorf("during %s, Close again: %v", during, err)
			}
		}
	})
}
