package vfs_test

import (
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/internal/vfs/vfstest"
)

const target = "folder/name"

// writer replaces the content of a file.
type writer func(fsys vfs.FS, name string, data []byte) error

// scene is what a writer finds and what it is to write.
type scene struct {
	name    string
	old     []byte // nil: no file.
	data    []byte
	leaving bool // A temporary file of an earlier crash is there.
}

func scenes() []scene {
	rng := generator(7)
	return []scene{
		{name: "create", data: noise(rng, 20_000)},
		{name: "replace by longer", old: noise(rng, 3_000), data: noise(rng, 20_000)},
		{name: "replace by shorter", old: noise(rng, 20_000), data: noise(rng, 700)},
		{name: "replace by nothing", old: noise(rng, 700), data: []byte{}},
		{name: "after a crash", old: noise(rng, 100), data: noise(rng, 5_000), leaving: true},
	}
}

func (s scene) set(t testing.TB) *vfs.Mem {
	t.Helper()
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("folder"))
	if s.old != nil {
		durable(t, mem, target, string(s.old))
	}
	if s.leaving {
		write(t, mem, target+vfs.TempSuffix, "left behind by a crash, longer than nothing")
	}
	return mem
}

// outcome tells which content is there.
func (s scene) outcome(fsys vfs.FS) string {
	_, err := fsys.Size(target)
	switch {
	case contains(fsys, target, s.data):
		return "new"
	case s.old == nil && errors.Is(err, fs.ErrNotExist):
		return "old"
	case s.old != nil && contains(fsys, target, s.old):
		return "old"
	}
	return "broken"
}

// crashSweep crashes before every operation of a writer and after its end, in
// all ways, and counts by the name of the instant what was found.
func (s scene) crashSweep(t testing.TB, run writer) (during, after map[string]int) {
	t.Helper()
	const seeds = 60
	during, after = make(map[string]int), make(map[string]int)
	crash := func(mem *vfs.Mem, into map[string]int) {
		for seed := range uint64(seeds) {
			for _, options := range []vfs.CrashOptions{{}, {Garbage: true}, dropUnsynced, {Mode: vfs.CrashKeepAll}} {
				found := mem.Crash(generator(seed), options)
				into[s.outcome(found)]++
				if err := vfs.WriteFile(found, target, s.data); err != nil || s.outcome(found) != "new" {
					t.Fatalf("%s, seed %d: writing again after the crash: %v", s.name, seed, err)
				}
			}
		}
	}
	for k := int64(0); ; k++ {
		mem := s.set(t)
		trigger := vfs.Before(k, func() { crash(mem, during) })
		ok(t, run(vfs.NewFault(mem, trigger.Inject), target, s.data))
		if !trigger.Fired() {
			crash(mem, after)
			return during, after
		}
	}
}

func TestWriteFileIsCrashAtomic(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			during, after := s.crashSweep(t, vfs.WriteFile)
			expectOutcomes(t, during, "new", "old")
			expectOutcomes(t, after, "new")
		})
	}
}

// TestCarelessWritersAreCaught is the control of the sweep: each rule that a
// writer breaks shows.
func TestCarelessWritersAreCaught(t *testing.T) {
	put := func(fsys vfs.FS, name string, data []byte, sync bool) error {
		f, err := fsys.Create(name)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(data, 0)
		if err == nil && sync {
			err = f.Sync()
		}
		return errors.Join(err, f.Close())
	}
	f := func(want string, run writer) {
		t.Helper()
		s := scene{name: want, old: noise(generator(1), 3_000), data: noise(generator(2), 20_000)}
		during, after := s.crashSweep(t, run)
		switch want {
		case "broken during":
			if during["broken"] == 0 {
				t.Fatalf("not caught: during %v, after %v", during, after)
			}
		case "broken after":
			if after["broken"] == 0 {
				t.Fatalf("not caught: during %v, after %v", during, after)
			}
		case "old after":
			if during["broken"]+after["broken"] != 0 || after["old"] == 0 {
				t.Fatalf("not caught: during %v, after %v", during, after)
			}
		}
	}
	f("broken after", func(fsys vfs.FS, name string, data []byte) error {
		// Without a sync of the file.
		return errors.Join(put(fsys, name+".t", data, false), fsys.Rename(name+".t", name), fsys.SyncDir("folder"))
	})
	f("old after", func(fsys vfs.FS, name string, data []byte) error {
		// Without a sync of the folder.
		return errors.Join(put(fsys, name+".t", data, true), fsys.Rename(name+".t", name))
	})
	f("broken during", func(fsys vfs.FS, name string, data []byte) error {
		// In place.
		file, err := fsys.OpenReadWrite(name)
		if err != nil {
			return err
		}
		_, err = file.WriteAt(data, 0)
		return errors.Join(err, file.Sync(), file.Close())
	})
	f("broken during", func(fsys vfs.FS, name string, data []byte) error {
		// With a moment without any file.
		return errors.Join(fsys.Remove(name), put(fsys, name, data, true), fsys.SyncDir("folder"))
	})
	f("broken after", func(fsys vfs.FS, name string, data []byte) error {
		// On a disk that lies about syncs of files.
		lie := vfs.From(0, vfs.Decision{Drop: true}, vfs.Kinds(vfs.OpSync))
		return vfs.WriteFile(vfs.NewFault(fsys, lie.Inject), name, data)
	})
	f("old after", func(fsys vfs.FS, name string, data []byte) error {
		// On a disk that lies about syncs of folders.
		lie := vfs.From(0, vfs.Decision{Drop: true}, vfs.Kinds(vfs.OpSyncDir))
		return vfs.WriteFile(vfs.NewFault(fsys, lie.Inject), name, data)
	})
}

// TestWriteFileFails lets every operation of WriteFile fail: the error is
// reported, old or new is there whole, and nothing is left behind.
func TestWriteFileFails(t *testing.T) {
	decisions := map[string]vfs.Decision{
		"EIO":    {Err: syscall.EIO},
		"ENOSPC": {Err: syscall.ENOSPC},
		"short":  {Err: syscall.ENOSPC, Short: 600},
		"lost":   {Lose: true, Err: syscall.EIO},
	}
	for _, s := range scenes() {
		for name, decision := range decisions {
			t.Run(s.name+"/"+name, func(t *testing.T) { s.failSweep(t, decision) })
		}
	}
}

func (s scene) failSweep(t *testing.T, decision vfs.Decision) {
	seen := make(map[string]int)
	for k := int64(0); ; k++ {
		mem := s.set(t)
		trigger := vfs.At(k, decision)
		fault := vfs.NewFault(mem, trigger.Inject)
		err := vfs.WriteFile(vfstest.OpenTracking(t, fault), target, s.data)
		if !trigger.Fired() {
			ok(t, err)
			break
		}
		if !errors.Is(err, decision.Err) || !strings.Contains(err.Error(), target) {
			t.Fatalf("k=%d: error is %v", k, err)
		}
		live := s.outcome(mem)
		seen[live]++
		names, err := mem.List("folder")
		ok(t, err)
		// The first two operations are what could take an older one away.
		if !(s.leaving && k < 2) && slices.Contains(names, "name"+vfs.TempSuffix) {
			t.Fatalf("k=%d: left behind %q", k, names)
		}
		for outcome := range outcomes(t, mem, vfs.CrashOptions{}, s.outcome) {
			seen["then "+outcome]++
			if live == "old" && outcome == "new" {
				t.Fatalf("k=%d: the crash brought back what had been given up", k)
			}
		}
		// The disk works again, and so does the next call.
		ok(t, vfs.WriteFile(fault, target, s.data))
		expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, s.outcome), "new")
	}
	// Only a failed sync of the folder comes after the rename.
	expectOutcomes(t, seen, "new", "old", "then new", "then old")
}

// TestWriteFileOnBrokenDisk lets everything fail from the k-th operation on.
func TestWriteFileOnBrokenDisk(t *testing.T) {
	for _, s := range scenes() {
		for k := int64(0); ; k++ {
			mem := s.set(t)
			trigger := vfs.From(k, vfs.Decision{Err: syscall.EIO})
			err := vfs.WriteFile(vfs.NewFault(mem, trigger.Inject), target, s.data)
			if !trigger.Fired() {
				ok(t, err)
				break
			}
			isError(t, err, syscall.EIO)
			if seen := outcomes(t, mem, vfs.CrashOptions{}, s.outcome); seen["broken"] > 0 {
				t.Fatalf("%s, k=%d: %v", s.name, k, seen)
			}
		}
	}
}

func TestWriteFileOnFullDisk(t *testing.T) {
	s := scenes()[1]
	mem := s.set(t)
	mem.SetCapacity(12_000)
	isError(t, vfs.WriteFile(mem, target, s.data), syscall.ENOSPC)
	list(t, mem, "folder", "name")
	if got := s.outcome(mem); got != "old" {
		t.Fatalf("the file is %s", got)
	}
	mem.SetCapacity(0)
	ok(t, vfs.WriteFile(mem, target, s.data))
}

func TestWriteFileOnTheMachine(t *testing.T) {
	fsys := vfstest.OpenTracking(t, vfs.OS{})
	name := t.TempDir() + "/name"
	for _, data := range []string{"first", "", strings.Repeat("long", 5_000), "short"} {
		ok(t, vfs.WriteFile(fsys, name, []byte(data)))
		if got := read(t, fsys, name); got != data {
			t.Fatalf("read %d bytes, wrote %d", len(got), len(data))
		}
		_, err := fsys.Size(name + vfs.TempSuffix)
		isError(t, err, fs.ErrNotExist)
	}
	isError(t, vfs.WriteFile(fsys, t.TempDir()+"/missing/name", nil), fs.ErrNotExist)
}

func TestCommitFile(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("from"))
	ok(t, mem.MkdirAll("to"))
	fsys := vfstest.OpenTracking(t, mem)
	create := func() vfs.File {
		t.Helper()
		f, err := fsys.Create("from/temp")
		ok(t, err)
		_, err = f.WriteAt([]byte("content"), 0)
		ok(t, err)
		return f
	}
	syncs := vfs.Count(vfs.Kinds(vfs.OpSyncDir))
	ok(t, vfs.CommitFile(vfs.NewFault(fsys, syncs.Inject), create(), "from/temp", "to/name"))
	if syncs.Seen() != 2 {
		t.Fatalf("%d folders synced, want both", syncs.Seen())
	}
	found := mem.Crash(nil, dropUnsynced)
	list(t, found, "from")
	if got := read(t, found, "to/name"); got != "content" {
		t.Fatalf("committed %q", got)
	}
	// The file is closed whatever fails, and left to the caller.
	for k := int64(0); ; k++ {
		trigger := vfs.FailAt(k, syscall.EIO, vfs.Kinds(vfs.OpSync, vfs.OpClose, vfs.OpRename))
		fault := vfs.NewFault(mem, trigger.Inject)
		f, err := vfstest.OpenTracking(t, fault).Create("from/temp")
		ok(t, err)
		err = vfs.CommitFile(fault, f, "from/temp", "to/name")
		if !trigger.Fired() {
			ok(t, err)
			break
		}
		isError(t, err, syscall.EIO)
		list(t, mem, "from", "temp")
		ok(t, mem.Remove("from/temp"))
	}
}

func TestReadFile(t *testing.T) {
	mem := vfs.NewMem()
	_, err := vfs.ReadFile(mem, "a", 10)
	isError(t, err, fs.ErrNotExist)
	write(t, mem, "a", "0123456789")
	if data, err := vfs.ReadFile(mem, "a", 10); err != nil || string(data) != "0123456789" {
		t.Fatalf("read %q, %v", data, err)
	}
	_, err = vfs.ReadFile(mem, "a", 9)
	isError(t, err, vfs.ErrTooLarge)
	if !strings.Contains(err.Error(), "a: 10 bytes, at most 9") {
		t.Fatalf("error is %v", err)
	}
	write(t, mem, "empty", "")
	if data, err := vfs.ReadFile(mem, "empty", 0); err != nil || len(data) != 0 {
		t.Fatalf("read %q, %v", data, err)
	}
	// A sparse file that would be far too large to allocate.
	f, err := mem.Create("huge")
	ok(t, err)
	ok(t, f.Truncate(8<<30))
	ok(t, f.Close())
	_, err = vfs.ReadFile(mem, "huge", 1<<20)
	isError(t, err, vfs.ErrTooLarge)
	for k := int64(0); ; k++ {
		trigger := vfs.FailAt(k, syscall.EIO)
		data, err := vfs.ReadFile(vfstest.OpenTracking(t, vfs.NewFault(mem, trigger.Inject)), "a", 10)
		if !trigger.Fired() {
			ok(t, err)
			break
		}
		isError(t, err, syscall.EIO)
		if data != nil {
			t.Fatalf("k=%d: an error and data %q", k, data)
		}
	}
	short := vfs.At(0, vfs.Decision{Short: 4}, vfs.Kinds(vfs.OpRead))
	if data, err := vfs.ReadFile(vfs.NewFault(mem, short.Inject), "a", 10); err == nil {
		t.Fatalf("a short read gives %q", data)
	}
}
