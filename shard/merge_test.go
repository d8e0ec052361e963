package shard

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

func TestMergePlan(t *testing.T) {
	const mib = 1 << 20
	policy := mergePolicy{fanout: 4, bytes: 1024 * mib}
	for _, c := range []struct {
		what  string
		sizes string // MiB; "x": cannot be merged
		want  string
	}{
		{"nothing", "", "0+0"},
		{"too few", "1 1 1", "0+0"},
		{"dwarfs", "1 1 1 1", "0+4"},
		{"all of them", "1 1 1 1 1 1", "0+6"},
		{"behind larger ones", "500 1 1 1 1 900", "1+4"},
		{"the lowest tier first", "60 60 60 60 1 1 1 1", "4+4"},
		{"the next tier", "60 60 60 60 1 1 1", "0+7"},
		{"dwarfs between are taken along", "60 1 60 1 60 1", "0+6"},
		{"one that would be written for little", "100 1 1 1", "0+0"},
		{"not beside each other", "1 1 x 1 1", "0+0"},
		{"beside what cannot be merged", "1 x 1 1 1 1", "2+4"},
		{"the limit ends it", "300 300 300 300 300", "0+3"},
		{"large enough", "600 600 600 600", "0+0"},
		{"too large to join", "1000 1000 1 1", "0+0"},
	} {
		var sealed []segment.Sealed
		unfit := map[segment.Root]bool{}
		for i, size := range strings.Fields(c.sizes) {
			s := segment.Sealed{Entries: 1, Root: segment.Root{byte(i)}}
			if size == "x" {
				unfit[s.Root] = true
				size = "1"
			}
			if _, err := fmt.Sscan(size, &s.RawBytes); err != nil {
				t.Fatal(err)
			}
			s.RawBytes *= mib
			sealed = append(sealed, s)
		}
		at, n := policy.plan(sealed, unfit)
		if got := fmt.Sprintf("%d+%d", at, n); got != c.want {
			t.Errorf("%s: %q: merges %s, want %s", c.what, c.sizes, got, c.want)
		}
	}
}

// TestMergePlanConverges: as segments of any size come, few are left, none is larger than
// it may be, and no byte is written again more often than its segment can double.
func TestMergePlanConverges(t *testing.T) {
	for seed := range uint64(20 * *seeds) {
		rng := generator(seed)
		policy := mergePolicy{fanout: 2 + rng.IntN(10), bytes: 1 << 30}
		var sealed []segment.Sealed
		var sum, again float64
		for i := range 3000 {
			s := segment.Sealed{Entries: 1, RawBytes: 1 + rng.Uint64N(1<<(10+rng.IntN(18)))}
			s.Root[0], s.Root[1] = byte(i), byte(i>>8)
			sealed = append(sealed, s)
			sum += float64(s.RawBytes)
			for {
				at, n := policy.plan(sealed, nil)
				if n == 0 {
					break
				}
				merged := segment.Sealed{}
				for _, s := range sealed[at : at+n] {
					merged.RawBytes += s.RawBytes
					merged.Entries += s.Entries
				}
				if n < 2 || n > maxMergeInputs || merged.RawBytes > policy.bytes {
					t.Fatalf("seed %d: %d segments of %d bytes are merged", seed, n, merged.RawBytes)
				}
				again += float64(merged.RawBytes)
				sealed = append(append(append([]segment.Sealed{}, sealed[:at]...), merged), sealed[at+n:]...)
			}
		}
		most := float64(policy.fanout)*10 + 2*sum/float64(policy.bytes)*float64(policy.fanout)
		if len(sealed) > int(most) || again > 20*sum {
			t.Errorf("seed %d: fanout %d: %d segments are left of %.0f bytes, %.1f times written again", seed, policy.fanout, len(sealed), sum, again/sum)
		}
	}
}

func testReplacement() (replacement, []segment.Sealed) {
	var sealed []segment.Sealed
	for i := range uint64(5) {
		sealed = append(sealed, segment.Sealed{SealRange: segment.SealRange{FirstIndex: 10*i + 1, LastIndex: 10*i + 10, FirstOffset: 100 * i, EndOffset: 100*i + 100, Chain: segment.Chain{byte(i)}},
			Entries: 50 + i, RawBytes: 500, MinTimestamp: int64(9 - i), MaxTimestamp: int64(20 + i), Digest: math.MaxUint64 - i, Length: 400, Root: segment.Root{byte(i), 1}})
	}
	r := replacement{New: sealed[1]}
	for _, s := range sealed[1:4] {
		r.Old = append(r.Old, nameOf(&s))
	}
	r.New.LastIndex, r.New.EndOffset, r.New.Chain = 40, 400, segment.Chain{3}
	r.New.Entries, r.New.RawBytes, r.New.MinTimestamp, r.New.MaxTimestamp = 51+52+53, 1500, 6, 23
	r.New.Digest = sealed[1].Digest + sealed[2].Digest + sealed[3].Digest
	r.New.Root = segment.Root{9}
	return r, sealed
}

// TestH22ReplaceIsExact: a REPLACE is applied in one way or not at all.
func TestH22ReplaceIsExact(t *testing.T) {
	r, sealed := testReplacement()
	var e encoder
	r.encode(&e)
	again, err := parseReplacement(e.b)
	ok(t, err)
	after, err := again.apply(sealed)
	ok(t, err)
	if len(after) != 3 || after[0] != sealed[0] || after[1] != r.New || after[2] != sealed[4] || len(sealed) != 5 || sealed[1].LastIndex != 20 {
		t.Errorf("%+v", after)
	}
	if _, err := again.apply(after); err == nil {
		t.Error("applied twice")
	}
	for n := range e.b {
		if _, err := parseReplacement(e.b[:n]); err == nil {
			t.Errorf("%d of %d bytes are accepted", n, len(e.b))
		}
	}
	for i := range e.b {
		for bit := range 8 {
			b := append([]byte(nil), e.b...)
			b[i] ^= 1 << bit
			changed, err := parseReplacement(b)
			if err != nil {
				continue
			}
			if changed.New.Length, changed.New.Root = r.New.Length, r.New.Root; changed.New == r.New && i >= len(b)-segment.SealedSize {
				continue // it names another file
			}
			if _, err := changed.apply(sealed); err == nil {
				t.Errorf("applied with bit %d of byte %d changed", bit, i)
			}
		}
	}
	if _, err := (&replacement{New: r.New}).apply(sealed); err == nil {
		t.Error("no old segment is accepted")
	}
}

func FuzzReplacement(f *testing.F) {
	r, sealed := testReplacement()
	var e encoder
	r.encode(&e)
	f.Add(e.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseReplacement(b)
		if err != nil {
			return
		}
		var again encoder
		r.encode(&again)
		if string(again.b) != string(b) {
			t.Errorf("%x became %x", b, again.b)
		}
		_, _ = r.apply(sealed)
	})
}

// TestH2MergedFilesGoLast: a query that began before a merge reads the old files to its
// end, also those that it had not opened; they go with it, and MANIFEST has forgotten them
// before.
func TestH2MergedFilesGoLast(t *testing.T) {
	mem := vfs.NewMem()
	var forgotten, early atomic.Bool
	fs := vfs.NewFault(mem, func(op vfs.Op) vfs.Decision {
		if op.Kind == vfs.OpRename && strings.HasSuffix(op.NewName, "/"+manifestCopy) {
			forgotten.Store(true)
		}
		if op.Kind == vfs.OpRemove && strings.Contains(op.Name, "/seg-") && !forgotten.Load() {
			early.Store(true)
		}
		return vfs.Decision{}
	})
	for _, merged := range []bool{false, true} { // whether one of the files was merged before
		b, o := sealedBench(t, fs, 5, FilesOptions{MaxOpen: 1})
		if merged {
			ok(t, b.merge())
			ok(t, o.write(b, 0))
			ok(t, b.seal())
		}
		before := b.shard.Status().SealedSegments
		it, err := b.shard.Select(context.Background(), &segment.Query{Tenant: "default", Start: math.MinInt64, End: math.MaxInt64, Direction: segment.Forward})
		ok(t, err)
		forgotten.Store(false)
		ok(t, b.merge())
		count := func() (n int) {
			for _, f := range filesOf(t, mem) {
				if strings.HasPrefix(f, "shards/3/seg-") {
					n++
				}
			}
			return n
		}
		if n := count(); n != before+1 {
			t.Errorf("%d files behind the merge of %d", n, before)
		}
		ok(t, b.healthy(o))
		n := 0
		for it.Next() {
			if want := lineText(0, n); string(it.At().Line) != want {
				t.Errorf("%q, want %q", it.At().Line, want)
			}
			n++
		}
		ok(t, it.Err())
		ok(t, it.Close())
		if n != o.acked[0] {
			t.Errorf("%d lines", n)
		}
		if n := count(); n != 1 || early.Load() {
			t.Errorf("%d files when nobody reads the old ones; removed before MANIFEST forgot them: %v", n, early.Load())
		}
		ok(t, b.healthy(o))
		ok(t, b.stop())
		ok(t, b.start())
		if st := b.shard.Status(); st.SealedSegments != 1 || st.SealedEntries != uint64(o.acked[0]) {
			t.Errorf("%+v", st)
		}
		ok(t, b.healthy(o))
		ok(t, b.stop())
		ok(t, mem.RemoveAll("shards/3"))
		ok(t, mem.RemoveAll("node"))
	}
}

// TestH2ReplacedBeforeARestart: files that a REPLACE has replaced before the shard failed
// are removed by the next opening, and only when MANIFEST has forgotten them.
func TestH2ReplacedBeforeARestart(t *testing.T) {
	mem := vfs.NewMem()
	fs := vfs.NewFault(mem, nil)
	b, o := sealedBench(t, fs, 3, FilesOptions{})
	old := map[string]bool{}
	for _, f := range filesOf(t, mem) {
		old[f] = strings.HasPrefix(f, "shards/3/seg-")
	}
	fs.SetInjector(vfs.From(0, vfs.Decision{Err: syscall.EIO}, vfs.Names(manifestName+"*")).Inject)
	wants(t, b.merge(), syscall.EIO)
	<-b.shard.Failed()
	fs.SetInjector(nil)
	ok(t, b.stop())
	b.options.AfterFailure = true
	removed := 0
	fs.SetInjector(func(op vfs.Op) vfs.Decision {
		if op.Kind != vfs.OpRemove || !old[op.Name] {
			return vfs.Decision{}
		}
		removed++
		m, _, _, err := readManifest(mem, "shards/3")
		if err != nil || len(m.State.Sealed) != 1 {
			t.Errorf("%s is removed while MANIFEST names %d files: %v", op.Name, len(m.State.Sealed), err)
		}
		return vfs.Decision{}
	})
	ok(t, b.start())
	fs.SetInjector(nil)
	if st := b.shard.Status(); st.SealedSegments != 1 || removed != 3 {
		t.Errorf("%d files removed: %+v", removed, st)
	}
	ok(t, errors.Join(b.healthy(o), b.tidied()))
	ok(t, b.stop())
}

// settle ticks until nothing is merged any more.
func settle(t *testing.T, b *bench) {
	t.Helper()
	waitFor(t, "all merges", func() bool {
		b.shard.Tick(time.Now())
		b.shard.mu.Lock()
		defer b.shard.mu.Unlock()
		return !b.shard.merge.busy && (b.shard.merge.settled || !b.shard.merge.pause.IsZero())
	})
}

// TestMergeInBackground: what is due is merged without being asked for, and what cannot be
// read is left out and told of.
func TestMergeInBackground(t *testing.T) {
	mem := vfs.NewMem()
	b, o := newBench(mem), newOracle()
	b.options.MergeFanout = 4
	ok(t, b.start())
	for range 9 {
		ok(t, o.write(b, 1))
		ok(t, b.seal())
	}
	settle(t, b)
	if st := b.shard.Status(); st.SealedSegments != 1 || st.Merges != 1 || st.MergedRaw != st.SealedRaw {
		t.Errorf("%+v", st)
	}
	ok(t, b.healthy(o))
	ok(t, b.stop())
	ok(t, b.start())
	// One of the next is damaged. Those before it are too little to write the first again.
	for i := range 9 {
		ok(t, o.write(b, 1))
		ok(t, b.seal())
		if i == 4 {
			b.shard.mu.Lock()
			path := b.shard.view.sealed[len(b.shard.view.sealed)-1].path
			b.shard.mu.Unlock()
			ok(t, mem.Corrupt(path, 100, 1))
		}
	}
	settle(t, b)
	if st := b.shard.Status(); st.SealedSegments != 7 || st.Merges != 1 || st.State != "damaged" || len(st.Damage) != 1 {
		t.Errorf("%+v", st)
	}
	entries, damage, err := b.read()
	if err != nil || len(damage) != 1 || len(entries) != 17*3 {
		t.Errorf("%d entries, %v, %v", len(entries), damage, err)
	}
	ok(t, b.stop())
}

// TestMergeNeedsSpace: where the disk is nearly full nothing is merged, and nothing left.
func TestMergeNeedsSpace(t *testing.T) {
	mem := vfs.NewMem()
	b, o := newBench(mem), newOracle()
	b.options.MergeFanout = 2
	b.fs = nearlyFull{mem}
	ok(t, b.start())
	for range 3 {
		ok(t, o.write(b, 1))
		ok(t, b.seal())
	}
	settle(t, b)
	if st := b.shard.Status(); st.SealedSegments != 3 || st.State != "ok" {
		t.Errorf("%+v", st)
	}
	ok(t, errors.Join(b.healthy(o), b.tidied()))
	ok(t, b.stop())
}

type nearlyFull struct{ vfs.FS }

func (nearlyFull) Free(string) (free, total uint64, err error) { return 99 << 30, 1000 << 30, nil }

// TestMergeFails: whatever goes wrong before REPLACE is in the log, the segments stay and
// the shard goes on; later they are merged.
func TestMergeFails(t *testing.T) {
	for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename} {
		mem := vfs.NewMem()
		fs := vfs.NewFault(mem, nil)
		b, o := sealedBench(t, fs, 3, FilesOptions{})
		fs.SetInjector(vfs.FailAt(0, syscall.EIO, vfs.Kinds(kind), vfs.Names("merge-*")).Inject)
		wants(t, b.merge(), syscall.EIO)
		fs.SetInjector(nil)
		ok(t, errors.Join(b.healthy(o), b.tidied()))
		if st := b.options.Files.Status(); st.Open > 3 {
			t.Errorf("%s: %+v", kind, st)
		}
		ok(t, b.merge())
		ok(t, o.write(b, 0))
		ok(t, errors.Join(b.healthy(o), b.tidied()))
		ok(t, b.stop())
		if st := b.options.Files.Status(); st != (FilesStatus{}) {
			t.Errorf("%s: when the shard is closed: %+v", kind, st)
		}
	}
}

// TestMergeEndsWithItsOwner: a merge that is under way does not outlive its epoch, nor the
// shard; the next one begins anew.
func TestMergeEndsWithItsOwner(t *testing.T) {
	begin := func(b *bench) {
		t.Helper()
		b.shard.sealMu.Lock()
		defer b.shard.sealMu.Unlock()
		ok(t, b.shard.beginMerge(0, 3))
		if _, err := b.shard.merge.running.rewriter.Step(&segment.BlockEncoder{}); err != nil {
			t.Fatal(err)
		}
	}
	b, o := sealedBench(t, vfs.NewMem(), 3, FilesOptions{})
	begin(b)
	if _, err := b.shard.Fence(Promise{Epoch: b.epoch + 1, Node: "m", Boot: "other"}); err != nil {
		t.Fatal(err)
	}
	b.shard.sealMu.Lock()
	if more, err := b.shard.mergeStep(&segment.BlockEncoder{}); more || err != nil {
		t.Errorf("went on without being the owner: %v, %v", more, err)
	}
	b.shard.sealMu.Unlock()
	ok(t, b.lead())
	ok(t, b.tidied())
	ok(t, b.merge())
	ok(t, errors.Join(b.healthy(o), b.tidied()))
	for range 2 {
		ok(t, o.write(b, 0))
		ok(t, b.seal())
	}
	begin(b)
	ok(t, b.stop())
	if st := b.options.Files.Status(); st != (FilesStatus{}) {
		t.Errorf("%+v", st)
	}
	ok(t, b.start())
	ok(t, errors.Join(b.healthy(o), b.tidied()))
	ok(t, b.stop())
}

// TestMergesTakeTurns: one shard of a node merges at a time.
func TestMergesTakeTurns(t *testing.T) {
	e := NewEncoders(1)
	defer e.Close()
	one, two := &Shard{}, &Shard{}
	if !e.claimMerge(one) || e.claimMerge(two) {
		t.Error("two at a time")
	}
	e.endMerge(two)
	if e.claimMerge(two) {
		t.Error("one ended the other's turn")
	}
	e.endMerge(one)
	if !e.claimMerge(two) {
		t.Error("no turn after the first")
	}
}

// TestEncodersIdle: what can wait comes behind everything else.
func TestEncodersIdle(t *testing.T) {
	e := NewEncoders(1)
	defer e.Close()
	hold := make(chan struct{})
	var order []int
	done := make(chan struct{})
	add := func(i int) func(*segment.BlockEncoder) {
		return func(*segment.BlockEncoder) {
			if order = append(order, i); len(order) == 4 {
				close(done)
			}
		}
	}
	one, two := &Shard{}, &Shard{}
	e.do(two, func(*segment.BlockEncoder) { <-hold })
	e.later(one, add(3))
	e.later(two, add(4))
	e.do(one, add(1))
	e.do(two, add(2))
	close(hold)
	<-done
	if fmt.Sprint(order) != "[1 2 3 4]" {
		t.Errorf("order %v", order)
	}
}
