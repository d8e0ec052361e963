package cluster

import (
	"context"
	"sync"
	"sync/atomic"
)

// workers bounds how many units of stored entries the node reads at a time, over all
// queries: more than there are processors would only hold more memory. Its goroutines live
// as long as the call of Each that started them.
type workers struct {
	slots chan struct{}
}

func newWorkers(n int) *workers { return &workers{slots: make(chan struct{}, max(n, 1))} }

// Count implements segment.Workers.
func (w *workers) Count() int { return cap(w.slots) }

// Each implements segment.Workers. A piece of work must not call it again: it holds a slot.
func (w *workers) Each(ctx context.Context, n int, f func(i int) error) error {
	var next, failed atomic.Int64
	failed.Store(int64(n))
	errs := make([]error, n)
	work := func() {
		for {
			i := next.Add(1) - 1
			if i >= failed.Load() {
				return
			}
			if errs[i] = w.one(ctx, int(i), f); errs[i] == nil {
				continue
			}
			for old := failed.Load(); i < old && !failed.CompareAndSwap(old, i); old = failed.Load() {
			}
			return
		}
	}
	var group sync.WaitGroup
	for range min(w.Count(), n) - 1 {
		group.Go(work)
	}
	work()
	group.Wait()
	if i := failed.Load(); i < int64(n) {
		return errs[i]
	}
	return nil
}

// one does a piece of work when there is room.
func (w *workers) one(ctx context.Context, i int, f func(i int) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-w.slots }()
	return f(i)
}
