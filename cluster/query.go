package cluster

import (
	"context"
	"errors"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
	"github.com/logcluster/logcluster/shard"
)

// The node is the query engine's source: it asks all shards.
var _ logql.Source = (*Node)(nil)

// sorted returns the replicas in the order of their shards.
func (n *Node) sorted() []*replica {
	all := make([]*replica, 0, len(n.replicas))
	for _, r := range n.replicas {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *replica) int { return int(a.number) - int(b.number) })
	return all
}

// eachShard calls f for each shard, some at a time. A shard that cannot be read is
// damage to the answer: reported, or an error.
func (n *Node) eachShard(ctx context.Context, q *segment.Query, f func(ctx context.Context, i int, s *shard.Shard) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(2, runtime.GOMAXPROCS(0)))
	for i, r := range n.sorted() {
		group.Go(func() error {
			s, err := r.read(ctx)
			if err == nil {
				err = f(ctx, i, s)
			}
			var unavailable *shard.Unavailable
			if errors.As(err, &unavailable) && ctx.Err() == nil {
				return q.Damaged(err)
			}
			return err
		})
	}
	return group.Wait()
}

// parallel returns the scan's query as the node's workers serve it: one unit of a shard is
// one piece of work, and all queries together have as many in work as the node has
// workers.
func (n *Node) parallel(scan *logql.Scan) *segment.Query {
	q := scan.Query
	q.Workers = n.workers
	return &q
}

// Entries implements logql.Source.
func (n *Node) Entries(ctx context.Context, scan *logql.Scan) (segment.Iterator, error) {
	q := n.parallel(scan)
	iterators := make([]segment.Iterator, len(n.replicas))
	closeAll := func() {
		for _, it := range iterators {
			if it != nil {
				_ = it.Close()
			}
		}
	}
	err := n.eachShard(ctx, q, func(_ context.Context, i int, s *shard.Shard) error {
		// The iterator lives longer than this call, and so must its context.
		it, err := s.Select(ctx, q)
		if err != nil {
			return err
		}
		// The first entry of each shard is found here, side by side; the merge that
		// follows asks one after the other.
		iterators[i] = &primed{Iterator: it, first: it.Next()}
		return nil
	})
	if err != nil {
		closeAll()
		return nil, err
	}
	iterators = slices.DeleteFunc(iterators, func(it segment.Iterator) bool { return it == nil })
	return segment.MergeIterators(q, iterators), nil
}

// primed is an iterator on which Next was called once.
type primed struct {
	segment.Iterator
	used, first bool
}

func (p *primed) Next() bool {
	if !p.used {
		p.used = true
		return p.first
	}
	return p.Iterator.Next()
}

// Partial implements logql.Source.
func (n *Node) Partial(ctx context.Context, scan *logql.Scan) (*segment.Partial, error) {
	if err := scan.Aggregation.Validate(); err != nil {
		return nil, err
	}
	partials := make([]*segment.Partial, len(n.replicas))
	q := n.parallel(scan)
	err := n.eachShard(ctx, q, func(ctx context.Context, i int, s *shard.Shard) error {
		p := segment.NewPartial(scan.Aggregation)
		if err := s.Aggregate(ctx, q, scan.Aggregation, p); err != nil {
			return err
		}
		partials[i] = p
		return tooManySeries(scan, p)
	})
	if err != nil {
		return nil, err
	}
	total := segment.NewPartial(scan.Aggregation)
	for _, p := range partials {
		if p != nil {
			total.Merge(p)
		}
		if err := tooManySeries(scan, total); err != nil {
			return nil, err
		}
	}
	return total, nil
}

// tooManySeries ends a query whose answer would be larger than it may.
func tooManySeries(scan *logql.Scan, p *segment.Partial) error {
	if scan.MaxSeries > 0 && len(p.Series) > scan.MaxSeries {
		return logql.TooManySeries(scan.MaxSeries, scan.Aggregation.Steps)
	}
	return nil
}

// Streams implements logql.Source.
func (n *Node) Streams(ctx context.Context, scan *logql.Scan) ([]segment.Labels, error) {
	found := make([]map[string]segment.Labels, len(n.replicas))
	err := n.eachShard(ctx, &scan.Query, func(ctx context.Context, i int, s *shard.Shard) error {
		found[i] = map[string]segment.Labels{}
		return s.Streams(ctx, &scan.Query, func(st *segment.Stream) {
			found[i][string(st.AppendKey(nil))] = st.Labels
		})
	})
	if err != nil {
		return nil, err
	}
	// A stream is in one shard only, unless the routing has changed.
	all := map[string]segment.Labels{}
	for _, m := range found {
		for key, labels := range m {
			all[key] = labels
		}
	}
	sets := make([]segment.Labels, 0, len(all))
	for _, labels := range all {
		sets = append(sets, labels)
	}
	return sets, nil
}
