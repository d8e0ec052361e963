package vfs

import (
	"errors"
	"io"
)

// ErrLocked is wrapped by the error of FS.Lock when another process, or
// another holder in this one, has the lock.
var ErrLocked = errors.New("locked by another holder")

// ErrTooLarge is wrapped by the error of ReadFile when the file is larger
// than the caller's limit.
var ErrTooLarge = errors.New("file is larger than allowed")

// FS is a file system as far as the store needs one. Names are slash-separated
// paths, absolute or relative to the working directory.
//
// An error for a missing file or folder satisfies errors.Is(err,
// fs.ErrNotExist), one for a full disk errors.Is(err, syscall.ENOSPC). All
// methods may be called concurrently.
type FS interface {
	// Create makes a new file of mode 0600 and opens it for reading and
	// writing. The error wraps fs.ErrExist if the name is taken. The name is
	// durable only after SyncDir of its folder.
	Create(name string) (File, error)

	// Open opens an existing regular file for reading.
	Open(name string) (File, error)

	// OpenReadWrite opens an existing regular file for reading and writing,
	// and leaves its content as it is.
	OpenReadWrite(name string) (File, error)

	// Remove removes a file or an empty folder.
	Remove(name string) error

	// RemoveAll removes a folder with all it contains, or a file. A missing
	// one is no error. It is not atomic: after a crash any part may be left.
	RemoveAll(dir string) error

	// Rename gives a file or a folder another name and replaces the file that
	// had it. The change is atomic, and durable after SyncDir of the folders
	// it touches. Replacing a folder is an error that wraps fs.ErrExist.
	Rename(oldName, newName string) error

	// List returns the names in a folder, sorted bytewise, without their path.
	List(dir string) ([]string, error)

	// MkdirAll makes a folder of mode 0700 and those of its parents that are
	// missing, and syncs the folder above each one it makes. It also syncs the
	// folder above the deepest one it found: a crash of an earlier call may
	// have left that one visible but not durable.
	MkdirAll(dir string) error

	// SyncDir makes the names in a folder durable: what was created, renamed
	// or removed in it before the call. It says nothing of the folder's own
	// name, nor of the content of the files.
	SyncDir(dir string) error

	// Size returns the length of a regular file in bytes.
	Size(name string) (int64, error)

	// Lock takes an exclusive lock on a file, which it creates if need be and
	// never removes. It does not wait: the error wraps ErrLocked if somebody
	// has the lock. Closing gives it up, and so does the end of the process.
	Lock(name string) (io.Closer, error)

	// Free returns the space that is left for this process and the size of
	// the file system that holds dir, in bytes.
	Free(dir string) (free, total uint64, err error)
}

// File is an open file. ReadAt, WriteAt, Size and Sync may be called
// concurrently; Close once, when all others have returned.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer

	// Sync makes durable what was written before the call, and the file's
	// size; not its name, which is SyncDir's. An error is final: the system
	// may have dropped the bytes and report success the next time, so the
	// caller gives the file up and never syncs it again.
	Sync() error

	// Truncate sets the size in bytes. What a larger size adds reads as zeros.
	Truncate(size int64) error

	// Size returns the length in bytes.
	Size() (int64, error)

	// Name returns the name the file was opened with.
	Name() string
}
