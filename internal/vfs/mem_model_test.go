package vfs_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"slices"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// TestContentModel changes a file at random and holds every crash to what the
// file has been since its last sync.
func TestContentModel(t *testing.T) {
	const seeds, steps, crashes = 60, 25, 3
	for seed := range uint64(seeds) {
		rng := generator(seed)
		mem := vfs.NewMem()
		ok(t, vfs.WriteFile(mem, "a", noise(rng, rng.IntN(9000))))
		f, err := mem.OpenReadWrite("a")
		ok(t, err)
		history := []string{read(t, mem, "a")}
		writtenBack := false
		for range steps {
			switch kind := rng.IntN(10); {
			case kind < 5:
				_, err = f.WriteAt(noise(rng, 1+rng.IntN(3000)), rng.Int64N(9000))
			case kind < 7:
				err = f.Truncate(rng.Int64N(9000))
			case kind < 9:
				err = f.Sync()
				history, writtenBack = nil, false
			default:
				mem.WriteBack(rng)
				writtenBack = true
			}
			ok(t, err)
			history = append(history, read(t, mem, "a"))
			for range crashes {
				checkContent(t, seed, history, writtenBack, read(t, mem.Crash(rng, vfs.CrashOptions{}), "a"))
			}
			if got := read(t, mem.Crash(nil, dropUnsynced), "a"); !writtenBack && got != history[0] {
				t.Fatalf("seed %d: dropping all that is unsynced is not the last synced content", seed)
			}
			killed := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
			if read(t, killed, "a") != history[len(history)-1] {
				t.Fatalf("seed %d: the end of the process changed the content", seed)
			}
			if !writtenBack && read(t, killed.Crash(nil, dropUnsynced), "a") != history[0] {
				t.Fatalf("seed %d: the end of the process made bytes durable", seed)
			}
		}
		ok(t, f.Close())
	}
}

// checkContent holds what a crash left to the versions since the last sync,
// the first of which was synced.
func checkContent(t *testing.T, seed uint64, history []string, writtenBack bool, found string) {
	t.Helper()
	shortest, longest := len(history[0]), len(history[0])
	for _, version := range history {
		shortest, longest = min(shortest, len(version)), max(longest, len(version))
	}
	if len(found) < shortest || len(found) > longest {
		t.Fatalf("seed %d: size %d, has been %d to %d", seed, len(found), shortest, longest)
	}
	at := func(version string, i int) byte {
		if i < len(version) {
			return version[i]
		}
		return 0
	}
	for i := range found {
		had := func(version string) bool { return at(version, i) == found[i] }
		if !slices.ContainsFunc(history, had) {
			t.Fatalf("seed %d: byte %d of %d has never been %d", seed, i, len(found), found[i])
		}
	}
	if writtenBack {
		return
	}
	// Without a write-back in between, a sector is the synced one or the last.
	for start := 0; start < len(found); start += 512 {
		end := min(start+512, len(found))
		same := func(version string) bool {
			for i := start; i < end; i++ {
				if at(version, i) != found[i] {
					return false
				}
			}
			return true
		}
		if !same(history[0]) && !same(history[len(history)-1]) {
			t.Fatalf("seed %d: the sector at %d is torn", seed, start)
		}
	}
}

// names is a Mem with some folders and files, and what must be in it: each
// file has its own name of birth as content.
type names struct {
	rng  *rand.Rand
	mem  *vfs.Mem
	born int
	kept map[string]bool // Files whose name has been durable and was never taken.
}

// files returns the content of every file in a file system with its path.
func files(t *testing.T, fsys vfs.FS, dir string, found map[string][]string) map[string][]string {
	t.Helper()
	if found == nil {
		found = make(map[string][]string)
	}
	entries, err := fsys.List(dir)
	ok(t, err)
	for _, entry := range entries {
		name := path.Join(dir, entry)
		data, err := vfs.ReadFile(fsys, name, readLimit)
		if errors.Is(err, syscall.EISDIR) {
			files(t, fsys, name, found)
			continue
		}
		ok(t, err)
		found[string(data)] = append(found[string(data)], name)
	}
	return found
}

// folders returns all folders of a file system.
func folders(t *testing.T, fsys vfs.FS, dir string) []string {
	t.Helper()
	all := []string{dir}
	entries, err := fsys.List(dir)
	ok(t, err)
	for _, entry := range entries {
		if _, err := fsys.Size(path.Join(dir, entry)); errors.Is(err, syscall.EISDIR) {
			all = append(all, folders(t, fsys, path.Join(dir, entry))...)
		}
	}
	return all
}

func (n *names) folder(t *testing.T) string {
	all := folders(t, n.mem, "/")
	return all[n.rng.IntN(len(all))]
}

// place returns one of a few names in a folder, so that names collide.
func (n *names) place(t *testing.T) string {
	return path.Join(n.folder(t), string(rune('a'+n.rng.IntN(5))))
}

// taken notes that files are meant to be gone.
func (n *names) taken(t *testing.T, run func() error) {
	t.Helper()
	before := files(t, n.mem, "/", nil)
	_ = run() // Many random operations are impossible.
	after := files(t, n.mem, "/", nil)
	for content := range before {
		if len(after[content]) == 0 {
			delete(n.kept, content)
		}
	}
}

func (n *names) step(t *testing.T) {
	switch n.rng.IntN(8) {
	case 0, 1:
		name := n.place(t)
		f, err := n.mem.Create(name)
		if err != nil {
			return
		}
		n.born++
		_, err = f.WriteAt(fmt.Appendf(nil, "file %d", n.born), 0)
		ok(t, err)
		ok(t, f.Sync())
		ok(t, f.Close())
	case 2, 3, 4:
		n.taken(t, func() error { return n.mem.Rename(n.place(t), n.place(t)) })
	case 5:
		n.taken(t, func() error { return n.mem.Remove(n.place(t)) })
	case 6:
		if n.rng.IntN(8) == 0 {
			n.taken(t, func() error { return n.mem.RemoveAll(n.place(t)) })
		} else if err := n.mem.MkdirAll(n.place(t)); err != nil && !errors.Is(err, syscall.ENOTDIR) {
			t.Fatal(err)
		}
	case 7:
		ok(t, n.mem.SyncDir(n.folder(t)))
	}
}

// TestNameModel changes names at random and holds every crash to D2 and D5.
func TestNameModel(t *testing.T) {
	const seeds, steps, crashes = 60, 40, 3
	for seed := range uint64(seeds) {
		n := &names{rng: generator(seed), mem: vfs.NewMem(), kept: make(map[string]bool)}
		if n.rng.IntN(2) == 0 {
			ok(t, n.mem.MkdirAll("a/b"))
			ok(t, n.mem.MkdirAll("c"))
		}
		for range steps {
			n.step(t)
			// What is durable now, if nothing else survives, must stay for ever.
			for content := range files(t, n.mem.Crash(nil, dropUnsynced), "/", nil) {
				if len(files(t, n.mem, "/", nil)[content]) > 0 {
					n.kept[content] = true
				}
			}
			for range crashes {
				n.check(t, seed, n.mem.Crash(n.rng, vfs.CrashOptions{}))
			}
			n.check(t, seed, n.mem.Crash(nil, dropUnsynced))
			n.checkSyncDir(t, seed)
		}
		n.checkAllSynced(t, seed)
	}
}

// check holds a crash to D5: no file has two names, none that had a durable one
// has none, and there is nothing that never was.
func (n *names) check(t *testing.T, seed uint64, found *vfs.Mem) {
	t.Helper()
	all := files(t, found, "/", nil)
	for content, at := range all {
		if len(at) != 1 || content == "" {
			t.Fatalf("seed %d: %q is at %q", seed, content, at)
		}
	}
	for content := range n.kept {
		if len(all[content]) == 0 {
			t.Fatalf("seed %d: %q is lost", seed, content)
		}
	}
}

// checkSyncDir holds D2 in the root, whose own name cannot be lost.
func (n *names) checkSyncDir(t *testing.T, seed uint64) {
	t.Helper()
	copied := n.mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
	ok(t, copied.SyncDir("/"))
	want, err := copied.List("/")
	ok(t, err)
	got, err := copied.Crash(n.rng, vfs.CrashOptions{}).List("/")
	ok(t, err)
	if !slices.Equal(got, want) {
		t.Fatalf("seed %d: the root has %q after a sync of %q", seed, got, want)
	}
}

// checkAllSynced holds D2 for everything.
func (n *names) checkAllSynced(t *testing.T, seed uint64) {
	t.Helper()
	for _, folder := range folders(t, n.mem, "/") {
		ok(t, n.mem.SyncDir(folder))
	}
	found := n.mem.Crash(n.rng, vfs.CrashOptions{})
	want, got := fmt.Sprint(files(t, n.mem, "/", nil)), fmt.Sprint(files(t, found, "/", nil))
	if got != want {
		t.Fatalf("seed %d: synced %s, found %s", seed, want, got)
	}
	if _, err := found.Size("/missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}
