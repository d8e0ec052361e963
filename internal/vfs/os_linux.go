package vfs

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// syncData is fdatasync(2): the bytes, and of the metadata only what is needed
// to read them back, which includes the size. Only an interrupted call is
// repeated, since it says nothing of the disk.
func syncData(f *os.File) error {
	return control(f, unix.Fdatasync)
}

// lockFile is flock(2): the lock belongs to the open file, so it also keeps
// out a second holder in the same process.
func lockFile(f *os.File) error {
	err := control(f, func(fd int) error { return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) })
	if errors.Is(err, unix.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

// control runs a system call on the descriptor, which stays open meanwhile,
// and again if a signal interrupted it.
func control(f *os.File, call func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	run := func(fd uintptr) {
		for failed = call(int(fd)); errors.Is(failed, unix.EINTR); failed = call(int(fd)) {
		}
	}
	if err := conn.Control(run); err != nil {
		// Its only reason, under a name that package os alone can translate.
		return fs.ErrClosed
	}
	return failed
}

// freeSpace is statfs(2).
func freeSpace(dir string) (free, total uint64, err error) {
	var stat unix.Statfs_t
	for err = unix.Statfs(dir, &stat); errors.Is(err, unix.EINTR); err = unix.Statfs(dir, &stat) {
	}
	if err != nil {
		return 0, 0, err
	}
	// The counts are in fragments; old file systems leave that size out.
	unit := uint64(stat.Frsize)
	if unit == 0 {
		unit = uint64(stat.Bsize)
	}
	return stat.Bavail * unit, stat.Blocks * unit, nil
}
