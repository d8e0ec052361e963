package vfs

import (
	"io"
	"io/fs"
	"syscall"
)

// memFile is a handle on a file of Mem. It keeps the file alive when its name
// is gone, and stays with the Mem it was opened on when that crashes.
type memFile struct {
	mem      *Mem
	node     *node
	name     string
	writable bool
	closed   bool
}

// handle opens a file. The caller holds the mutex.
func (m *Mem) handle(n *node, name string, writable bool) *memFile {
	n.handles++
	return &memFile{mem: m, node: n, name: name, writable: writable}
}

// check refuses what a closed or read-only handle cannot do.
func (f *memFile) check(operation string, write bool) error {
	switch {
	case f.closed:
		return f.failed(operation, fs.ErrClosed)
	case write && !f.writable:
		return f.failed(operation, syscall.EBADF)
	}
	return nil
}

func (f *memFile) failed(operation string, err error) error {
	return &fs.PathError{Op: operation, Path: f.name, Err: err}
}

// ReadAt implements File.
func (f *memFile) ReadAt(p []byte, offset int64) (int, error) {
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	if err := f.check("read", false); err != nil {
		return 0, err
	}
	if offset < 0 {
		return 0, f.failed("read", syscall.EINVAL)
	}
	n := f.node.content.cached.readAt(p, offset)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements File.
func (f *memFile) WriteAt(p []byte, offset int64) (int, error) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.mem.counters.Writes++
	if err := f.check("write", true); err != nil {
		return 0, err
	}
	n, err := f.mem.write(&f.node.content, p, offset)
	f.mem.counters.WrittenBytes += int64(n)
	if err != nil {
		return n, f.failed("write", err)
	}
	return n, nil
}

// write writes page by page as long as there is space.
func (m *Mem) write(c *content, p []byte, offset int64) (int, error) {
	switch {
	case offset < 0:
		return 0, syscall.EINVAL
	case offset > maxFileSize-int64(len(p)):
		return 0, syscall.EFBIG
	}
	n := 0
	for n < len(p) {
		at := offset + int64(n)
		if c.cached.page(at/pageSize) == nil {
			if m.capacity > 0 && m.used+pageSize > m.capacity {
				return n, syscall.ENOSPC
			}
			m.used += pageSize
		}
		n += c.write(p[n:], at)
	}
	return n, nil
}

// Sync implements File.
func (f *memFile) Sync() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.mem.counters.Syncs++
	if err := f.check("sync", false); err != nil {
		return err
	}
	f.node.content.sync()
	return nil
}

// DiscardDirty implements Discarder.
func (f *memFile) DiscardDirty() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.check("discard", false); err != nil {
		return err
	}
	f.node.content.discard()
	return nil
}

// Truncate implements File.
func (f *memFile) Truncate(size int64) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.check("truncate", true); err != nil {
		return err
	}
	switch {
	case size < 0:
		return f.failed("truncate", syscall.EINVAL)
	case size > maxFileSize:
		return f.failed("truncate", syscall.EFBIG)
	}
	c := &f.node.content
	f.mem.used -= c.cached.space()
	c.truncate(size)
	f.mem.used += c.cached.space()
	return nil
}

// Size implements File.
func (f *memFile) Size() (int64, error) {
	f.mem.mu.RLock()
	defer f.mem.mu.RUnlock()
	if err := f.check("size", false); err != nil {
		return 0, err
	}
	return f.node.content.cached.size, nil
}

// Name implements File.
func (f *memFile) Name() string { return f.name }

// Close implements File.
func (f *memFile) Close() error { return f.close(false) }

func (f *memFile) close(unlock bool) error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if err := f.check("close", false); err != nil {
		return err
	}
	f.closed = true
	f.node.handles--
	if unlock {
		f.node.locked = false
	}
	f.mem.release(f.node)
	return nil
}

// memLock is the lock on a file of Mem, as long as it is not closed.
type memLock struct{ file *memFile }

// Close gives the lock up.
func (l memLock) Close() error { return l.file.close(true) }
