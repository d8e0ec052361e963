package segment

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/internal/vfs/vfstest"
)

// blockLog is a log of n small records, each a block of its own in these tests.
func blockLog(t testing.TB, n int) *testLog {
	l := newTestLog(t)
	for i := range n {
		s := NewStream("t", Labels{{"app", fmt.Sprint("a", i/2)}})
		l.append(&Batch{Streams: []*Stream{s}, Metadata: []Labels{{{"k", fmt.Sprint(i)}}}, Rows: []Row{
			{Timestamp: int64(i) * 100, Line: fmt.Appendf(nil, "first line of record %d", i), Metadata: 1},
			{Timestamp: int64(i)*100 + 5, Line: fmt.Appendf(nil, "second")},
		}})
	}
	return l
}

// resume opens what is left of an open segment, checks that every block in it is one of
// the log's, appends the rest, seals, and checks the file.
func resume(t testing.TB, fsys vfs.FS, l *testLog, want Sealed) (kept int) {
	t.Helper()
	o, err := ResumeOpen(fsys, "open-1", l.at.LogID, func(m *BlockMeta) bool { return m.LastIndex < l.at.Index })
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	kept = len(o.Blocks())
	got, err := drain(SelectUnits(context.Background(), 0, blockUnits(o.Blocks()), everything(), nil))
	if err != nil {
		t.Fatalf("reading %d resumed blocks: %v", kept, err)
	}
	sameEntries(t, "resumed blocks", got, l.entries[:len(got)])
	l.encode(o, l.records[kept:], 1)
	sealed, err := o.Seal(l.sealRange())
	if err != nil {
		t.Fatalf("sealing with %d resumed blocks: %v", kept, err)
	}
	if sealed != want {
		t.Fatalf("with %d resumed blocks the file is %+v, want %+v", kept, sealed, want)
	}
	report, err := Verify(fsys, sealed.FileName())
	if err != nil || len(report.Faults) > 0 {
		t.Fatalf("verify: %+v, %v", report, err)
	}
	return kept
}

// left returns open-1 and open-1.aux of a log, the size of each file after each block,
// and the file that it becomes.
func left(t testing.TB, l *testLog) (file, aux []byte, sizes, auxSizes []uint64, sealed Sealed) {
	t.Helper()
	fsys := vfs.NewMem()
	o, err := CreateOpen(fsys, "open-1", l.at.LogID)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	for i := range l.records {
		l.encode(o, l.records[i:i+1], 1)
		sizes, auxSizes = append(sizes, o.size), append(auxSizes, o.auxSize)
	}
	file, aux = fileBytes(t, fsys, "open-1"), fileBytes(t, fsys, "open-1.aux")
	if sealed, err = o.Seal(l.sealRange()); err != nil {
		t.Fatal(err)
	}
	return file, aux, sizes, auxSizes, sealed
}

// An open segment that a process left, in any length and with any damage, gives back
// its intact leading blocks, and the file sealed from it is the same.
func TestResumeDamaged(t *testing.T) {
	l := blockLog(t, 4)
	file, aux, sizes, auxSizes, sealed := left(t, l)
	whole := func(sizes []uint64, n int) (blocks int) {
		for _, s := range sizes {
			if uint64(n) >= s {
				blocks++
			}
		}
		return blocks
	}
	f := func(what string, file, aux []byte, want int) {
		t.Helper()
		fsys := vfs.NewMem()
		writeBytes(t, fsys, "open-1", file)
		writeBytes(t, fsys, "open-1.aux", aux)
		if kept := resume(t, fsys, l, sealed); kept != want {
			t.Fatalf("%s: %d blocks kept, want %d", what, kept, want)
		}
	}
	f("whole", file, aux, 4)
	for n := 0; n < len(file); n += 3 {
		f(fmt.Sprint("file of ", n), file[:n], aux, whole(sizes, n))
	}
	for n := 0; n < len(aux); n += 3 {
		f(fmt.Sprint("aux of ", n), file, aux[:n], whole(auxSizes, n))
	}
	flip := func(b []byte, at int, mask byte) []byte {
		b = append([]byte(nil), b...)
		b[at] ^= mask
		return b
	}
	for at := range file {
		want := whole(sizes, at)
		if at < fileHeaderSize {
			want = 4 // not written before the seal
		}
		f(fmt.Sprint("byte of file ", at), flip(file, at, byte(1<<(at%8))), aux, want)
	}
	for at := range aux {
		f(fmt.Sprint("byte of aux ", at), file, flip(aux, at, byte(1<<(at%8))), whole(auxSizes, at))
	}
	garbage := []byte(strings.Repeat("garbage", 100))
	f("more bytes", append(file[:len(file):len(file)], garbage...), append(aux[:len(aux):len(aux)], garbage...), 4)

	// What is there of one file alone is no open segment.
	for _, name := range []string{"open-1", "open-1.aux"} {
		fsys := vfs.NewMem()
		writeBytes(t, fsys, name, file)
		if kept := resume(t, fsys, l, sealed); kept != 0 {
			t.Fatalf("%d blocks kept from %s alone", kept, name)
		}
	}
	// A block that the log does not know is not kept, nor those behind it.
	fsys := vfs.NewMem()
	writeBytes(t, fsys, "open-1", file)
	writeBytes(t, fsys, "open-1.aux", aux)
	o, err := ResumeOpen(fsys, "open-1", l.at.LogID, func(m *BlockMeta) bool { return m.Number != 2 })
	if err != nil || len(o.Blocks()) != 2 {
		t.Fatalf("%d blocks, %v", len(o.Blocks()), err)
	}
	o.Close()
}

// build makes a sealed file of the log, through every step, and closes all files.
func build(fsys vfs.FS, l *testLog) (sealed Sealed, err error) {
	o, err := ResumeOpen(fsys, "open-1", l.at.LogID, func(*BlockMeta) bool { return true })
	if err != nil {
		return Sealed{}, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if err := encodeBlocks(o, l.records[len(o.Blocks()):], 1); err != nil {
		return Sealed{}, err
	}
	return o.Seal(l.sealRange())
}

// The k-th operation of the file system fails, for every k: the error is returned, no
// file is left open, and another attempt works.
func TestFailEveryOperation(t *testing.T) {
	l := blockLog(t, 3)
	_, _, _, _, sealed := left(t, l)
	faults := map[string]vfs.Decision{
		"fail":  {Err: syscall.EIO},
		"short": {Short: 5},
		"full":  {Err: syscall.ENOSPC},
		"lose":  {Lose: true},
	}
	for name, decision := range faults {
		t.Run(name, func(t *testing.T) {
			for k := int64(0); ; k++ {
				mem := vfs.NewMem()
				tracked := vfstest.OpenTracking(t, mem)
				trigger := vfs.At(k, decision)
				if name == "short" {
					trigger = vfs.At(k, decision, vfs.Kinds(vfs.OpRead, vfs.OpWrite))
				}
				if name == "lose" {
					trigger = vfs.At(k, decision, vfs.Kinds(vfs.OpSync))
				}
				fault := vfs.NewFault(tracked, trigger.Inject)
				got, err := build(fault, l)
				if !trigger.Fired() {
					if err != nil || got != sealed {
						t.Fatalf("without a fault: %+v, %v", got, err)
					}
					if k == 0 || name != "lose" && k < 10 {
						t.Fatalf("only %d operations were tried", k)
					}
					return
				}
				trigger.Disarm()
				if err == nil && got != sealed {
					t.Fatalf("operation %d failed and the result is %+v", k, got)
				}
				if err == nil {
					continue // it was of no matter, such as the removal of what is not there
				}
				if !errors.Is(err, decision.Err) && decision.Err != nil {
					t.Fatalf("operation %d: %v does not hold its cause", k, err)
				}
				if again, err := build(tracked, l); err != nil || again != sealed {
					t.Fatalf("attempt after operation %d failed: %+v, %v", k, again, err)
				}
				if report, err := Verify(mem, sealed.FileName()); err != nil || len(report.Faults) > 0 {
					t.Fatalf("after operation %d failed: %+v, %v", k, report, err)
				}
			}
		})
	}
}

// Power is lost before the k-th operation: the final name stands for a whole file or
// does not exist, and the next process ends with the same file.
func TestCrashEveryOperation(t *testing.T) {
	l := blockLog(t, 3)
	_, _, _, _, sealed := left(t, l)
	rng := seeded(t, 11)
	exists := func(fsys vfs.FS) bool {
		_, err := fsys.Size(sealed.FileName())
		return err == nil
	}
	seen := map[bool]int{}
	for k := int64(0); ; k++ {
		var mem *vfs.Mem
		var found []*vfs.Mem
		mem = vfs.NewMem()
		trigger := vfs.Before(k, func() {
			for range 6 {
				found = append(found, mem.Crash(rng, vfs.CrashOptions{Garbage: rng.IntN(2) == 0}))
			}
			found = append(found, mem.Crash(rng, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}), mem.Crash(rng, vfs.CrashOptions{Mode: vfs.CrashKeepAll}))
		})
		if _, err := build(vfs.NewFault(mem, trigger.Inject), l); err != nil {
			t.Fatal(err)
		}
		if !trigger.Fired() {
			after := mem.Crash(rng, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced})
			if !exists(after) {
				t.Fatal("the sealed file is gone after a crash behind Seal")
			}
			break
		}
		for _, fsys := range found {
			seen[exists(fsys)]++
			if exists(fsys) {
				if report, err := Verify(fsys, sealed.FileName()); err != nil || len(report.Faults) > 0 {
					t.Fatalf("crash before operation %d left a bad file: %+v, %v", k, report, err)
				}
			}
			if again, err := build(fsys, l); err != nil || again != sealed {
				t.Fatalf("after a crash before operation %d: %+v, %v", k, again, err)
			}
		}
	}
	if seen[true] == 0 || seen[false] == 0 {
		t.Fatalf("the crashes left the file %d times and none %d times", seen[true], seen[false])
	}
}

// Blocks are read while others are appended, while the segment is sealed, and after it,
// until Close.
func TestReadWhileAppending(t *testing.T) {
	const blocks = 40
	l := blockLog(t, blocks)
	fsys := vfs.NewMem()
	o, err := CreateOpen(fsys, "open-1", l.at.LogID)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var shown []*Block
	done := make(chan struct{})
	var readers sync.WaitGroup
	for seed := range uint64(3) {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(seed, 1))
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				units := blockUnits(shown)
				mu.Unlock()
				q := everything()
				q.Limit = rng.IntN(3) * 10
				got, err := drain(SelectUnits(context.Background(), 0, units, q, nil))
				if err != nil {
					t.Errorf("reading %d blocks: %v", len(units), err)
					return
				}
				want := l.entries[:2*len(units)]
				if q.Limit > 0 && q.Limit < len(want) {
					want = want[:q.Limit]
				}
				for i := range want {
					if d := sameEntry(&got[i], &want[i]); d != "" {
						t.Errorf("entry %d of %d blocks: %s", i, len(units), d)
						return
					}
				}
			}
		})
	}
	for i := range l.records {
		l.encode(o, l.records[i:i+1], 1)
		mu.Lock()
		shown = o.Blocks()
		mu.Unlock()
	}
	if _, err := o.Seal(l.sealRange()); err != nil {
		t.Fatal(err)
	}
	// The file has its final name; SEAL is not committed yet.
	if got, err := drain(SelectUnits(context.Background(), 0, blockUnits(shown), everything(), nil)); err != nil || len(got) != len(l.entries) {
		t.Fatalf("blocks after Seal: %d entries, %v", len(got), err)
	}
	close(done)
	readers.Wait()
	for range 2 {
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// A closed file is the caller's mistake, no damage to repair.
	if _, err := shown[0].Select(context.Background(), everything()); err == nil || errors.Is(err, ErrCorrupt) {
		t.Fatalf("reading a closed file: %v", err)
	}
}

func TestSealRefuses(t *testing.T) {
	f := func(what string, change func(*SealRange)) {
		t.Helper()
		fsys := vfstest.OpenTracking(t, vfs.NewMem())
		l := blockLog(t, 2)
		o := l.open(fsys, "open-1", 1)
		defer o.Close()
		r := l.sealRange()
		change(&r)
		if _, err := o.Seal(r); err == nil {
			t.Errorf("%s: sealed", what)
		}
	}
	f("range that begins behind the blocks", func(r *SealRange) { r.FirstIndex = 2 })
	f("range that ends before them", func(r *SealRange) { r.LastIndex-- })
	f("offsets that begin behind them", func(r *SealRange) { r.FirstOffset = 1 })
	f("offsets that end before them", func(r *SealRange) { r.EndOffset-- })
	fsys := vfs.NewMem()
	o, err := CreateOpen(fsys, "open-1", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if _, err := o.Seal(SealRange{FirstIndex: 1, LastIndex: 5}); err == nil {
		t.Error("an open segment without blocks: sealed")
	}
}

// Removing is the same whether the files are there or not.
func TestRemove(t *testing.T) {
	fsys := vfs.NewMem()
	l := blockLog(t, 1)
	path := l.seal(fsys, 1)
	sealed := openSegment(t, fsys, path).Sealed
	for range 2 {
		if err := errors.Join(RemoveOpen(fsys, "open-1"), RemoveSealed(fsys, ".", &sealed)); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := fsys.List("."); err != nil || len(names) > 0 {
		t.Fatalf("%q are left: %v", names, err)
	}
}
