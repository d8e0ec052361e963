package shard

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// TestH36Duplicates: a repeat is answered like the first time, once that is committed,
// after a restart too; if the first fails, so does the repeat that waits for it.
func TestH36Duplicates(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(), nil)
	b := newBench(fs)
	ok(t, b.start())
	push := func() (segment.Position, bool, error) {
		frames, err := framesOf(batch(0, 0, 10, "key"))
		ok(t, err)
		return b.shard.Append(context.Background(), frames)
	}
	first, duplicate, err := push()
	if ok(t, err); duplicate {
		t.Fatal("the first is a duplicate")
	}
	for range 2 {
		second, duplicate, err := push()
		if ok(t, err); !duplicate || second.Offset != first.Offset {
			t.Fatalf("the repeat: duplicate %v at %+v, want %+v", duplicate, second, first)
		}
		ok(t, b.stop())
		ok(t, b.start())
	}
	b.check(t, 10)

	// In flight.
	for _, fails := range []bool{false, true} {
		g := newGate(tailSyncs...)
		fs.SetInjector(g.inject)
		type answer struct {
			duplicate bool
			err       error
		}
		answers := make(chan answer, 2)
		next := batch(0, 10, 10, "another")
		if fails {
			next = batch(0, 20, 10, "a third")
		}
		for range 2 {
			go func() {
				frames, _ := framesOf(next)
				_, duplicate, err := b.shard.Append(context.Background(), frames)
				answers <- answer{duplicate, err}
			}()
			waitFor(t, "it is in flight", func() bool {
				b.shard.mu.Lock()
				defer b.shard.mu.Unlock()
				return len(b.shard.inFlight) == 1
			})
		}
		<-g.came
		waitFor(t, "both wait", func() bool {
			b.shard.mu.Lock()
			defer b.shard.mu.Unlock()
			for _, it := range b.shard.inFlight {
				return len(it.waiters) == 2
			}
			return false
		})
		if fails {
			fs.SetInjector(vfs.FailAt(0, syscall.EIO, vfs.Kinds(vfs.OpWrite), vfs.Names("FLOOR")).Inject)
		} else {
			fs.SetInjector(nil)
		}
		close(g.open)
		x, y := <-answers, <-answers
		if fails {
			wants(t, x.err, ErrFailed)
			wants(t, y.err, ErrFailed)
			continue
		}
		ok(t, errors.Join(x.err, y.err))
		if x.duplicate == y.duplicate {
			t.Errorf("of two in flight %v and %v are duplicates", x.duplicate, y.duplicate)
		}
		b.check(t, 20)
	}
	ok(t, b.stop())
}

// TestAppendNothing: no frames, no position, and no duplicate.
func TestAppendNothing(t *testing.T) {
	b := newBench(vfs.NewMem())
	ok(t, b.start())
	if p, duplicate, err := b.shard.Append(context.Background(), nil); err != nil || duplicate || p.Offset != 0 {
		t.Errorf("%+v, %v, %v", p, duplicate, err)
	}
	ok(t, b.stop())
}

// TestBackpressure: behind an encoder that does not come along appends wait, and say
// when to come again if they wait too long.
func TestBackpressure(t *testing.T) {
	b := newBench(vfs.NewMem())
	b.options.MaxBacklog = 3000
	ok(t, b.start())
	b.shard.sealMu.Lock() // no block can be encoded
	n := 0
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		frames, err := framesOf(batch(0, n, 10, ""))
		ok(t, err)
		_, _, err = b.shard.Append(ctx, frames)
		cancel()
		if err == nil {
			n += 10
			continue
		}
		var u *Unavailable
		if !errors.As(err, &u) || u.RetryAfter() <= 0 || !errors.Is(err, ErrBacklog) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("behind a full backlog: %v", err)
		}
		break
	}
	if n < 20 || n > 50 {
		t.Errorf("%d entries were taken", n)
	}
	waiting := make(chan error, 1)
	go func() { _, err := b.append(batch(0, n, 10, "")); waiting <- err }()
	b.shard.sealMu.Unlock()
	ok(t, <-waiting)
	b.check(t, n+10)
	ok(t, b.stop())
}

// TestAppendOutlivesItsCaller: whoever gives up waiting may ask again.
func TestAppendOutlivesItsCaller(t *testing.T) {
	fs := vfs.NewFault(vfs.NewMem(), nil)
	b := newBench(fs)
	ok(t, b.start())
	g := newGate(tailSyncs...)
	fs.SetInjector(g.inject)
	ctx, cancel := context.WithCancel(context.Background())
	frames, err := framesOf(batch(0, 0, 5, "key"))
	ok(t, err)
	answer := make(chan error, 1)
	go func() { _, _, err := b.shard.Append(ctx, frames); answer <- err }()
	<-g.came
	cancel()
	err = <-answer
	var u *Unavailable
	if !errors.As(err, &u) || !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	fs.SetInjector(nil)
	close(g.open)
	if duplicate, err := b.append(batch(0, 0, 5, "key")); err != nil || !duplicate {
		t.Errorf("asked again: %v, %v", duplicate, err)
	}
	b.check(t, 5)
	ok(t, b.stop())
}

// TestH13FillerLosesBytes: the fsync of the zeros ahead fails and takes with it what
// the writer has written; the writer's own fsync succeeds, but it does not answer.
func TestH13FillerLosesBytes(t *testing.T) {
	mem := vfs.NewMem()
	fs := vfs.NewFault(mem, nil)
	b, o := newBench(fs), newOracle()
	ok(t, b.start())
	var mu sync.Mutex
	fills, syncsToCome := 0, 0
	filling, writerSyncs, lost, answered := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	fs.SetInjector(func(op vfs.Op) vfs.Decision {
		if !vfs.Names("tail-*")(op) {
			return vfs.Decision{}
		}
		mu.Lock()
		if op.Kind == vfs.OpWrite && op.Length == fillStep {
			// The first fill has to be waited for; it is the second that runs beside the writer.
			if fills++; fills == 2 {
				syncsToCome = 2
			}
		}
		turn := 0
		if op.Kind == vfs.OpSync && syncsToCome > 0 {
			turn = syncsToCome
			syncsToCome--
		}
		mu.Unlock()
		switch turn {
		case 2: // the filler's
			close(filling)
			<-writerSyncs
			return vfs.Decision{Lose: true, After: func() {
				close(lost)
				// Time for a wrong answer before the filler knows of the failure.
				select {
				case <-answered:
				case <-time.After(100 * time.Millisecond):
				}
			}}
		case 1: // the writer's, which has written
			close(writerSyncs)
			<-lost
		}
		return vfs.Decision{}
	})
	var err error
	for range 100 {
		err = o.write(b, largeWriter)
		select {
		case <-lost:
			close(answered)
		default:
		}
		if err != nil {
			break
		}
		second := false
		waitFor(t, "nothing is filled, or the second time", func() bool {
			mu.Lock()
			defer mu.Unlock()
			b.shard.fill.mu.Lock()
			defer b.shard.fill.mu.Unlock()
			second = fills == 2
			return second || !b.shard.fill.busy
		})
		if second {
			<-filling
		}
	}
	wants(t, err, ErrFailed)
	acked := o.at()
	im := &image{"power loss", mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}), acked, false}
	fs.SetInjector(nil)
	ok(t, b.stop())
	ok(t, im.recover())
}

// TestFillerNeverOverlaps: zeros are only written where nothing was and nothing is
// being written.
func TestFillerNeverOverlaps(t *testing.T) {
	b, o := newBench(vfs.NewMem()), newOracle()
	ok(t, b.start())
	var group sync.WaitGroup
	for writer := range 3 {
		group.Go(func() {
			for range 30 {
				if err := o.write(b, largeWriter+writer); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	ok(t, b.healthy(o))
	ok(t, b.stop())
	ok(t, b.start())
	ok(t, b.healthy(o))
	ok(t, b.stop())
}

// TestFullDisk: on a full disk appends are refused, reads go on, and once there is
// space again the shard goes on with all that was acknowledged.
func TestFullDisk(t *testing.T) {
	for _, space := range []int64{150_000, 400_000, 1_300_000} {
		t.Run(fmt.Sprint(space), func(t *testing.T) {
			mem, o := vfs.NewMem(), newOracle()
			b := newBench(mem)
			ok(t, b.start())
			ok(t, o.write(b, 0))
			mem.SetCapacity(space)
			var err error
			for err == nil {
				err = o.write(b, largeWriter)
			}
			var u *Unavailable
			if !errors.As(err, &u) || u.RetryAfter() <= 0 || !errors.Is(err, syscall.ENOSPC) {
				t.Fatalf("on a full disk: %v", err)
			}
			select {
			case <-b.shard.Failed():
			default:
				t.Error("Failed is open")
			}
			entries, _, err := b.read()
			ok(t, err)
			ok(t, o.verify(entries, nothingLost, false))
			ok(t, b.stop())
			if err := b.start(); err == nil {
				_ = b.stop() // there may be space for that
			}
			mem.SetCapacity(0)
			b.options.AfterFailure = true
			ok(t, b.start())
			ok(t, b.healthy(o))
			ok(t, o.write(b, largeWriter))
			ok(t, b.healthy(o))
			ok(t, b.stop())
		})
	}
}

// TestFillerStopsOnAFullDisk: there is space for the log, but not for zeros ahead.
func TestFillerStopsOnAFullDisk(t *testing.T) {
	mem, o := vfs.NewMem(), newOracle()
	b := newBench(mem)
	ok(t, b.start())
	mem.SetCapacity(700_000)
	for range 8 {
		ok(t, o.write(b, largeWriter))
	}
	ok(t, b.shard.Err())
	mem.SetCapacity(0)
	ok(t, b.healthy(o))
	ok(t, b.stop())
}

// TestIdle: nothing happens on the disk of a shard that nobody uses, and its tail is
// small.
func TestIdle(t *testing.T) {
	mem := vfs.NewMem()
	b := newBench(mem)
	ok(t, b.start())
	if _, err := b.append(batch(0, 0, 10, "")); err != nil {
		t.Fatal(err)
	}
	ok(t, b.floor.Sync())
	before := mem.Counters()
	now := time.Now()
	for i := range 1000 {
		b.shard.Tick(now.Add(time.Duration(i) * time.Second))
		ok(t, b.floor.Sync())
	}
	if after := mem.Counters(); after != before {
		t.Errorf("%+v became %+v", before, after)
	}
	tail := fileLike(t, mem, "shards/3/tail-")
	for range 10 {
		if size := len(fileBytes(t, mem, tail)); size > 4096 {
			t.Errorf("the tail of a quiet shard takes %d bytes", size)
		}
		ok(t, b.stop())
		ok(t, b.start())
	}
	ok(t, b.stop())
}

// TestTick: blocks and seals come by size and age.
func TestTick(t *testing.T) {
	b := newBench(vfs.NewMem())
	b.options.SealBytes, b.options.SealAge = 2000, time.Hour
	ok(t, b.start())
	now := time.Now()
	push := func(n int) {
		if _, err := b.append(batch(0, 0, n, "")); err != nil {
			t.Fatal(err)
		}
	}
	sealed := func(n int) func() bool { return func() bool { return b.shard.Status().SealedSegments == n } }
	push(10)
	b.shard.Tick(now.Add(59 * time.Minute))
	push(100)
	b.shard.Tick(now)
	waitFor(t, "a seal by size", sealed(1))
	push(10)
	b.shard.Tick(now.Add(59 * time.Minute))
	ok(t, b.encode()) // whatever was begun is through
	if !sealed(1)() {
		t.Error("sealed too early")
	}
	b.shard.Tick(now.Add(2 * time.Hour))
	waitFor(t, "a seal by age", sealed(2))
	ok(t, b.stop())
}
