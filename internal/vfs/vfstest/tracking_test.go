package vfstest

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// recorder is a test that notes its errors and runs its cleanups when told to.
type recorder struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func TestOpenTracking(t *testing.T) {
	f := func(want []string, run func(fsys vfs.FS) []io.Closer) {
		t.Helper()
		r := &recorder{TB: t}
		fsys := OpenTracking(r, vfs.NewMem())
		for _, closer := range run(fsys) {
			if err := closer.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for _, cleanup := range r.cleanups {
			cleanup()
		}
		if len(r.errors) != len(want) {
			t.Fatalf("errors are %q, want %d", r.errors, len(want))
		}
		for i, name := range want {
			if !strings.Contains(r.errors[i], name+", opened by") || !strings.Contains(r.errors[i], "tracking_test.go:") {
				t.Fatalf("error %q does not name %q and the place", r.errors[i], name)
			}
		}
	}
	create := func(fsys vfs.FS, name string) io.Closer {
		t.Helper()
		file, err := fsys.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	f(nil, func(fsys vfs.FS) []io.Closer {
		closers := []io.Closer{create(fsys, "a")}
		for _, open := range []func(string) (vfs.File, error){fsys.Open, fsys.OpenReadWrite} {
			file, err := open("a")
			if err != nil {
				t.Fatal(err)
			}
			closers = append(closers, file)
		}
		lock, err := fsys.Lock("LOCK")
		if err != nil {
			t.Fatal(err)
		}
		return append(closers, lock)
	})
	f([]string{"LOCK", "a", "a", "a"}, func(fsys vfs.FS) []io.Closer {
		create(fsys, "a")
		_, err := fsys.Open("a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fsys.OpenReadWrite("a"); err != nil {
			t.Fatal(err)
		}
		if _, err := fsys.Lock("LOCK"); err != nil {
			t.Fatal(err)
		}
		return nil
	})
	f([]string{"b"}, func(fsys vfs.FS) []io.Closer {
		// What could not be opened is not open.
		if _, err := fsys.Open("missing"); err == nil {
			t.Fatal("opened a file that is missing")
		}
		create(fsys, "b")
		return []io.Closer{create(fsys, "a")}
	})
}
