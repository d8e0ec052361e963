package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

var dropUnsynced = vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}

// state describes what a crash made of a file.
func state(name string) func(vfs.FS) string {
	return func(mem vfs.FS) string {
		data, err := vfs.ReadFile(mem, name, readLimit)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "gone"
		case err != nil:
			return err.Error()
		case len(data) == 0:
			return "empty"
		}
		return string(data)
	}
}

// durable makes a file whose content and name survive.
func durable(t testing.TB, mem *vfs.Mem, name, data string) {
	t.Helper()
	ok(t, vfs.WriteFile(mem, name, []byte(data)))
}

func TestD1SyncedBytesStay(t *testing.T) {
	mem := vfs.NewMem()
	write(t, mem, "a", "content")
	syncFile(t, mem, "a")
	ok(t, mem.SyncDir("."))
	for _, options := range []vfs.CrashOptions{{}, {Garbage: true}, dropUnsynced, {Mode: vfs.CrashKeepAll}} {
		expectOutcomes(t, outcomes(t, mem, options, state("a")), "content")
	}
}

func TestD3UnsyncedBytesMayGo(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "old")
	overwrite(t, mem, "a", []byte("new"), 0)
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "new", "old")
	expectOutcomes(t, outcomes(t, mem, dropUnsynced, state("a")), "old")
	syncFile(t, mem, "a")
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "new")
}

func TestD3SectorsTear(t *testing.T) {
	const sector = 512
	mem := vfs.NewMem()
	durable(t, mem, "a", strings.Repeat("o", 3*4096))
	overwrite(t, mem, "a", bytes.Repeat([]byte("n"), 2*4096), 2048)
	look := func(found vfs.FS) string {
		data := read(t, found, "a")
		kinds := ""
		for part := range slices.Chunk([]byte(data), sector) {
			if strings.Count(string(part), string(part[:1])) != sector {
				return "torn sector"
			}
			kinds += string(part[:1])
		}
		if kinds[:4]+kinds[20:] != "oooooooo" {
			return "changed what was not written"
		}
		switch written := kinds[4:20]; {
		case !strings.Contains(written, "n"):
			return "old"
		case !strings.Contains(written, "o"):
			return "new"
		case strings.Contains(written, "on"):
			return "later before earlier"
		}
		return "prefix"
	}
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "later before earlier", "new", "old", "prefix")
}

func TestD3StateBetween(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "1")
	seen := make(map[string]int)
	for seed := range uint64(200) {
		rng := generator(seed)
		running := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
		overwrite(t, running, "a", []byte("2"), 0)
		running.WriteBack(rng)
		overwrite(t, running, "a", []byte("3"), 0)
		seen[state("a")(running.Crash(rng, vfs.CrashOptions{}))]++
	}
	expectOutcomes(t, seen, "1", "2", "3")
}

func TestD3WrittenBackStays(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "")
	overwrite(t, mem, "a", make([]byte, 8192), 0)
	grown := 0
	for seed := range uint64(200) {
		rng := generator(seed)
		running := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
		running.WriteBack(rng)
		before, err := running.Crash(nil, dropUnsynced).Size("a")
		ok(t, err)
		overwrite(t, running, "a", make([]byte, 8192), 8192)
		after, err := running.Crash(rng, vfs.CrashOptions{}).Size("a")
		ok(t, err)
		if after < before {
			t.Fatalf("seed %d: size %d had reached the disk, found %d", seed, before, after)
		}
		if 0 < before && before < after {
			grown++
		}
	}
	if grown == 0 {
		t.Fatal("no size was written back and grew")
	}
}

func TestD4SizeAndBytesAreApart(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "0123")
	overwrite(t, mem, "a", bytes.Repeat([]byte("n"), 2048), 512)
	look := func(found vfs.FS) string {
		data := read(t, found, "a")
		switch {
		case !strings.HasPrefix(data, "0123"):
			return "lost synced bytes"
		case len(data) == 4:
			return "old size"
		case len(data) < 2560:
			return "size between"
		case !strings.Contains(data, "n"):
			return "size only"
		case strings.Count(data, "n") == 2048:
			return "all"
		}
		return "some"
	}
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "all", "old size", "size between", "size only", "some")
}

func TestD4Garbage(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", strings.Repeat("s", 700))
	durable(t, mem, "other", strings.Repeat("x", 4096))
	overwrite(t, mem, "a", bytes.Repeat([]byte("n"), 8000-700), 700)
	look := func(found vfs.FS) string {
		data := read(t, found, "a")
		if data[:700] != strings.Repeat("s", 700) {
			return "garbage in synced bytes"
		}
		if strings.Trim(data[700:min(len(data), 1024)], "n\x00") != "" {
			return "garbage in the sector of the synced end"
		}
		size := int64(len(data))
		f, err := found.OpenReadWrite("a")
		ok(t, err)
		ok(t, f.Truncate(size+5000))
		ok(t, f.Close())
		if strings.Trim(read(t, found, "a")[size:], "\x00") != "" {
			return "garbage beyond the end"
		}
		switch rest := strings.Trim(data[min(len(data), 1024):], "n\x00"); {
		case rest == "":
			return "clean"
		case strings.Trim(rest, "xn\x00") == "":
			return "stale"
		}
		return "noise"
	}
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{Garbage: true}, look), "clean", "noise", "stale")
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "clean")
}

func TestD4GarbageInsteadOfZeros(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "")
	overwrite(t, mem, "a", make([]byte, 8192), 0)
	look := func(found vfs.FS) string {
		if strings.Trim(read(t, found, "a"), "\x00") == "" {
			return "zeros"
		}
		return "garbage"
	}
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{Garbage: true}, look), "garbage", "zeros")
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "zeros")
}

func TestD4TruncateMayGo(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "0123456789")
	f, err := mem.OpenReadWrite("a")
	ok(t, err)
	ok(t, f.Truncate(4))
	// The zeros that a cut leaves in its sector may arrive before the size.
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "0123", "0123456789", "0123\x00\x00\x00\x00\x00\x00")
	ok(t, f.Truncate(0))
	_, err = f.WriteAt([]byte("abc"), 0)
	ok(t, err)
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")),
		// Cut or not, written or not, in any combination.
		"0123456789", "abc", "012", "abc\x00\x00\x00\x00\x00\x00\x00", "empty")
	ok(t, f.Sync())
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "abc")
	ok(t, f.Close())
}

func TestD6LostInASync(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "old")
	lose := vfs.At(0, vfs.Decision{Lose: true}, vfs.Kinds(vfs.OpSync))
	fault := vfs.NewFault(mem, lose.Inject)
	f, err := fault.OpenReadWrite("a")
	ok(t, err)
	_, err = f.WriteAt([]byte("new and longer"), 0)
	ok(t, err)
	if f.Sync() == nil {
		t.Fatal("sync that lost the bytes reports success")
	}
	ok(t, f.Sync())
	if got := read(t, mem, "a"); got != "new and longer" {
		t.Fatalf("read %q before the crash", got)
	}
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "old")
	killed := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
	if got := read(t, killed, "a"); got != "new and longer" {
		t.Fatalf("read %q after the end of the process", got)
	}
	// A page that is written again is dirty as a whole.
	_, err = f.WriteAt([]byte("NEW"), 0)
	ok(t, err)
	ok(t, f.Sync())
	ok(t, f.Close())
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "NEW and longer")
}

func TestD6NoBytesBeyondTheEnd(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "")
	lose := vfs.At(0, vfs.Decision{Lose: true}, vfs.Kinds(vfs.OpSync))
	f, err := vfs.NewFault(mem, lose.Inject).OpenReadWrite("a")
	ok(t, err)
	_, err = f.WriteAt(make([]byte, 5000), 0)
	ok(t, err)
	isError(t, f.Sync(), syscall.EIO)
	// Dirty again, beyond the end that the disk knows of.
	_, err = f.WriteAt([]byte("x"), 4500)
	ok(t, err)
	ok(t, f.Close())
	for seed := range uint64(20) {
		running := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
		running.WriteBack(generator(seed))
		found := running.Crash(nil, dropUnsynced)
		f, err := found.OpenReadWrite("a")
		ok(t, err)
		ok(t, f.Truncate(8192))
		ok(t, f.Close())
		if got := read(t, found, "a"); strings.Contains(got, "x") {
			t.Fatalf("seed %d: a byte beyond the end came back", seed)
		}
	}
}

func TestD7KillMakesNothingDurable(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "old")
	overwrite(t, mem, "a", []byte("new"), 0)
	write(t, mem, "b", "b")
	killed := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
	list(t, killed, ".", "a", "b")
	if got := read(t, killed, "a"); got != "new" {
		t.Fatalf("read %q after the end of the process", got)
	}
	found := killed.Crash(nil, dropUnsynced)
	list(t, found, ".", "a")
	if got := read(t, found, "a"); got != "old" {
		t.Fatalf("read %q after the power loss", got)
	}
	syncFile(t, killed, "a")
	ok(t, killed.SyncDir("."))
	expectOutcomes(t, outcomes(t, killed, vfs.CrashOptions{}, state("a")), "new")
	list(t, killed.Crash(nil, dropUnsynced), ".", "a", "b")
}

func TestCrashLeavesTheOriginal(t *testing.T) {
	mem := vfs.NewMem()
	f, err := mem.Create("a")
	ok(t, err)
	lock, err := mem.Lock("LOCK")
	ok(t, err)
	_, err = f.WriteAt([]byte("one"), 0)
	ok(t, err)
	found := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
	// Pages are shared: a write on one side must not show on the other.
	_, err = f.WriteAt([]byte("two"), 0)
	ok(t, err)
	if got := read(t, found, "a"); got != "one" {
		t.Fatalf("a write to the original shows in the copy: %q", got)
	}
	overwrite(t, found, "a", []byte("six"), 0)
	if got := read(t, mem, "a"); got != "two" {
		t.Fatalf("a write to the copy shows in the original: %q", got)
	}
	again, err := found.Lock("LOCK")
	ok(t, err)
	ok(t, again.Close())
	_, err = mem.Lock("LOCK")
	isError(t, err, vfs.ErrLocked)
	ok(t, lock.Close())
	ok(t, f.Sync())
	ok(t, f.Close())
	ok(t, mem.SyncDir("."))
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "two")
}

func TestCrashesAreApart(t *testing.T) {
	mem := vfs.NewMem()
	write(t, mem, "a", "one")
	first := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
	second := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
	overwrite(t, first, "a", []byte("two"), 0)
	overwrite(t, mem, "a", []byte("six"), 0)
	for fsys, want := range map[*vfs.Mem]string{mem: "six", first: "two", second: "one"} {
		if got := read(t, fsys, "a"); got != want {
			t.Fatalf("read %q, want %q", got, want)
		}
	}
}

func TestCrashIsDeterministic(t *testing.T) {
	// Two runs with the same seed give the same names and bytes.
	run := func(seed uint64) string {
		rng := generator(seed)
		mem := vfs.NewMem()
		for i := range 20 {
			name := fmt.Sprintf("f%d", i)
			write(t, mem, name, string(noise(rng, 3000)))
			if i%3 == 0 {
				syncFile(t, mem, name)
			}
		}
		found := mem.Crash(rng, vfs.CrashOptions{Garbage: true})
		names, err := found.List("/")
		ok(t, err)
		var all strings.Builder
		for _, name := range names {
			fmt.Fprintf(&all, "%s %q\n", name, read(t, found, name))
		}
		return all.String()
	}
	different := false
	for seed := range uint64(20) {
		first := run(seed)
		if first != run(seed) {
			t.Fatalf("seed %d: two runs differ", seed)
		}
		different = different || first != run(seed+1)
	}
	if !different {
		t.Fatal("all seeds give the same")
	}
}

// TestConcurrentUse is for the race detector, and holds D1 for files that are
// written while others crash the file system.
func TestConcurrentUse(t *testing.T) {
	mem := vfs.NewMem()
	mem.SetCapacity(64 << 20)
	var writers sync.WaitGroup
	for number := range 4 {
		name := fmt.Sprintf("file%d", number)
		writers.Go(func() {
			f, err := mem.Create(name)
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 50 {
				_, err := f.WriteAt([]byte(name), int64(i*len(name)))
				if err := errors.Join(err, f.Sync(), mem.SyncDir(".")); err != nil {
					t.Error(err)
				}
				found := mem.Crash(generator(uint64(i)), vfs.CrashOptions{})
				want := []byte(strings.Repeat(name, i+1))
				if !contains(found, name, want) {
					t.Errorf("%s: lost synced bytes", name)
				}
				overwrite(t, found, name, []byte("other"), 0)
				if !contains(mem, name, want) {
					t.Errorf("%s: a write to the copy shows", name)
				}
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	writers.Wait()
}
