package shard

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// sealedBench is a shard with n sealed files of two lines each, one after the other in
// time.
func sealedBench(t testing.TB, fsys vfs.FS, n int, files FilesOptions) (*bench, *oracle) {
	t.Helper()
	b, o := newBench(fsys), newOracle()
	b.options.Files = NewFiles(files)
	ok(t, b.start())
	for range n {
		ok(t, o.write(b, 0))
		ok(t, b.seal())
	}
	return b, o
}

// TestF1FilesAreBounded: whatever is read, no more sealed files stay open than the limits
// say and queries hold.
func TestF1FilesAreBounded(t *testing.T) {
	const n = 12
	for _, limits := range []FilesOptions{{MaxOpen: 3}, {MaxTables: 1}} {
		b, o := sealedBench(t, vfs.NewMem(), n, limits)
		left := max(limits.MaxOpen, 0)
		check := func(when string, more int) {
			t.Helper()
			if st := b.options.Files.Status(); st.Open > left+more || (st.Open > 0) != (st.Tables > 0) {
				t.Errorf("%+v: %s: %+v", limits, when, st)
			}
		}
		check("sealed", 0)
		ok(t, b.healthy(o))
		check("all is read", 0)
		it, err := b.shard.Select(context.Background(), &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Direction: segment.Forward})
		ok(t, err)
		for it.Next() {
			check("while the files are read one after the other", 1)
		}
		ok(t, it.Err())
		ok(t, it.Close())
		check("read", 0)
		a := &segment.Aggregation{Steps: 1, Range: 1 << 60, First: 1 << 59, Step: 1}
		q := &segment.Query{Tenant: "default"}
		q.Start, q.End = a.Bounds()
		p := segment.NewPartial(a)
		ok(t, b.shard.Aggregate(context.Background(), q, a, p))
		check("counted", 0)
		ok(t, b.stop())
		if st := b.options.Files.Status(); st != (FilesStatus{}) {
			t.Errorf("%+v: when the shard is closed: %+v", limits, st)
		}
	}
}

// TestF1ReadersKeepTheirFile: a file is not closed under a reader, however many others
// are opened, nor when the shard is closed.
func TestF1ReadersKeepTheirFile(t *testing.T) {
	b, o := sealedBench(t, vfs.NewMem(), 6, FilesOptions{MaxOpen: 1})
	it, err := b.shard.Select(context.Background(), &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Direction: segment.Forward})
	ok(t, err)
	var lines []string
	for it.Next() {
		lines = append(lines, string(it.At().Line))
		switch len(lines) {
		case 1:
			ok(t, b.healthy(o))
		case 5:
			ok(t, b.stop())
		}
	}
	ok(t, it.Err())
	ok(t, it.Close())
	for i, line := range lines {
		if line != lineText(0, i) {
			t.Errorf("line %d is %q", i, line)
		}
	}
	if st := b.options.Files.Status(); len(lines) != 12 || st != (FilesStatus{}) {
		t.Errorf("%d lines; %+v", len(lines), st)
	}
}

// TestF1Shared: queries of several shards share few places.
func TestF1Shared(t *testing.T) {
	files := NewFiles(FilesOptions{MaxOpen: 2})
	var benches []*bench
	var oracles []*oracle
	for range 2 {
		b, o := newBench(vfs.NewMem()), newOracle()
		b.options.Files = files
		ok(t, b.start())
		for range 4 {
			ok(t, o.write(b, 0))
			ok(t, b.seal())
		}
		benches, oracles = append(benches, b), append(oracles, o)
	}
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			for range 20 {
				if err := benches[i%2].healthy(oracles[i%2]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if st := files.Status(); st.Open > 2 {
		t.Errorf("%+v", st)
	}
	for _, b := range benches {
		ok(t, b.stop())
	}
}

// TestSelectOrder: files that overlap in time are read as one, in either direction and
// with any limit, wherever the entries are.
func TestSelectOrder(t *testing.T) {
	rng := generator(7)
	b := newBench(vfs.NewMem())
	b.options.Files = NewFiles(FilesOptions{MaxOpen: 2})
	ok(t, b.start())
	for i := range 9 {
		if _, err := b.append(randomBatch(rng, 3, 20, int64(i*20), 60)); err != nil {
			t.Fatal(err)
		}
		switch i % 3 {
		case 0:
			ok(t, b.encode())
		case 1:
			ok(t, b.seal())
		}
	}
	ask := func(q segment.Query) (all []segment.Entry) {
		t.Helper()
		it, err := b.shard.Select(context.Background(), &q)
		ok(t, err)
		for it.Next() {
			all = append(all, *it.At())
		}
		ok(t, it.Err())
		ok(t, it.Close())
		return all
	}
	for _, direction := range []segment.Direction{segment.Forward, segment.Backward} {
		whole := ask(segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Direction: direction})
		if len(whole) != 180 {
			t.Fatalf("%d entries", len(whole))
		}
		for i := 1; i < len(whole); i++ {
			a, c := whole[i-1], whole[i]
			if direction == segment.Backward {
				a, c = c, a
			}
			if a.Timestamp > c.Timestamp || a.Timestamp == c.Timestamp && a.Offset >= c.Offset {
				t.Fatalf("direction %d: entry %d is out of order", direction, i)
			}
		}
		for _, limit := range []int{1, 7, 100, 179, 1000} {
			some := ask(segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Direction: direction, Limit: limit})
			if len(some) != min(limit, len(whole)) {
				t.Fatalf("limit %d: %d entries", limit, len(some))
			}
			for i := range some {
				if some[i].Offset != whole[i].Offset {
					t.Fatalf("limit %d: entry %d differs", limit, i)
				}
			}
		}
	}
	ok(t, b.stop())
}

// randomBatch makes rows of some of a number of streams, with timestamps in [from, from+span).
func randomBatch(rng *rand.Rand, streams, rows int, from, span int64) *segment.Batch {
	b := &segment.Batch{}
	first := rng.IntN(streams)
	for i := range 1 + rng.IntN(streams) {
		b.Streams = append(b.Streams, numberedStream((first+i)%streams))
	}
	for range rows {
		b.Rows = append(b.Rows, segment.Row{Timestamp: from + rng.Int64N(span), Line: []byte(fmt.Sprintf("line %d", rng.IntN(1000))), Stream: uint32(rng.IntN(len(b.Streams)))})
	}
	return b
}

func numberedStream(i int) *segment.Stream {
	tenant := "default"
	if i%7 == 6 {
		tenant = "other"
	}
	return segment.NewStream(tenant, segment.LabelsFromMap(map[string]string{"app": fmt.Sprint("app-", i%5), "host": fmt.Sprint("h", i)}))
}
