package shard

import (
	"context"
	"errors"
	"math"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/internal/vfs/vfstest"
	"github.com/logcluster/logcluster/segment"
)

// TestQueryKeepsItsFiles: a query goes on reading what it began with, through a seal,
// the removal of the files and the end of the shard, and leaves nothing open.
func TestQueryKeepsItsFiles(t *testing.T) {
	mem := vfs.NewMem()
	b, o := newBench(vfstest.OpenTracking(t, mem)), newOracle()
	ok(t, b.start())
	for range 3 {
		ok(t, o.write(b, 0))
	}
	ok(t, b.encode())
	ok(t, o.write(b, 0))
	q := &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Direction: segment.Forward}
	var open []segment.Iterator
	for range 2 {
		it, err := b.shard.Select(context.Background(), q)
		ok(t, err)
		open = append(open, it)
		ok(t, b.seal())
		ok(t, o.write(b, 0))
	}
	ok(t, b.stop())
	ok(t, mem.RemoveAll("shards/3"))
	for i, it := range open {
		n := 0
		for it.Next() {
			if want := lineText(0, n); string(it.At().Line) != want {
				t.Errorf("query %d: line %d is %q", i, n, it.At().Line)
			}
			n++
		}
		ok(t, it.Err())
		if want := 8 + 2*i; n != want {
			t.Errorf("query %d: %d lines, want %d", i, n, want)
		}
		ok(t, it.Close())
	}
}

// TestFailedShardStaysFailed: it answers no reads once it is closed.
func TestFailedShardStaysFailed(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(), nil)
	b, o := newBench(vfstest.OpenTracking(t, fs)), newOracle()
	ok(t, b.start())
	ok(t, o.write(b, 0))
	fs.SetInjector(vfs.FailAt(0, syscall.EIO, tailSyncs...).Inject)
	wants(t, o.write(b, 0), ErrFailed)
	wants(t, o.write(b, 0), syscall.EIO)
	wants(t, b.seal(), syscall.EIO)
	entries, damage, err := b.read()
	if err != nil || len(damage) > 0 || len(entries) != 2 {
		t.Errorf("a failed shard shows %v, %v, %v", entries, damage, err)
	}
	if st := b.shard.Status(); st.State != "failed" {
		t.Errorf("state %q", st.State)
	}
	ok(t, b.stop())
	if _, _, err := b.read(); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed shard is read: %v", err)
	}
	ok(t, b.shard.Close())
}

// TestHaltedShardIsReadBesideTheNext: one that failed shows what it held, while the next
// opening of the folder carries forward, seals and removes files.
func TestHaltedShardIsReadBesideTheNext(t *testing.T) {
	mem := vfs.NewMem()
	fs := vfs.NewFault(mem, nil)
	tracked := vfstest.OpenTracking(t, fs)
	b, o := newBench(tracked), newOracle()
	ok(t, b.start())
	ok(t, o.write(b, 0))
	ok(t, b.seal())
	ok(t, o.write(b, largeWriter))
	ok(t, b.encode())
	ok(t, o.write(b, 0))
	fs.SetInjector(vfs.FailAt(0, syscall.EIO, tailSyncs...).Inject)
	wants(t, o.write(b, 1), ErrFailed)
	acked := o.at()
	acked.sent = o.at().acked // what failed is not shown here
	ok(t, b.shard.Halt())
	next := newBench(tracked)
	next.options.AfterFailure, next.epoch = true, b.epoch
	ok(t, next.start())
	for range 2 {
		ok(t, o.write(next, 1))
		ok(t, next.encode())
		ok(t, next.seal())
		entries, damage, err := b.read()
		if err := errors.Join(err, errors.Join(damage...), acked.verify(entries, nothingLost, false)); err != nil {
			t.Error(err)
		}
		ok(t, next.healthy(o))
	}
	ok(t, b.shard.Close())
	if _, _, err := b.read(); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed shard is read: %v", err)
	}
	ok(t, next.healthy(o))
	b.encoders.Close()
	ok(t, b.floor.Close())
	ok(t, next.stop())
}

// TestHaltWaits: whoever closes a shard that another one halts does not take its files
// from under the last group.
func TestHaltWaits(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(), nil)
	b, o := newBench(fs), newOracle()
	ok(t, b.start())
	g := newGate(tailSyncs...)
	fs.SetInjector(g.inject)
	written := make(chan error, 1)
	go func() { written <- o.write(b, 0) }()
	<-g.came
	ended := make(chan error, 2)
	for range 2 {
		go func() { ended <- b.shard.Close() }()
	}
	waitFor(t, "it is being closed", func() bool {
		b.shard.mu.Lock()
		defer b.shard.mu.Unlock()
		return b.shard.closing
	})
	close(g.open)
	ok(t, <-written)
	ok(t, errors.Join(<-ended, <-ended))
	ok(t, b.stop())
}

// TestH20NothingUnknownIsRemoved: without IDENT nothing that was used is removed, and
// tidying leaves alone what it does not know.
func TestH20NothingUnknownIsRemoved(t *testing.T) {
	for _, name := range []string{"", "PROMISE", "tail-1", "notes.txt", "tail-9"} {
		mem, o := vfs.NewMem(), newOracle()
		b := newBench(mem)
		ok(t, b.start())
		ok(t, o.write(b, 0))
		ok(t, b.stop())
		for _, f := range filesOf(t, mem) {
			if n := path.Base(f); n == "IDENT" || name != "" && n != name && n != "FLOOR" {
				ok(t, mem.Remove(f))
			}
		}
		if name == "notes.txt" || name == "tail-9" {
			replaceFile(t, mem, "shards/3/"+name, []byte(strings.Repeat("my notes", 20)))
		}
		before := filesOf(t, mem)
		wants(t, b.start(), ErrLost)
		if after := filesOf(t, mem); !slices.Equal(before, after) {
			t.Errorf("%q: of %q %q is left", name, before, after)
		}
	}
}

func TestTidy(t *testing.T) {
	mem, o := vfs.NewMem(), newOracle()
	b := newBench(mem)
	ok(t, b.start())
	for range 3 {
		ok(t, o.write(b, 0))
		ok(t, b.seal())
	}
	ok(t, o.write(b, 0))
	ok(t, b.stop())
	root := strings.Repeat("0f", 32)
	stay := []string{"seg-1-3", "tail-1.bak", "tail-99", "open-3.old", "notes.txt", "seg-1-3-" + root + ".old"}
	go1 := []string{"seg-1-3-" + root, "seg-90-95-" + root, "open-77", "open-78.aux", "open-79.aux.tmp", "tail-2"}
	for _, name := range append(slices.Clone(stay), go1...) {
		replaceFile(t, mem, "shards/3/"+name, []byte("something"))
	}
	ok(t, b.start())
	ok(t, b.healthy(o))
	files := filesOf(t, mem)
	for _, name := range stay {
		if !slices.Contains(files, "shards/3/"+name) {
			t.Errorf("%q was removed", name)
		}
	}
	for _, name := range go1 {
		if slices.Contains(files, "shards/3/"+name) {
			t.Errorf("%q was left", name)
		}
	}
	ok(t, b.stop())
}

// TestForeign: a folder of another replica is refused.
func TestForeign(t *testing.T) {
	b := newBench(vfs.NewMem())
	ok(t, b.start())
	ok(t, b.stop())
	for _, change := range []func(*Ident){
		func(id *Ident) { id.ClusterID = "other" }, func(id *Ident) { id.Shard = 9 }, func(id *Ident) { id.LogID = 9 }, func(id *Ident) { id.Replica = "x" },
	} {
		id := b.options.Ident
		change(&b.options.Ident)
		wants(t, b.start(), ErrForeign)
		b.options.Ident = id
	}
	b.options.Ident.Node = "renamed"
	ok(t, b.start())
	ok(t, b.stop())
	b.options.Create, b.options.Dir = false, "shards/4"
	wants(t, b.start(), ErrLost)
}
