package shard

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// A windowReader reads a file front to back through one buffer.
type windowReader struct {
	file vfs.File
	size int64
	buf  []byte
	at   int64 // of buf in the file
}

// window is how much is read at a time, if no more is asked for.
const window = 1 << 20

// bytes returns n bytes at a position, fewer at the end of the file. They are valid
// until the next call.
func (w *windowReader) bytes(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(w.size-at, 0)))
	if at >= w.at && at+int64(n) <= w.at+int64(len(w.buf)) {
		return w.buf[at-w.at:][:n], nil
	}
	want := min(int64(max(n, window)), w.size-at)
	if want <= 0 {
		return nil, nil
	}
	if int64(cap(w.buf)) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.at = w.buf[:want], at
	if k, err := w.file.ReadAt(w.buf, at); k < len(w.buf) {
		w.buf = w.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return w.buf[:n], nil
}

// isZero reports whether the file holds nothing but zeros from a position on.
func (w *windowReader) isZero(at int64) (bool, error) {
	for at < w.size {
		b, err := w.bytes(at, window)
		if err != nil || !allZero(b) {
			return false, err
		}
		at += int64(len(b))
	}
	return true, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// A frameRead is a whole frame of a tail file. Its payload is valid until the next read
// through the same window.
type frameRead struct {
	header  segment.Header
	trailer segment.Trailer
	payload []byte
	at      int64
}

// A frameFault says why no record could be read at a position.
type frameFault struct {
	err error
	// end: nothing was written there, as far as one can see: the file ends or is zero.
	end bool
	// header and trailer are what could be read of the bad record; nil if unreadable.
	header  *segment.Header
	trailer *segment.Trailer
}

// readFrame reads and checks the record at a position: its checksums and the log id,
// not its place in the log. The error is one of reading, or segment.ErrVersion.
func readFrame(w *windowReader, logID uint64, at int64) (*frameRead, *frameFault, error) {
	b, err := w.bytes(at, segment.HeaderSize)
	if err != nil {
		return nil, nil, err
	}
	if allZero(b) {
		return nil, &frameFault{err: errors.New("nothing was written here"), end: true}, nil
	}
	h, err := segment.ParseHeader(b)
	if errors.Is(err, segment.ErrVersion) {
		return nil, nil, fmt.Errorf("byte %d: %w", at, err)
	}
	if err == nil && h.LogID != logID {
		err = fmt.Errorf("log id %x, want %x", h.LogID, logID)
	}
	if err != nil {
		return nil, &frameFault{err: err}, nil
	}
	if b, err = w.bytes(at, h.Size()); err != nil {
		return nil, nil, err
	}
	fault := &frameFault{header: &h}
	if len(b) < h.Size() {
		fault.err = fmt.Errorf("record of %d bytes in %d", h.Size(), len(b))
		return nil, fault, nil
	}
	payload := b[segment.HeaderSize : segment.HeaderSize+int(h.PayloadLength)]
	trailer, err := segment.ParseTrailer(b[h.Size()-segment.TrailerSize:], b)
	if err == nil {
		fault.trailer = &trailer
	}
	if fault.err = errors.Join(h.CheckPayload(payload), err); fault.err != nil {
		return nil, fault, nil
	}
	return &frameRead{h, trailer, payload, at}, nil, nil
}

// findFrame returns the first whole frame of this log from a position on, or nil.
func findFrame(w *windowReader, logID uint64, from int64) (*frameRead, error) {
	magic := segment.FrameMagic()
	for at := from; at+segment.HeaderSize <= w.size; {
		b, err := w.bytes(at, 1<<16)
		if err != nil {
			return nil, err
		}
		i := bytes.Index(b, magic)
		if i < 0 {
			at += int64(max(len(b)-len(magic)+1, 1))
			continue
		}
		at += int64(i)
		f, fault, err := readFrame(w, logID, at)
		if err != nil && !errors.Is(err, segment.ErrVersion) {
			return nil, err
		}
		if err == nil && fault == nil {
			return f, nil
		}
		at++
	}
	return nil, nil
}
