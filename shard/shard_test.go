package shard

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A bench is a node's worth of what a shard needs, on any file system.
type bench struct {
	fs       vfs.FS
	floor    *Floor
	encoders *Encoders
	shard    *Shard
	epoch    uint64
	options  Options
}

func newBench(fsys vfs.FS) *bench {
	return &bench{fs: fsys, options: Options{FS: fsys, Dir: "shards/3", Number: 3,
		Ident: Ident{ClusterID: "c", Shard: 3, LogID: 77, Node: "n", Replica: "r"}, Create: true}}
}

// start opens the shard and makes it the owner in a new epoch.
func (b *bench) start() error {
	if err := b.fs.MkdirAll("node"); err != nil {
		return err
	}
	if err := b.fs.MkdirAll("shards"); err != nil {
		return err
	}
	var err error
	if b.floor, err = OpenFloor(b.fs, "node/FLOOR"); err != nil {
		return err
	}
	b.encoders = NewEncoders(1)
	o := b.options
	o.FS, o.Floor, o.Encoders = b.fs, b.floor, b.encoders
	if b.shard, err = Open(o); err != nil {
		b.encoders.Close()
		return err
	}
	b.epoch = max(b.epoch, b.shard.Promise().Epoch) + 1
	if _, err := b.shard.Fence(Promise{Epoch: b.epoch, Node: "n", Boot: fmt.Sprint(b.epoch)}); err != nil {
		b.stop()
		return err
	}
	if err := b.shard.Lead(context.Background(), LeadOptions{AcceptLoss: true}); err != nil {
		b.stop()
		return err
	}
	return nil
}

func (b *bench) stop() error {
	err := b.shard.Close()
	b.encoders.Close()
	if ferr := b.floor.Close(); err == nil {
		err = ferr
	}
	return err
}

var testStreams = []*segment.Stream{
	segment.NewStream("default", segment.LabelsFromMap(map[string]string{"app": "a"})),
	segment.NewStream("default", segment.LabelsFromMap(map[string]string{"app": "b", "host": "h"})),
}

// batch makes n entries numbered from first on, of both streams in turn.
func batch(first, n int, key string) *segment.Batch {
	b := &segment.Batch{Streams: testStreams}
	copy(b.Key[:], key)
	for i := first; i < first+n; i++ {
		b.Rows = append(b.Rows, segment.Row{Timestamp: int64(i) * 1000, Line: fmt.Appendf(nil, "line %d of the test", i), Stream: uint32(i % 2)})
	}
	return b
}

func (b *bench) append(batch *segment.Batch) (bool, error) {
	var e segment.FrameEncoder
	rows := make([]uint32, len(batch.Rows))
	for i := range rows {
		rows[i] = uint32(i)
	}
	frames, err := e.Encode(batch, rows)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_, duplicate, err := b.shard.Append(ctx, frames)
	return duplicate, err
}

// all reads every entry back, in order of time.
func (b *bench) all(t testing.TB, damage *[]error) []string {
	t.Helper()
	q := &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Direction: segment.Forward}
	if damage != nil {
		q.OnDamage = func(err error) { *damage = append(*damage, err) }
	}
	it, err := b.shard.Select(context.Background(), q)
	if err != nil {
		t.Fatalf("select: %v", err)
	}
	defer it.Close()
	var lines []string
	for it.Next() {
		lines = append(lines, string(it.At().Line))
	}
	if it.Err() != nil {
		t.Fatalf("select: %v", it.Err())
	}
	return lines
}

func check(t testing.TB, got []string, n int) {
	t.Helper()
	if len(got) != n {
		t.Fatalf("%d lines, want %d", len(got), n)
	}
	for i, l := range got {
		if want := fmt.Sprintf("line %d of the test", i); l != want {
			t.Fatalf("line %d is %q, want %q", i, l, want)
		}
	}
}

func TestAppendSealReopen(t *testing.T) {
	b := newBench(vfs.NewMem())
	n := 0
	for round := range 4 {
		if err := b.start(); err != nil {
			t.Fatal(err)
		}
		check(t, b.all(t, nil), n)
		for range 5 {
			if _, err := b.append(batch(n, 100, "")); err != nil {
				t.Fatal(err)
			}
			n += 100
		}
		check(t, b.all(t, nil), n)
		if round%2 == 1 {
			r, err := b.shard.Seal(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if r.Segments != 1 || r.Entries != 1000 {
				t.Fatalf("sealed %+v", r)
			}
			check(t, b.all(t, nil), n)
			if st := b.shard.Status(); st.TailFiles != 1 || st.OpenRows != 0 {
				t.Fatalf("after the seal: %+v", st)
			}
		}
		if err := b.stop(); err != nil {
			t.Fatal(err)
		}
		b.options.Create = false
	}
}

func TestIdempotency(t *testing.T) {
	b := newBench(vfs.NewMem())
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{false, true} {
		if got, err := b.append(batch(0, 10, "key")); err != nil || got != want {
			t.Fatalf("push %d: duplicate %v, %v; want %v", i, got, err, want)
		}
	}
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	if got, err := b.append(batch(0, 10, "key")); err != nil || !got {
		t.Fatalf("after a restart: duplicate %v, %v", got, err)
	}
	check(t, b.all(t, nil), 10)
}
