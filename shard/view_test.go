package shard

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// TestReadsAgree: entries, sums and streams are the same wherever the entries are: in
// frames, in blocks, in a sealed file, or in all of them; before and after a restart.
func TestReadsAgree(t *testing.T) {
	b, o := newBench(vfs.NewMem()), newOracle()
	ok(t, b.start())
	all := &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64}
	check := func(when string) {
		t.Helper()
		ok(t, b.healthy(o))
		entries, _, err := b.read()
		ok(t, err)
		a := &segment.Aggregation{Steps: 1, Range: 1 << 60, First: 1 << 59, Step: 1, Grouping: segment.Grouping{Names: []string{"app"}}}
		p := segment.NewPartial(a)
		q := *all
		q.Start, q.End = a.Bounds()
		ok(t, b.shard.Aggregate(context.Background(), &q, a, p))
		total := uint64(0)
		for _, series := range p.Series {
			_, n := series.Values()
			total += n[0]
		}
		if total != uint64(len(entries)) || len(p.Series) != 2 {
			t.Errorf("%s: %d entries in %d series are counted, there are %d", when, total, len(p.Series), len(entries))
		}
		var streams []string
		ok(t, b.shard.Streams(context.Background(), all, func(s *segment.Stream) { streams = append(streams, string(s.AppendKey(nil))) }))
		slices.Sort(streams)
		if got := len(slices.Compact(streams)); got != 2 {
			t.Errorf("%s: %d streams", when, got)
		}
	}
	ok(t, o.write(b, 0))
	check("in frames")
	ok(t, b.encode())
	check("in a block")
	ok(t, o.write(b, 1))
	check("in a block and a frame")
	ok(t, b.seal())
	check("sealed")
	ok(t, o.write(b, 0))
	ok(t, b.encode())
	ok(t, o.write(b, 1))
	check("everywhere")
	ok(t, b.stop())
	ok(t, b.start())
	check("after a restart")
	ok(t, b.stop())
}

// TestBlocksBySize: a block is encoded as soon as its entries have gathered.
func TestBlocksBySize(t *testing.T) {
	b := newBench(vfs.NewMem())
	ok(t, b.start())
	const rows = segment.MaxBlockRows + 10
	if _, err := b.append(batch(0, 0, rows, "")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "a block", func() bool { return b.shard.Status().OpenBlocks == 1 })
	b.check(t, rows)
	ok(t, b.stop())
}

// TestH15LossNeedsConsent: what is damaged is only declared lost by an owner who may;
// until then the replica says that it is damaged.
func TestH15LossNeedsConsent(t *testing.T) {
	now, _ := lived(t, 77)
	tail := fileLike(t, now.fs, "shards/3/tail-")
	ok(t, now.fs.Corrupt(tail, int64(len(fileBytes(t, now.fs, tail))/2), 1))
	b := newBench(now.fs)
	for range 2 {
		ok(t, b.open())
		b.epoch = max(b.epoch, b.shard.Promise().Epoch) + 1
		reply, err := b.shard.Fence(Promise{Epoch: b.epoch, Node: "n", Boot: "x"})
		if err != nil || !reply.Damaged {
			t.Fatalf("%+v, %v", reply, err)
		}
		if err := b.shard.Lead(context.Background(), LeadOptions{}); !errors.Is(err, ErrDamaged) {
			t.Fatalf("led: %v", err)
		}
		ok(t, b.stop())
	}
	ok(t, b.start())
	reply, err := b.shard.Fence(Promise{Epoch: b.epoch + 1, Node: "n", Boot: "y"})
	if err != nil || reply.Damaged {
		t.Errorf("after LOSS is committed: %+v, %v", reply, err)
	}
	ok(t, b.stop())
}
