package shard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
)

// TestC1Random: writers that retry, blocks, seals and queries side by side, in phases
// that end with a clean stop, a crash or a fault of the disk. After every one all that
// was acknowledged is there once and in order.
func TestC1Random(t *testing.T) {
	var total counts
	for seed := range uint64(25 * *seeds) {
		w := &world{rng: generator(seed), mem: vfs.NewMem(), oracle: newOracle(), counts: &total}
		for phase := range 6 {
			if err := w.phase(); err != nil {
				t.Fatalf("seed %d, phase %d: %v", seed, phase, err)
			}
		}
		if err := snapshot("the end", w.mem, w.oracle).recover(); err != nil {
			t.Fatalf("seed %d: at the end: %v", seed, err)
		}
	}
	t.Logf("%+v", total.String())
	if total.crashes.Load() == 0 || total.faults.Load() == 0 || total.seals.Load() == 0 || total.merges.Load() == 0 || total.appends.Load() == 0 || total.queries.Load() == 0 {
		t.Errorf("something never happened: %s", total.String())
	}
}

// counts tell whether the random test did anything.
type counts struct{ appends, queries, seals, merges, crashes, faults atomic.Int64 }

func (c *counts) String() string {
	return fmt.Sprintf("appends %d, queries %d, seals %d, merges %d, crashes %d, faults %d", c.appends.Load(), c.queries.Load(), c.seals.Load(), c.merges.Load(), c.crashes.Load(), c.faults.Load())
}

type world struct {
	rng    *rand.Rand
	mem    *vfs.Mem
	oracle *oracle
	after  bool // the last phase ended with a fault, in the same process
	epoch  uint64
	counts *counts
}

func (w *world) phase() error {
	var found *image
	inject := vfs.Injector(func(vfs.Op) vfs.Decision { return vfs.Decision{} })
	k := int64(w.rng.IntN(120))
	fault := false
	switch w.rng.IntN(3) {
	case 0:
		mode, rng, mem, o := crashModes[w.rng.IntN(len(crashModes))].options, generator(w.rng.Uint64()), w.mem, w.oracle
		inject = vfs.Before(k, func() {
			before := o.at()
			fs := mem.Crash(rng, mode)
			found = &image{"crash", fs, &oracle{sent: o.at().sent, acked: before.acked}, false}
		}, changes).Inject
	case 1:
		fault = true
		trigger := vfs.FailAt(5*k, syscall.EIO)
		if w.rng.IntN(2) == 0 {
			trigger = vfs.At(k/4, vfs.Decision{Lose: true}, vfs.Kinds(vfs.OpSync))
		}
		inject = trigger.Inject
	}
	errs := w.live(newBench(vfs.NewFault(w.mem, inject)))
	w.after = false
	switch {
	case found != nil:
		w.counts.crashes.Add(1)
		w.mem, w.oracle = found.fs, found.oracle
	case fault && errs != nil && !errors.As(errs, new(wrong)):
		w.counts.faults.Add(1)
		w.after = w.rng.IntN(2) == 0
		return nil
	}
	return errs
}

// live runs everything side by side and returns all errors.
func (w *world) live(b *bench) error {
	b.epoch, b.options.AfterFailure = w.epoch, w.after
	if err := b.start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	w.epoch = b.epoch
	errs := []error{b.healthy(w.oracle)}
	var mu sync.Mutex
	var group sync.WaitGroup
	var writers atomic.Int64
	run := func(what string, f func(rng *rand.Rand) error) {
		rng := generator(w.rng.Uint64())
		group.Go(func() {
			if err := f(rng); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	for writer := range 3 {
		writers.Add(1)
		run("writer", func(rng *rand.Rand) error {
			defer writers.Add(-1)
			for range rng.IntN(12) {
				write := w.oracle.write
				if rng.IntN(3) == 0 {
					n := 1 + rng.IntN(4)
					write = func(b *bench, writer int) error { return w.oracle.writeTogether(b, writer, n) }
				}
				if err := write(b, writer); err != nil {
					return err
				}
				w.counts.appends.Add(1)
			}
			return nil
		})
	}
	if w.rng.IntN(3) == 0 {
		run("large writer", func(*rand.Rand) error { return w.oracle.writeTogether(b, largeWriter, 3) })
	}
	run("encoder", func(rng *rand.Rand) error {
		for writers.Load() > 0 {
			var err error
			switch rng.IntN(5) {
			case 0:
				err = b.seal()
				w.counts.seals.Add(1)
			case 1, 2:
				err = b.encode()
			case 3:
				err = b.merge()
				w.counts.merges.Add(int64(b.shard.Status().Merges))
			default:
				b.shard.Tick(time.Now())
				err = b.floor.Sync()
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	run("reader", func(rng *rand.Rand) error {
		for writers.Load() > 0 {
			before := w.oracle.at()
			entries, damage, err := b.read()
			if err == nil && len(damage) > 0 {
				err = fmt.Errorf("damage: %v", damage)
			}
			if err != nil {
				return err
			}
			after := w.oracle.at()
			if err := (&oracle{sent: after.sent, acked: before.acked}).verify(entries, nothingLost, false); err != nil {
				return wrong{err}
			}
			w.counts.queries.Add(1)
			w.mem.WriteBack(rng)
		}
		return nil
	})
	group.Wait()
	return errors.Join(append(errs, b.stop())...)
}

// A wrong answer is never right, whatever the disk does.
type wrong struct{ error }

// TestC3ReadersSeeAllOnce: while entries move from frames to blocks, from blocks to
// a sealed file and from several of these to one, every query sees each of them exactly once.
func TestC3ReadersSeeAllOnce(t *testing.T) {
	b, o := newBench(vfs.NewMem()), newOracle()
	ok(t, b.start())
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	fail := func(err error) {
		if err != nil && ctx.Err() == nil {
			t.Error(err)
			cancel()
		}
	}
	for writer := range 2 {
		group.Go(func() {
			for ctx.Err() == nil {
				fail(o.write(b, writer))
			}
		})
	}
	group.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			switch i % 6 {
			case 2:
				fail(b.seal())
			case 5:
				fail(errors.Join(b.seal(), b.merge()))
			default:
				fail(b.encode())
			}
		}
	})
	for ctx.Err() == nil && b.shard.Status().Merges < 5*uint64(*seeds) {
		before := o.at()
		entries, damage, err := b.read()
		if err == nil && len(damage) > 0 {
			err = fmt.Errorf("damage: %v", damage)
		}
		if err == nil {
			err = (&oracle{sent: o.at().sent, acked: before.acked}).verify(entries, nothingLost, false)
		}
		fail(err)
	}
	cancel()
	group.Wait()
	ok(t, b.stop())
}
