package cluster

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// metaUnderTest is an implementation of Meta with what the conformance suite needs beside it.
type metaUnderTest struct {
	Meta
	compact func(t *testing.T) // Forgets all changes so far.
}

// testMeta is the conformance suite: what holds for every Meta. Each part runs under with, which gives it the
// implementation; the last part closes that.
func testMeta(t *testing.T, with func(t *testing.T, part func(t *testing.T, m metaUnderTest))) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, m metaUnderTest, prefix string)
	}{
		{"keys", testMetaKeys},
		{"compare", testMetaCompare},
		{"invalid", testMetaInvalid},
		{"size", testMetaSize},
		{"leases", testMetaLeases},
		{"expiry", testMetaExpiry},
		{"watch", testMetaWatch},
		{"watch lease", testMetaWatchLease},
		{"watch compacted", testMetaWatchCompacted},
		{"context", testMetaContext},
		{"close", testMetaClose},
	} {
		t.Run(test.name, func(t *testing.T) {
			with(t, func(t *testing.T, m metaUnderTest) {
				test.run(t, m, strings.ReplaceAll(test.name, " ", "-")+"/")
			})
		})
	}
}

func testMetaKeys(t *testing.T, m metaUnderTest, p string) {
	if kv := mustGet(t, m, p+"a"); kv.ModRevision != 0 || kv.Value != nil || kv.Key != p+"a" {
		t.Fatalf("absent key: %+v", kv)
	}
	first := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"b", []byte("1"), 0), PutOp(p+"a", []byte("2"), 0)}})
	if kv := mustGet(t, m, p+"a"); string(kv.Value) != "2" || kv.ModRevision != first || kv.Lease != 0 {
		t.Fatalf("got %+v, want value 2 at revision %d", kv, first)
	}
	mustTxn(t, m, Txn{Then: []Op{PutOp("other/"+p, nil, 0)}})
	found, revision, err := m.List(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	if keys := keysOf(found); !slices.Equal(keys, []string{p + "a", p + "b"}) || revision <= first {
		t.Fatalf("listed %q at %d, want a and b after %d", keys, revision, first)
	}
	deleted := mustTxn(t, m, Txn{Then: []Op{DeleteOp(p + "a"), PutOp(p+"b", nil, 0)}})
	if deleted != revision+1 {
		t.Fatalf("revision %d follows %d, want the next", deleted, revision)
	}
	if kv := mustGet(t, m, p+"a"); kv.ModRevision != 0 {
		t.Fatalf("deleted key: %+v", kv)
	}
	if kv := mustGet(t, m, p+"b"); len(kv.Value) != 0 || kv.ModRevision != deleted {
		t.Fatalf("got %+v, want an empty value at %d", kv, deleted)
	}
	if same := mustTxn(t, m, Txn{Then: []Op{DeleteOp(p + "absent")}}); same != deleted {
		t.Fatalf("deleting nothing moved the revision from %d to %d", deleted, same)
	}
	if found, _, err := m.List(t.Context(), "nothing/"); err != nil || len(found) != 0 {
		t.Fatalf("listed %v, %v", found, err)
	}
}

func testMetaCompare(t *testing.T, m metaUnderTest, p string) {
	create := Txn{If: []Compare{{Key: p + "a"}}, Then: []Op{PutOp(p+"a", []byte("1"), 0)}}
	revision := mustTxn(t, m, create)
	refused := func(txn Txn) {
		t.Helper()
		before := mustGet(t, m, p+"a")
		result, err := m.Txn(t.Context(), txn)
		if err != nil || result.Succeeded || result.Revision < before.ModRevision {
			t.Fatalf("%+v: %+v, %v", txn, result, err)
		}
		if now := mustGet(t, m, p+"a"); !reflect.DeepEqual(now, before) {
			t.Fatalf("a refused transaction changed %+v to %+v", before, now)
		}
		if other := mustGet(t, m, p+"other"); other.ModRevision != 0 {
			t.Fatalf("a refused transaction wrote %+v", other)
		}
	}
	refused(create)
	then := []Op{PutOp(p+"other", nil, 0), PutOp(p+"a", []byte("2"), 0)}
	refused(Txn{If: []Compare{{Key: p + "a", ModRevision: revision + 1}}, Then: then})
	refused(Txn{If: []Compare{{Key: p + "a", ModRevision: revision}, {Key: p + "b", ModRevision: revision}}, Then: then})
	refused(Txn{If: []Compare{{Key: p + "a"}}, Then: []Op{DeleteOp(p + "a")}})
	mustTxn(t, m, Txn{If: []Compare{{Key: p + "a", ModRevision: revision}, {Key: p + "b"}}, Then: then})
	if kv := mustGet(t, m, p+"a"); string(kv.Value) != "2" {
		t.Fatalf("got %+v, want value 2", kv)
	}
}

func testMetaInvalid(t *testing.T, m metaUnderTest, p string) {
	invalid := func(txn Txn) {
		t.Helper()
		if _, err := m.Txn(t.Context(), txn); !errors.Is(err, ErrInvalidTxn) {
			t.Fatalf("got %v, want ErrInvalidTxn", err)
		}
	}
	invalid(Txn{})
	invalid(Txn{If: []Compare{{Key: p + "a"}}})
	invalid(Txn{Then: []Op{PutOp("", nil, 0)}})
	invalid(Txn{If: []Compare{{}}, Then: []Op{DeleteOp(p + "a")}})
	invalid(Txn{Then: []Op{PutOp(p+"a", nil, 0), DeleteOp(p + "a")}})
	invalid(Txn{Then: []Op{PutOp(p+"a", make([]byte, MaxTxnBytes), 0)}})
	var many []Op
	for i := range MaxTxnOps + 1 {
		many = append(many, DeleteOp(fmt.Sprint(p, i)))
	}
	invalid(Txn{Then: many})
	if kv := mustGet(t, m, p+"a"); kv.ModRevision != 0 {
		t.Fatalf("an invalid transaction wrote %+v", kv)
	}
}

func testMetaSize(t *testing.T, m metaUnderTest, p string) {
	value := make([]byte, MaxTxnBytes/MaxTxnOps-64)
	var txn Txn
	for i := range MaxTxnOps {
		key := fmt.Sprintf("%s%04d", p, i)
		txn.If, txn.Then = append(txn.If, Compare{Key: key}), append(txn.Then, PutOp(key, value, 0))
	}
	revision := mustTxn(t, m, txn)
	found, _, err := m.List(t.Context(), p)
	if err != nil || len(found) != MaxTxnOps {
		t.Fatalf("%d keys, %v; want %d", len(found), err, MaxTxnOps)
	}
	for _, kv := range found {
		if kv.ModRevision != revision || len(kv.Value) != len(value) {
			t.Fatalf("key %s: %d bytes at %d", kv.Key, len(kv.Value), kv.ModRevision)
		}
	}
}

func testMetaLeases(t *testing.T, m metaUnderTest, p string) {
	first, second := mustGrant(t, m, time.Minute), mustGrant(t, m, time.Minute)
	mustTxn(t, m, Txn{Then: []Op{PutOp(p+"a", nil, first), PutOp(p+"b", nil, first), PutOp(p+"c", nil, first)}})
	mustTxn(t, m, Txn{Then: []Op{PutOp(p+"b", nil, second), PutOp(p+"c", nil, 0)}})
	if kv := mustGet(t, m, p+"a"); kv.Lease != first {
		t.Fatalf("got %+v, want lease %x", kv, first)
	}
	if err := m.KeepAlive(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if err := m.Revoke(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	found, _, err := m.List(t.Context(), p)
	if err != nil || !slices.Equal(keysOf(found), []string{p + "b", p + "c"}) {
		t.Fatalf("after the lease was revoked: %v, %v; want b and c", keysOf(found), err)
	}
	if err := m.Revoke(t.Context(), first); err != nil {
		t.Fatalf("revoke twice: %v", err)
	}
	if err := m.KeepAlive(t.Context(), first); !errors.Is(err, ErrLeaseNotFound) {
		t.Fatalf("keep a revoked lease alive: %v", err)
	}
	_, err = m.Txn(t.Context(), Txn{Then: []Op{PutOp(p+"d", nil, 0), PutOp(p+"e", nil, first)}})
	if !errors.Is(err, ErrLeaseNotFound) || errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("put under a revoked lease: %v", err)
	}
	if kv := mustGet(t, m, p+"d"); kv.ModRevision != 0 {
		t.Fatalf("a refused transaction wrote %+v", kv)
	}
}

func testMetaExpiry(t *testing.T, m metaUnderTest, p string) {
	dying, living := mustGrant(t, m, time.Millisecond), mustGrant(t, m, time.Second)
	at := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"dying", nil, dying), PutOp(p+"living", nil, living)}})
	gone := m.Watch(t.Context(), p+"dying", at+1)
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if err := m.KeepAlive(t.Context(), living); err != nil {
				t.Fatal(err)
			}
			continue
		case news := <-gone:
			if len(news.Events) != 1 || !news.Events[0].Deleted {
				t.Fatalf("got %+v, want a deletion", news)
			}
		}
		break
	}
	if kv := mustGet(t, m, p+"living"); kv.ModRevision == 0 {
		t.Fatal("a lease that was kept alive has ended")
	}
}

func testMetaWatch(t *testing.T, m metaUnderTest, p string) {
	first := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"a", []byte("1"), 0), PutOp(p+"b", []byte("2"), 0)}})
	mustTxn(t, m, Txn{Then: []Op{PutOp("beside/"+p, nil, 0)}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := m.Watch(ctx, p, first)
	want := []WatchEvent{
		{KeyValue: KeyValue{Key: p + "a", Value: []byte("1"), ModRevision: first}},
		{KeyValue: KeyValue{Key: p + "b", Value: []byte("2"), ModRevision: first}},
	}
	expectEvents(t, changes, want)
	second := mustTxn(t, m, Txn{Then: []Op{DeleteOp(p + "a"), PutOp(p+"b", []byte("3"), 0)}})
	third := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"c", []byte("4"), 0)}})
	expectEvents(t, changes, []WatchEvent{
		{KeyValue: KeyValue{Key: p + "a", ModRevision: second}, Deleted: true},
		{KeyValue: KeyValue{Key: p + "b", Value: []byte("3"), ModRevision: second}},
		{KeyValue: KeyValue{Key: p + "c", Value: []byte("4"), ModRevision: third}},
	})
	// A second watch begins in the future, as after a List.
	later := m.Watch(ctx, p, third+1)
	fourth := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"d", []byte("5"), 0)}})
	expectEvents(t, later, []WatchEvent{{KeyValue: KeyValue{Key: p + "d", Value: []byte("5"), ModRevision: fourth}}})
	// The first one has the same to deliver, and nobody reads it: it must end all the same.
	cancel()
	for range changes {
	}
	for range later {
	}
}

func testMetaWatchLease(t *testing.T, m metaUnderTest, p string) {
	lease := mustGrant(t, m, time.Minute)
	at := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"b", nil, lease), PutOp(p+"a", nil, lease)}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := m.Watch(ctx, p, at+1)
	if err := m.Revoke(t.Context(), lease); err != nil {
		t.Fatal(err)
	}
	expectEvents(t, changes, []WatchEvent{
		{KeyValue: KeyValue{Key: p + "a", ModRevision: at + 1}, Deleted: true},
		{KeyValue: KeyValue{Key: p + "b", ModRevision: at + 1}, Deleted: true},
	})
}

func testMetaWatchCompacted(t *testing.T, m metaUnderTest, p string) {
	first := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"a", []byte("1"), 0)}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	current := m.Watch(ctx, p, first)
	expectEvents(t, current, []WatchEvent{{KeyValue: KeyValue{Key: p + "a", Value: []byte("1"), ModRevision: first}}})
	mustTxn(t, m, Txn{Then: []Op{PutOp(p+"other", nil, 0)}})
	last := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"a", []byte("2"), 0)}})
	expectEvents(t, current, []WatchEvent{
		{KeyValue: KeyValue{Key: p + "other", ModRevision: last - 1}},
		{KeyValue: KeyValue{Key: p + "a", Value: []byte("2"), ModRevision: last}},
	})
	m.compact(t)
	behind := m.Watch(ctx, p, first)
	if news := <-behind; !news.Reset || len(news.Events) != 0 {
		t.Fatalf("got %+v, want a reset", news)
	}
	if news, open := <-behind; open {
		t.Fatalf("got %+v after the reset, want the end", news)
	}
	_, revision, err := m.List(ctx, p)
	if err != nil {
		t.Fatal(err)
	}
	again := m.Watch(ctx, p, revision+1)
	next := mustTxn(t, m, Txn{Then: []Op{PutOp(p+"a", []byte("3"), 0)}})
	want := []WatchEvent{{KeyValue: KeyValue{Key: p + "a", Value: []byte("3"), ModRevision: next}}}
	expectEvents(t, again, want)
	expectEvents(t, current, want)
}

func testMetaContext(t *testing.T, m metaUnderTest, p string) {
	lease := mustGrant(t, m, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for method, err := range metaErrors(ctx, m, p, lease) {
		if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("%s: %v, want ErrUnavailable and Canceled", method, err)
		}
	}
	if _, open := <-m.Watch(ctx, p, 1); open {
		t.Error("a watch whose context has ended delivered something")
	}
	if kv := mustGet(t, m, p+"a"); kv.ModRevision != 0 {
		t.Errorf("a transaction whose context had ended wrote %+v", kv)
	}
}

func testMetaClose(t *testing.T, m metaUnderTest, p string) {
	lease := mustGrant(t, m, time.Minute)
	watch := m.Watch(t.Context(), p, 1)
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, open := <-watch; open {
		t.Error("a watch outlived its client")
	}
	if _, open := <-m.Watch(t.Context(), p, 1); open {
		t.Error("a watch began after Close")
	}
	for method, err := range metaErrors(t.Context(), m, p, lease) {
		if !errors.Is(err, ErrMetaClosed) || errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("%s: %v, want ErrMetaClosed", method, err)
		}
	}
}

// metaErrors calls every method once.
func metaErrors(ctx context.Context, m Meta, p string, lease LeaseID) map[string]error {
	failed := make(map[string]error)
	_, failed["Get"] = m.Get(ctx, p+"a")
	_, _, failed["List"] = m.List(ctx, p)
	_, failed["Txn"] = m.Txn(ctx, Txn{Then: []Op{PutOp(p+"a", nil, 0)}})
	_, failed["Grant"] = m.Grant(ctx, time.Minute)
	failed["KeepAlive"] = m.KeepAlive(ctx, lease)
	failed["Revoke"] = m.Revoke(ctx, lease)
	return failed
}

func mustGet(t *testing.T, m MetaStore, key string) KeyValue {
	t.Helper()
	kv, err := m.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func mustGrant(t *testing.T, m MetaLeases, ttl time.Duration) LeaseID {
	t.Helper()
	id, err := m.Grant(t.Context(), ttl)
	if err != nil || id == 0 {
		t.Fatalf("grant: %x, %v", id, err)
	}
	return id
}

// mustTxn is for transactions that succeed.
func mustTxn(t *testing.T, m MetaStore, txn Txn) (revision int64) {
	t.Helper()
	result, err := m.Txn(t.Context(), txn)
	if err != nil || !result.Succeeded {
		t.Fatalf("transaction: %+v, %v", result, err)
	}
	return result.Revision
}

// expectEvents reads until it has as many events as are wanted: how they are spread over elements is not promised, but
// that no revision is split is.
func expectEvents(t *testing.T, changes <-chan WatchEvents, want []WatchEvent) {
	t.Helper()
	var got []WatchEvent
	for len(got) < len(want) {
		news, open := <-changes
		if !open || news.Reset || len(news.Events) == 0 {
			t.Fatalf("got %+v (open: %v) after %+v, want %+v", news, open, got, want)
		}
		if news.Revision != news.Events[len(news.Events)-1].ModRevision {
			t.Fatalf("revision %d of %+v", news.Revision, news.Events)
		}
		if len(got) > 0 && got[len(got)-1].ModRevision >= news.Events[0].ModRevision {
			t.Fatalf("%+v after %+v", news, got)
		}
		got = append(got, news.Events...)
	}
	for i := range got {
		// An empty value may come back as nil.
		if len(got[i].Value) == 0 && len(want[i].Value) == 0 {
			got[i].Value = want[i].Value
		}
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Fatalf("event %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

func keysOf(kvs []KeyValue) []string {
	var keys []string
	for _, kv := range kvs {
		keys = append(keys, kv.Key)
	}
	return keys
}
