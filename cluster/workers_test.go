package cluster

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// All queries together have no more pieces in work than there are workers, and each piece
// is done once.
func TestWorkersBound(t *testing.T) {
	w := newWorkers(3)
	var running, most atomic.Int64
	var done [5][40]atomic.Int64
	var group sync.WaitGroup
	for q := range done {
		group.Go(func() {
			err := w.Each(t.Context(), len(done[q]), func(i int) error {
				now := running.Add(1)
				for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
				}
				done[q][i].Add(1)
				running.Add(-1)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if most.Load() > 3 {
		t.Errorf("%d pieces at a time", most.Load())
	}
	for q := range done {
		for i := range done[q] {
			if n := done[q][i].Load(); n != 1 {
				t.Fatalf("piece %d of query %d was done %d times", i, q, n)
			}
		}
	}
}

// Pieces are done side by side: each of two waits for the other.
func TestWorkersSideBySide(t *testing.T) {
	var both sync.WaitGroup
	both.Add(2)
	err := newWorkers(2).Each(t.Context(), 2, func(int) error {
		both.Done()
		both.Wait()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Whoever is faster, the error of the first piece that fails is the answer, and what
// follows is not begun.
func TestWorkersErrors(t *testing.T) {
	w := newWorkers(3)
	first, second := errors.New("first"), errors.New("second")
	failed := make(chan struct{})
	var begun atomic.Int64
	err := w.Each(t.Context(), 1000, func(i int) error {
		begun.Add(1)
		switch i {
		case 0:
			<-failed
			return first
		case 1:
			close(failed)
			return second
		}
		time.Sleep(time.Millisecond) // until the others have failed there is time for some
		return nil
	})
	if !errors.Is(err, first) || begun.Load() == 1000 {
		t.Errorf("%v after %d pieces", err, begun.Load())
	}
	if err := w.Each(t.Context(), 0, nil); err != nil {
		t.Error(err)
	}
}

// A query that is given up does not wait for its turn.
func TestWorkersCancel(t *testing.T) {
	w := newWorkers(1)
	ctx, cancel := context.WithCancel(t.Context())
	busy, release := make(chan struct{}), make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		if err := w.Each(t.Context(), 1, func(int) error { close(busy); <-release; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-busy
	group.Go(cancel)
	if err := w.Each(ctx, 5, func(int) error { t.Error("was begun"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	close(release)
	group.Wait()
}
