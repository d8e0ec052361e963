package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"
)

// OpKind is a kind of operation that Fault can interfere with.
type OpKind uint8

// The kinds, with the methods that they stand for.
const (
	OpCreate   OpKind = iota + 1 // FS.Create
	OpOpen                       // FS.Open, FS.OpenReadWrite
	OpRemove                     // FS.Remove, FS.RemoveAll
	OpRename                     // FS.Rename
	OpList                       // FS.List
	OpMkdirAll                   // FS.MkdirAll
	OpSyncDir                    // FS.SyncDir
	OpSize                       // FS.Size, File.Size
	OpLock                       // FS.Lock
	OpFree                       // FS.Free
	OpRead                       // File.ReadAt
	OpWrite                      // File.WriteAt
	OpSync                       // File.Sync
	OpTruncate                   // File.Truncate
	OpClose                      // File.Close, and giving up a lock
)

var opNames = [...]string{
	OpCreate: "create", OpOpen: "open", OpRemove: "remove", OpRename: "rename", OpList: "list",
	OpMkdirAll: "mkdirall", OpSyncDir: "syncdir", OpSize: "size", OpLock: "lock", OpFree: "free",
	OpRead: "read", OpWrite: "write", OpSync: "sync", OpTruncate: "truncate", OpClose: "close",
}

// String returns the kind as one lower-case word.
func (k OpKind) String() string {
	if k == 0 || int(k) >= len(opNames) {
		return fmt.Sprintf("operation %d", k)
	}
	return opNames[k]
}

// Op is an operation that is about to happen.
type Op struct {
	Kind    OpKind
	Name    string // As the caller gave it; of a rename the old one.
	NewName string // Of a rename.
	Offset  int64  // Of a read or write; the new size of a truncate.
	Length  int    // Of a read or write.
	Seq     int64  // Number of the operation in its Fault, from 0.
}

// Decision says what becomes of an operation. The zero value lets it happen.
type Decision struct {
	// Err, if not nil, is what the operation fails with, wrapped with its kind
	// and name. Nothing of it happens, except that a close does close.
	Err error

	// Short is the number of bytes that a read or write really moves before it
	// fails; more than its length count as its length. Err nil stands for
	// io.ErrShortWrite or io.ErrUnexpectedEOF.
	Short int

	// Lose makes a sync fail as a disk does that could not write: the dirty
	// bytes count as clean, reads still see them and the next sync succeeds
	// without writing them. Err nil stands for EIO. The file must be a
	// Discarder, as those of Mem are.
	Lose bool

	// Drop makes a sync or a folder's sync report success and do nothing, as a
	// lying disk does. What MkdirAll syncs cannot be dropped.
	Drop bool

	// Flip changes what a read returns.
	Flip Flip

	// After, if not nil, is called when the operation has happened, or failed,
	// before its caller gets to know.
	After func()
}

// Flip changes the byte at Offset of the file by the bits of Mask in what one
// read returns, if the read covers it. Mask 0 changes nothing.
type Flip struct {
	Offset int64
	Mask   byte
}

// Injector decides about operations. It is called before each one, on the
// goroutine of the caller and with no lock held, so it may use the file system
// underneath and may block: that is a slow disk. It is called concurrently
// if the file system is used so.
type Injector func(Op) Decision

// Discarder is a file whose unsynced bytes can be thrown away.
type Discarder interface {
	// DiscardDirty does to the page cache what a failed fsync does: what is
	// dirty counts as clean and is never written, though reads see it.
	DiscardDirty() error
}

// Fault passes operations on to another file system, except where an injector
// decides otherwise.
type Fault struct {
	inner  FS
	inject atomic.Pointer[Injector]
	next   atomic.Int64
}

// NewFault wraps a file system. A nil injector lets everything happen.
func NewFault(inner FS, inject Injector) *Fault {
	f := &Fault{inner: inner}
	f.SetInjector(inject)
	return f
}

// SetInjector replaces the injector, also for files that are open. Operations
// go on being numbered.
func (f *Fault) SetInjector(inject Injector) {
	if inject == nil {
		inject = func(Op) Decision { return Decision{} }
	}
	f.inject.Store(&inject)
}

// Ops returns the number of operations so far.
func (f *Fault) Ops() int64 { return f.next.Load() }

// decide numbers the operation and asks the injector.
func (f *Fault) decide(op Op) Decision {
	op.Seq = f.next.Add(1) - 1
	return (*f.inject.Load())(op)
}

// failure wraps an injected error the way a file system would.
func failure(op Op, err error) error {
	return &fs.PathError{Op: op.Kind.String(), Path: op.Name, Err: err}
}

// done calls the hook that follows an operation.
func (d Decision) done() {
	if d.After != nil {
		d.After()
	}
}

// do runs an operation that returns nothing but an error.
func (f *Fault) do(op Op, run func() error) error {
	d := f.decide(op)
	defer d.done()
	switch {
	case d.Err != nil:
		return failure(op, d.Err)
	case d.Drop && op.Kind == OpSyncDir:
		return nil
	}
	return run()
}

// open runs an operation that returns a file.
func (f *Fault) open(op Op, run func(name string) (File, error)) (File, error) {
	var file File
	err := f.do(op, func() (err error) {
		file, err = run(op.Name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &faultFile{fault: f, inner: file}, nil
}

// Create implements FS.
func (f *Fault) Create(name string) (File, error) {
	return f.open(Op{Kind: OpCreate, Name: name}, f.inner.Create)
}

// Open implements FS.
func (f *Fault) Open(name string) (File, error) {
	return f.open(Op{Kind: OpOpen, Name: name}, f.inner.Open)
}

// OpenReadWrite implements FS.
func (f *Fault) OpenReadWrite(name string) (File, error) {
	return f.open(Op{Kind: OpOpen, Name: name}, f.inner.OpenReadWrite)
}

// Remove implements FS.
func (f *Fault) Remove(name string) error {
	return f.do(Op{Kind: OpRemove, Name: name}, func() error { return f.inner.Remove(name) })
}

// RemoveAll implements FS.
func (f *Fault) RemoveAll(dir string) error {
	return f.do(Op{Kind: OpRemove, Name: dir}, func() error { return f.inner.RemoveAll(dir) })
}

// Rename implements FS.
func (f *Fault) Rename(oldName, newName string) error {
	op := Op{Kind: OpRename, Name: oldName, NewName: newName}
	return f.do(op, func() error { return f.inner.Rename(oldName, newName) })
}

// List implements FS.
func (f *Fault) List(dir string) (names []string, err error) {
	err = f.do(Op{Kind: OpList, Name: dir}, func() (err error) {
		names, err = f.inner.List(dir)
		return err
	})
	return names, err
}

// MkdirAll implements FS.
func (f *Fault) MkdirAll(dir string) error {
	return f.do(Op{Kind: OpMkdirAll, Name: dir}, func() error { return f.inner.MkdirAll(dir) })
}

// SyncDir implements FS.
func (f *Fault) SyncDir(dir string) error {
	return f.do(Op{Kind: OpSyncDir, Name: dir}, func() error { return f.inner.SyncDir(dir) })
}

// Size implements FS.
func (f *Fault) Size(name string) (size int64, err error) {
	err = f.do(Op{Kind: OpSize, Name: name}, func() (err error) {
		size, err = f.inner.Size(name)
		return err
	})
	return size, err
}

// Lock implements FS.
func (f *Fault) Lock(name string) (io.Closer, error) {
	var lock io.Closer
	err := f.do(Op{Kind: OpLock, Name: name}, func() (err error) {
		lock, err = f.inner.Lock(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return faultLock{f, lock, name}, nil
}

// Free implements FS.
func (f *Fault) Free(dir string) (free, total uint64, err error) {
	err = f.do(Op{Kind: OpFree, Name: dir}, func() (err error) {
		free, total, err = f.inner.Free(dir)
		return err
	})
	return free, total, err
}

// faultLock is a lock that may fail to be given up cleanly.
type faultLock struct {
	fault *Fault
	inner io.Closer
	name  string
}

// Close gives the lock up in any case.
func (l faultLock) Close() error {
	return l.fault.close(Op{Kind: OpClose, Name: l.name}, l.inner)
}

// close closes even if it is to fail, as close(2) does.
func (f *Fault) close(op Op, inner io.Closer) error {
	d := f.decide(op)
	defer d.done()
	err := inner.Close()
	if d.Err != nil {
		return errors.Join(failure(op, d.Err), err)
	}
	return err
}
