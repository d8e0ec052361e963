package cluster

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/logcluster/logcluster/segment"
	"github.com/logcluster/logcluster/shard"
)

// Append stores a batch and returns when all of it is committed. Its rows are grouped
// by shard, and encoded and compressed here, on the node that received them.
//
// An error that implements interface{ RetryAfter() time.Duration } means that the same
// batch may be sent again; parts of it may be stored by then, which only the batch's
// key keeps from being stored twice.
func (n *Node) Append(ctx context.Context, b *segment.Batch) (segment.Receipt, error) {
	groups := n.group(b)
	receipt := segment.Receipt{Duplicate: true, Positions: make([]segment.Position, len(groups))}
	duplicates := make([]bool, len(groups))
	appendTo := func(ctx context.Context, i int) (err error) {
		receipt.Positions[i], duplicates[i], err = n.appendShard(ctx, groups[i].shard, b, groups[i].rows)
		return err
	}
	if len(groups) == 1 {
		if err := appendTo(ctx, 0); err != nil {
			return segment.Receipt{}, err
		}
	} else {
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(appendParallel)
		for i := range groups {
			group.Go(func() error { return appendTo(ctx, i) })
		}
		if err := group.Wait(); err != nil {
			return segment.Receipt{}, err
		}
	}
	stored := receipt.Positions[:0]
	for i, d := range duplicates {
		receipt.Duplicate = receipt.Duplicate && d
		if receipt.Positions[i].Epoch != 0 {
			stored = append(stored, receipt.Positions[i])
		}
	}
	receipt.Positions = stored
	receipt.Duplicate = receipt.Duplicate && len(stored) > 0
	return receipt, nil
}

// appendParallel is how many shards one batch waits for at a time. Waiting costs
// nothing, but encoded frames take memory.
const appendParallel = 64

// shardRows are the rows of a batch that belong to one shard.
type shardRows struct {
	shard uint32
	rows  []uint32
}

// group finds the shard of each row, in the order of their first rows.
func (n *Node) group(b *segment.Batch) []shardRows {
	place := make(map[uint32]int, 1)
	var groups []shardRows
	ofStream := make([]int, len(b.Streams)) // 1 + place
	for i := range b.Rows {
		s := b.Rows[i].Stream
		at := ofStream[s]
		if at == 0 {
			number := n.route.shard(b.Streams[s].ID)
			p, ok := place[number]
			if !ok {
				p = len(groups)
				place[number] = p
				groups = append(groups, shardRows{shard: number})
				if p == 0 {
					groups[0].rows = make([]uint32, 0, len(b.Rows))
				}
			}
			at = p + 1
			ofStream[s] = at
		}
		groups[at-1].rows = append(groups[at-1].rows, uint32(i))
	}
	return groups
}

func (n *Node) appendShard(ctx context.Context, number uint32, b *segment.Batch, rows []uint32) (segment.Position, bool, error) {
	r := n.replicas[number]
	if r == nil {
		return segment.Position{}, false, &shard.Unavailable{Shard: number, After: n.o.OwnerWait, Err: ErrNoOwner}
	}
	s, err := r.serve(ctx)
	if err != nil {
		return segment.Position{}, false, err
	}
	encoder := n.frames.Get().(*segment.FrameEncoder)
	frames, err := encoder.Encode(b, rows)
	n.frames.Put(encoder)
	if err != nil {
		return segment.Position{}, false, fmt.Errorf("shard %d: %w", number, err)
	}
	if len(frames) == 0 {
		return segment.Position{}, true, nil // all rows were refused
	}
	position, duplicate, err := s.Append(ctx, frames)
	if err != nil {
		return position, false, fmt.Errorf("appending: %w", err)
	}
	return position, duplicate, nil
}

// SealResult counts what a seal of all shards did.
type SealResult struct {
	Shards int // that had something to seal
	shard.SealResult
}

// Seal seals everything that is open in the shards that this node owns.
func (n *Node) Seal(ctx context.Context) (SealResult, error) {
	results := make([]shard.SealResult, len(n.replicas))
	var group errgroup.Group
	i := 0
	for _, r := range n.replicas {
		result := &results[i]
		i++
		group.Go(func() error {
			s, err := r.serve(ctx)
			if err != nil {
				return err
			}
			*result, err = s.Seal(ctx)
			if err != nil {
				return fmt.Errorf("shard %d: %w", r.number, err)
			}
			return nil
		})
	}
	err := group.Wait()
	var total SealResult
	for _, r := range results {
		if r.Segments > 0 {
			total.Shards++
		}
		total.Segments += r.Segments
		total.Entries += r.Entries
		total.RawBytes += r.RawBytes
		total.FileBytes += r.FileBytes
	}
	return total, err
}

// Ready returns nil: an open node takes writes and queries. Which shards are well is
// for Status to tell; a node is not taken out of service for one of them.
func (n *Node) Ready() error {
	select {
	case <-n.done:
		return errors.Join(errors.New("the node is stopping"), n.Err())
	default:
		return nil
	}
}
