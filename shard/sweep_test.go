package shard

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// A run is a short life of a shard with everything that writes: several groups, large
// enough to be filled ahead of, blocks, seals, merges, restarts.
type run struct {
	bench  *bench
	oracle *oracle
	// reopen says that errors are answered as a node does: the shard is opened again in
	// the same process. Without it the process goes on to its end.
	reopen bool
	// restarted is called when a process ends.
	restarted func()
	stopping  func() // is called before, if it still runs
	running   bool
}

func (r *run) script() error {
	b, o := r.bench, r.oracle
	processes := [][]func() error{
		{
			func() error { return o.write(b, 0) },
			func() error { return o.writeTogether(b, 1, 5) },
			b.encode,
			func() error { return o.write(b, 0) },
			b.seal,
			func() error { return o.write(b, 1) },
		},
		{
			func() error { return o.write(b, 0) },
			b.encode,
			func() error { return o.writeTogether(b, largeWriter, 2) },
			func() error { return o.write(b, 1) },
			b.encode,
			func() error { return o.writeTogether(b, 0, 3) },
			func() error { return b.floor.Sync() },
			func() error { return o.write(b, largeWriter) },
			b.seal,
			b.merge,
			func() error { return o.write(b, 0) },
		},
		{
			func() error { return o.write(b, 1) },
			b.seal,
			b.merge,
			func() error { return o.write(b, 0) },
			func() error { _, _, err := b.read(); return err },
		},
	}
	var errs []error
	note := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	for p, process := range processes {
		b.options.AfterFailure = false
		note("start", r.start())
		for i, step := range process {
			if !r.running {
				continue
			}
			err := step()
			note(fmt.Sprintf("process %d, step %d", p, i), err)
			if err != nil && r.reopen {
				note("stop", r.stop())
				b.options.AfterFailure = true
				note("reopen", r.start())
			}
		}
		note("stop", r.stop())
		if r.restarted != nil {
			r.restarted()
		}
	}
	return errors.Join(errs...)
}

// start tries again after an error, as a node does.
func (r *run) start() error {
	err := r.bench.start()
	if err != nil && r.reopen {
		r.bench.options.AfterFailure = true
		err = errors.Join(err, r.bench.start())
		r.running = r.bench.shard != nil && r.bench.shard.Err() == nil
		return err
	}
	r.running = err == nil
	return err
}

func (r *run) stop() error {
	if !r.running {
		return nil
	}
	r.running = false
	if r.stopping != nil {
		r.stopping()
	}
	return r.bench.stop()
}

// TestScript: without faults the script runs without errors.
func TestScript(t *testing.T) {
	mem, o := vfs.NewMem(), newOracle()
	r := &run{bench: newBench(mem), oracle: o}
	merges := uint64(0)
	r.stopping = func() { merges += r.bench.shard.Status().Merges }
	ok(t, r.script())
	if o.acked[0] != 16 || o.acked[1] != 24 || o.acked[largeWriter] != 12 || merges != 2 {
		t.Fatalf("acknowledged %v, %d merges", o.acked, merges)
	}
	ok(t, (&image{"end", mem, o, false}).recover())
}

// A poisoner finds files that are used after an fsync of them has failed (H13).
type poisoner struct {
	next vfs.Injector

	mu       sync.Mutex
	poisoned map[string]bool
	misused  []string
}

func (p *poisoner) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.poisoned = map[string]bool{}
}

func (p *poisoner) inject(op vfs.Op) vfs.Decision {
	d := p.next(op)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch op.Kind {
	case vfs.OpCreate:
		delete(p.poisoned, op.Name)
	case vfs.OpRename:
		delete(p.poisoned, op.NewName)
	case vfs.OpWrite, vfs.OpSync:
		if p.poisoned[op.Name] {
			p.misused = append(p.misused, fmt.Sprintf("%s of %s after a failed sync", op.Kind, op.Name))
		}
	}
	if op.Kind == vfs.OpSync && (d.Err != nil || d.Lose) {
		p.poisoned[op.Name] = true
	}
	return d
}

// faults are what the sweep does to operation k.
var faults = []struct {
	name     string
	decision vfs.Decision
	filters  []vfs.Filter
}{
	{"any operation fails", vfs.Decision{Err: syscall.EIO}, nil},
	{"a sync fails and the bytes are lost", vfs.Decision{Lose: true}, []vfs.Filter{vfs.Kinds(vfs.OpSync)}},
	// PROMISE and FLOOR are written in place, which takes no space.
	{"the disk is full in the middle of a write", vfs.Decision{Err: syscall.ENOSPC, Short: 100}, []vfs.Filter{vfs.Kinds(vfs.OpWrite), func(op vfs.Op) bool {
		return !strings.HasSuffix(op.Name, "/PROMISE") && !strings.HasSuffix(op.Name, "/FLOOR")
	}}},
}

// TestH13FailSweep: whatever operation fails, nothing that is not durable is
// acknowledged, no file is used again after a failed sync, and once the shard is opened
// again everything is there.
func TestH13FailSweep(t *testing.T) {
	// Without -seeds the combinations share the operations among them.
	stride := max(1, 18/int64(*seeds))
	for i, fault := range faults {
		for j, reopen := range []bool{false, true} {
			fired := true
			for k := int64(2*i+j) % stride; fired; k += stride {
				fired = failAt(t, k, fault.decision, fault.filters, reopen, fmt.Sprintf("%s: operation %d, reopen %v", fault.name, k, reopen))
			}
		}
	}
}

func failAt(t *testing.T, k int64, d vfs.Decision, filters []vfs.Filter, reopen bool, what string) bool {
	t.Helper()
	mem, o := vfs.NewMem(), newOracle()
	trigger := vfs.At(k, d, filters...)
	// After the fault the power fails now and then.
	c := &crasher{mem: mem, oracle: o, seed: uint64(k)}
	since := 0
	c.pick = func(int) bool {
		if !trigger.Fired() {
			return false
		}
		since++
		return since == 1+int(k%3) || since == 6+int(k%8)
	}
	p := &poisoner{next: vfs.Join(trigger.Inject, c.inject), poisoned: map[string]bool{}}
	b := newBench(vfs.NewFault(mem, p.inject))
	r := &run{bench: b, oracle: o, reopen: reopen, restarted: p.reset}
	err := r.script()
	if !trigger.Fired() {
		if err != nil {
			t.Fatalf("%s: without a fault: %v", what, err)
		}
		return false
	}
	if len(p.misused) > 0 {
		t.Fatalf("%s: %q (errors: %v)", what, p.misused, err)
	}
	c.images = append(c.images,
		&image{"power loss at the end", mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}), o.at(), false},
		&image{"the end", mem, o, false})
	for _, im := range c.images {
		if ierr := im.recover(); ierr != nil {
			t.Fatalf("%s: %s: %v\nerrors of the run: %v", what, im.what, ierr, err)
		}
	}
	return true
}
