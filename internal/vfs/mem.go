package vfs

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"syscall"
)

// Mem is a file system in memory that knows what a power loss would take; the
// package comment has the rules. Relative names start at its root. It is safe
// for concurrent use.
type Mem struct {
	mu       sync.RWMutex // Guards what follows, all nodes and all handles.
	root     *node
	pending  []*change // Changes of names that are not durable, oldest first.
	capacity int64     // In bytes; 0 is no limit.
	used     int64     // By pages of files that have a name or a handle.
	counters Counters
}

// Counters counts what a Mem was asked to do since it was made. Operations
// that failed count too.
type Counters struct {
	Writes       int64 // Calls of File.WriteAt.
	WrittenBytes int64 // Bytes that these wrote.
	Syncs        int64 // Calls of File.Sync.
	DirSyncs     int64 // Folders synced, by SyncDir or MkdirAll.
}

// unlimited is what Free reports as the size of a Mem without capacity.
const unlimited = 1 << 50

// NewMem returns an empty file system without a limit of space.
func NewMem() *Mem { return &Mem{root: newFolder()} }

// SetCapacity limits the space of all files to a number of bytes; 0 lifts the
// limit. Each 4 KiB page that holds data takes its whole size, names take
// nothing. A write that needs a page more stops there with ENOSPC. What is
// stored already stays, even if it is more.
func (m *Mem) SetCapacity(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = max(bytes, 0)
}

// Counters returns the counts so far. They start at zero in what Crash returns.
func (m *Mem) Counters() Counters {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.counters
}

// Corrupt flips the bits of mask in the byte at an offset within a file, in
// the page cache and on the disk. It is an error if that changes nothing.
func (m *Mem) Corrupt(name string, offset int64, mask byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findFile(name)
	if err == nil && (mask == 0 || offset < 0 || offset >= n.content.cached.size) {
		err = syscall.EINVAL
	}
	if err != nil {
		return &fs.PathError{Op: "corrupt", Path: name, Err: err}
	}
	if n.content.cached.page(offset/pageSize) == nil {
		m.used += pageSize
	}
	n.content.corrupt(offset, mask)
	return nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, taken, err := m.locate(name)
	if err == nil && taken != nil {
		err = syscall.EEXIST
	}
	if err != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: err}
	}
	n := new(node)
	m.link(n, at)
	return m.handle(n, name, true), nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) { return m.open(name, false) }

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) { return m.open(name, true) }

func (m *Mem) open(name string, writable bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.findFile(name)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return m.handle(n, name, writable), nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, n, err := m.locate(name)
	switch {
	case err != nil:
	case n == nil:
		err = syscall.ENOENT
	case len(n.names) > 0:
		err = syscall.ENOTEMPTY
	default:
		m.unlink(n, at)
		return nil
	}
	return &fs.PathError{Op: "remove", Path: name, Err: err}
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, n, err := m.locate(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "remove", Path: dir, Err: err}
	}
	if n != nil {
		m.unlink(n, at)
	}
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(oldName, newName string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.rename(oldName, newName); err != nil {
		return &fs.PathError{Op: "rename", Path: oldName + " to " + newName, Err: err}
	}
	return nil
}

func (m *Mem) rename(oldName, newName string) error {
	from, n, err := m.locate(oldName)
	if err != nil {
		return err
	}
	if n == nil {
		return syscall.ENOENT
	}
	to, replaced, err := m.locate(newName)
	if err != nil {
		return err
	}
	switch {
	case replaced != nil && replaced.isFolder():
		return syscall.EEXIST
	case replaced != nil && n.isFolder():
		return syscall.ENOTDIR
	case from == to:
		return nil
	}
	for folder := to.folder; folder != nil; folder = folder.parent {
		if folder == n {
			return syscall.EINVAL
		}
	}
	m.move(n, from, to)
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	folder, err := m.findFolder(dir)
	if err != nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: err}
	}
	return slices.Sorted(maps.Keys(folder.names)), nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.root
	synced := false
	for _, part := range split(dir) {
		next := at.names[part]
		if next != nil && !next.isFolder() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		if next == nil {
			if !synced && at.parent != nil {
				m.syncFolder(at.parent)
			}
			synced = true
			next = newFolder()
			m.link(next, place{at, part})
			m.syncFolder(at)
		}
		at = next
	}
	if !synced && at.parent != nil {
		m.syncFolder(at.parent)
	}
	return nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	folder, err := m.findFolder(dir)
	if err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	m.syncFolder(folder)
	return nil
}

// Size implements FS.
func (m *Mem) Size(name string) (int64, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	n, err := m.findFile(name)
	if err != nil {
		return 0, &fs.PathError{Op: "size", Path: name, Err: err}
	}
	return n.content.cached.size, nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, n, err := m.locate(name)
	switch {
	case err != nil:
	case n != nil && n.isFolder():
		err = syscall.EISDIR
	case n != nil && n.locked:
		err = ErrLocked
	}
	if err != nil {
		return nil, &fs.PathError{Op: "lock", Path: name, Err: err}
	}
	if n == nil {
		n = new(node)
		m.link(n, at)
	}
	n.locked = true
	return memLock{m.handle(n, name, false)}, nil
}

// Free implements FS.
func (m *Mem) Free(dir string) (free, total uint64, err error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if _, err := m.findFolder(dir); err != nil {
		return 0, 0, &fs.PathError{Op: "free", Path: dir, Err: err}
	}
	size := m.capacity
	if size == 0 {
		size = unlimited
	}
	return uint64(max(size-m.used, 0)), uint64(size), nil
}
