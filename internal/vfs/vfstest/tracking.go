// Package vfstest has helpers for tests that use package vfs.
package vfstest

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// OpenTracking wraps a file system and fails the test at its end for every
// file and lock that was opened through it and not closed. It names the place
// in the code that opened it.
func OpenTracking(t testing.TB, inner vfs.FS) vfs.FS {
	t.Helper()
	tracker := &tracker{open: make(map[io.Closer]string)}
	t.Cleanup(func() {
		for _, leak := range tracker.leaks() {
			t.Errorf("left open: %s", leak)
		}
	})
	return &trackingFS{FS: inner, tracker: tracker}
}

// tracker knows what is open.
type tracker struct {
	mu   sync.Mutex
	open map[io.Closer]string // What and where opened.
}

func (t *tracker) opened(handle io.Closer, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open[handle] = fmt.Sprintf("%s, opened by %s", name, caller())
}

func (t *tracker) closed(handle io.Closer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.open, handle)
}

func (t *tracker) leaks() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var leaks []string
	for _, leak := range t.open {
		leaks = append(leaks, leak)
	}
	slices.Sort(leaks)
	return leaks
}

// caller returns the callers of the wrapped file system, innermost first.
func caller() string {
	const depth = 3
	counters := make([]uintptr, 16)
	frames := runtime.CallersFrames(counters[:runtime.Callers(1, counters)])
	var places []string
	for more := true; more && len(places) < depth; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if !strings.HasSuffix(frame.File, "/vfstest/tracking.go") {
			places = append(places, fmt.Sprintf("%s:%d", frame.File, frame.Line))
		}
	}
	return strings.Join(places, ", called by ")
}

// trackingFS passes everything on and notes what is opened.
type trackingFS struct {
	vfs.FS
	tracker *tracker
}

// Create implements vfs.FS.
func (f *trackingFS) Create(name string) (vfs.File, error) { return f.track(name, f.FS.Create) }

// Open implements vfs.FS.
func (f *trackingFS) Open(name string) (vfs.File, error) { return f.track(name, f.FS.Open) }

// OpenReadWrite implements vfs.FS.
func (f *trackingFS) OpenReadWrite(name string) (vfs.File, error) {
	return f.track(name, f.FS.OpenReadWrite)
}

func (f *trackingFS) track(name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	tracked := &trackedFile{file, f.tracker}
	f.tracker.opened(tracked, name)
	return tracked, nil
}

// Lock implements vfs.FS.
func (f *trackingFS) Lock(name string) (io.Closer, error) {
	lock, err := f.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	tracked := &trackedLock{lock, f.tracker}
	f.tracker.opened(tracked, name)
	return tracked, nil
}

// trackedFile is an open file that is known to the tracker.
type trackedFile struct {
	vfs.File
	tracker *tracker
}

// DiscardDirty implements vfs.Discarder if the file underneath does.
func (f *trackedFile) DiscardDirty() error {
	if discarder, ok := f.File.(vfs.Discarder); ok {
		return discarder.DiscardDirty()
	}
	return fmt.Errorf("discard %s: %w", f.Name(), errors.ErrUnsupported)
}

// Close implements vfs.File.
func (f *trackedFile) Close() error {
	f.tracker.closed(f)
	return f.File.Close()
}

// trackedLock is a lock that is known to the tracker.
type trackedLock struct {
	io.Closer
	tracker *tracker
}

// Close gives the lock up.
func (l *trackedLock) Close() error {
	l.tracker.closed(l)
	return l.Closer.Close()
}
