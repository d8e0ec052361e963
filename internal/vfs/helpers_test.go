package vfs_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

const readLimit = 1 << 20

// ok fails the test on an error.
func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// isError fails the test unless err wraps want.
func isError(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

// write puts data into a file and syncs neither it nor its folder.
func write(t testing.TB, fsys vfs.FS, name, data string) {
	t.Helper()
	f, err := fsys.Create(name)
	ok(t, err)
	_, err = f.WriteAt([]byte(data), 0)
	ok(t, err)
	ok(t, f.Close())
}

// syncFile syncs a file but not its folder.
func syncFile(t testing.TB, fsys vfs.FS, name string) {
	t.Helper()
	f, err := fsys.Open(name)
	ok(t, err)
	ok(t, f.Sync())
	ok(t, f.Close())
}

// overwrite writes into a file that exists, without a sync.
func overwrite(t testing.TB, fsys vfs.FS, name string, data []byte, offset int64) {
	t.Helper()
	f, err := fsys.OpenReadWrite(name)
	ok(t, err)
	_, err = f.WriteAt(data, offset)
	ok(t, err)
	ok(t, f.Close())
}

// read returns the content of a file.
func read(t testing.TB, fsys vfs.FS, name string) string {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name, readLimit)
	ok(t, err)
	return string(data)
}

// contains tells whether a file exists and has the content.
func contains(fsys vfs.FS, name string, data []byte) bool {
	got, err := vfs.ReadFile(fsys, name, readLimit)
	return err == nil && bytes.Equal(got, data)
}

// list compares the names in a folder.
func list(t testing.TB, fsys vfs.FS, dir string, want ...string) {
	t.Helper()
	got, err := fsys.List(dir)
	ok(t, err)
	if !slices.Equal(got, want) {
		t.Fatalf("%s has %q, want %q", dir, got, want)
	}
}

// generator returns the random numbers of a seed.
func generator(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// noise returns random bytes, none of them zero.
func noise(rng *rand.Rand, length int) []byte {
	data := make([]byte, length)
	for i := range data {
		data[i] = byte(1 + rng.IntN(255))
	}
	return data
}

// outcomes crashes a file system at random many times and counts what look
// makes of the results.
func outcomes(t testing.TB, mem *vfs.Mem, options vfs.CrashOptions, look func(vfs.FS) string) map[string]int {
	t.Helper()
	const seeds = 300
	seen := make(map[string]int)
	for seed := range uint64(seeds) {
		seen[look(mem.Crash(generator(seed), options))]++
	}
	return seen
}

// expectOutcomes fails the test unless exactly the wanted ones occurred.
func expectOutcomes(t testing.TB, seen map[string]int, want ...string) {
	t.Helper()
	var got []string
	for outcome := range seen {
		got = append(got, outcome)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("outcomes %v, want %q", seen, want)
	}
}
