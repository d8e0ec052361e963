package shard

import (
	"errors"
	"sync"
	"syscall"

	"github.com/logcluster/logcluster/internal/vfs"
)

const (
	fillStep  = 1 << 20   // bytes of zeros at a time
	fillAhead = 512 << 10 // bytes that should be ready ahead of the end
	fillFrom  = 64 << 10  // a tail shorter than this belongs to a quiet shard and is not filled
)

// zeros is what a filler writes. It is never written to.
var zeros [fillStep]byte

// A filler writes zeros ahead of the end of the tail: an fdatasync of a write that does
// not make the file longer is a third faster, since no size has to reach the disk. It
// works beside the writer, on a file handle of its own.
//
// Its fsync may fail on what the writer has written, and the writer's own fsync then
// succeed (D6 of package vfs). So the writer settles with it before it answers anybody.
type filler struct {
	fs   vfs.FS
	fail func(error)
	wg   sync.WaitGroup

	// syncMu is held over an fsync, until its error is noted. Before mu.
	syncMu sync.Mutex

	mu     sync.Mutex
	path   string
	file   vfs.File
	filled int64 // zeros, or data, stand up to here
	busy   bool
	full   bool // the disk is: this file is filled no more
	err    error
}

// ahead starts to fill, if the end of the tail at path comes close to what is filled.
func (f *filler) ahead(path string, end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end < fillFrom || f.busy || f.full || f.err != nil || f.path == path && f.filled-end > fillAhead {
		return
	}
	from := end
	if f.path == path {
		from = max(f.filled, end)
	}
	f.busy = true
	f.wg.Go(func() {
		err := f.write(path, from)
		f.mu.Lock()
		f.busy = false
		f.mu.Unlock()
		if err != nil {
			f.fail(err)
		}
	})
}

func (f *filler) write(path string, from int64) error {
	err := f.open(path)
	if err == nil {
		if _, err = f.file.WriteAt(zeros[:], from); errors.Is(err, syscall.ENOSPC) {
			// Zeros are no data: the shard goes on, as long as there is space for that.
			f.mu.Lock()
			f.full = true
			f.mu.Unlock()
			return nil
		}
	}
	f.syncMu.Lock()
	defer f.syncMu.Unlock()
	if err == nil {
		err = f.file.Sync()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.err = err
		return err
	}
	f.filled = from + fillStep
	return nil
}

// open opens the file at path, if it is not the one that is open.
func (f *filler) open(path string) error {
	if f.path == path && f.file != nil {
		return nil
	}
	file, err := f.fs.OpenReadWrite(path)
	if err != nil {
		return err
	}
	f.mu.Lock()
	f.path, f.file = path, file
	f.mu.Unlock()
	return nil
}

// reserve waits, if the next write, up to end, reaches into what is being filled.
func (f *filler) reserve(end int64) error {
	f.mu.Lock()
	wait := f.busy && end > f.filled
	f.mu.Unlock()
	if wait {
		f.wg.Wait()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// settle returns the error of an fsync that was begun before now, if it failed.
func (f *filler) settle() error {
	f.syncMu.Lock()
	defer f.syncMu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// close ends the filling of the current file.
func (f *filler) close() error {
	f.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	if f.file != nil {
		err = f.file.Close()
	}
	f.file, f.path, f.filled, f.full = nil, "", 0, false
	return errors.Join(f.err, err)
}
