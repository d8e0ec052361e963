package segment

import (
	"context"
	"errors"
	"sync"
)

// Workers does independent pieces of work, some at a time. Package segment starts no
// goroutine of its own: who runs queries says how many units may be read at once.
type Workers interface {
	// Count is how many pieces of work may be done at a time, at least 1.
	Count() int
	// Each calls f for i from 0 to n-1, beginning them in this order, and waits for all
	// that were begun. After an error no further piece is begun; of several errors that of
	// the lowest i is returned. When ctx ends, so does Each, with its error.
	Each(ctx context.Context, n int, f func(i int) error) error
}

// each is Workers.Each, one piece after the other if the query has no Workers.
func (q *Query) each(ctx context.Context, n int, f func(i int) error) error {
	if q.Workers != nil {
		return q.Workers.Each(ctx, n, f)
	}
	for i := range n {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}

// width is how many units are worth being read ahead of the one that is asked for.
func (q *Query) width() int {
	if q.Workers == nil {
		return 1
	}
	return q.Workers.Count()
}

// orderMatters reports whether the sums of a measure differ in their last digits with the
// order in which they are added up.
func (m Measure) orderMatters() bool {
	switch m {
	case MeasureSum, MeasureMean, MeasureVariance, MeasureDeviation:
		return true
	}
	return false
}

// groupUnits is how many units are added up by one worker where the order matters.
const groupUnits = 4

// A sinkPool is what the workers of one aggregation add to. Where the order does not
// matter each worker has a sink of its own, which it takes while it reads a unit; else
// each group of units has one, whoever reads it. Either way the total does not depend on
// who was faster.
type sinkPool struct {
	q *Query
	a *Aggregation

	mu   sync.Mutex
	all  []*sums // in order of groups; or as they were made
	free []*sums
}

func (s *sinkPool) take() *sums {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		last := s.free[n-1]
		s.free = s.free[:n-1]
		return last
	}
	made := newSums(s.q, s.a, NewPartial(s.a))
	s.all = append(s.all, made)
	return made
}

func (s *sinkPool) give(sink *sums) {
	s.mu.Lock()
	s.free = append(s.free, sink)
	s.mu.Unlock()
}

// AggregateUnits adds the entries of units that q asks for to p. Units are read side by
// side if q has Workers; the answer is the same.
func AggregateUnits(ctx context.Context, units []Unit, q *Query, a *Aggregation, p *Partial) error {
	q = q.searching()
	var wanted []Unit
	for _, u := range units {
		if q.overlaps(u.Bounds()) {
			wanted = append(wanted, u)
		}
	}
	pool := &sinkPool{q: q, a: a}
	var err error
	if a.Measure.orderMatters() {
		groups := (len(wanted) + groupUnits - 1) / groupUnits
		for range groups {
			pool.all = append(pool.all, newSums(q, a, NewPartial(a)))
		}
		err = q.each(ctx, groups, func(i int) error {
			for _, u := range wanted[i*groupUnits : min((i+1)*groupUnits, len(wanted))] {
				if err := pool.all[i].unit(ctx, u); err != nil {
					return err
				}
			}
			return nil
		})
	} else {
		err = q.each(ctx, len(wanted), func(i int) error {
			sink := pool.take()
			defer pool.give(sink)
			return sink.unit(ctx, wanted[i])
		})
	}
	if err != nil {
		return err
	}
	for _, s := range pool.all {
		p.Merge(s.p)
	}
	return nil
}

// unit adds one unit's entries. What is damaged adds nothing and is told of.
func (s *sums) unit(ctx context.Context, u Unit) error {
	err := ctx.Err()
	if err != nil {
		return err
	}
	switch u := u.(type) {
	case *Block:
		err = u.aggregate(ctx, s.q, s)
	case *FrameUnit:
		err = u.aggregate(ctx, s.q, s)
	default:
		err = u.Aggregate(ctx, s.q, s.a, s.p)
	}
	if errors.Is(err, ErrCorrupt) {
		err = s.q.Damaged(err)
	}
	return err
}
