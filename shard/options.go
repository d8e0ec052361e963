package shard

import (
	"time"

	"go.uber.org/zap"

	"github.com/logcluster/logcluster/internal/vfs"
)

// Options are the settings of one shard's replica. They do not change after Open.
type Options struct {
	FS     vfs.FS
	Dir    string // of this shard alone
	Number uint32
	// Ident is who this replica must be. If the folder says otherwise it is refused.
	Ident Ident
	// Create makes the replica if the folder holds none. Without it a missing or empty
	// folder is a lost disk.
	Create bool
	// AfterFailure: the last opening in this process ended with a failed write or
	// fsync. No file of it is written again.
	AfterFailure bool
	Floor        *Floor
	Encoders     *Encoders
	Files        *Files      // that the node has open; nil: the shard has its own
	Logger       *zap.Logger // nil: none

	// SealBytes and SealRows are the size at which a segment is sealed: raw payload
	// bytes, entries. 0: 128 MiB, 4,000,000.
	SealBytes uint64
	SealRows  uint64
	// SealAge is the age at which any segment is sealed, SealAgeLarge that of one that
	// holds at least 8 MiB. 0: 24 h, 1 h.
	SealAge      time.Duration
	SealAgeLarge time.Duration
	// BlockAge is the age at which entries are encoded that do not fill a block but are
	// at least 256 KiB. 0: 2 minutes.
	BlockAge time.Duration
	// MaxBacklog is how many raw bytes may wait for the encoder before appends wait
	// too. 0: 256 MiB.
	MaxBacklog int64
	// MergeFanout is how many segments of about the same size that stand side by side are
	// merged into one, in the background. 0: 8; negative: none are.
	MergeFanout int
	// MergeBytes is how many bytes of lines a merged segment has at most. 0: 1 GiB.
	MergeBytes uint64
	// ObserveFsync is told how long each group's fsync took, in seconds. It may be nil.
	ObserveFsync func(seconds float64)
}

func (o Options) withDefaults() Options {
	setDefault(&o.SealBytes, 128<<20)
	setDefault(&o.SealRows, 4_000_000)
	setDefault(&o.SealAge, 24*time.Hour)
	setDefault(&o.SealAgeLarge, time.Hour)
	setDefault(&o.BlockAge, 2*time.Minute)
	setDefault(&o.MaxBacklog, 256<<20)
	setDefault(&o.MergeFanout, 8)
	setDefault(&o.MergeBytes, 1<<30)
	if o.Files == nil {
		o.Files = NewFiles(FilesOptions{})
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.ObserveFsync == nil {
		o.ObserveFsync = func(float64) {}
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

const (
	// sealRecords is the number of records from which on a segment is sealed: after a
	// power loss all of them are in memory.
	sealRecords = 1 << 18

	largeSegment = 8 << 20   // raw bytes from which on SealAgeLarge counts
	smallBlock   = 256 << 10 // raw bytes from which on BlockAge counts
)
