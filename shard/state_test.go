package shard

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"reflect"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

func keyOf(n uint64) (k segment.Key) {
	binary.LittleEndian.PutUint64(k[:], n+1)
	return k
}

// TestH36KeyWindow: a key is known for exactly the last 32,768 records, whatever is
// between them, and the table is the same for all who have read the same log.
func TestH36KeyWindow(t *testing.T) {
	var table keyTable
	add := func(index uint64, key uint64) {
		table.add(&segment.Header{Index: index, Offset: index * 2, Count: 2, Key: keyOf(key), Part: segment.PartLast})
	}
	known := func(key uint64, want bool) {
		t.Helper()
		r, got := table.find(keyPart{key: keyOf(key)})
		if got != want {
			t.Errorf("key %d known: %v, want %v", key, got, want)
		}
		if got && r.last%2 != 1 {
			t.Errorf("key %d: last offset %d", key, r.last)
		}
	}
	add(1, 1)
	add(2, 2)
	add(keyWindow, 3)
	known(1, true)
	add(keyWindow+1, 4)
	known(1, false)
	known(2, true)
	// The same key again, when the first has left the window.
	add(keyWindow+2, 2)
	known(2, true)
	add(keyWindow+3, 5)
	known(2, true)
	for i := uint64(0); i < 5*keyWindow; i++ {
		add(2*keyWindow+i, 1000+i)
	}
	known(5, false)
	known(1000+4*keyWindow, true)
	known(1000+4*keyWindow-1, false)
	if n := len(table.byPart); n != keyWindow {
		t.Errorf("%d keys are held, want %d", n, keyWindow)
	}
	if n := cap(table.records); n > 3*keyWindow {
		t.Errorf("memory for %d records is held", n)
	}
	var e encoder
	table.encode(&e)
	if len(e.b) > 1<<20+1<<16+4 {
		t.Errorf("%d bytes encoded", len(e.b))
	}
	var again keyTable
	d := decoder{b: e.b}
	again.decode(&d)
	var e2 encoder
	again.encode(&e2)
	if d.err != nil || !bytes.Equal(e.b, e2.b) || !reflect.DeepEqual(again.byPart, table.byPart) {
		t.Errorf("decoded differently: %v", d.err)
	}
	// A copy does not change with the table.
	copied := table.clone()
	for i := uint64(0); i < 2*keyWindow; i++ {
		add(8*keyWindow+i, 1<<40+i)
	}
	var e3 encoder
	copied.encode(&e3)
	if !bytes.Equal(e.b, e3.b) {
		t.Error("the copy has changed")
	}
}

// TestManyParts: dedup is per part.
func TestManyParts(t *testing.T) {
	var table keyTable
	table.add(&segment.Header{Index: 1, Count: 1, Key: keyOf(1), Part: 0})
	table.add(&segment.Header{Index: 2, Count: 1, Key: keyOf(1), Part: 1 | segment.PartLast})
	for part, want := range map[uint16]bool{0: true, 1: true, 2: false} {
		if _, got := table.find(keyPart{keyOf(1), part}); got != want {
			t.Errorf("part %d known: %v", part, got)
		}
	}
}

func testManifest() *manifest {
	m := &manifest{Sequence: 7, Tails: []manifestTail{{3, position{index: 5, offset: 50, epoch: 2, unchained: true}}, {9, position{index: 70, chain: segment.Chain{1}}}},
		Damages: []Damage{{File: 2, Position: 99, Loss: Loss{FirstIndex: 1, LastIndex: 2, FirstOffset: 3, EndOffset: 4, Chain: segment.Chain{5}}}}}
	m.State = state{Index: 80, NextOffset: 800, Epoch: 3, Chain: segment.Chain{7}, ConfigVersion: 4, LogStart: 2,
		History: []epochStart{{1, 1}, {3, 40}},
		Sealed:  []segment.Sealed{{SealRange: segment.SealRange{FirstIndex: 1, LastIndex: 60, EndOffset: 600}, Entries: 500, Length: 1000}},
		Losses:  []Loss{{FirstIndex: 1, LastIndex: 2, FirstOffset: 3, EndOffset: 4}}}
	m.State.Keys.add(&segment.Header{Index: 77, Offset: 770, Count: 3, Key: keyOf(4), Part: 2})
	return m
}

func TestManifestRoundTrip(t *testing.T) {
	m := testManifest()
	payload := m.encode()[16:]
	var got manifest
	ok(t, got.decode(payload))
	if !bytes.Equal(got.encode(), m.encode()) {
		t.Errorf("%+v\nbecame\n%+v", m, got)
	}
	for n := range payload {
		if (&manifest{}).decode(payload[:n]) == nil {
			t.Errorf("%d of %d bytes are accepted", n, len(payload))
		}
	}
}

func FuzzManifest(f *testing.F) {
	f.Add(testManifest().encode()[16:])
	f.Add((&manifest{Tails: []manifestTail{{1, position{index: 1}}}}).encode()[16:])
	f.Fuzz(func(t *testing.T, b []byte) {
		var m manifest
		if m.decode(b) != nil {
			return
		}
		if again := m.encode()[16:]; !bytes.Equal(again, b) {
			// A flag byte is the only thing with more than one form.
			var n manifest
			if err := n.decode(again); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzTail: whatever stands in a tail file, reading it ends without a panic, and what
// it calls a record is one.
func FuzzTail(f *testing.F) {
	seed := newTailWriter(f)
	seed.records(2)
	seed.records(3)
	f.Add(fileBytes(f, seed.mem, seed.tails[0].path)[tailHeaderSize:], uint64(3), true)
	f.Add(bytes.Repeat(segment.FrameMagic(), 100), uint64(0), false)
	f.Fuzz(func(t *testing.T, b []byte, marked uint64, withMark bool) {
		mem := vfs.NewMem()
		ok(t, mem.MkdirAll("d"))
		file, err := createTail(mem, "d", 1, testLog, position{index: 1})
		ok(t, err)
		defer file.release()
		_, err = file.file.WriteAt(b, tailHeaderSize)
		ok(t, err)
		s := scanner{logID: testLog, tails: []*tailFile{file}}
		if withMark {
			s.mark = &Mark{LogID: testLog, File: 1, Position: tailHeaderSize + int64(marked%4096), Index: marked % 64, NextOffset: 10 * (marked % 64)}
		}
		next := uint64(1)
		s.visit = func(r *record, payload []byte) error {
			if r.header.Index < next || r.header.CheckPayload(payload) != nil {
				t.Fatalf("record %d after %d", r.header.Index, next)
			}
			next = r.header.Index + 1
			return nil
		}
		if s.scan() == nil && s.end.index < next {
			t.Fatalf("the log goes on at %d, behind record %d", s.end.index, next-1)
		}
	})
}

// TestPromiseSlots: every flipped bit of a slot is found, and either slot is enough.
func TestPromiseSlots(t *testing.T) {
	p := &promiseFile{sequence: 3, promise: Promise{Epoch: 9, Node: "n", Boot: "b", ConfigVersion: 4}}
	b := p.encode()
	if q, good := parsePromise(b, 0); !good || q.promise != p.promise || q.sequence != 3 {
		t.Fatalf("%+v", q)
	}
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if _, good := parsePromise(b, 0); good {
			t.Fatalf("bit %d flipped is accepted", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

func TestTailHeader(t *testing.T) {
	p := position{index: 4, offset: 40, epoch: 2, chain: segment.Chain{3}, unchained: true}
	b := encodeTailHeader(testLog, p)
	if got, err := parseTailHeader(b, testLog); err != nil || got != p {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range len(b) * 8 {
		b[i/8] ^= 1 << (i % 8)
		if _, err := parseTailHeader(b, testLog); err == nil {
			t.Fatalf("bit %d flipped is accepted", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

// TestFloor: marks of many shards, in turn in two slots, survive restarts, damage to
// one slot, and a failed fsync.
func TestFloor(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("node"))
	fs := vfs.NewFault(mem, nil)
	f, err := OpenFloor(fs, "node/FLOOR")
	ok(t, err)
	const shards = 70 // more than a page holds
	markOf := func(shard, n int) Mark {
		return Mark{LogID: uint64(shard), File: uint64(n), Position: int64(n) * 100, Index: uint64(n), NextOffset: 3, Epoch: 4, Group: 5, Chain: segment.Chain{byte(n)}}
	}
	set := func(n int) {
		for s := range shards {
			ok(t, f.Set(uint32(s), markOf(s, n)))
		}
	}
	expect := func(when string, n int) {
		t.Helper()
		for s := range shards {
			if m, good := f.Get(uint32(s)); !good || m != markOf(s, n) {
				t.Fatalf("%s: shard %d: %+v, %v, want %d", when, s, m, good, n)
			}
		}
	}
	reopen := func(m vfs.FS) {
		t.Helper()
		ok(t, f.Close())
		var err error
		f, err = OpenFloor(m, "node/FLOOR")
		ok(t, err)
	}
	set(1)
	set(2)
	expect("set", 2)
	reopen(fs)
	expect("opened again", 2)
	// One damaged slot of each shard: the mark before is used.
	for s := range shards {
		at := floorPosition(s, 0) // of the second mark
		ok(t, mem.Corrupt("node/FLOOR", at+20, 1))
	}
	reopen(fs)
	expect("one slot damaged", 1)
	set(3)
	// A failed fsync that lost the marks: they go into a new file.
	fs.SetInjector(vfs.At(0, vfs.Decision{Lose: true}, vfs.Kinds(vfs.OpSync)).Inject)
	ok(t, f.Sync())
	fs.SetInjector(nil)
	ok(t, f.Close())
	f, err = OpenFloor(mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}), "node/FLOOR")
	ok(t, err)
	expect("after a failed fsync and a power loss", 3)
	ok(t, f.Close())
	if _, good := f.Get(1000); good {
		t.Error("a shard without a mark has one")
	}
}

// TestFloorSyncDoesNotBlock: no shard waits for the fsync of the marks.
func TestFloorSyncDoesNotBlock(t *testing.T) {
	mem := vfs.NewMem()
	ok(t, mem.MkdirAll("node"))
	fs := vfs.NewFault(mem, nil)
	f, err := OpenFloor(fs, "node/FLOOR")
	ok(t, err)
	ok(t, f.Set(1, Mark{Index: 1}))
	g := newGate(vfs.Kinds(vfs.OpSync))
	fs.SetInjector(g.inject)
	synced := make(chan error, 1)
	go func() { synced <- f.Sync() }()
	<-g.came
	ok(t, f.Set(1, Mark{Index: 2})) // would wait for ever
	if m, _ := f.Get(1); m.Index != 2 {
		t.Errorf("%+v", m)
	}
	fs.SetInjector(nil)
	close(g.open)
	ok(t, <-synced)
	ok(t, f.Close())
	if g, err := OpenFloor(mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}), "node/FLOOR"); err != nil {
		t.Error(err)
	} else {
		if m, _ := g.Get(1); m.Index != 2 {
			t.Errorf("durable: %+v", m)
		}
		ok(t, g.Close())
	}
}

func TestApplyRefuses(t *testing.T) {
	sealed := segment.Sealed{SealRange: segment.SealRange{FirstIndex: 1, LastIndex: 5}}
	st := state{Sealed: []segment.Sealed{sealed}}
	r, _ := testReplacement()
	var replacing encoder
	r.encode(&replacing)
	loss := func(l Loss) []byte { e := encoder{}; l.encode(&e); return e.b }
	for name, x := range map[string]struct {
		kind    segment.RecordType
		payload []byte
	}{
		"seal of what is sealed": {segment.RecordSeal, sealed.Append(nil)},
		"short seal":             {segment.RecordSeal, []byte("x")},
		"short loss":             {segment.RecordLoss, []byte("x")},
		"loss of nothing":        {segment.RecordLoss, loss(Loss{FirstIndex: 5, LastIndex: 4})},
		"loss of itself":         {segment.RecordLoss, loss(Loss{FirstIndex: 5, LastIndex: 9})},
		"short replace":          {segment.RecordReplace, []byte("x")},
		"replace of others":      {segment.RecordReplace, replacing.b},
		"later record":           {segment.RecordRetain, nil},
	} {
		if err := st.apply(&segment.Header{Type: x.kind, Index: 9}, x.payload); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if got := fmt.Sprint(st.Index); got != "0" {
		t.Errorf("state moved to %s", got)
	}
}
