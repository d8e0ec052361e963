package vfs

import (
	"path"
	"slices"
	"sync/atomic"
	"syscall"
)

// Filter picks operations.
type Filter func(Op) bool

// Kinds picks operations of any of some kinds.
func Kinds(kinds ...OpKind) Filter {
	return func(op Op) bool { return slices.Contains(kinds, op.Kind) }
}

// Names picks operations on files or folders whose last path element, of a
// rename that of either name, matches a pattern of path.Match. A malformed
// pattern picks nothing.
func Names(pattern string) Filter {
	matches := func(name string) bool {
		ok, err := path.Match(pattern, path.Base(name))
		return err == nil && ok && name != ""
	}
	return func(op Op) bool { return matches(op.Name) || matches(op.NewName) }
}

// Trigger is an injector that counts the operations its filters all pick, and
// decides about some of them. Its method Inject is the Injector:
//
//	for k := int64(0); ; k++ {
//		trigger := vfs.FailAt(k, syscall.EIO)
//		run(vfs.NewFault(vfs.NewMem(), trigger.Inject))
//		if !trigger.Fired() {
//			break // The run has fewer than k+1 operations.
//		}
//	}
type Trigger struct {
	filters  []Filter
	first    int64 // The first one that is decided about, from 0.
	count    int64 // How many are.
	decision Decision
	before   func()

	seen     atomic.Int64
	fired    atomic.Int64
	disarmed atomic.Bool
}

// forEver is a count of operations that no test reaches.
const forEver = 1 << 62

// Count counts operations and lets them all happen.
func Count(filters ...Filter) *Trigger { return &Trigger{filters: filters} }

// At decides about the k-th operation that the filters pick, from 0.
func At(k int64, d Decision, filters ...Filter) *Trigger {
	return &Trigger{filters: filters, first: k, count: 1, decision: d}
}

// From decides about the k-th operation that the filters pick and all later.
func From(k int64, d Decision, filters ...Filter) *Trigger {
	return &Trigger{filters: filters, first: k, count: forEver, decision: d}
}

// FailAt lets the k-th operation that the filters pick fail.
func FailAt(k int64, err error, filters ...Filter) *Trigger {
	return At(k, Decision{Err: err}, filters...)
}

// NoSpaceFrom lets the k-th write and all later ones fail with ENOSPC. To bound
// the space instead, see Mem.SetCapacity.
func NoSpaceFrom(k int64, filters ...Filter) *Trigger {
	return From(k, Decision{Err: syscall.ENOSPC}, append([]Filter{Kinds(OpWrite)}, filters...)...)
}

// Before calls a function just before the k-th operation that the filters
// pick, for example one that calls Mem.Crash.
func Before(k int64, call func(), filters ...Filter) *Trigger {
	return &Trigger{filters: filters, first: k, count: 1, before: call}
}

// After calls a function just after the k-th operation that the filters pick
// has happened and before its caller gets to know.
func After(k int64, call func(), filters ...Filter) *Trigger {
	return At(k, Decision{After: call}, filters...)
}

// Inject implements Injector.
func (t *Trigger) Inject(op Op) Decision {
	for _, pick := range t.filters {
		if !pick(op) {
			return Decision{}
		}
	}
	number := t.seen.Add(1) - 1
	if number < t.first || number-t.first >= t.count || t.disarmed.Load() {
		return Decision{}
	}
	t.fired.Add(1)
	if t.before != nil {
		t.before()
	}
	return t.decision
}

// Seen returns how many operations the filters picked so far.
func (t *Trigger) Seen() int64 { return t.seen.Load() }

// Fired tells whether the trigger has decided about an operation.
func (t *Trigger) Fired() bool { return t.fired.Load() > 0 }

// Disarm lets all further operations happen: the disk works again.
func (t *Trigger) Disarm() { t.disarmed.Store(true) }

// Join asks several injectors about each operation, in order. The first one
// with an error, a loss, a drop or a flip decides; the After of all are called.
func Join(injectors ...Injector) Injector {
	return func(op Op) Decision {
		var joined Decision
		var after []func()
		decided := false
		for _, inject := range injectors {
			d := inject(op)
			if d.After != nil {
				after = append(after, d.After)
			}
			if !decided && d.interferes() {
				joined, decided = d, true
			}
		}
		joined.After = nil
		if len(after) > 0 {
			joined.After = func() {
				for _, call := range after {
					call()
				}
			}
		}
		return joined
	}
}

// interferes tells whether the operation will not simply happen.
func (d Decision) interferes() bool {
	return d.Err != nil || d.Short > 0 || d.Lose || d.Drop || d.Flip.Mask != 0
}
