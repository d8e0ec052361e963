//go:build !linux && !darwin && !dragonfly && !freebsd

package vfs

import (
	"errors"
	"fmt"
	"os"
)

// errNode names what does run on a platform without file locks.
var errNode = fmt.Errorf("this platform runs the client commands only, start a node on Linux: %w", errors.ErrUnsupported)

// syncData is the standard library's.
func syncData(f *os.File) error { return f.Sync() }

// lockFile refuses: without a lock two nodes could share a data folder.
func lockFile(*os.File) error { return errNode }

// freeSpace refuses: the number is only of use to a node.
func freeSpace(string) (free, total uint64, err error) { return 0, 0, errNode }
