package shard

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// lived returns the files of a shard that has a sealed file, an open segment with a
// block, and a tail with groups of one and of many records; and the same files at an
// earlier time.
func lived(t testing.TB, logID uint64) (now, before *image) {
	t.Helper()
	mem, o := vfs.NewMem(), newOracle()
	b := newBench(mem)
	b.options.Ident.LogID = logID
	do := func(steps ...func() error) {
		t.Helper()
		for i, step := range steps {
			if err := step(); err != nil {
				t.Fatalf("step %d: %v", i, err)
			}
		}
	}
	writer := func(w int) int { return w + 3*int(logID-77) } // another log has other lines
	one := func(w int) func() error { return func() error { return o.write(b, writer(w)) } }
	many := func(w, n int) func() error { return func() error { return o.writeTogether(b, writer(w), n) } }
	do(b.start, one(0), many(1, 3), b.encode, one(2), b.encode, b.seal, one(0), many(2, 2), b.stop)
	do(b.start, one(1), b.encode, b.stop)
	before = snapshot("before", mem, o)
	do(b.start, one(0), many(1, 3), one(2), b.encode, one(0), many(2, 4), one(1), b.stop)
	return snapshot("now", mem, o), before
}

// snapshot copies what the next process would find.
func snapshot(what string, mem *vfs.Mem, o *oracle) *image {
	return &image{what, mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll}), o.at(), false}
}

func (im *image) copy(what string) *image { return snapshot(what, im.fs, im.oracle) }

// outcome is what became of a damaged image.
type outcome struct {
	refused error
	notes   []string // of Status
	lost    int      // entries that are not there
}

// examine opens a damaged image and checks the promises: each acknowledged entry is
// there or named as lost, nothing else is there, and the shard goes on, now and after
// another restart, without losing or reporting more.
func (im *image) examine() (outcome, error) {
	var out outcome
	b := newBench(im.fs)
	b.options.Create = false
	if err := b.start(); err != nil {
		if !errors.Is(err, ErrLost) && !errors.Is(err, ErrForeign) {
			return out, fmt.Errorf("refused without a clear reason: %w", err)
		}
		out.refused = err
		return out, nil
	}
	defer func() { _ = b.stop() }()
	first, err := im.look(b)
	if err != nil {
		return out, fmt.Errorf("at first: %w", err)
	}
	out.notes, out.lost = b.shard.Status().Damage, first.lost
	if first.lost > 0 && (len(first.damage) == 0 || len(out.notes) == 0) {
		return out, fmt.Errorf("%d entries are lost, Status says %q and the query %v", first.lost, out.notes, first.damage)
	}
	for _, w := range []int{0, 1} {
		if err := im.oracle.write(b, w); err != nil {
			return out, fmt.Errorf("going on: %w", err)
		}
	}
	if err := b.seal(); err != nil {
		return out, fmt.Errorf("sealing: %w", err)
	}
	if err := im.oracle.write(b, 0); err != nil {
		return out, fmt.Errorf("going on behind the seal: %w", err)
	}
	losses := len(b.shard.state.Losses)
	if err := b.stop(); err != nil {
		return out, fmt.Errorf("stop: %w", err)
	}
	if err := b.start(); err != nil {
		return out, fmt.Errorf("second start: %w", err)
	}
	second, err := im.look(b)
	if err != nil {
		return out, fmt.Errorf("after a restart: %w", err)
	}
	for _, d := range b.shard.damages {
		if _, err := im.fs.Size(tailName("shards/3", d.File)); err != nil {
			return out, fmt.Errorf("a damaged file was not kept: %w", err)
		}
	}
	if n := len(b.shard.state.Losses); second.lost != first.lost || n != losses {
		return out, fmt.Errorf("%d entries were lost by %d records, after a restart %d by %d", first.lost, losses, second.lost, n)
	}
	return out, nil
}

type seen struct {
	damage []error
	lost   int
}

// look reads everything and compares it with the oracle.
func (im *image) look(b *bench) (seen, error) {
	entries, damage, err := b.read()
	if err != nil {
		return seen{}, err
	}
	declared := b.lossesOf()
	lost := func(offset uint64) bool {
		if declared(offset) {
			return true
		}
		for _, s := range b.shard.state.Sealed {
			if s.FirstOffset <= offset && offset < s.EndOffset && slices.ContainsFunc(damage, func(err error) bool {
				var c *segment.CorruptError
				return errors.As(err, &c) && path.Base(c.Path) == s.FileName()
			}) {
				return true
			}
		}
		return false
	}
	total := 0
	for _, n := range im.oracle.acked {
		total += n
	}
	// With neither a mark nor an end one record at least is said to be lost.
	openEnd := len(b.shard.state.Losses) > 0 && slices.ContainsFunc(b.shard.Status().Damage, func(s string) bool { return strings.Contains(s, "no mark of this log") })
	im.openEnd = im.openEnd || openEnd
	return seen{damage, max(0, total-len(entries))}, im.oracle.verify(entries, lost, im.openEnd)
}

// TestH14FlipSweep: one flipped bit in any file loses at most the record or the sealed
// blocks that it is in, says so, and never keeps a shard from being opened.
func TestH14FlipSweep(t *testing.T) {
	now, _ := lived(t, 77)
	rng := generator(uint64(*seeds))
	for _, name := range filesOf(t, now.fs) {
		size := len(fileBytes(t, now.fs, name))
		stride := 12 / min(*seeds, 12)
		mostLost, flips := 0, 0
		for at := rng.IntN(stride); at < size; at += 1 + rng.IntN(2*stride-1) {
			mask := byte(1) << rng.IntN(8)
			im := now.copy(fmt.Sprintf("%s: byte %d flipped by %#02x", name, at, mask))
			ok(t, im.fs.Corrupt(name, int64(at), mask))
			out, err := im.examine()
			if err != nil {
				t.Fatalf("%s: %v", im.what, err)
			}
			if out.refused != nil {
				t.Fatalf("%s: refused: %v", im.what, out.refused)
			}
			mostLost = max(mostLost, out.lost)
			flips++
			mayLose := strings.Contains(name, "/tail-") || strings.Contains(name, "/seg-")
			if out.lost > 0 && !mayLose {
				t.Fatalf("%s: %d entries are lost", im.what, out.lost)
			}
			isCopy := strings.HasPrefix(path.Base(name), "MANIFEST") || strings.HasPrefix(path.Base(name), "IDENT")
			if isCopy && len(out.notes) == 0 {
				t.Fatalf("%s: nobody noticed", im.what)
			}
		}
		if strings.Contains(name, "/tail-") && mostLost > 4 {
			t.Errorf("%s: one byte took %d entries with it", name, mostLost)
		}
		t.Logf("%s: %d of %d bytes flipped, at most %d entries lost", name, flips, size, mostLost)
	}
}

// TestH14RoughDamage: zeroed pages, files that are cut, emptied, exchanged, or replaced
// by an older copy or by another log's.
func TestH14RoughDamage(t *testing.T) {
	now, before := lived(t, 77)
	files := filesOf(t, now.fs)
	counts := map[string]int{}
	try := func(what string, hurt func(fs *vfs.Mem)) {
		t.Helper()
		im := now.copy(what)
		hurt(im.fs)
		out, err := im.examine()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		switch {
		case out.refused != nil:
			counts["refused"]++
		case out.lost > 0:
			counts["lost"]++
		default:
			counts["whole"]++
		}
	}
	other, _ := lived(t, 78)
	for _, name := range files {
		data := fileBytes(t, now.fs, name)
		for at := 0; at < len(data); at += 512 {
			try(fmt.Sprintf("%s: zeros from %d", name, at), func(fs *vfs.Mem) {
				changed := slices.Clone(data)
				clear(changed[at:min(at+4096, len(data))])
				replaceFile(t, fs, name, changed)
			})
		}
		for _, keep := range []int{0, 1, 71, 72, len(data) / 3, len(data) / 2, len(data) - 21, len(data) - 1} {
			if keep < 0 || keep >= len(data) {
				continue
			}
			try(fmt.Sprintf("%s: cut to %d", name, keep), func(fs *vfs.Mem) { replaceFile(t, fs, name, data[:keep]) })
		}
		try(name+": something behind it", func(fs *vfs.Mem) { replaceFile(t, fs, name, append(slices.Clone(data), "something"...)) })
		try(name+": gone", func(fs *vfs.Mem) { ok(t, fs.Remove(name)) })
		others := name
		if strings.Contains(name, "/seg-") {
			others = fileLike(t, other.fs, "shards/3/seg-")
		}
		try(name+": that of another log", func(fs *vfs.Mem) { replaceFile(t, fs, name, fileBytes(t, other.fs, others)) })
		if old, err := vfs.ReadFile(before.fs, name, 1<<30); err == nil {
			try(name+": an old copy", func(fs *vfs.Mem) { replaceFile(t, fs, name, old) })
		}
		for _, second := range files {
			if second > name {
				try(name+" and "+second+" exchanged", func(fs *vfs.Mem) {
					replaceFile(t, fs, second, data)
					replaceFile(t, fs, name, fileBytes(t, now.fs, second))
				})
			}
		}
	}
	for _, pair := range [][2]string{{"MANIFEST", "MANIFEST.copy"}, {"IDENT", "IDENT.copy"}} {
		try("both copies old: "+pair[0], func(fs *vfs.Mem) {
			for _, n := range pair {
				replaceFile(t, fs, "shards/3/"+n, fileBytes(t, before.fs, "shards/3/"+n))
			}
		})
		try("both copies damaged: "+pair[0], func(fs *vfs.Mem) {
			for _, n := range pair {
				ok(t, fs.Corrupt("shards/3/"+n, 20, 1))
			}
		})
	}
	try("the open segment of another log", func(fs *vfs.Mem) {
		for _, suffix := range []string{"", ".aux"} {
			replaceFile(t, fs, fileLike(t, now.fs, "shards/3/open-")+suffix, fileBytes(t, other.fs, fileLike(t, other.fs, "shards/3/open-")+suffix))
		}
	})
	try("the whole folder old", func(fs *vfs.Mem) {
		ok(t, fs.RemoveAll("shards/3"))
		ok(t, fs.MkdirAll("shards/3"))
		for _, name := range filesOf(t, before.fs) {
			if strings.HasPrefix(name, "shards/") {
				replaceFile(t, fs, name, fileBytes(t, before.fs, name))
			}
		}
	})
	t.Logf("outcomes: %v", counts)
	for _, want := range []string{"refused", "lost", "whole"} {
		if counts[want] == 0 {
			t.Errorf("nothing was %s: the test does not hurt enough", want)
		}
	}
}

// TestH14Scattered: damage in several places at once.
func TestH14Scattered(t *testing.T) {
	now, _ := lived(t, 77)
	tail := fileLike(t, now.fs, "shards/3/tail-")
	size := len(fileBytes(t, now.fs, tail))
	for seed := range uint64(60 * *seeds) {
		rng := generator(seed)
		im := now.copy(fmt.Sprintf("seed %d", seed))
		for range 1 + rng.IntN(6) {
			ok(t, im.fs.Corrupt(tail, int64(rng.IntN(size)), byte(1+rng.IntN(255))))
		}
		if rng.IntN(3) == 0 { // and no mark
			for _, side := range []int64{0, floorPage} {
				ok(t, im.fs.Corrupt("node/FLOOR", side+int64(rng.IntN(floorSlotSize)), 0x40))
			}
		}
		hurtAgain(t, rng, im)
	}
}

// hurtAgain examines an image, damages it once more and examines it again.
func hurtAgain(t *testing.T, rng *rand.Rand, im *image) {
	t.Helper()
	for round := range 3 {
		if _, err := im.examine(); err != nil {
			t.Fatalf("%s, round %d: %v", im.what, round, err)
		}
		var tails []string
		for _, f := range filesOf(t, im.fs) {
			if strings.Contains(f, "/tail-") {
				tails = append(tails, f)
			}
		}
		tail := tails[rng.IntN(len(tails))]
		if data := fileBytes(t, im.fs, tail); len(data) > tailHeaderSize {
			ok(t, im.fs.Corrupt(tail, int64(tailHeaderSize+rng.IntN(len(data)-tailHeaderSize)), 0x11))
		}
	}
}

// TestH17LiveFlips: bits that flip while the shard runs. A query returns what was
// written or names the file that is damaged.
func TestH17LiveFlips(t *testing.T) {
	now, _ := lived(t, 77)
	b := newBench(now.fs)
	ok(t, b.start())
	whole, _, err := b.read()
	ok(t, err)
	rng := generator(uint64(*seeds))
	silent := 0
	for _, prefix := range []string{"tail-", "open-", "seg-"} {
		name := fileLike(t, now.fs, "shards/3/"+prefix)
		size := len(fileBytes(t, now.fs, name))
		for range 150 * *seeds {
			at, mask := int64(rng.IntN(size)), byte(1)<<rng.IntN(8)
			ok(t, now.fs.Corrupt(name, at, mask))
			entries, damage, err := b.read()
			ok(t, now.fs.Corrupt(name, at, mask))
			if err != nil {
				t.Fatalf("%s, byte %d: %v", name, at, err)
			}
			there := map[uint64]string{}
			for _, e := range entries {
				there[e.offset] = e.line
			}
			missing := 0
			for _, e := range whole {
				if line, found := there[e.offset]; !found {
					missing++
				} else if line != e.line {
					t.Fatalf("%s, byte %d: offset %d is %q, want %q", name, at, e.offset, line, e.line)
				}
			}
			if len(there) != len(whole)-missing {
				t.Fatalf("%s, byte %d: entries that were never written: %v", name, at, entries)
			}
			named := slices.ContainsFunc(damage, func(err error) bool { return strings.Contains(err.Error(), path.Base(name)) })
			if missing > 0 && !named {
				t.Fatalf("%s, byte %d: %d entries are missing, and the query says %v", name, at, missing, damage)
			}
			if missing == 0 {
				silent++
			}
		}
	}
	if silent == 450**seeds {
		t.Error("no flip did any harm")
	}
	if len(b.shard.Status().Damage) < 2 {
		t.Errorf("Status says %q", b.shard.Status().Damage)
	}
	ok(t, b.stop())
}
