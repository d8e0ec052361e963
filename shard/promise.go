package shard

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// Promise is the highest epoch that this replica has agreed to, and whose it is. It
// refuses lower ones, and the same one of another boot, also after a crash.
type Promise struct {
	Epoch         uint64
	Node          string // name, at most 64 bytes
	Boot          string // boot id, at most 64 bytes
	ConfigVersion uint64 // highest version of config/S seen
}

const (
	promiseMagic = "LCPROMIS"
	promisePage  = 4096
	promiseSize  = 8 + 8 + 8 + 8 + 66 + 66 + 4
)

// A promiseFile keeps the promise in two slots, on different pages. Both are written
// and synced before a promise is answered, so that damage to one of them cannot bring
// an older promise back; a torn write hits one slot only.
type promiseFile struct {
	file     vfs.File
	sequence uint64
	promise  Promise
}

// write replaces the file by one whose slots both hold p.
func (p *promiseFile) write(fsys vfs.FS, path string) error {
	data := make([]byte, promisePage+promiseSize)
	copy(data, p.encode())
	copy(data[promisePage:], p.encode())
	return vfs.WriteFile(fsys, path, data)
}

// openPromise reads the promise. Both slots bad is the loss of the disk: a replica that
// does not know what it promised must not answer.
//
// Slots that differ are those of a promise that was interrupted: the newer one may
// stand in the page cache only. Both are written anew before it is relied on, and so
// they are if fresh says that an fsync of this process has failed. A slot that was
// replaced because it was bad is returned as damage.
func openPromise(fsys vfs.FS, path string, fresh bool) (p *promiseFile, damage, err error) {
	data, err := vfs.ReadFile(fsys, path, 2*promisePage)
	if errors.Is(err, vfs.ErrTooLarge) {
		err = &segment.CorruptError{Path: path, What: "promise", Err: err}
	}
	if err != nil {
		return nil, nil, err
	}
	var slots []promiseFile
	for side := range 2 {
		if q, ok := parsePromise(data, side*promisePage); ok {
			slots = append(slots, q)
		} else {
			damage = &segment.CorruptError{Path: path, Offset: int64(side * promisePage), What: "promise", Err: errors.New("bad slot")}
		}
	}
	if len(slots) == 0 {
		return nil, nil, &segment.CorruptError{Path: path, What: "promise", Err: errors.New("both slots are bad")}
	}
	p = &slots[0]
	if len(slots) == 2 && slots[1].sequence > p.sequence {
		p = &slots[1]
	}
	if fresh || len(slots) < 2 || slots[0] != slots[1] {
		if err := p.write(fsys, path); err != nil {
			return nil, nil, err
		}
	}
	p.file, err = fsys.OpenReadWrite(path)
	return p, damage, err
}

func (p *promiseFile) encode() []byte {
	b := make([]byte, promiseSize)
	le := binary.LittleEndian
	copy(b, promiseMagic)
	le.PutUint64(b[8:], p.sequence)
	le.PutUint64(b[16:], p.promise.Epoch)
	le.PutUint64(b[24:], p.promise.ConfigVersion)
	le.PutUint16(b[32:], uint16(copy(b[34:98], p.promise.Node)))
	le.PutUint16(b[98:], uint16(copy(b[100:164], p.promise.Boot)))
	le.PutUint32(b[164:], segment.Checksum(b[:164]))
	return b
}

func parsePromise(data []byte, at int) (promiseFile, bool) {
	var p promiseFile
	if at+promiseSize > len(data) {
		return p, false
	}
	b := data[at : at+promiseSize]
	le := binary.LittleEndian
	if string(b[:8]) != promiseMagic || segment.Checksum(b[:164]) != le.Uint32(b[164:]) {
		return p, false
	}
	node, boot := le.Uint16(b[32:]), le.Uint16(b[98:])
	if node > 64 || boot > 64 {
		return p, false
	}
	p.sequence = le.Uint64(b[8:])
	p.promise = Promise{Epoch: le.Uint64(b[16:]), ConfigVersion: le.Uint64(b[24:]), Node: string(b[34 : 34+node]), Boot: string(b[100 : 100+boot])}
	return p, true
}

// check reports what cannot be written.
func (p *Promise) check() error {
	if len(p.Node) > 64 || len(p.Boot) > 64 {
		return fmt.Errorf("promise to node %q, boot %q: a name is longer than 64 bytes", p.Node, p.Boot)
	}
	return nil
}

// refuses reports whether somebody who was given p must refuse q.
func (p *Promise) refuses(q *Promise) bool {
	return q.Epoch < p.Epoch || q.Epoch == p.Epoch && (q.Node != p.Node || q.Boot != p.Boot) || q.ConfigVersion < p.ConfigVersion
}

// set makes a promise durable. After an error the promise is unknown and the file must
// not be used again.
func (p *promiseFile) set(promise Promise) error {
	p.sequence++
	p.promise = promise
	b := p.encode()
	for side := range 2 {
		if _, err := p.file.WriteAt(b, int64(side*promisePage)); err != nil {
			return err
		}
		if err := p.file.Sync(); err != nil {
			return err
		}
	}
	return nil
}
