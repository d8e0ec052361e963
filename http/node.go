package http

import (
	"context"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
)

// A Node is what the server puts on the network. All of it is set, or nothing.
type Node struct {
	Appender Appender
	Querier  Querier
	Admin    Admin
}

// ready reports whether there is a node.
func (n *Node) ready() bool {
	return n != nil && n.Appender != nil && n.Querier != nil && n.Admin != nil
}

// An Appender stores entries. It is safe for concurrent use.
//
// An error that implements interface{ RetryAfter() time.Duration } means "not now": the
// client is told to send the same again.
type Appender interface {
	// Append returns once the entries that are not Refused are as durable as the store
	// promises. It keeps no reference to b, nor to the lines, after it returned.
	Append(ctx context.Context, b *segment.Batch) (segment.Receipt, error)
}

// A Querier answers questions; *logql.Engine is one. It is safe for concurrent use.
// Errors that logql.IsBadQuery knows are the client's fault.
type Querier interface {
	Query(ctx context.Context, p logql.Params) (*logql.Result, error)
	// Labels returns the sorted names of labels. An empty selector matches all streams.
	Labels(ctx context.Context, tenant, selector string, start, end int64) (names, warnings []string, err error)
	// LabelValues returns the sorted values of a label.
	LabelValues(ctx context.Context, tenant, name, selector string, start, end int64) (values, warnings []string, err error)
	// Series returns the label sets that any of the selectors matches; all if there is none.
	Series(ctx context.Context, tenant string, selectors []string, start, end int64) (sets []segment.Labels, warnings []string, err error)
}

// Admin is what operators ask of a node. It is safe for concurrent use.
type Admin interface {
	// Seal closes all open segments and returns when they are sealed and the tails are
	// trimmed.
	Seal(ctx context.Context) (SealResult, error)
	Status(ctx context.Context) (Status, error)
	// Ready returns nil if the node takes writes and queries, or what it waits for. It
	// does not depend on whether other nodes are well.
	Ready() error
}

// A SealResult counts what was sealed, as POST /admin/seal answers.
type SealResult struct {
	Shards    int    `json:"shards"`     // that had something to seal
	Segments  int    `json:"segments"`   // new files
	Entries   uint64 `json:"entries"`    // in them
	RawBytes  uint64 `json:"raw_bytes"`  // of their lines
	FileBytes uint64 `json:"file_bytes"` // on disk
}

// Status is the state of a node, as GET /status answers.
type Status struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Cluster string  `json:"cluster"` // id of the cluster
	Ready   bool    `json:"ready"`
	Reason  string  `json:"reason,omitempty"` // why it is not ready
	Uptime  float64 `json:"uptime_seconds"`
	Disk    Disk    `json:"disk"`
	Shards  []Shard `json:"shards"` // ascending
}

// Disk is the file system that holds the node's data.
type Disk struct {
	Free  uint64 `json:"free_bytes"`
	Total uint64 `json:"total_bytes"`
}

// A Shard is the state of one shard as the node sees it.
type Shard struct {
	Shard          uint32   `json:"shard"`
	Health         string   `json:"health"` // "ok", or what is wrong: "damaged", "no owner", …
	Owner          string   `json:"owner"`  // name of the node; empty: none
	Epoch          uint64   `json:"epoch"`
	Replicas       []string `json:"replicas"`    // names of nodes
	FirstIndex     uint64   `json:"first_index"` // of the records kept in the tail
	LastIndex      uint64   `json:"last_index"`
	Commit         uint64   `json:"commit"`      // index up to which records are acknowledged
	NextOffset     uint64   `json:"next_offset"` // of the next entry
	TailBytes      uint64   `json:"tail_bytes"`
	OpenBlocks     int      `json:"open_blocks"`
	SealedSegments int      `json:"sealed_segments"`
	SealedBytes    uint64   `json:"sealed_bytes"` // of the files
	RawBytes       uint64   `json:"raw_bytes"`    // of the lines in sealed segments
	Damage         []string `json:"damage,omitempty"`
}
