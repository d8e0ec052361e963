package shard

import (
	"errors"
	"sync"

	"github.com/logcluster/logcluster/internal/vfs"
)

const (
	fillStep  = 1 << 20   // bytes of zeros at a time
	fillAhead = 512 << 10 // bytes that should be ready ahead of the end
	fillFrom  = 64 << 10  // a tail shorter than this belongs to a quiet shard and is not filled
)

// A filler writes zeros ahead of the end of the tail: an fdatasync of a write that does
// not make the file longer is a third faster, since no size has to reach the disk. It
// works beside the writer, on a file handle of its own: an fsync error is reported once
// to each handle, and the writer must not miss one.
type filler struct {
	fs   vfs.FS
	fail func(error)

	mu     sync.Mutex
	wg     sync.WaitGroup
	path   string
	file   vfs.File
	filled int64 // zeros, or data, stand up to here
	busy   bool
	err    error
}

// ahead starts to fill, if the end of the tail at path comes close to what is filled.
func (f *filler) ahead(path string, end int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if end < fillFrom || f.busy || f.err != nil || f.path == path && f.filled-end > fillAhead {
		return
	}
	f.busy = true
	from := max(f.filled, end)
	if f.path != path {
		from = end
	}
	f.wg.Go(func() {
		err := f.write(path, from)
		f.mu.Lock()
		f.busy = false
		if err != nil {
			f.err = err
		} else {
			f.filled = from + fillStep
		}
		f.mu.Unlock()
		if err != nil {
			f.fail(err)
		}
	})
}

func (f *filler) write(path string, from int64) error {
	if f.path != path || f.file == nil {
		file, err := f.fs.OpenReadWrite(path)
		if err != nil {
			return err
		}
		f.mu.Lock()
		f.path, f.file = path, file
		f.mu.Unlock()
	}
	if _, err := f.file.WriteAt(make([]byte, fillStep), from); err != nil {
		return err
	}
	return f.file.Sync()
}

// reserve waits, if the next write reaches into what is being filled.
func (f *filler) reserve(end int64) error {
	f.mu.Lock()
	wait := f.busy
	f.mu.Unlock()
	if wait {
		f.mu.Lock()
		inside := end > f.filled
		f.mu.Unlock()
		if inside {
			f.wg.Wait()
		}
	}
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
	f.file, f.path, f.filled = nil, "", 0
	return errors.Join(f.err, err)
}
