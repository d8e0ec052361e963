package shard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
)

// A gate holds operations back until it is opened.
type gate struct {
	filters []vfs.Filter
	came    chan struct{} // one for each operation that waits
	open    chan struct{}
}

func newGate(filters ...vfs.Filter) *gate {
	return &gate{filters: filters, came: make(chan struct{}, 100), open: make(chan struct{})}
}

func (g *gate) inject(op vfs.Op) vfs.Decision {
	for _, f := range g.filters {
		if !f(op) {
			return vfs.Decision{}
		}
	}
	g.came <- struct{}{}
	<-g.open
	return vfs.Decision{}
}

var tailSyncs = []vfs.Filter{vfs.Kinds(vfs.OpSync), vfs.Names("tail-*")}

// waitFor polls for what another goroutine does soon.
func waitFor(t testing.TB, what string, f func() bool) {
	t.Helper()
	for range 5000 {
		if f() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// TestH6FenceTakesInWhatIsWritten: a group that is being written when a fence comes is
// in the answer, and nothing is acknowledged in the old epoch after it.
func TestH6FenceTakesInWhatIsWritten(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(), nil)
	b, o := newBench(fs), newOracle()
	ok(t, b.start())
	ok(t, o.write(b, 0))
	last := b.shard.Status().LastIndex
	g := newGate(tailSyncs...)
	fs.SetInjector(g.inject)
	written, queued := make(chan error, 1), make(chan error, 1)
	go func() { written <- o.write(b, 0) }()
	<-g.came
	go func() { queued <- o.write(b, 1) }()
	waitFor(t, "the second append is queued", func() bool {
		b.shard.mu.Lock()
		defer b.shard.mu.Unlock()
		return len(b.shard.queue) == 1
	})
	replies := make(chan FenceReply, 1)
	go func() {
		reply, err := b.shard.Fence(Promise{Epoch: 9, Node: "other", Boot: "x"})
		if err != nil {
			t.Error(err)
		}
		replies <- reply
	}()
	waitFor(t, "the fence waits", func() bool {
		b.shard.mu.Lock()
		defer b.shard.mu.Unlock()
		return b.shard.fences == 1
	})
	fs.SetInjector(nil)
	close(g.open)
	reply := <-replies
	if reply.LastIndex != last+1 {
		t.Errorf("the answer ends with record %d, want %d", reply.LastIndex, last+1)
	}
	ok(t, <-written)
	wants(t, <-queued, ErrNotOwner)
	if _, err := b.append(batch(2, 0, 1, "")); !errors.Is(err, ErrNotOwner) {
		t.Errorf("append behind the fence: %v", err)
	}
	if _, _, err := b.read(); !errors.Is(err, ErrNotOwner) {
		t.Errorf("read behind the fence: %v", err)
	}
	if got := b.shard.Status().LastIndex; got != reply.LastIndex {
		t.Errorf("the log went on to record %d", got)
	}
	ok(t, b.stop())
}

// TestH5PromiseNeverGoesBack: of fences that wait for the same group, a lower one does
// not undo a higher one, and what is promised survives power losses at any point.
func TestH5PromiseNeverGoesBack(t *testing.T) {
	for seed := range uint64(20 * *seeds) {
		rng := generator(seed)
		mem := vfs.NewMem()
		fs := vfs.NewFault(mem, nil)
		b, o := newBench(fs), newOracle()
		ok(t, b.start())
		var mu sync.Mutex
		promised := uint64(0) // the highest that was answered
		var images []*vfs.Mem
		var least []uint64
		g := newGate(tailSyncs...)
		fs.SetInjector(vfs.Join(g.inject, func(op vfs.Op) vfs.Decision {
			if changes(op) && vfs.Names("PROMISE*")(op) {
				mu.Lock()
				defer mu.Unlock()
				least = append(least, promised)
				images = append(images, mem.Crash(rng, crashModes[len(images)%len(crashModes)].options))
			}
			return vfs.Decision{}
		}))
		written := make(chan error, 1)
		go func() { written <- o.write(b, 0) }()
		<-g.came
		var group sync.WaitGroup
		for _, epoch := range rng.Perm(6) {
			group.Go(func() {
				p := Promise{Epoch: uint64(10 + epoch), Node: "n", Boot: "b"}
				_, err := b.shard.Fence(p)
				if err == nil {
					mu.Lock()
					promised = max(promised, p.Epoch)
					mu.Unlock()
				} else if !errors.Is(err, ErrStale) {
					t.Error(err)
				}
			})
		}
		waitFor(t, "some fences wait", func() bool {
			b.shard.mu.Lock()
			defer b.shard.mu.Unlock()
			return b.shard.fences > 2
		})
		close(g.open)
		group.Wait()
		<-written
		if got := b.shard.Promise().Epoch; got != 15 {
			t.Fatalf("seed %d: promised %d in the end, want 15", seed, got)
		}
		ok(t, b.stop())
		least, images = append(least, 15), append(images, mem.Crash(nil, crashModes[0].options))
		for i, m := range images {
			atLeast(t, fmt.Sprintf("seed %d, image %d", seed, i), m, least[i], rng)
		}
	}
}

// atLeast opens an image and loses power again right after a promise was answered.
func atLeast(t *testing.T, what string, mem *vfs.Mem, least uint64, rng *rand.Rand) {
	t.Helper()
	b := newBench(mem)
	ok(t, b.open())
	p := b.shard.Promise()
	if p.Epoch < least {
		t.Fatalf("%s: promised %d, %d was answered", what, p.Epoch, least)
	}
	if _, err := b.shard.Fence(p); err != nil {
		t.Fatalf("%s: the same promise again: %v", what, err)
	}
	later := newBench(mem.Crash(rng, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}))
	ok(t, b.stop())
	ok(t, later.open())
	if got := later.shard.Promise(); got != p {
		t.Fatalf("%s: %+v was answered, after a power loss it is %+v", what, p, got)
	}
	ok(t, later.stop())
}

func TestFenceRefuses(t *testing.T) {
	b := newBench(vfs.NewMem())
	ok(t, b.start())
	ok(t, func() error {
		_, err := b.shard.Fence(Promise{Epoch: 5, Node: "a", Boot: "1", ConfigVersion: 7})
		return err
	}())
	f := func(p Promise, want error) {
		t.Helper()
		if _, err := b.shard.Fence(p); !errors.Is(err, want) {
			t.Errorf("%+v: %v, want %v", p, err, want)
		}
	}
	f(Promise{Epoch: 4, Node: "a", Boot: "1", ConfigVersion: 7}, ErrStale)
	f(Promise{Epoch: 5, Node: "a", Boot: "2", ConfigVersion: 7}, ErrStale)
	f(Promise{Epoch: 5, Node: "b", Boot: "1", ConfigVersion: 7}, ErrStale)
	f(Promise{Epoch: 6, Node: "a", Boot: "1", ConfigVersion: 6}, ErrStale)
	f(Promise{Epoch: 5, Node: "a", Boot: "1", ConfigVersion: 7}, nil)
	f(Promise{Epoch: 5, Node: "a", Boot: "1", ConfigVersion: 8}, nil)
	if _, err := b.shard.Fence(Promise{Epoch: 9, Node: strings.Repeat("n", 65)}); err == nil || b.shard.Err() != nil {
		t.Errorf("a name that is too long: %v, the shard: %v", err, b.shard.Err())
	}
	ok(t, b.stop())
}

// TestH3LeadNeedsANewEpoch: no two processes write in one epoch.
func TestH3LeadNeedsANewEpoch(t *testing.T) {
	mem := vfs.NewMem()
	b := newBench(mem)
	ok(t, b.start())
	wants(t, b.shard.Lead(context.Background(), LeadOptions{}), ErrStale)
	ok(t, b.stop())
	ok(t, b.open())
	wants(t, b.shard.Lead(context.Background(), LeadOptions{}), ErrStale)
	ok(t, b.lead())
	ok(t, b.stop())
}

// TestC4NothingBeforeTheBarrier: an opened shard neither takes nor shows anything
// before its owner's barrier is committed.
func TestC4NothingBeforeTheBarrier(t *testing.T) {
	mem, o := vfs.NewMem(), newOracle()
	b := newBench(mem)
	ok(t, b.start())
	ok(t, o.write(b, 0))
	ok(t, o.write(b, 0))
	ok(t, b.stop())
	ok(t, b.open())
	refused := func(when string) {
		t.Helper()
		if _, err := b.append(batch(0, 2, 2, "0/2+2")); !errors.Is(err, ErrNotOwner) {
			t.Errorf("%s: append: %v", when, err)
		}
		if _, _, err := b.read(); !errors.Is(err, ErrNotOwner) {
			t.Errorf("%s: read: %v", when, err)
		}
		if err := b.seal(); !errors.Is(err, ErrNotOwner) {
			t.Errorf("%s: seal: %v", when, err)
		}
	}
	refused("opened")
	_, err := b.shard.Fence(Promise{Epoch: 2, Node: "n", Boot: "2"})
	ok(t, err)
	refused("fenced")
	var mu sync.Mutex
	majority := uint64(0)
	led := make(chan error, 1)
	go func() {
		led <- b.shard.Lead(context.Background(), LeadOptions{Quorum: func(uint64) uint64 {
			mu.Lock()
			defer mu.Unlock()
			return majority
		}})
	}()
	waitFor(t, "the barrier is written", func() bool { return b.shard.Status().LastIndex == 4 })
	refused("barrier written")
	mu.Lock()
	majority = 4
	mu.Unlock()
	b.shard.Commit(4)
	ok(t, <-led)
	b.check(t, 4)
	duplicate, err := b.append(batch(0, 2, 2, "0/2+2"))
	ok(t, err)
	if !duplicate {
		t.Error("a repeat of the last append of the process before is stored twice")
	}
	ok(t, b.stop())
}

// TestCloseAnswersWhoWaits: what no majority has confirmed is unknown in the end, and
// neither Close nor an encoder that seals waits for it.
func TestCloseAnswersWhoWaits(t *testing.T) {
	b := newBench(vfs.NewMem())
	ok(t, b.open())
	_, err := b.shard.Fence(Promise{Epoch: 1, Node: "n", Boot: "1"})
	ok(t, err)
	var mu sync.Mutex
	most := ^uint64(0)
	ok(t, b.shard.Lead(context.Background(), LeadOptions{Quorum: func(durable uint64) uint64 {
		mu.Lock()
		defer mu.Unlock()
		return min(durable, most)
	}}))
	if _, err := b.append(batch(0, 0, 2, "")); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	most = b.shard.Status().LastIndex
	mu.Unlock()
	appended, sealed := make(chan error, 1), make(chan error, 1)
	go func() { _, err := b.append(batch(1, 0, 2, "")); appended <- err }()
	go func() { sealed <- b.seal() }()
	waitFor(t, "both wait for a majority", func() bool { return b.shard.Status().LastIndex == most+2 })
	ok(t, b.stop())
	for what, err := range map[string]error{"append": <-appended, "seal": <-sealed} {
		var u *Unavailable
		if !errors.As(err, &u) || !errors.Is(err, ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, _, err := b.read(); !errors.Is(err, ErrClosed) {
		t.Errorf("read of a closed shard: %v", err)
	}
}
