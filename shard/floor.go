package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// A Mark says up to where a shard's log was fsynced.
type Mark struct {
	LogID      uint64
	File       uint64 // number of the tail file
	Position   int64  // end of the last record in it
	Epoch      uint64 // of the last record
	Index      uint64 // of the last record
	NextOffset uint64
	Chain      segment.Chain
	Group      uint64 // number of the fsync group
}

// Floor is the file of a node in which each shard marks what it has fsynced. A mark is
// written after each fsync of a tail without an fsync of its own, and synced once a
// second at most: it may be a little old after a power loss, but what it says was
// true. It tells damage from a torn end: what is bad below the mark was whole once.
//
// A shard has two slots, on different pages, that are written in turn.
type Floor struct {
	fs   vfs.FS
	path string

	// syncMu is held over an fsync, mu is not: no shard waits for it.
	syncMu sync.Mutex

	mu    sync.Mutex // after syncMu
	file  vfs.File
	slots map[uint32]*floorSlot
	pairs int
	dirty bool
	bad   bool // an fsync of file failed: it must be replaced
}

type floorSlot struct {
	pair     int
	sequence uint64
	mark     Mark
	valid    bool
}

const (
	floorMagic    = 0x524f4c46 // "FLOR"
	floorSlotSize = 128
	floorPage     = 4096
	floorPerPage  = floorPage / floorSlotSize
	maxFloorPairs = 1 << 16
)

// OpenFloor opens the node's file, or makes an empty one.
func OpenFloor(fsys vfs.FS, path string) (*Floor, error) {
	f := &Floor{fs: fsys, path: path, slots: map[uint32]*floorSlot{}}
	data, err := vfs.ReadFile(fsys, path, 2*maxFloorPairs*floorSlotSize)
	if errors.Is(err, fs.ErrNotExist) {
		err = vfs.WriteFile(fsys, path, nil)
	} else if err == nil {
		// The process that made the file may have died before its name was durable.
		err = fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return nil, err
	}
	if f.file, err = fsys.OpenReadWrite(path); err != nil {
		return nil, err
	}
	for pair := 0; ; pair++ {
		at := floorPosition(pair, 0)
		if at >= int64(len(data)) {
			break
		}
		for side := range 2 {
			shard, sequence, mark, ok := parseFloorSlot(data, floorPosition(pair, side))
			if !ok {
				continue
			}
			s := f.slots[shard]
			if s == nil {
				s = &floorSlot{pair: pair}
				f.slots[shard] = s
			}
			if !s.valid || sequence > s.sequence {
				s.sequence, s.mark, s.valid = sequence, mark, true
			}
			f.pairs = pair + 1
		}
	}
	return f, nil
}

func floorPosition(pair, side int) int64 {
	return int64(pair/floorPerPage*2+side)*floorPage + int64(pair%floorPerPage*floorSlotSize)
}

func parseFloorSlot(data []byte, at int64) (shard uint32, sequence uint64, m Mark, ok bool) {
	if at+floorSlotSize > int64(len(data)) {
		return
	}
	b := data[at : at+floorSlotSize]
	le := binary.LittleEndian
	if le.Uint32(b) != floorMagic || segment.Checksum(b[:124]) != le.Uint32(b[124:]) {
		return
	}
	m = Mark{File: le.Uint64(b[16:]), Position: int64(le.Uint64(b[24:])), Epoch: le.Uint64(b[32:]), Index: le.Uint64(b[40:]),
		NextOffset: le.Uint64(b[48:]), Group: le.Uint64(b[56:])}
	copy(m.Chain[:], b[64:])
	m.LogID = le.Uint64(b[80:])
	return le.Uint32(b[4:]), le.Uint64(b[8:]), m, true
}

func encodeFloorSlot(shard uint32, sequence uint64, m *Mark) []byte {
	b := make([]byte, floorSlotSize)
	le := binary.LittleEndian
	le.PutUint32(b, floorMagic)
	le.PutUint32(b[4:], shard)
	le.PutUint64(b[8:], sequence)
	le.PutUint64(b[16:], m.File)
	le.PutUint64(b[24:], uint64(m.Position))
	le.PutUint64(b[32:], m.Epoch)
	le.PutUint64(b[40:], m.Index)
	le.PutUint64(b[48:], m.NextOffset)
	le.PutUint64(b[56:], m.Group)
	copy(b[64:], m.Chain[:])
	le.PutUint64(b[80:], m.LogID)
	le.PutUint32(b[124:], segment.Checksum(b[:124]))
	return b
}

// Get returns a shard's mark, and false if it has none or both slots are bad.
func (f *Floor) Get(shard uint32) (Mark, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.slots[shard]; s != nil && s.valid {
		return s.mark, true
	}
	return Mark{}, false
}

// Set writes a shard's mark. Everything up to it must have been fsynced.
func (f *Floor) Set(shard uint32, m Mark) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.slots[shard]
	if s == nil {
		if f.pairs >= maxFloorPairs {
			return fmt.Errorf("%q has no room for shard %d", f.path, shard)
		}
		s = &floorSlot{pair: f.pairs}
		f.slots[shard] = s
		f.pairs++
	}
	s.sequence++
	s.mark, s.valid = m, true
	b := encodeFloorSlot(shard, s.sequence, &m)
	_, err := f.file.WriteAt(b, floorPosition(s.pair, int(s.sequence%2)))
	if err == nil && s.sequence == 1 {
		// Both slots hold the first mark: one that is bad later cannot hide the shard.
		_, err = f.file.WriteAt(b, floorPosition(s.pair, 0))
	}
	f.dirty = true
	return err
}

// Sync makes the marks durable, if any was set since the last call. After a failed fsync
// the file is replaced by a new one with all marks.
func (f *Floor) Sync() error {
	f.syncMu.Lock()
	defer f.syncMu.Unlock()
	f.mu.Lock()
	if !f.dirty {
		f.mu.Unlock()
		return nil
	}
	f.dirty = false
	file, bad := f.file, f.bad
	f.mu.Unlock()
	var err error
	if !bad {
		if err = file.Sync(); err == nil {
			return nil
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirty, f.bad = true, true
	if rerr := f.replaceLocked(); rerr != nil {
		return errors.Join(err, rerr)
	}
	f.dirty, f.bad = false, false
	return nil
}

func (f *Floor) replaceLocked() error {
	data := make([]byte, floorPosition(max(f.pairs-1, 0), 1)+floorPage)
	for shard, s := range f.slots {
		for side := range 2 {
			copy(data[floorPosition(s.pair, side):], encodeFloorSlot(shard, s.sequence, &s.mark))
		}
	}
	if err := vfs.WriteFile(f.fs, f.path, data); err != nil {
		return err
	}
	file, err := f.fs.OpenReadWrite(f.path)
	if err != nil {
		return err
	}
	err = f.file.Close()
	f.file = file
	return err
}

// Close syncs and closes the file.
func (f *Floor) Close() error {
	err := f.Sync()
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(err, f.file.Close())
}
