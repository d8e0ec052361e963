package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// A tailFile holds records of the log: a header, frames without padding, and zeros up
// to the end of the file. What was written in it is never overwritten.
type tailFile struct {
	number uint64
	path   string
	file   vfs.File
	first  position
	end    int64  // behind the last record
	last   uint64 // index of the last record, 0 if there is none

	references atomic.Int32 // of the shard while the file is in its list, and of readers
}

const (
	tailMagic      = "LCTAIL\r\n"
	tailVersion    = 1
	tailHeaderSize = 72
)

// position is where a tail file begins in the log: behind the record before it.
type position struct {
	index, offset uint64 // of the next record and entry
	epoch         uint64 // of the record before
	chain         segment.Chain
	unchained     bool // behind a loss: the next record's chain is taken as it is
}

func (p *position) encode(e *encoder) {
	e.u64(p.index)
	e.u64(p.offset)
	e.u64(p.epoch)
	e.raw(p.chain[:])
	flag := byte(0)
	if p.unchained {
		flag = 1
	}
	e.raw([]byte{flag})
}

func (p *position) decode(d *decoder) {
	p.index, p.offset, p.epoch = d.u64(), d.u64(), d.u64()
	copy(p.chain[:], d.take(16))
	p.unchained = d.take(1)[0] == 1
}

func tailBase(number uint64) string { return fmt.Sprintf("tail-%d", number) }

func tailName(dir string, number uint64) string { return dir + "/" + tailBase(number) }

// errTailHeader: the header of a tail file is damaged.
var errTailHeader = errors.New("it is not one of a tail file, or damaged")

func encodeTailHeader(logID uint64, p position) []byte {
	b := make([]byte, tailHeaderSize)
	le := binary.LittleEndian
	copy(b, tailMagic)
	le.PutUint16(b[8:], tailVersion)
	if p.unchained {
		b[10] = 1
	}
	le.PutUint64(b[16:], logID)
	le.PutUint64(b[24:], p.index)
	le.PutUint64(b[32:], p.offset)
	le.PutUint64(b[40:], p.epoch)
	copy(b[48:], p.chain[:])
	le.PutUint32(b[68:], segment.Checksum(b[:68]))
	return b
}

func parseTailHeader(b []byte, logID uint64) (position, error) {
	var p position
	le := binary.LittleEndian
	if string(b[:8]) != tailMagic || segment.Checksum(b[:68]) != le.Uint32(b[68:]) {
		return p, errTailHeader
	}
	if v := le.Uint16(b[8:]); v > tailVersion {
		return p, fmt.Errorf("%w %d of a tail file: use a later release", segment.ErrVersion, v)
	}
	if id := le.Uint64(b[16:]); id != logID {
		return p, fmt.Errorf("log id %x, want %x", id, logID)
	}
	p = position{index: le.Uint64(b[24:]), offset: le.Uint64(b[32:]), epoch: le.Uint64(b[40:]), unchained: b[10] == 1}
	copy(p.chain[:], b[48:])
	return p, nil
}

// createTail makes a tail file that begins at p, durable with its name. Left-overs of
// a process that died before the file was named by a manifest are replaced.
func createTail(fsys vfs.FS, dir string, number, logID uint64, p position) (*tailFile, error) {
	path := tailName(dir, number)
	if err := vfs.WriteFile(fsys, path, encodeTailHeader(logID, p)); err != nil {
		return nil, err
	}
	f, err := fsys.OpenReadWrite(path)
	if err != nil {
		return nil, err
	}
	t := &tailFile{number: number, path: path, file: f, end: tailHeaderSize, first: p}
	t.references.Store(1)
	return t, nil
}

// load reads the payload of a record at a position, and compares its header with the
// one that is expected.
func (t *tailFile) load(h *segment.Header, at int64) ([]byte, error) {
	b := make([]byte, segment.HeaderSize+int(h.PayloadLength))
	n, err := t.file.ReadAt(b, at)
	if n < len(b) {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, t.corrupt(at, h, err)
	}
	got, err := segment.ParseHeader(b)
	if err == nil && got != *h {
		err = errors.New("another record stands in its place")
	}
	payload := b[segment.HeaderSize:]
	if err == nil {
		err = h.CheckPayload(payload)
	}
	if err != nil {
		return nil, t.corrupt(at, h, err)
	}
	return payload, nil
}

func (t *tailFile) corrupt(at int64, h *segment.Header, err error) error {
	return &segment.CorruptError{Path: t.path, Offset: at, What: fmt.Sprintf("record %d", h.Index), Err: err}
}

// retain keeps the file open for a reader.
func (t *tailFile) retain() { t.references.Add(1) }

// release gives a reference back and closes the file with the last one.
func (t *tailFile) release() error {
	if t.references.Add(-1) == 0 {
		return t.file.Close()
	}
	return nil
}
