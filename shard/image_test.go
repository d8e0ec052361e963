package shard

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"

	"github.com/logcluster/logcluster/internal/vfs"
)

// An image is a file system as a crash leaves it, and what must and may be in it.
type image struct {
	what   string
	fs     *vfs.Mem
	oracle *oracle

	openEnd bool // how much was lost of its end is not known
}

// overwritten returns an injector that reports writes into a tail file over anything
// but zeros: what stands there may be part of the log, or of a torn group (H14).
func overwritten(mem *vfs.Mem, report func(error)) vfs.Injector {
	return func(op vfs.Op) vfs.Decision {
		if op.Kind != vfs.OpWrite || !strings.HasPrefix(path.Base(op.Name), "tail-") || strings.HasSuffix(op.Name, vfs.TempSuffix) {
			return vfs.Decision{}
		}
		f, err := mem.Open(op.Name)
		if err != nil {
			report(err)
			return vfs.Decision{}
		}
		defer f.Close()
		b := make([]byte, op.Length)
		n, err := f.ReadAt(b, op.Offset)
		if err != nil && !errors.Is(err, io.EOF) {
			report(err)
		}
		if !allZero(b[:n]) {
			report(fmt.Errorf("%d bytes at %d of %s are written over others", op.Length, op.Offset, op.Name))
		}
		return vfs.Decision{}
	}
}

// recover opens the shard in an image, checks it, and checks that it can be written,
// sealed, closed and opened again after a power loss.
func (im *image) recover() error {
	var mu sync.Mutex
	var overwrites []error
	b := newBench(vfs.NewFault(im.fs, overwritten(im.fs, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		overwrites = append(overwrites, err)
	})))
	if err := b.start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := errors.Join(b.healthy(im.oracle), im.finish(b)); err != nil {
		return errors.Join(err, b.stop())
	}
	if err := b.stop(); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	b = newBench(im.fs.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}))
	if err := b.start(); err != nil {
		return fmt.Errorf("start after a power loss: %w", err)
	}
	err := errors.Join(b.healthy(im.oracle), b.stop())
	return errors.Join(err, errors.Join(overwrites...))
}

// finish goes on writing: what was not acknowledged is repeated under its key.
func (im *image) finish(b *bench) error {
	for w := range im.oracle.sent {
		for im.oracle.sent[w] > im.oracle.acked[w] {
			if err := im.oracle.write(b, w); err != nil {
				return fmt.Errorf("repeating what was not acknowledged: %w", err)
			}
		}
		if err := im.oracle.write(b, w); err != nil {
			return fmt.Errorf("going on: %w", err)
		}
	}
	if err := b.healthy(im.oracle); err != nil {
		return err
	}
	if err := b.seal(); err != nil {
		return fmt.Errorf("sealing: %w", err)
	}
	if err := b.healthy(im.oracle); err != nil {
		return err
	}
	if err := b.merge(); err != nil {
		return fmt.Errorf("merging: %w", err)
	}
	return errors.Join(b.healthy(im.oracle), b.tidied())
}

// tidied reports what lies in the shard's folder that neither the state nor anything else
// needs.
func (b *bench) tidied() error {
	b.shard.mu.Lock()
	needed := map[string]bool{}
	for _, f := range b.shard.view.sealed {
		needed[path.Base(f.path)] = true
	}
	b.shard.mu.Unlock()
	names, err := b.fs.List(b.root + b.options.Dir)
	for _, name := range names {
		if (sealedName.MatchString(name) || strings.HasPrefix(name, "merge-")) && !needed[name] {
			err = errors.Join(err, fmt.Errorf("%s was left", name))
		}
		delete(needed, name)
	}
	if len(needed) > 0 {
		err = errors.Join(err, fmt.Errorf("%v are missing", needed))
	}
	return err
}
