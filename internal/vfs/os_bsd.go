//go:build darwin || dragonfly || freebsd

package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// syncData is what the standard library holds to be a sync of the disk itself
// (F_FULLFSYNC on macOS).
func syncData(f *os.File) error { return f.Sync() }

// lockFile is flock(2), as on Linux.
func lockFile(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// freeSpace is statfs(2).
func freeSpace(dir string) (free, total uint64, err error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return 0, 0, err
	}
	unit := uint64(stat.Bsize)
	return uint64(max(stat.Bavail, 0)) * unit, uint64(stat.Blocks) * unit, nil
}
