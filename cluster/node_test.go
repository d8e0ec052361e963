package cluster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
	"github.com/logcluster/logcluster/shard"
)

// A testNode is a node on files in memory and metadata in memory, which both outlive it.
type testNode struct {
	*Node
	t     *testing.T
	store *MemStore
	fs    vfs.FS
	n     int
}

func newTestNode(t *testing.T, fsys vfs.FS) *testNode {
	return &testNode{t: t, store: NewMemStore(), fs: fsys}
}

func (n *testNode) options() Options {
	n.n++
	return Options{FS: n.fs, Dir: "data", Name: "n1", HTTP: "127.0.0.1:3100", Peer: "127.0.0.1:3101", Etcd: "127.0.0.1:2380",
		ReopenPause: 5 * time.Millisecond, OwnerWait: 3 * time.Second, meta: n.store.Client(fmt.Sprintf("n1-%d", n.n))}
}

func (n *testNode) start(change ...func(*Options)) {
	n.t.Helper()
	o := n.options()
	for _, c := range change {
		c(&o)
	}
	node, err := Open(n.t.Context(), o)
	if err != nil {
		n.t.Fatal(err)
	}
	n.Node = node
	n.t.Cleanup(func() { _ = node.Close() })
}

func (n *testNode) stop() {
	n.t.Helper()
	if err := n.Close(); err != nil {
		n.t.Fatal(err)
	}
}

// push stores lines of several streams, which belong to several shards.
func (n *testNode) push(first, count int, key string) (segment.Receipt, error) {
	b := &segment.Batch{}
	copy(b.Key[:], key)
	for s := range 8 {
		b.Streams = append(b.Streams, segment.NewStream("default", segment.LabelsFromMap(map[string]string{"app": "a", "n": fmt.Sprint(s)})))
	}
	for i := first; i < first+count; i++ {
		b.Rows = append(b.Rows, segment.Row{Timestamp: int64(i), Line: fmt.Appendf(nil, "line %d", i), Stream: uint32(i % 8)})
	}
	return n.Append(n.t.Context(), b)
}

func (n *testNode) mustPush(first, count int) {
	n.t.Helper()
	if _, err := n.push(first, count, ""); err != nil {
		n.t.Fatal(err)
	}
}

func everything(t *testing.T) *logql.Scan {
	m, err := segment.NewMatcher("app", segment.MatchEqual, "a")
	if err != nil {
		t.Fatal(err)
	}
	return &logql.Scan{Query: segment.Query{Tenant: "default", Start: 0, End: math.MaxInt64, Matchers: []*segment.Matcher{m}, Direction: segment.Forward}}
}

// check reads lines 0 to count back, in their order over all shards, and counts them.
func (n *testNode) check(count int) {
	n.t.Helper()
	scan := everything(n.t)
	it, err := n.Entries(n.t.Context(), scan)
	if err != nil {
		n.t.Fatal(err)
	}
	defer it.Close()
	for i := range count {
		if !it.Next() {
			n.t.Fatalf("%d lines, want %d: %v", i, count, it.Err())
		}
		if got, want := string(it.At().Line), fmt.Sprintf("line %d", i); got != want {
			n.t.Fatalf("line %d is %q", i, got)
		}
	}
	if it.Next() || it.Err() != nil {
		n.t.Fatalf("more than %d lines, or %v", count, it.Err())
	}
	scan.Aggregation = &segment.Aggregation{Measure: segment.MeasureCount, First: math.MaxInt64 / 2, Steps: 1, Range: math.MaxInt64 / 2, Grouping: segment.Grouping{Names: []string{"n"}}}
	p, err := n.Partial(n.t.Context(), scan)
	if err != nil {
		n.t.Fatal(err)
	}
	total := uint64(0)
	for _, s := range p.Series {
		values, _ := s.Values()
		total += values[0]
	}
	// Timestamp 0 is outside the aggregation's range, which begins behind it.
	if len(p.Series) != min(8, count) || total != uint64(count)-1 {
		n.t.Fatalf("%d series with %d entries, want %d", len(p.Series), total, count-1)
	}
}

func TestNodeStoresAndFinds(t *testing.T) {
	n := newTestNode(t, vfs.NewMem())
	registry := prometheus.NewRegistry()
	n.start(func(o *Options) { o.Shards, o.Registerer = 4, registry })
	n.mustPush(0, 100)
	n.check(100)
	sealed, err := n.Seal(t.Context())
	if err != nil || sealed.Entries != 100 || sealed.Segments != sealed.Shards || sealed.Shards < 2 {
		t.Fatalf("seal: %+v, %v", sealed, err)
	}
	n.mustPush(100, 50)
	n.check(150)
	streams, err := n.Streams(t.Context(), everything(t))
	if err != nil || len(streams) != 8 {
		t.Fatalf("%d streams, %v", len(streams), err)
	}
	found, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	metrics := map[string]int{}
	for _, f := range found {
		metrics[f.GetName()] = len(f.GetMetric())
	}
	if metrics["logcluster_shard_leading"] != 4 || metrics["logcluster_wal_fsync_duration_seconds"] != 1 {
		t.Fatalf("metrics: %v", metrics)
	}
	n.stop()
	if again, err := registry.Gather(); err != nil || len(again) != 0 {
		t.Fatalf("after the node's end: %d metrics, %v", len(again), err)
	}
	n.start()
	n.check(150)
}

// TestC2NewEpochs: every start is a new owner in a new epoch, with a new boot id.
func TestC2NewEpochs(t *testing.T) {
	n := newTestNode(t, vfs.NewMem())
	boots := map[string]bool{}
	for round := uint64(1); round <= 3; round++ {
		n.start(func(o *Options) { o.Shards = 2 })
		for s := range uint32(2) {
			st, err := readShard(t.Context(), n.meta, s)
			if err != nil {
				t.Fatal(err)
			}
			if st.Owner == nil || st.Owner.Epoch != round || st.Config.Epoch != round || st.Owner.Boot != n.boot {
				t.Fatalf("round %d: %+v", round, st.Owner)
			}
		}
		if boots[n.boot] {
			t.Fatal("a boot id was used twice")
		}
		boots[n.boot] = true
		n.stop()
	}
}

// TestH13FailedFsync: a shard whose fsync fails is opened again in a new epoch; what was
// acknowledged is there, and the other shards never noticed.
func TestH13FailedFsync(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem, nil)
	n := newTestNode(t, fault)
	n.start(func(o *Options) { o.Shards = 2 })
	n.mustPush(0, 40)
	trigger := vfs.At(0, vfs.Decision{Err: syscall.EIO, Lose: true}, vfs.Kinds(vfs.OpSync), vfs.Names("tail-*"))
	fault.SetInjector(trigger.Inject)
	_, err := n.push(40, 40, "again")
	var unavailable *shard.Unavailable
	if !trigger.Fired() || !errors.As(err, &unavailable) || unavailable.RetryAfter() <= 0 {
		t.Fatalf("fired %v, error %v; want an error that says to try again", trigger.Fired(), err)
	}
	// The same request, as a client would repeat it.
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err = n.push(40, 40, "again"); err == nil || time.Now().After(deadline) {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	n.check(80)
	st, err := n.Status()
	if err != nil {
		t.Fatal(err)
	}
	epochs := st.Shards[0].Epoch + st.Shards[1].Epoch
	if epochs != 3 {
		t.Fatalf("epochs %d and %d, want one of them raised", st.Shards[0].Epoch, st.Shards[1].Epoch)
	}
}

// TestH16LostShard: a shard's folder that is gone is not made anew.
func TestH16LostShard(t *testing.T) {
	mem := vfs.NewMem()
	n := newTestNode(t, mem)
	n.start(func(o *Options) { o.Shards, o.OwnerWait = 2, 50*time.Millisecond })
	n.mustPush(0, 40)
	n.stop()
	if err := mem.RemoveAll("data/shards/1"); err != nil {
		t.Fatal(err)
	}
	n.start(func(o *Options) { o.OwnerWait = 50 * time.Millisecond })
	st, err := n.Status()
	if err != nil {
		t.Fatal(err)
	}
	if st.Shards[0].State != "ok" || st.Shards[1].State == "ok" || !strings.Contains(strings.Join(st.Shards[1].Damage, " "), "lost") {
		t.Fatalf("status: %+v", st.Shards)
	}
	// Q2: strictly it is an error, else it is told.
	scan := everything(t)
	if it, err := n.Entries(t.Context(), scan); err == nil {
		it.Close()
		t.Fatal("a shard is missing and nothing is said")
	}
	told := make(chan error, 10)
	scan.Query.OnDamage = func(err error) { told <- err }
	it, err := n.Entries(t.Context(), scan)
	if err != nil {
		t.Fatal(err)
	}
	it.Close()
	if err := <-told; !strings.Contains(err.Error(), "shard 1") {
		t.Fatalf("told %v", err)
	}
	if _, err := n.push(0, 40, ""); err == nil {
		t.Fatal("lines for a lost shard were taken")
	}
}

// TestNodeRefuses: folders that do not belong here.
func TestNodeRefuses(t *testing.T) {
	mem := vfs.NewMem()
	n := newTestNode(t, mem)
	n.start(func(o *Options) { o.Shards = 2 })
	refused := func(want error, change func(*Options)) {
		t.Helper()
		o := n.options()
		change(&o)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		node, err := Open(ctx, o)
		if err == nil {
			_ = node.Close()
		}
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	refused(ErrFolderInUse, func(*Options) {})
	n.stop()
	refused(ErrShardCount, func(o *Options) { o.Shards = 3 })
	refused(ErrForeignFolder, func(o *Options) { o.Name = "n2" })
	refused(ErrForeignCluster, func(o *Options) { o.meta = NewMemStore().Client("n1") })
	n.start()
}

// TestH35ReadsGoOn: while nothing can be written, what is stored is read; when writes are
// possible again, they go on.
func TestH35ReadsGoOn(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem, nil)
	n := newTestNode(t, fault)
	n.start(func(o *Options) { o.Shards, o.OwnerWait = 2, 50*time.Millisecond })
	n.mustPush(0, 40)
	full := vfs.From(0, vfs.Decision{Err: syscall.ENOSPC}, vfs.Kinds(vfs.OpWrite, vfs.OpCreate))
	fault.SetInjector(full.Inject)
	for range 5 {
		var unavailable *shard.Unavailable
		if _, err := n.push(40, 40, "again"); !errors.As(err, &unavailable) {
			t.Fatalf("got %v, want an error that says to try again", err)
		}
		n.check(40)
	}
	full.Disarm()
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := n.push(40, 40, "again")
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	n.check(80)
}
