package vfs_test

import (
	"fmt"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

func TestD2UnsyncedNamesMayGo(t *testing.T) {
	mem := vfs.NewMem()
	write(t, mem, "a", "content")
	syncFile(t, mem, "a")
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "content", "gone")
	expectOutcomes(t, outcomes(t, mem, dropUnsynced, state("a")), "gone")
	ok(t, mem.SyncDir("/"))
	ok(t, mem.Remove("a"))
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "content", "gone")
	expectOutcomes(t, outcomes(t, mem, dropUnsynced, state("a")), "content")
	ok(t, mem.SyncDir("/"))
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "gone")
}

func TestD2SyncDirIsForOneFolder(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("a/b"))
	write(t, mem, "a/b/file", "")
	ok(t, mem.SyncDir("a"))
	ok(t, mem.SyncDir("/"))
	expectOutcomes(t, outcomes(t, mem, dropUnsynced, state("a/b/file")), "gone")
	ok(t, mem.SyncDir("a/b"))
	expectOutcomes(t, outcomes(t, mem, dropUnsynced, state("a/b/file")), "empty")
}

func TestD2FolderItselfMayGo(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("a"))
	durable(t, mem, "a/file", "content")
	ok(t, mem.Rename("a", "b"))
	ok(t, mem.SyncDir("b"))
	look := func(found vfs.FS) string { return state("a/file")(found) + " " + state("b/file")(found) }
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "content gone", "gone content")
}

func TestMkdirAllIsDurable(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("a/b/c"))
	found := mem.Crash(nil, dropUnsynced)
	list(t, found, "a/b", "c")
	// It says nothing of what is in the folders.
	write(t, mem, "a/b/c/file", "")
	list(t, mem.Crash(nil, dropUnsynced), "a/b/c")
}

func TestMkdirAllSyncsWhatItFound(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("base"))
	ok(t, mem.MkdirAll("other/a"))
	// A visible folder whose name is not durable, as a crash within MkdirAll
	// leaves one.
	ok(t, mem.Rename("other/a", "base/a"))
	list(t, mem.Crash(nil, dropUnsynced), "base")
	for _, dir := range []string{"base/a", "base/a/b"} {
		again := mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
		ok(t, again.MkdirAll(dir))
		list(t, again.Crash(nil, dropUnsynced), "base", "a")
	}
}

func TestD5RenameIsAtomic(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "old")
	durable(t, mem, "b", "new")
	ok(t, mem.Rename("b", "a"))
	look := func(found vfs.FS) string { return state("a")(found) + " " + state("b")(found) }
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "new gone", "old new")
	expectOutcomes(t, outcomes(t, mem, dropUnsynced, look), "old new")
	ok(t, mem.SyncDir("."))
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "new gone")
}

func TestD5RenameAcrossFolders(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("from"))
	ok(t, mem.MkdirAll("to"))
	durable(t, mem, "from/a", "content")
	ok(t, mem.Rename("from/a", "to/a"))
	look := func(found vfs.FS) string { return state("from/a")(found) + " " + state("to/a")(found) }
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "content gone", "gone content")
	// What it leads to goes along, or the file would be nowhere.
	ok(t, mem.RemoveAll("from"))
	ok(t, mem.SyncDir("."))
	expectOutcomes(t, outcomes(t, mem, dropUnsynced, look), "gone content")
}

func TestD5RenamedWithoutSyncOfBytes(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "old")
	write(t, mem, "b", "new")
	ok(t, mem.Rename("b", "a"))
	ok(t, mem.SyncDir("."))
	// The classic: the rename survives, the bytes do not.
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, state("a")), "new", "empty", "\x00\x00\x00")
}

func TestD5FoldersMovedIntoEachOther(t *testing.T) {
	mem := vfs.NewMem()
	for _, dir := range []string{"a", "b"} {
		ok(t, mem.MkdirAll(dir))
		durable(t, mem, dir+"/file", dir)
	}
	ok(t, mem.Rename("a", "b/a"))
	ok(t, mem.Rename("b/a", "a"))
	ok(t, mem.Rename("b", "a/b"))
	look := func(found vfs.FS) string { return fmt.Sprint(files(t, found, "/", nil)) }
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look),
		"map[a:[/a/file] b:[/b/file]]", "map[a:[/b/a/file] b:[/b/file]]", "map[a:[/a/file] b:[/a/b/file]]")
	ok(t, mem.SyncDir("a"))
	expectOutcomes(t, outcomes(t, mem, dropUnsynced, look), "map[a:[/a/file] b:[/a/b/file]]")
}

func TestD5SyncOfALaterChange(t *testing.T) {
	mem := vfs.NewMem()
	for _, dir := range []string{"a", "b", "c"} {
		ok(t, mem.MkdirAll(dir))
	}
	durable(t, mem, "a/file", "content")
	ok(t, mem.Rename("a/file", "b/file"))
	ok(t, mem.Rename("b/file", "c/file"))
	ok(t, mem.SyncDir("c"))
	// The first rename touches c not at all, but without it the second would
	// give the file two names.
	look := func(found vfs.FS) string { return fmt.Sprint(files(t, found, "/", nil)) }
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look), "map[content:[/c/file]]")
}

func TestD5LostChangesStayLost(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("a"))
	ok(t, mem.MkdirAll("b"))
	ok(t, mem.Rename("a", "b/a"))
	found := mem.Crash(nil, dropUnsynced)
	list(t, found, ".", "a", "b")
	ok(t, found.SyncDir("."))
	ok(t, found.SyncDir("b"))
	list(t, found.Crash(nil, dropUnsynced), ".", "a", "b")
	// The folder is not in the other one, so the other one can go into it.
	ok(t, found.Rename("b", "a/b"))
}

func TestD5ChangesInAnyOrder(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "old", "")
	write(t, mem, "new", "")
	ok(t, mem.Remove("old"))
	look := func(found vfs.FS) string { return state("old")(found) + " " + state("new")(found) }
	expectOutcomes(t, outcomes(t, mem, vfs.CrashOptions{}, look),
		"empty empty", "empty gone", "gone empty", "gone gone")
}
