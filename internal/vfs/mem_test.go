package vfs_test

import (
	"bytes"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

func TestCapacity(t *testing.T) {
	const page = 4096
	mem := vfs.NewMem()
	mem.SetCapacity(3 * page)
	free := func(want uint64) {
		t.Helper()
		got, total, err := mem.Free(".")
		if err != nil || got != want || total != 3*page {
			t.Fatalf("free %d of %d, %v, want %d", got, total, err, want)
		}
	}
	free(3 * page)
	f, err := mem.Create("a")
	ok(t, err)
	n, err := f.WriteAt(make([]byte, 4*page), 100)
	isError(t, err, syscall.ENOSPC)
	if n != 3*page-100 {
		t.Fatalf("wrote %d bytes before the disk was full", n)
	}
	if size, err := f.Size(); size != 3*page || err != nil {
		t.Fatalf("size %d, %v", size, err)
	}
	free(0)
	// What has a page already needs no new space.
	_, err = f.WriteAt([]byte("x"), 5)
	ok(t, err)
	_, err = f.WriteAt([]byte("x"), 9*page)
	isError(t, err, syscall.ENOSPC)
	ok(t, f.Sync())
	ok(t, mem.SyncDir("."))
	found := mem.Crash(generator(1), vfs.CrashOptions{})
	if free, _, err := found.Free("."); free != 0 || err != nil {
		t.Fatalf("free %d after the crash, %v", free, err)
	}
	ok(t, f.Truncate(page+1))
	free(page)
	ok(t, f.Truncate(50*page))
	free(page)
	// A removed file keeps its space until it is closed.
	ok(t, mem.Remove("a"))
	free(page)
	ok(t, f.Close())
	free(3 * page)
	ok(t, mem.SyncDir("."))
	write(t, mem, "b", "replaced")
	write(t, mem, "c", strings.Repeat("x", 2*page))
	free(0)
	for options, want := range map[vfs.CrashOptions]uint64{{Mode: vfs.CrashKeepAll}: 0, dropUnsynced: 3 * page} {
		if free, _, err := mem.Crash(nil, options).Free("."); free != want || err != nil {
			t.Fatalf("free %d after a crash, %v, want %d", free, err, want)
		}
	}
	ok(t, mem.Rename("c", "b"))
	free(page)
	ok(t, mem.RemoveAll("b"))
	free(3 * page)
	mem.SetCapacity(0)
	write(t, mem, "d", strings.Repeat("x", 50*page))
	mem.SetCapacity(page)
	if free, _, err := mem.Free("."); free != 0 || err != nil {
		t.Fatalf("free %d with more stored than fits, %v", free, err)
	}
}

func TestFileTooLarge(t *testing.T) {
	mem := vfs.NewMem()
	f, err := mem.Create("a")
	ok(t, err)
	_, err = f.WriteAt([]byte("xx"), 8<<30-1)
	isError(t, err, syscall.EFBIG)
	_, err = f.WriteAt([]byte("xx"), 1<<63-1)
	isError(t, err, syscall.EFBIG)
	isError(t, f.Truncate(8<<30+1), syscall.EFBIG)
	ok(t, f.Close())
}

func TestCorrupt(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "content")
	ok(t, mem.Corrupt("a", 2, 0x20))
	expect := func(fsys vfs.FS, want string) {
		t.Helper()
		if got := read(t, fsys, "a"); got != want {
			t.Fatalf("read %q, want %q", got, want)
		}
	}
	expect(mem, "coNtent")
	expect(mem.Crash(nil, dropUnsynced), "coNtent")
	// Bytes that are not synced are damaged on both sides, and stay unsynced.
	overwrite(t, mem, "a", []byte("C"), 0)
	ok(t, mem.Corrupt("a", 3, 0x20))
	expect(mem, "CoNTent")
	expect(mem.Crash(nil, dropUnsynced), "coNTent")
	before := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
	ok(t, mem.Corrupt("a", 6, 0x20))
	expect(before, "CoNTent")
	syncFile(t, mem, "a")
	expect(mem.Crash(nil, dropUnsynced), "CoNTenT")
	// A write to a page that was damaged does not reach the platter.
	overwrite(t, mem, "a", []byte("x"), 1)
	expect(mem.Crash(nil, dropUnsynced), "CoNTenT")

	hole, err := mem.Create("hole")
	ok(t, err)
	ok(t, hole.Truncate(9000))
	ok(t, hole.Close())
	free, _, err := mem.Free(".")
	ok(t, err)
	ok(t, mem.Corrupt("hole", 8999, 1))
	if after, _, err := mem.Free("."); after != free-4096 || err != nil {
		t.Fatalf("free went from %d to %d, %v", free, after, err)
	}

	isError(t, mem.Corrupt("a", 7, 1), syscall.EINVAL)
	isError(t, mem.Corrupt("a", -1, 1), syscall.EINVAL)
	isError(t, mem.Corrupt("a", 0, 0), syscall.EINVAL)
	isError(t, mem.Corrupt("b", 0, 1), fs.ErrNotExist)
	isError(t, mem.Corrupt(".", 0, 1), syscall.EISDIR)
}

func TestCorruptUnsyncedEnd(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "")
	overwrite(t, mem, "a", []byte("x"), 5000)
	ok(t, mem.Corrupt("a", 5000, 1))
	ok(t, mem.Corrupt("a", 10, 1))
	if size, err := mem.Crash(nil, dropUnsynced).Size("a"); size != 0 || err != nil {
		t.Fatalf("damage made the file grow to %d, %v", size, err)
	}
	want := make([]byte, 5001)
	want[10], want[5000] = 1, 'x'^1
	syncFile(t, mem, "a")
	if got := read(t, mem.Crash(nil, dropUnsynced), "a"); got != string(want) {
		t.Fatalf("read %q at 10 and %q at 5000", got[10], got[5000])
	}
}

func TestCounters(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("a/b"))
	durable(t, mem, "a/file", "content")
	want := vfs.Counters{Writes: 1, WrittenBytes: 7, Syncs: 1, DirSyncs: 3}
	if got := mem.Counters(); got != want {
		t.Fatalf("counters are %+v, want %+v", got, want)
	}
	if got := mem.Crash(nil, dropUnsynced).Counters(); got != (vfs.Counters{}) {
		t.Fatalf("counters after a crash are %+v", got)
	}
}

func TestHolesAreZeros(t *testing.T) {
	mem := vfs.NewMem()
	f, err := mem.Create("a")
	ok(t, err)
	_, err = f.WriteAt([]byte("x"), 20_000)
	ok(t, err)
	ok(t, f.Truncate(40_000))
	ok(t, f.Sync())
	ok(t, f.Close())
	ok(t, mem.SyncDir("."))
	want := make([]byte, 40_000)
	want[20_000] = 'x'
	for _, fsys := range []vfs.FS{mem, mem.Crash(generator(1), vfs.CrashOptions{Garbage: true})} {
		// The buffer is dirty: a hole must be written, not left out.
		got := bytes.Repeat([]byte{1}, len(want))
		f, err := fsys.Open("a")
		ok(t, err)
		_, err = f.ReadAt(got, 0)
		ok(t, err)
		ok(t, f.Close())
		if !bytes.Equal(got, want) {
			t.Fatal("a hole reads as something else than zeros")
		}
	}
}

func BenchmarkCrash(b *testing.B) {
	mem := vfs.NewMem()
	for _, name := range []string{"a", "b", "c", "d"} {
		durable(b, mem, name, strings.Repeat("x", 4<<20))
		overwrite(b, mem, name, bytes.Repeat([]byte("y"), 64<<10), 4<<20)
	}
	for name, options := range map[string]vfs.CrashOptions{
		"mode=random": {}, "mode=drop": dropUnsynced, "mode=keep": {Mode: vfs.CrashKeepAll},
	} {
		b.Run("size=16MiB/"+name, func(b *testing.B) {
			rng := generator(1)
			b.ReportAllocs()
			for b.Loop() {
				mem.Crash(rng, options)
			}
		})
	}
}
