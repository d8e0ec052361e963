package cluster

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/logcluster/logcluster/internal/vfs"
)

// Options are the settings of a node. They do not change after Open.
type Options struct {
	// FS holds everything but etcd's own files. nil: the operating system's.
	FS vfs.FS
	// Dir is the node's folder: DIR/etcd, DIR/node, DIR/shards. Required.
	Dir string
	// Name is the node's name in its cluster, for good. Required.
	Name string
	// HTTP, Peer and Etcd are where the node listens, HOST:PORT. HTTP is what it tells
	// others; Etcd is opened by the node itself. Required.
	HTTP, Peer, Etcd string
	// Peers names the nodes that a new cluster begins with. Empty: this node alone.
	Peers []string
	// Shards and Replicas are those of a new cluster; for one that exists they must
	// agree with it. 0: as it is; 16 and 3 for a new one.
	Shards, Replicas int
	// Insecure allows plain text between hosts other than loopback.
	Insecure bool

	Logger     *zap.Logger           // nil: none
	Registerer prometheus.Registerer // nil: the node's metrics are not shown

	// OwnerWait is how long a request waits for a shard to have an owner. 0: 5 s.
	OwnerWait time.Duration
	// ReopenPause is the first pause before a shard that failed is opened again; it
	// doubles up to 16 times as much. 0: 250 ms.
	ReopenPause time.Duration
	// SealBytes is shard.Options.SealBytes.
	SealBytes uint64

	// meta is used instead of an embedded etcd, by tests and simulations.
	meta Meta
	// noFsync makes etcd's writes fast and unsafe, for tests.
	noFsync bool
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.OS{}
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.OwnerWait == 0 {
		o.OwnerWait = 5 * time.Second
	}
	if o.ReopenPause == 0 {
		o.ReopenPause = 250 * time.Millisecond
	}
	return o
}
