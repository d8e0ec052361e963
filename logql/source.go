package logql

import (
	"context"

	"github.com/logcluster/logcluster/segment"
)

// A Scan is one pass over the stored entries that a query needs. Text is the LogQL of
// the (sub)expression that it serves: other nodes are sent the text and plan again.
type Scan struct {
	Text  string
	Query segment.Query
	// Aggregation is set when only sums are wanted, not entries.
	Aggregation *segment.Aggregation
	// MaxSeries is how many series a Partial may have; 0: any number. A Source that finds
	// more had better give up with TooManySeries than gather what will be refused.
	MaxSeries int
}

// A Source is what the engine asks: a node, which asks its shards and other nodes.
// Its methods are safe for concurrent use.
type Source interface {
	// Entries returns the entries that Scan.Query asks for, in order of (time, shard,
	// offset), ascending or descending by its direction, at most Limit of them. The
	// iterator stops with ctx's error when ctx ends.
	Entries(ctx context.Context, scan *Scan) (segment.Iterator, error)
	// Partial returns the sums that Scan.Aggregation asks for over the entries of
	// Scan.Query (whose Direction and Limit do not count).
	Partial(ctx context.Context, scan *Scan) (*segment.Partial, error)
	// Streams returns the label sets, each once and in no order, of the streams that
	// Scan.Query matches and that may have entries in its time range.
	Streams(ctx context.Context, scan *Scan) ([]segment.Labels, error)
}
