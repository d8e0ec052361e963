package vfs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/internal/vfs/vfstest"
)

// everything uses each method of FS and File once or more and returns the
// first error.
func everything(fsys vfs.FS) (err error) {
	var closers []io.Closer
	defer func() {
		for _, closer := range closers {
			err = errors.Join(err, closer.Close())
		}
	}()
	if err := fsys.MkdirAll("dir"); err != nil {
		return err
	}
	lock, err := fsys.Lock("dir/LOCK")
	if err != nil {
		return err
	}
	closers = append(closers, lock)
	f, err := fsys.Create("dir/a")
	if err != nil {
		return err
	}
	closers = append(closers, f)
	if _, err := f.WriteAt([]byte("content"), 10); err != nil {
		return err
	}
	if _, err := f.ReadAt(make([]byte, 5), 12); err != nil {
		return err
	}
	if err := f.Truncate(16); err != nil {
		return err
	}
	if _, err := f.Size(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := fsys.Rename("dir/a", "dir/b"); err != nil {
		return err
	}
	for _, open := range []func(string) (vfs.File, error){fsys.Open, fsys.OpenReadWrite} {
		f, err := open("dir/b")
		if err != nil {
			return err
		}
		closers = append(closers, f)
	}
	if _, err := fsys.Size("dir/b"); err != nil {
		return err
	}
	if err := fsys.SyncDir("dir"); err != nil {
		return err
	}
	if _, err := fsys.List("dir"); err != nil {
		return err
	}
	if _, _, err := fsys.Free("dir"); err != nil {
		return err
	}
	if err := fsys.Remove("dir/b"); err != nil {
		return err
	}
	return fsys.RemoveAll("dir")
}

func TestFaultSeesEveryOperation(t *testing.T) {
	var got []string
	fault := vfs.NewFault(vfs.NewMem(), func(op vfs.Op) vfs.Decision {
		if op.Seq != int64(len(got)) {
			t.Errorf("operation %d has number %d", len(got), op.Seq)
		}
		got = append(got, strings.TrimSpace(fmt.Sprintf("%v %s %s", op.Kind, op.Name, op.NewName)))
		switch {
		case op.Kind == vfs.OpWrite && (op.Offset != 10 || op.Length != 7),
			op.Kind == vfs.OpRead && (op.Offset != 12 || op.Length != 5),
			op.Kind == vfs.OpTruncate && op.Offset != 16:
			t.Errorf("%v at %d of %d", op.Kind, op.Offset, op.Length)
		}
		return vfs.Decision{}
	})
	ok(t, everything(fault))
	want := []string{
		"mkdirall dir", "lock dir/LOCK", "create dir/a", "write dir/a", "read dir/a", "truncate dir/a", "size dir/a",
		"sync dir/a", "rename dir/a dir/b", "open dir/b", "open dir/b", "size dir/b", "syncdir dir", "list dir",
		"free dir", "remove dir/b", "remove dir", "close dir/LOCK", "close dir/a", "close dir/b", "close dir/b",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("operations are\n%q, want\n%q", got, want)
	}
	if fault.Ops() != int64(len(want)) {
		t.Fatalf("counted %d of %d operations", fault.Ops(), len(want))
	}
}

func TestFailEveryOperation(t *testing.T) {
	kinds := make(map[string]bool)
	for k := int64(0); ; k++ {
		trigger := vfs.FailAt(k, syscall.ENOSPC)
		mem := vfs.NewMem()
		err := everything(vfstest.OpenTracking(t, vfs.NewFault(mem, trigger.Inject)))
		if !trigger.Fired() {
			ok(t, err)
			if k != trigger.Seen() {
				t.Fatalf("%d operations failed of %d", k, trigger.Seen())
			}
			break
		}
		isError(t, err, syscall.ENOSPC)
		var failed *fs.PathError
		if !errors.As(err, &failed) || !strings.HasPrefix(failed.Path, "dir") {
			t.Fatalf("error %v does not say where", err)
		}
		kinds[failed.Op] = true
		// A lock whose close fails is given up all the same.
		if lock, err := mem.Lock("dir/LOCK"); err == nil {
			ok(t, lock.Close())
		} else {
			isError(t, err, fs.ErrNotExist)
		}
	}
	if len(kinds) != int(vfs.OpClose) {
		t.Fatalf("kinds that failed: %v", kinds)
	}
}

func TestFailedOperationDoesNothing(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "content")
	fault := vfs.NewFault(mem, nil)
	f, err := fault.OpenReadWrite("a")
	ok(t, err)
	fault.SetInjector(vfs.From(0, vfs.Decision{Err: syscall.EIO}).Inject)
	before := mem.Counters()
	_, err = f.WriteAt([]byte("x"), 0)
	isError(t, err, syscall.EIO)
	n, err := f.ReadAt(make([]byte, 3), 0)
	isError(t, err, syscall.EIO)
	if n != 0 {
		t.Fatalf("failed read gives %d bytes", n)
	}
	isError(t, f.Truncate(0), syscall.EIO)
	isError(t, f.Sync(), syscall.EIO)
	isError(t, fault.SyncDir("."), syscall.EIO)
	isError(t, fault.Rename("a", "b"), syscall.EIO)
	isError(t, fault.Remove("a"), syscall.EIO)
	isError(t, fault.RemoveAll("a"), syscall.EIO)
	isError(t, fault.MkdirAll("dir"), syscall.EIO)
	_, err = fault.Create("b")
	isError(t, err, syscall.EIO)
	if mem.Counters() != before {
		t.Fatalf("counters went from %+v to %+v", before, mem.Counters())
	}
	list(t, mem, ".", "a")
	if got := read(t, mem, "a"); got != "content" {
		t.Fatalf("content is %q", got)
	}
	isError(t, f.Close(), syscall.EIO)
	fault.SetInjector(nil)
	isError(t, f.Close(), fs.ErrClosed)
}

func TestShort(t *testing.T) {
	mem := vfs.NewMem()
	fault := vfs.NewFault(mem, nil)
	f, err := fault.Create("a")
	ok(t, err)
	move := func(d vfs.Decision, run func([]byte, int64) (int, error), p string, wantN int, wantErr error) {
		t.Helper()
		fault.SetInjector(vfs.From(0, d).Inject)
		n, err := run([]byte(p), 0)
		if n != wantN || !errors.Is(err, wantErr) || err == nil {
			t.Fatalf("moved %d, %v, want %d, %v", n, err, wantN, wantErr)
		}
	}
	move(vfs.Decision{Err: syscall.ENOSPC, Short: 3}, f.WriteAt, "abcdef", 3, syscall.ENOSPC)
	move(vfs.Decision{Short: 4}, f.WriteAt, "ABCDEF", 4, io.ErrShortWrite)
	move(vfs.Decision{Err: syscall.EIO, Short: 99}, f.WriteAt, "ABCDE", 5, syscall.EIO)
	if got := read(t, mem, "a"); got != "ABCDE" {
		t.Fatalf("short writes left %q", got)
	}
	move(vfs.Decision{Err: syscall.EIO, Short: 2}, f.ReadAt, "     ", 2, syscall.EIO)
	move(vfs.Decision{Short: 2}, f.ReadAt, "     ", 2, io.ErrUnexpectedEOF)
	move(vfs.Decision{Short: 7}, f.ReadAt, "         ", 5, io.EOF)
	fault.SetInjector(nil)
	ok(t, f.Close())
}

func TestFlip(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "0123456789")
	flip := vfs.From(0, vfs.Decision{Flip: vfs.Flip{Offset: 5, Mask: 1}}, vfs.Kinds(vfs.OpRead))
	f, err := vfs.NewFault(mem, flip.Inject).Open("a")
	ok(t, err)
	expect := func(offset int64, want string) {
		t.Helper()
		p := make([]byte, len(want))
		_, err := f.ReadAt(p, offset)
		ok(t, err)
		if string(p) != want {
			t.Fatalf("read %q at %d, want %q", p, offset, want)
		}
	}
	expect(0, "0123446789")
	expect(0, "01234")
	expect(5, "4")
	expect(6, "6789")
	ok(t, f.Close())
	if got := read(t, mem, "a"); got != "0123456789" {
		t.Fatalf("the file itself has %q", got)
	}
}

func TestDropIsForSyncs(t *testing.T) {
	mem := vfs.NewMem()
	drop := vfs.From(0, vfs.Decision{Drop: true})
	fault := vfs.NewFault(mem, drop.Inject)
	write(t, fault, "a", "content")
	syncFile(t, fault, "a")
	ok(t, fault.Rename("a", "b"))
	ok(t, fault.SyncDir("."))
	if got := read(t, mem, "b"); got != "content" {
		t.Fatalf("read %q", got)
	}
	list(t, mem.Crash(nil, dropUnsynced), ".")
	if want := (vfs.Counters{Writes: 1, WrittenBytes: 7}); mem.Counters() != want {
		t.Fatalf("counters are %+v, want %+v", mem.Counters(), want)
	}
	ok(t, fault.Remove("b"))
	list(t, mem, ".")
}

func TestLoseNeedsMem(t *testing.T) {
	lose := vfs.From(0, vfs.Decision{Lose: true}, vfs.Kinds(vfs.OpSync))
	fault := vfs.NewFault(vfs.OS{}, lose.Inject)
	f, err := fault.Create(t.TempDir() + "/a")
	ok(t, err)
	err = f.Sync()
	isError(t, err, syscall.EIO)
	isError(t, err, errors.ErrUnsupported)
	ok(t, f.Close())
	// It reaches Mem through other wrappers.
	fault = vfs.NewFault(vfstest.OpenTracking(t, vfs.NewFault(vfs.NewMem(), nil)), lose.Inject)
	f, err = fault.Create("a")
	ok(t, err)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) || errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	ok(t, f.Close())
}

func TestTriggers(t *testing.T) {
	names := func(k int64) string { return fmt.Sprintf("f%d", k) }
	f := func(trigger *vfs.Trigger, wantSeen int64, want ...string) {
		t.Helper()
		var failed []string
		for k := range int64(4) {
			for _, kind := range []vfs.OpKind{vfs.OpCreate, vfs.OpWrite} {
				if d := trigger.Inject(vfs.Op{Kind: kind, Name: "dir/" + names(k)}); d.Err != nil {
					failed = append(failed, fmt.Sprintf("%v %s", kind, names(k)))
				}
			}
		}
		if !slices.Equal(failed, want) || trigger.Seen() != wantSeen || trigger.Fired() != (len(want) > 0) {
			t.Fatalf("failed %q of %d, want %q of %d", failed, trigger.Seen(), want, wantSeen)
		}
	}
	eio := vfs.Decision{Err: syscall.EIO}
	f(vfs.Count(), 8)
	f(vfs.Count(vfs.Kinds(vfs.OpWrite)), 4)
	f(vfs.At(0, eio), 8, "create f0")
	f(vfs.At(7, eio), 8, "write f3")
	f(vfs.At(8, eio), 8)
	f(vfs.At(-1, eio), 8)
	f(vfs.FailAt(2, syscall.EIO, vfs.Kinds(vfs.OpWrite, vfs.OpSync)), 4, "write f2")
	f(vfs.FailAt(0, syscall.EIO, vfs.Kinds(vfs.OpCreate), vfs.Names("f[23]")), 2, "create f2")
	f(vfs.FailAt(0, syscall.EIO, vfs.Names("dir/*")), 0)
	f(vfs.FailAt(0, syscall.EIO, vfs.Names("[")), 0)
	f(vfs.From(5, eio), 8, "write f2", "create f3", "write f3")
	f(vfs.NoSpaceFrom(2), 4, "write f2", "write f3")
	f(vfs.NoSpaceFrom(1, vfs.Names("f[12]")), 2, "write f2")

	rename := vfs.Op{Kind: vfs.OpRename, Name: "dir/x.tmp", NewName: "dir/x"}
	for pattern, want := range map[string]bool{"x": true, "*.tmp": true, "y": false, "dir": false} {
		if vfs.Names(pattern)(rename) != want {
			t.Fatalf("pattern %q on a rename: want %t", pattern, want)
		}
	}

	space := vfs.NoSpaceFrom(0)
	isError(t, space.Inject(vfs.Op{Kind: vfs.OpWrite}).Err, syscall.ENOSPC)
	space.Disarm()
	ok(t, space.Inject(vfs.Op{Kind: vfs.OpWrite}).Err)
}

func TestBeforeAndAfter(t *testing.T) {
	mem := vfs.NewMem()
	durable(t, mem, "a", "old")
	var before, after string
	fault := vfs.NewFault(mem, vfs.Join(
		vfs.Before(0, func() { before = read(t, mem, "a") }, vfs.Kinds(vfs.OpWrite)).Inject,
		vfs.After(0, func() { after = read(t, mem, "a") }, vfs.Kinds(vfs.OpWrite)).Inject,
	))
	overwrite(t, fault, "a", []byte("new"), 0)
	overwrite(t, fault, "a", []byte("one"), 0)
	if before != "old" || after != "new" {
		t.Fatalf("before the write %q, after it %q", before, after)
	}
}

func TestJoin(t *testing.T) {
	var calls []string
	call := func(name string) func() { return func() { calls = append(calls, name) } }
	count := vfs.Count()
	joined := vfs.Join(
		count.Inject,
		vfs.After(0, call("first")).Inject,
		vfs.At(0, vfs.Decision{Err: syscall.EIO, After: call("second")}).Inject,
		vfs.FailAt(0, syscall.ENOSPC).Inject,
		vfs.After(0, call("third")).Inject,
	)
	d := joined(vfs.Op{})
	isError(t, d.Err, syscall.EIO)
	d.After()
	if got := strings.Join(calls, " "); got != "first second third" {
		t.Fatalf("called %s", got)
	}
	if d := joined(vfs.Op{}); d.Err != nil || d.After != nil || count.Seen() != 2 {
		t.Fatalf("second operation: %v, counted %d", d.Err, count.Seen())
	}
}

func TestFaultConcurrently(t *testing.T) {
	const workers, files = 4, 25
	trigger := vfs.FailAt(30, syscall.EIO, vfs.Kinds(vfs.OpWrite))
	fault := vfs.NewFault(vfs.NewMem(), trigger.Inject)
	var failures sync.Map
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			for i := range files {
				name := fmt.Sprintf("%d-%d", worker, i)
				if err := vfs.WriteFile(fault, name, []byte("x")); err != nil {
					failures.Store(name, err)
				}
			}
		})
	}
	group.Wait()
	count := 0
	failures.Range(func(_, err any) bool {
		count++
		isError(t, err.(error), syscall.EIO)
		return true
	})
	if count != 1 || trigger.Seen() != workers*files {
		t.Fatalf("%d failed of %d writes", count, trigger.Seen())
	}
}

func TestOpKindString(t *testing.T) {
	for kind, want := range map[vfs.OpKind]string{
		vfs.OpCreate: "create", vfs.OpSyncDir: "syncdir", vfs.OpClose: "close",
		0: "operation 0", vfs.OpClose + 1: "operation 16",
	} {
		if got := kind.String(); got != want {
			t.Fatalf("kind %d is %q, want %q", uint8(kind), got, want)
		}
	}
}
