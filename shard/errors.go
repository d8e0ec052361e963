package shard

import (
	"errors"
	"fmt"
	"time"
)

// Sentinels for errors.Is.
var (
	// ErrNotOwner: this replica does not take writes (any more).
	ErrNotOwner = errors.New("not the owner of the shard")
	// ErrStale: a replica refuses an epoch below the one it promised.
	ErrStale = errors.New("stale epoch")
	// ErrLost: the folder is not the one that this replica wrote: a lost disk.
	ErrLost = errors.New("replica is lost")
	// ErrForeign: the folder belongs to another cluster, shard or replica.
	ErrForeign = errors.New("folder of another replica")
	// ErrFailed: a write or an fsync failed. What was not answered may or may not be
	// stored; the shard must be opened again.
	ErrFailed = errors.New("shard failed")
	// ErrDamaged: this replica's log is damaged and not declared lost.
	ErrDamaged = errors.New("log of the replica is damaged")
	// ErrClosed: the shard was closed.
	ErrClosed = errors.New("shard is closed")
	// ErrBacklog: the encoder is too far behind.
	ErrBacklog = errors.New("too much data waits to be encoded")
)

// An Unavailable is an error that a retry will probably not see.
type Unavailable struct {
	Shard uint32
	After time.Duration // that is worth waiting
	Err   error
}

func (e *Unavailable) Error() string { return fmt.Sprintf("shard %d: %v", e.Shard, e.Err) }
func (e *Unavailable) Unwrap() error { return e.Err }

// RetryAfter is how long to wait before the next try.
func (e *Unavailable) RetryAfter() time.Duration { return e.After }
