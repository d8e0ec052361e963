package vfs

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// faultFile is a file of Fault.
type faultFile struct {
	fault *Fault
	inner File
}

// ReadAt implements File.
func (f *faultFile) ReadAt(p []byte, offset int64) (int, error) {
	op := Op{Kind: OpRead, Name: f.Name(), Offset: offset, Length: len(p)}
	d := f.fault.decide(op)
	defer d.done()
	n, err := f.move(op, d, p, f.inner.ReadAt, io.ErrUnexpectedEOF)
	if at := d.Flip.Offset - offset; at >= 0 && at < int64(n) {
		p[at] ^= d.Flip.Mask
	}
	return n, err
}

// WriteAt implements File.
func (f *faultFile) WriteAt(p []byte, offset int64) (int, error) {
	op := Op{Kind: OpWrite, Name: f.Name(), Offset: offset, Length: len(p)}
	d := f.fault.decide(op)
	defer d.done()
	return f.move(op, d, p, f.inner.WriteAt, io.ErrShortWrite)
}

// move reads or writes all, or as much as the decision allows and then fails.
func (f *faultFile) move(op Op, d Decision, p []byte, run func([]byte, int64) (int, error), short error) (int, error) {
	if d.Err == nil && d.Short <= 0 {
		return run(p, op.Offset)
	}
	n := 0
	if d.Short > 0 {
		var err error
		if n, err = run(p[:min(d.Short, len(p))], op.Offset); err != nil {
			return n, err
		}
	}
	if d.Err != nil {
		short = d.Err
	}
	return n, failure(op, short)
}

// Sync implements File.
func (f *faultFile) Sync() error {
	op := Op{Kind: OpSync, Name: f.Name()}
	d := f.fault.decide(op)
	defer d.done()
	switch {
	case d.Lose:
		if d.Err == nil {
			d.Err = syscall.EIO
		}
		return errors.Join(failure(op, d.Err), f.DiscardDirty())
	case d.Err != nil:
		return failure(op, d.Err)
	case d.Drop:
		return nil
	}
	return f.inner.Sync()
}

// DiscardDirty implements Discarder if the file underneath does.
func (f *faultFile) DiscardDirty() error { return discardDirty(f.inner) }

// discardDirty passes DiscardDirty on through a wrapper.
func discardDirty(inner File) error {
	if discarder, ok := inner.(Discarder); ok {
		return discarder.DiscardDirty()
	}
	return fmt.Errorf("discard %s: only files of Mem lose what a failed sync did not write: %w", inner.Name(), errors.ErrUnsupported)
}

// Truncate implements File.
func (f *faultFile) Truncate(size int64) error {
	op := Op{Kind: OpTruncate, Name: f.Name(), Offset: size}
	return f.fault.do(op, func() error { return f.inner.Truncate(size) })
}

// Size implements File.
func (f *faultFile) Size() (size int64, err error) {
	err = f.fault.do(Op{Kind: OpSize, Name: f.Name()}, func() (err error) {
		size, err = f.inner.Size()
		return err
	})
	return size, err
}

// Name implements File. It is no operation.
func (f *faultFile) Name() string { return f.inner.Name() }

// Close implements File. The file underneath is closed in any case.
func (f *faultFile) Close() error {
	return f.fault.close(Op{Kind: OpClose, Name: f.Name()}, f.inner)
}
