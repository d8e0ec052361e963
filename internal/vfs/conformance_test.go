package vfs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/internal/vfs/vfstest"
)

// TestConformance holds all implementations to the same behaviour.
func TestConformance(t *testing.T) {
	subjects := []struct {
		name string
		make func(t *testing.T) (vfs.FS, string)
	}{
		{"OS", func(t *testing.T) (vfs.FS, string) { return vfs.OS{}, t.TempDir() }},
		{"Mem", func(*testing.T) (vfs.FS, string) { return vfs.NewMem(), "." }},
		{"MemAfterCrash", func(*testing.T) (vfs.FS, string) {
			return vfs.NewMem().Crash(generator(1), vfs.CrashOptions{}), "/"
		}},
		{"Fault", func(*testing.T) (vfs.FS, string) { return vfs.NewFault(vfs.NewMem(), nil), "/" }},
		{"FaultOverOS", func(t *testing.T) (vfs.FS, string) { return vfs.NewFault(vfs.NewOS(), nil), t.TempDir() }},
	}
	rules := []struct {
		name  string
		check func(t *testing.T, fsys vfs.FS, dir string)
	}{
		{"Create", conformCreate},
		{"Open", conformOpen},
		{"ReadWrite", conformReadWrite},
		{"ReadOnly", conformReadOnly},
		{"Truncate", conformTruncate},
		{"Closed", conformClosed},
		{"Remove", conformRemove},
		{"RemoveAll", conformRemoveAll},
		{"Rename", conformRename},
		{"RenameFolder", conformRenameFolder},
		{"List", conformList},
		{"MkdirAll", conformMkdirAll},
		{"SyncDir", conformSyncDir},
		{"Size", conformSize},
		{"Lock", conformLock},
		{"Free", conformFree},
		{"NotAFolder", conformNotAFolder},
	}
	for _, subject := range subjects {
		for _, rule := range rules {
			t.Run(subject.name+"/"+rule.name, func(t *testing.T) {
				fsys, dir := subject.make(t)
				rule.check(t, vfstest.OpenTracking(t, fsys), dir)
			})
		}
	}
}

func conformCreate(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "a")
	f, err := fsys.Create(name)
	ok(t, err)
	if f.Name() != name {
		t.Fatalf("name is %q, want %q", f.Name(), name)
	}
	if size, err := f.Size(); size != 0 || err != nil {
		t.Fatalf("size of a new file is %d, %v", size, err)
	}
	ok(t, f.Sync())
	ok(t, f.Close())
	_, err = fsys.Create(name)
	isError(t, err, fs.ErrExist)
	ok(t, fsys.MkdirAll(filepath.Join(dir, "folder")))
	_, err = fsys.Create(filepath.Join(dir, "folder"))
	isError(t, err, fs.ErrExist)
	_, err = fsys.Create(filepath.Join(dir, "missing", "a"))
	isError(t, err, fs.ErrNotExist)
}

func conformOpen(t *testing.T, fsys vfs.FS, dir string) {
	for _, open := range []func(string) (vfs.File, error){fsys.Open, fsys.OpenReadWrite} {
		_, err := open(filepath.Join(dir, "missing"))
		isError(t, err, fs.ErrNotExist)
		_, err = open(dir)
		isError(t, err, syscall.EISDIR)
	}
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "content")
	f, err := fsys.OpenReadWrite(name)
	ok(t, err)
	if got := read(t, fsys, name); got != "content" {
		t.Fatalf("opening changed the content to %q", got)
	}
	ok(t, f.Close())
}

func conformReadWrite(t *testing.T, fsys vfs.FS, dir string) {
	f, err := fsys.Create(filepath.Join(dir, "a"))
	ok(t, err)
	data := noise(generator(1), 10_000)
	if n, err := f.WriteAt(data, 5_000); n != len(data) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	want := append(make([]byte, 5_000), data...)
	got := make([]byte, 15_000)
	if n, err := f.ReadAt(got, 0); n != len(got) || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("read other bytes than were written")
	}
	expect := func(length int, offset int64, wantN int, wantErr error) {
		t.Helper()
		p := make([]byte, length)
		n, err := f.ReadAt(p, offset)
		if n != wantN || !errors.Is(err, wantErr) || !bytes.Equal(p[:n], want[min(offset, 15_000):][:n]) {
			t.Fatalf("read of %d at %d gives %d, %v, want %d, %v", length, offset, n, err, wantN, wantErr)
		}
	}
	expect(100, 4_950, 100, nil)
	expect(4096, 4096, 4096, nil)
	expect(100, 14_900, 100, nil)
	expect(101, 14_900, 100, io.EOF)
	expect(1, 15_000, 0, io.EOF)
	expect(1, 99_000, 0, io.EOF)
	expect(0, 99_000, 0, nil)
	if _, err := f.ReadAt(got, -1); err == nil {
		t.Fatal("read at a negative offset")
	}
	if _, err := f.WriteAt(got, -1); err == nil {
		t.Fatal("wrote at a negative offset")
	}
	if n, err := f.WriteAt(nil, 20_000); n != 0 || err != nil {
		t.Fatalf("empty write gives %d, %v", n, err)
	}
	if size, err := f.Size(); size != 15_000 || err != nil {
		t.Fatalf("size %d, %v", size, err)
	}
	_, err = f.WriteAt([]byte("xyz"), 4_999)
	ok(t, err)
	copy(want[4_999:], "xyz")
	expect(10, 4_995, 10, nil)
	ok(t, f.Close())
}

func conformReadOnly(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "a")
	write(t, fsys, name, "content")
	f, err := fsys.Open(name)
	ok(t, err)
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Fatal("wrote through a handle that only reads")
	}
	if err := f.Truncate(0); err == nil {
		t.Fatal("truncated through a handle that only reads")
	}
	ok(t, f.Sync())
	ok(t, f.Close())
	if got := read(t, fsys, name); got != "content" {
		t.Fatalf("content is %q", got)
	}
}

func conformTruncate(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "a")
	f, err := fsys.Create(name)
	ok(t, err)
	data := noise(generator(2), 10_000)
	_, err = f.WriteAt(data, 0)
	ok(t, err)
	for _, size := range []int64{10_000, 9_000, 12_000, 8_192, 8_200, 100, 20_000, 0, 4_096} {
		ok(t, f.Truncate(size))
		want := make([]byte, size)
		copy(want, data)
		if got := read(t, fsys, name); got != string(want) {
			t.Fatalf("truncated to %d: other bytes", size)
		}
		// What was cut stays cut.
		data = want
	}
	isError(t, f.Truncate(-1), syscall.EINVAL)
	ok(t, f.Close())
}

func conformClosed(t *testing.T, fsys vfs.FS, dir string) {
	f, err := fsys.Create(filepath.Join(dir, "a"))
	ok(t, err)
	ok(t, f.Close())
	_, err = f.ReadAt(make([]byte, 1), 0)
	isError(t, err, fs.ErrClosed)
	_, err = f.WriteAt(make([]byte, 1), 0)
	isError(t, err, fs.ErrClosed)
	_, err = f.Size()
	isError(t, err, fs.ErrClosed)
	isError(t, f.Sync(), fs.ErrClosed)
	isError(t, f.Truncate(1), fs.ErrClosed)
	isError(t, f.Close(), fs.ErrClosed)
}

func conformRemove(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "folder", "a")
	isError(t, fsys.Remove(name), fs.ErrNotExist)
	ok(t, fsys.MkdirAll(filepath.Dir(name)))
	isError(t, fsys.Remove(name), fs.ErrNotExist)
	write(t, fsys, name, "content")
	if err := fsys.Remove(filepath.Dir(name)); err == nil {
		t.Fatal("removed a folder that is not empty")
	}
	f, err := fsys.Open(name)
	ok(t, err)
	ok(t, fsys.Remove(name))
	_, err = fsys.Size(name)
	isError(t, err, fs.ErrNotExist)
	got := make([]byte, 7)
	if _, err := f.ReadAt(got, 0); err != nil || string(got) != "content" {
		t.Fatalf("open file lost its content: %q, %v", got, err)
	}
	ok(t, f.Close())
	ok(t, fsys.Remove(filepath.Dir(name)))
	_, err = fsys.List(filepath.Dir(name))
	isError(t, err, fs.ErrNotExist)
}

func conformRemoveAll(t *testing.T, fsys vfs.FS, dir string) {
	folder := filepath.Join(dir, "folder")
	ok(t, fsys.RemoveAll(folder))
	ok(t, fsys.RemoveAll(filepath.Join(folder, "missing")))
	ok(t, fsys.MkdirAll(filepath.Join(folder, "sub", "sub")))
	write(t, fsys, filepath.Join(folder, "a"), "a")
	write(t, fsys, filepath.Join(folder, "sub", "sub", "b"), "b")
	write(t, fsys, filepath.Join(dir, "folder2"), "stays")
	ok(t, fsys.RemoveAll(folder))
	list(t, fsys, dir, "folder2")
	ok(t, fsys.RemoveAll(filepath.Join(dir, "folder2")))
	list(t, fsys, dir)
}

func conformRename(t *testing.T, fsys vfs.FS, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	isError(t, fsys.Rename(a, b), fs.ErrNotExist)
	write(t, fsys, a, "from a")
	isError(t, fsys.Rename(a, filepath.Join(dir, "missing", "a")), fs.ErrNotExist)
	ok(t, fsys.Rename(a, a))
	ok(t, fsys.Rename(a, b))
	list(t, fsys, dir, "b")
	write(t, fsys, a, "replaced")
	replaced, err := fsys.Open(a)
	ok(t, err)
	ok(t, fsys.Rename(b, a))
	list(t, fsys, dir, "a")
	if got := read(t, fsys, a); got != "from a" {
		t.Fatalf("content %q", got)
	}
	got := make([]byte, 8)
	if _, err := replaced.ReadAt(got, 0); err != nil || string(got) != "replaced" {
		t.Fatalf("open file lost its content: %q, %v", got, err)
	}
	ok(t, replaced.Close())
	ok(t, fsys.MkdirAll(b))
	isError(t, fsys.Rename(a, b), fs.ErrExist)
	ok(t, fsys.Rename(a, filepath.Join(b, "a")))
	list(t, fsys, dir, "b")
	list(t, fsys, b, "a")
}

func conformRenameFolder(t *testing.T, fsys vfs.FS, dir string) {
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	ok(t, fsys.MkdirAll(filepath.Join(a, "sub")))
	write(t, fsys, filepath.Join(a, "sub", "file"), "content")
	isError(t, fsys.Rename(a, filepath.Join(a, "sub", "a")), syscall.EINVAL)
	ok(t, fsys.Rename(a, b))
	list(t, fsys, dir, "b")
	c := filepath.Join(dir, "c")
	ok(t, fsys.MkdirAll(c))
	ok(t, fsys.Rename(b, filepath.Join(c, "b")))
	isError(t, fsys.Rename(c, filepath.Join(c, "b", "c")), syscall.EINVAL)
	ok(t, fsys.Rename(filepath.Join(c, "b"), b))
	ok(t, fsys.Remove(c))
	if got := read(t, fsys, filepath.Join(b, "sub", "file")); got != "content" {
		t.Fatalf("content %q", got)
	}
	ok(t, fsys.MkdirAll(a))
	isError(t, fsys.Rename(b, a), fs.ErrExist)
	write(t, fsys, filepath.Join(dir, "file"), "")
	isError(t, fsys.Rename(b, filepath.Join(dir, "file")), syscall.ENOTDIR)
}

func conformList(t *testing.T, fsys vfs.FS, dir string) {
	_, err := fsys.List(filepath.Join(dir, "missing"))
	isError(t, err, fs.ErrNotExist)
	list(t, fsys, dir)
	for _, name := range []string{"b", "a10", "a", "B", "a2"} {
		write(t, fsys, filepath.Join(dir, name), "")
	}
	ok(t, fsys.MkdirAll(filepath.Join(dir, "a1", "below")))
	list(t, fsys, dir, "B", "a", "a1", "a10", "a2", "b")
}

func conformMkdirAll(t *testing.T, fsys vfs.FS, dir string) {
	deep := filepath.Join(dir, "a", "b", "c")
	ok(t, fsys.MkdirAll(deep))
	ok(t, fsys.MkdirAll(deep))
	ok(t, fsys.MkdirAll(filepath.Join(dir, "a")))
	ok(t, fsys.MkdirAll(dir))
	list(t, fsys, filepath.Join(dir, "a", "b"), "c")
	write(t, fsys, filepath.Join(deep, "file"), "")
	isError(t, fsys.MkdirAll(filepath.Join(deep, "file")), syscall.ENOTDIR)
	isError(t, fsys.MkdirAll(filepath.Join(deep, "file", "below")), syscall.ENOTDIR)
}

func conformSyncDir(t *testing.T, fsys vfs.FS, dir string) {
	ok(t, fsys.SyncDir(dir))
	isError(t, fsys.SyncDir(filepath.Join(dir, "missing")), fs.ErrNotExist)
	write(t, fsys, filepath.Join(dir, "file"), "")
	isError(t, fsys.SyncDir(filepath.Join(dir, "file")), syscall.ENOTDIR)
}

func conformSize(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "a")
	_, err := fsys.Size(name)
	isError(t, err, fs.ErrNotExist)
	write(t, fsys, name, strings.Repeat("x", 5_000))
	if size, err := fsys.Size(name); size != 5_000 || err != nil {
		t.Fatalf("size %d, %v", size, err)
	}
	_, err = fsys.Size(dir)
	isError(t, err, syscall.EISDIR)
}

func conformLock(t *testing.T, fsys vfs.FS, dir string) {
	name := filepath.Join(dir, "LOCK")
	_, err := fsys.Lock(filepath.Join(dir, "missing", "LOCK"))
	isError(t, err, fs.ErrNotExist)
	lock, err := fsys.Lock(name)
	ok(t, err)
	_, err = fsys.Lock(name)
	isError(t, err, vfs.ErrLocked)
	// Another handle on the file does not give the lock up.
	syncFile(t, fsys, name)
	_, err = fsys.Lock(name)
	isError(t, err, vfs.ErrLocked)
	other, err := fsys.Lock(name + "2")
	ok(t, err)
	ok(t, other.Close())
	ok(t, lock.Close())
	isError(t, lock.Close(), fs.ErrClosed)
	list(t, fsys, dir, "LOCK", "LOCK2")
	lock, err = fsys.Lock(name)
	ok(t, err)
	ok(t, lock.Close())
	_, err = fsys.Lock(dir)
	if err == nil || errors.Is(err, vfs.ErrLocked) {
		t.Fatalf("lock of a folder gives %v", err)
	}
}

func conformFree(t *testing.T, fsys vfs.FS, dir string) {
	free, total, err := fsys.Free(dir)
	ok(t, err)
	if total == 0 || free > total {
		t.Fatalf("free %d of %d", free, total)
	}
	_, _, err = fsys.Free(filepath.Join(dir, "missing"))
	isError(t, err, fs.ErrNotExist)
}

func conformNotAFolder(t *testing.T, fsys vfs.FS, dir string) {
	file := filepath.Join(dir, "file")
	below := filepath.Join(file, "below")
	write(t, fsys, file, "")
	_, err := fsys.Create(below)
	isError(t, err, syscall.ENOTDIR)
	_, err = fsys.Open(below)
	isError(t, err, syscall.ENOTDIR)
	_, err = fsys.Size(below)
	isError(t, err, syscall.ENOTDIR)
	_, err = fsys.List(file)
	isError(t, err, syscall.ENOTDIR)
	_, err = fsys.Lock(below)
	isError(t, err, syscall.ENOTDIR)
	isError(t, fsys.Remove(below), syscall.ENOTDIR)
	isError(t, fsys.RemoveAll(below), syscall.ENOTDIR)
	isError(t, fsys.Rename(below, filepath.Join(dir, "a")), syscall.ENOTDIR)
	isError(t, fsys.Rename(file, filepath.Join(file, "a")), syscall.ENOTDIR)
}
