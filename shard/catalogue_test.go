package shard

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

func matcher(t testing.TB, name string, m segment.MatchType, value string) *segment.Matcher {
	t.Helper()
	made, err := segment.NewMatcher(name, m, value)
	ok(t, err)
	return made
}

// randomQuery asks for some streams and some time.
func randomQuery(t testing.TB, rng *rand.Rand, end int64) *segment.Query {
	q := &segment.Query{Tenant: []string{"default", "other"}[rng.IntN(2)], Start: math.MinInt64, End: math.MaxInt64}
	if rng.IntN(4) > 0 {
		q.Start = rng.Int64N(end)
		q.End = q.Start + rng.Int64N(end/4)
	}
	switch rng.IntN(4) {
	case 0:
		q.Matchers = append(q.Matchers, matcher(t, "host", segment.MatchEqual, fmt.Sprint("h", rng.IntN(40))))
	case 1:
		q.Matchers = append(q.Matchers, matcher(t, "app", segment.MatchRegexp, "app-[12]"), matcher(t, "host", segment.MatchNotEqual, "h1"))
	case 2:
		q.Matchers = append(q.Matchers, matcher(t, "none", segment.MatchEqual, ""))
	}
	return q
}

// missed returns what a query must be told of and the catalogue leaves out: it opens all
// files and looks.
func missed(t testing.TB, s *Shard, q *segment.Query) (files, streams []string, skipped int) {
	t.Helper()
	s.mu.Lock()
	all := s.view.sealed
	s.mu.Unlock()
	toRead := s.catalogue.find(all, q, false)
	known := s.catalogue.find(all, q, true)
	told := map[string]bool{}
	for _, st := range known.streams {
		if !q.MatchesStream(st) {
			t.Errorf("stream %s does not match", st.Labels)
		}
		told[string(st.AppendKey(nil))] = true
	}
	for _, f := range all {
		seg, err := f.acquire()
		ok(t, err)
		found := false
		for _, b := range seg.Blocks {
			it := segment.SelectUnits(context.Background(), 0, []segment.Unit{b}, q, nil)
			for it.Next() {
				found = true
				if !told[string(it.At().Stream.AppendKey(nil))] && !slices.Contains(known.read, f) {
					streams = append(streams, it.At().Stream.Labels.String())
				}
			}
			ok(t, it.Err())
			ok(t, it.Close())
		}
		switch read := slices.Contains(toRead.read, f); {
		case found && !read:
			files = append(files, f.path)
		case !read:
			skipped++
		}
		f.yield()
	}
	return files, streams, skipped
}

// TestK1SelectionNeverMisses: files that the catalogue leaves out of a query hold nothing
// that matches; as the files are sealed, after restarts, with the file lost or damaged,
// without memory for it.
func TestK1SelectionNeverMisses(t *testing.T) {
	for seed := range uint64(4 * *seeds) {
		rng, mem := generator(seed), vfs.NewMem()
		b := newBench(mem)
		if seed%4 == 3 {
			b.options.Files = NewFiles(FilesOptions{MaxCatalogue: 3000, MaxOpen: 2})
		}
		ok(t, b.start())
		skipped := 0
		check := func(when string) {
			t.Helper()
			for range 60 {
				q := randomQuery(t, rng, 2000)
				files, streams, n := missed(t, b.shard, q)
				if len(files)+len(streams) > 0 {
					t.Fatalf("seed %d, %s: %s from %d to %d misses %q, streams %q", seed, when, q.Matchers, q.Start, q.End, files, streams)
				}
				skipped += n
			}
		}
		for i := range 10 {
			if _, err := b.append(randomBatch(rng, 40, 1+rng.IntN(60), int64(i*100), 1+rng.Int64N(900))); err != nil {
				t.Fatal(err)
			}
			ok(t, b.encode())
			if _, err := b.append(randomBatch(rng, 40, 5, int64(i*100), 300)); err != nil {
				t.Fatal(err)
			}
			ok(t, b.seal())
			if rng.IntN(5) == 0 {
				ok(t, b.merge())
			}
		}
		check("sealed")
		for _, restart := range []struct {
			what   string
			change func()
		}{
			{"restarted", func() {}},
			{"its file lost", func() { ok(t, mem.Remove("shards/3/catalogue")) }},
			{"its file damaged", func() { ok(t, mem.Corrupt("shards/3/catalogue", 50, 4)) }},
		} {
			ok(t, b.stop())
			restart.change()
			ok(t, b.start())
			check(restart.what)
			b.shard.Tick(time.Now())
			waitFor(t, "the catalogue is made again", func() bool {
				b.shard.mu.Lock()
				defer b.shard.mu.Unlock()
				return b.shard.undescribed == 0 && !b.shard.describing
			})
			check(restart.what + " and made again")
			if b.shard.Status().State != "ok" {
				t.Errorf("%+v", b.shard.Status())
			}
		}
		if skipped == 0 {
			t.Errorf("seed %d: no file was ever skipped", seed)
		}
		if st := b.shard.o.Files.Status(); seed%4 == 3 && st.Catalogue > 3000 || st.Catalogue == 0 {
			t.Errorf("seed %d: %+v", seed, st)
		}
		ok(t, b.stop())
	}
}

// TestK1FilesAreNotOpened: what the catalogue knows is not asked of the files, also after
// a restart.
func TestK1FilesAreNotOpened(t *testing.T) {
	var opened atomic.Int64
	fs := vfs.NewFault(vfs.NewMem(), func(op vfs.Op) vfs.Decision {
		if op.Kind == vfs.OpOpen && strings.Contains(op.Name, "/seg-") {
			opened.Add(1)
		}
		return vfs.Decision{}
	})
	b := newBench(fs)
	ok(t, b.start())
	for i := range 8 {
		batch := &segment.Batch{Streams: []*segment.Stream{numberedStream(i)}, Rows: []segment.Row{{Timestamp: int64(i), Line: []byte("x")}}}
		if _, err := b.append(batch); err != nil {
			t.Fatal(err)
		}
		ok(t, b.seal())
	}
	ok(t, b.stop())
	ok(t, b.start())
	opened.Store(0)
	q := &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64}
	streams := map[string]bool{}
	ok(t, b.shard.Streams(context.Background(), q, func(s *segment.Stream) { streams[s.Labels.String()] = true }))
	if len(streams) != 7 || opened.Load() != 0 {
		t.Errorf("%d files opened for streams %q", opened.Load(), slices.Sorted(maps.Keys(streams)))
	}
	q.Matchers = []*segment.Matcher{matcher(t, "host", segment.MatchEqual, "h3")}
	it, err := b.shard.Select(context.Background(), q)
	ok(t, err)
	n := 0
	for it.Next() {
		n++
	}
	ok(t, it.Close())
	if n != 1 || opened.Load() != 1 {
		t.Errorf("%d files opened for %d entries", opened.Load(), n)
	}
	ok(t, b.stop())
}

// TestTimeGrid: a slot never says that a stream's entries end before they do, whatever the
// range.
func TestTimeGrid(t *testing.T) {
	rng := generator(1)
	bounds := [][2]int64{{0, 0}, {math.MinInt64, math.MaxInt64 - 1}, {-5, 250}, {7, 263}, {0, 256}, {0, 255}}
	for range 100 {
		lo := int64(rng.Uint64())
		hi := lo + int64(rng.Uint64()>>(1+rng.IntN(60)))
		if hi >= lo {
			bounds = append(bounds, [2]int64{lo, hi})
		}
	}
	for _, b := range bounds {
		g := gridOf(&segment.Sealed{MinTimestamp: b[0], MaxTimestamp: b[1]})
		last := uint8(0)
		for i := range 1000 {
			at := b[0] + int64((uint64(b[1])-uint64(b[0]))/1000*uint64(i))
			if slot := g.slot(at); slot < last {
				t.Fatalf("%d to %d: slot %d at %d, behind %d", b[0], b[1], slot, at, last)
			} else {
				last = slot
			}
		}
		if g.slot(b[0]) != 0 || g.slot(math.MinInt64) != 0 || g.slot(math.MaxInt64) != g.slot(b[1]) || g.slot(b[1]) < last {
			t.Errorf("%d to %d: slots %d to %d", b[0], b[1], g.slot(b[0]), g.slot(b[1]))
		}
	}
}

func testCatalogue(t testing.TB) ([]byte, []*sealedFile) {
	c := catalogue{files: NewFiles(FilesOptions{})}
	var files []*sealedFile
	for i := range 3 {
		f := &sealedFile{Sealed: segment.Sealed{SealRange: segment.SealRange{FirstIndex: uint64(i * 10), LastIndex: uint64(i*10 + 9)}, Root: segment.Root{byte(i)}}}
		if !c.add(f, []describedStream{{numberedStream(i), [2]uint8{1, 2}}, {numberedStream(5), [2]uint8{0, 255}}}) {
			t.Fatal("no room")
		}
		files = append(files, f)
	}
	return c.encode(files), files
}

func TestCatalogueFileRoundTrip(t *testing.T) {
	payload, files := testCatalogue(t)
	got, err := decodeCatalogue(payload)
	ok(t, err)
	c := catalogue{files: NewFiles(FilesOptions{})}
	for i, k := range got {
		f := files[i]
		if k.root != f.Root || k.firstIndex != f.FirstIndex || k.lastIndex != f.LastIndex {
			t.Errorf("%+v", k)
		}
		f.catalogued = nil
		c.add(f, k.streams)
	}
	if again := c.encode(files); !bytes.Equal(again, payload) {
		t.Errorf("%x\nbecame\n%x", payload, again)
	}
	for n := range payload {
		if _, err := decodeCatalogue(payload[:n]); err == nil {
			t.Errorf("%d of %d bytes are accepted", n, len(payload))
		}
	}
	// All memory is given back.
	c.forget(files)
	c.close()
	if st := c.files.Status(); st.Catalogue != 0 {
		t.Errorf("%+v", st)
	}
}

func FuzzCatalogue(f *testing.F) {
	payload, _ := testCatalogue(f)
	f.Add(payload)
	f.Add((&catalogue{}).encode(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		saved, err := decodeCatalogue(b)
		if err != nil {
			return
		}
		c := catalogue{files: NewFiles(FilesOptions{})}
		var files []*sealedFile
		for _, s := range saved {
			file := &sealedFile{Sealed: segment.Sealed{SealRange: segment.SealRange{FirstIndex: s.firstIndex, LastIndex: s.lastIndex}, Root: s.root}}
			if c.add(file, s.streams) {
				files = append(files, file)
			}
		}
		if _, err := decodeCatalogue(c.encode(files)); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkCatalogueFind selects by one stream's label among many sealed files.
func BenchmarkCatalogueFind(b *testing.B) {
	const files, perFile = 100_000, 10
	c := catalogue{files: NewFiles(FilesOptions{})}
	var all []*sealedFile
	for i := range files {
		var streams []describedStream
		for k := range perFile {
			streams = append(streams, describedStream{numberedStream((i + 17*k) % 1000), [2]uint8{0, 255}})
		}
		f := &sealedFile{Sealed: segment.Sealed{MinTimestamp: int64(i), MaxTimestamp: int64(i + 2)}}
		if !c.add(f, streams) {
			b.Fatal("no room")
		}
		all = append(all, f)
	}
	q := &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Matchers: []*segment.Matcher{matcher(b, "host", segment.MatchEqual, "h3")}}
	for b.Loop() {
		if found := c.find(all, q, false); len(found.read) == 0 || len(found.read) > files/50 {
			b.Fatal(len(found.read))
		}
	}
	b.ReportMetric(float64(c.bytes)/files, "B/file")
}
