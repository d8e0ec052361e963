package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// TestEncodersShare: the tasks of one shard run one after the other, and do not keep
// those of other shards from an encoder.
func TestEncodersShare(t *testing.T) {
	e := NewEncoders(2)
	defer e.Close()
	one, two := &Shard{}, &Shard{}
	hold, began, other := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var order []int
	var group sync.WaitGroup
	group.Add(3)
	for i := range 3 {
		e.do(one, func(*segment.BlockEncoder) {
			defer group.Done()
			if i == 0 {
				close(began)
				<-hold
			}
			order = append(order, i) // the race detector sees two at a time
		})
	}
	<-began
	e.do(two, func(*segment.BlockEncoder) { close(other) })
	<-other
	close(hold)
	group.Wait()
	if fmt.Sprint(order) != "[0 1 2]" {
		t.Errorf("order %v", order)
	}
}

// TestEncodersForget: no task of a shard runs any more once it is forgotten.
func TestEncodersForget(t *testing.T) {
	e := NewEncoders(1)
	defer e.Close()
	one, two := &Shard{}, &Shard{}
	hold, began := make(chan struct{}), make(chan struct{})
	ran := 0
	e.do(one, func(*segment.BlockEncoder) { close(began); <-hold; ran++ })
	<-began
	for range 5 {
		e.do(one, func(*segment.BlockEncoder) { ran++ })
	}
	done := make(chan struct{})
	e.do(two, func(*segment.BlockEncoder) { close(done) })
	forgotten := make(chan struct{})
	go func() { e.forget(one); close(forgotten) }()
	waitFor(t, "the queue is empty but for the other shard", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.tasks) == 1
	})
	close(hold)
	<-forgotten
	if ran != 1 {
		t.Errorf("%d tasks ran", ran)
	}
	<-done
}

// TestSealOutlivesItsCaller: a client that gives up does not fail the shard.
func TestSealOutlivesItsCaller(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(), nil)
	b, o := newBench(fs), newOracle()
	ok(t, b.start())
	ok(t, o.write(b, 0))
	g := newGate(tailSyncs...)
	fs.SetInjector(g.inject)
	ctx, cancel := context.WithCancel(context.Background())
	answer := make(chan error, 1)
	go func() { _, err := b.shard.Seal(ctx); answer <- err }()
	<-g.came
	cancel()
	wants(t, <-answer, context.Canceled)
	fs.SetInjector(nil)
	close(g.open)
	ok(t, b.seal())
	ok(t, b.healthy(o))
	if st := b.shard.Status(); st.SealedSegments != 1 {
		t.Errorf("%+v", st)
	}
	ok(t, b.stop())
}

// TestEncoderMeetsDamage: damage that the encoder or a query comes upon is named, and
// the shard finds its way when it is opened again.
func TestEncoderMeetsDamage(t *testing.T) {
	mem, o := vfs.NewMem(), newOracle()
	b := newBench(mem)
	ok(t, b.start())
	for range 4 {
		ok(t, o.write(b, 0))
	}
	tail := fileLike(t, mem, "shards/3/tail-")
	ok(t, mem.Corrupt(tail, 600, 0x10))
	entries, damage, err := b.read()
	if err != nil || len(damage) != 1 || len(entries) != 6 {
		t.Fatalf("a query of damage: %d entries, %v, %v", len(entries), damage, err)
	}
	if st := b.shard.Status(); len(st.Damage) != 1 || st.State != "damaged" {
		t.Errorf("state %q, %q", st.State, st.Damage)
	}
	wants(t, b.encode(), segment.ErrCorrupt)
	<-b.shard.Failed()
	ok(t, b.stop())
	b.options.AfterFailure = true
	im := &image{"damage", mem, o, false}
	if out, err := im.examine(); err != nil || out.lost != 2 {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestH17RecordsExchanged: whole records, each in the other's place, are no answer.
func TestH17RecordsExchanged(t *testing.T) {
	mem, o := vfs.NewMem(), newOracle()
	b := newBench(mem)
	ok(t, b.start())
	for range 3 {
		ok(t, o.write(b, 0))
	}
	x, y := b.shard.view.frames[1], b.shard.view.frames[2]
	if x.Header.Size() != y.Header.Size() {
		t.Fatalf("records of %d and %d bytes", x.Header.Size(), y.Header.Size())
	}
	data := fileBytes(t, mem, x.tail.path)
	f, err := mem.OpenReadWrite(x.tail.path)
	ok(t, err)
	for _, pair := range [][2]int64{{x.at, y.at}, {y.at, x.at}} {
		_, err := f.WriteAt(data[pair[0]:pair[0]+int64(x.Header.Size())], pair[1])
		ok(t, err)
	}
	ok(t, f.Close())
	entries, damage, err := b.read()
	if err != nil || len(damage) != 2 || len(entries) != 2 {
		t.Errorf("%v, %v, %v", entries, damage, err)
	}
	ok(t, b.stop())
}

// TestOpenSegmentIsLost: when a block cannot be written or a file not be finished, the
// entries are encoded again from the tail.
func TestOpenSegmentIsLost(t *testing.T) {
	for _, blocks := range []int{0, 2} {
		for _, kind := range []vfs.OpKind{vfs.OpWrite, vfs.OpSync, vfs.OpRename} {
			t.Run(fmt.Sprintf("%s after %d blocks", kind, blocks), func(t *testing.T) {
				mem, o := vfs.NewMem(), newOracle()
				fs := vfs.NewFault(mem, nil)
				b := newBench(fs)
				ok(t, b.start())
				ok(t, o.write(b, 0))
				for range blocks {
					ok(t, b.encode())
					ok(t, o.write(b, 0))
				}
				trigger := vfs.FailAt(0, syscall.EIO, vfs.Kinds(kind), vfs.Names("open-*"))
				fs.SetInjector(trigger.Inject)
				wants(t, b.seal(), syscall.EIO)
				entries, damage, err := b.read()
				if err := errors.Join(err, errors.Join(damage...), o.verify(entries, nothingLost, false)); err != nil {
					t.Errorf("reads behind the failure: %v", err)
				}
				if b.shard.Err() != nil {
					ok(t, b.stop())
					b.options.AfterFailure = true
					ok(t, b.start())
				}
				ok(t, o.write(b, 0))
				ok(t, b.seal())
				ok(t, b.healthy(o))
				ok(t, b.stop())
				im := &image{"power loss", mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}), o, false}
				ok(t, im.recover())
			})
		}
	}
}

// TestH13OpenSegmentIsNotSyncedAgain: the fsync of a seal loses the bytes, and the file
// cannot be removed either; the next seal, in this process or the next, does not rely
// on it.
func TestH13OpenSegmentIsNotSyncedAgain(t *testing.T) {
	for _, sameProcess := range []bool{false, true} {
		mem, o := vfs.NewMem(), newOracle()
		fs := vfs.NewFault(mem, nil)
		b := newBench(fs)
		ok(t, b.start())
		ok(t, o.write(b, largeWriter)) // more than one page
		ok(t, b.encode())
		isOpen := vfs.Names("open-*")
		fs.SetInjector(vfs.Join(vfs.At(0, vfs.Decision{Lose: true}, vfs.Kinds(vfs.OpSync), isOpen).Inject,
			vfs.From(0, vfs.Decision{Err: syscall.EIO}, vfs.Kinds(vfs.OpRemove), isOpen).Inject))
		wants(t, b.seal(), syscall.EIO)
		fs.SetInjector(nil)
		ok(t, b.stop())
		b.options.AfterFailure = sameProcess
		ok(t, b.start())
		if st := b.shard.Status(); st.OpenBlocks != 1 {
			t.Errorf("the block was not used again: %+v", st)
		}
		ok(t, b.seal())
		ok(t, b.stop())
		ok(t, (&image{"power loss", mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}), o, false}).recover())
	}
}

// TestSealsThatFailDoNotPileUp: a seal that is tried again and again does not make a
// tail file each time.
func TestSealsThatFailDoNotPileUp(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(), nil)
	b, o := newBench(fs), newOracle()
	ok(t, b.start())
	ok(t, o.write(b, 0))
	fs.SetInjector(vfs.From(0, vfs.Decision{Err: syscall.EIO}, vfs.Kinds(vfs.OpCreate), vfs.Names("open-*")).Inject)
	for range 5 {
		wants(t, b.seal(), syscall.EIO)
	}
	if st := b.shard.Status(); st.TailFiles != 2 || st.State != "ok" {
		t.Errorf("%+v", st)
	}
	ok(t, o.write(b, 0))
	wants(t, b.seal(), syscall.EIO)
	fs.SetInjector(nil)
	ok(t, b.seal())
	ok(t, b.healthy(o))
	if st := b.shard.Status(); st.TailFiles != 1 || st.SealedEntries != 4 {
		t.Errorf("%+v", st)
	}
	ok(t, b.stop())
}

// TestFullOpenSegmentIsSealed: what does not fit into one segment file goes into the
// next.
func TestFullOpenSegmentIsSealed(t *testing.T) {
	b, o := newBench(vfs.NewMem()), newOracle()
	ok(t, b.start())
	for range segment.MaxBlocks {
		if err := errors.Join(o.write(b, 0), b.encode()); err != nil {
			t.Fatal(err)
		}
	}
	ok(t, o.write(b, 0))
	full, err := b.shard.encodeBlock(&segment.BlockEncoder{})
	if err != nil || !full {
		t.Fatalf("full %v, %v", full, err)
	}
	r, err := b.shard.Seal(context.Background())
	ok(t, err)
	if r.Segments != 2 || r.Entries != 2*(segment.MaxBlocks+1) {
		t.Errorf("%+v", r)
	}
	ok(t, b.healthy(o))
	ok(t, b.stop())
}
