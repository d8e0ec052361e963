package shard

import (
	"errors"
	"fmt"
	"io/fs"
	"math"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

const (
	catalogueMagic = "LCCATAL\x01"
	catalogueName  = "catalogue"
	catalogueLimit = 256 << 20

	// catalogueSave is how many files are described anew before the file is written while
	// the shard is open; what is not in it is read from the segments after a crash.
	catalogueSave = 64
	// catalogueSlice is how many files an encoder looks into before others may have it.
	catalogueSlice = 16
)

// encode returns what the catalogue knows of files. Streams that none of them has are
// left out.
func (c *catalogue) encode(files []*sealedFile) []byte {
	c.mu.RLock()
	defer c.mu.RUnlock()
	renumbered := make([]uint32, len(c.streams))
	streams, known := encoder{}, encoder{}
	next, count := uint32(0), uint32(0)
	var key []byte
	for _, f := range files {
		if f.catalogued == nil {
			continue
		}
		count++
		known.u64(f.FirstIndex)
		known.u64(f.LastIndex)
		known.raw(f.Root[:])
		known.u32(uint32(len(f.catalogued.numbers)))
		for i, number := range f.catalogued.numbers {
			if renumbered[number] == 0 {
				next++
				renumbered[number] = next
				key = c.streams[number].AppendKey(key[:0])
				streams.u32(uint32(len(key)))
				streams.raw(key)
			}
			known.u32(renumbered[number] - 1)
			known.raw(f.catalogued.spans[i][:])
		}
	}
	e := encoder{}
	e.u32(next)
	e.raw(streams.b)
	e.u32(count)
	e.raw(known.b)
	return e.b
}

// A savedFile is what the file `catalogue` says of one segment file.
type savedFile struct {
	firstIndex, lastIndex uint64
	root                  segment.Root
	streams               []describedStream
}

// decodeCatalogue reads what encode wrote.
func decodeCatalogue(payload []byte) ([]savedFile, error) {
	d := decoder{b: payload}
	var streams []*segment.Stream
	for range d.count(4) {
		stream, err := segment.ParseStream(d.take(int(min(d.u32(), math.MaxInt32))))
		if err != nil || d.err != nil {
			return nil, errors.Join(d.err, err)
		}
		streams = append(streams, stream)
	}
	var files []savedFile
	for range d.count(8 + 8 + 32 + 4) {
		f := savedFile{firstIndex: d.u64(), lastIndex: d.u64()}
		copy(f.root[:], d.take(len(f.root)))
		for range d.count(perStreamMemory) {
			number, span := d.u32(), [2]uint8(d.take(2))
			switch {
			case d.err != nil:
				return nil, d.err
			case int(number) >= len(streams) || span[1] < span[0]:
				return nil, fmt.Errorf("stream %d of %d in slots %d to %d", number, len(streams), span[0], span[1])
			}
			f.streams = append(f.streams, describedStream{streams[number], span})
		}
		files = append(files, f)
	}
	if d.err == nil && len(d.b) != 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	return files, d.err
}

// loadCatalogue takes over what was saved of the files that the shard has. A file that is
// missing, damaged or old costs time, and nothing else: what it does not say is read from
// the segments.
func (s *Shard) loadCatalogue() {
	payload, err := readEnvelope(s.o.FS, s.path(catalogueName), catalogueMagic, catalogueLimit)
	var saved []savedFile
	if err == nil {
		saved, err = decodeCatalogue(payload)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.o.Logger.Sugar().Warnw("the catalogue of the sealed files cannot be read; it is made again from them", "shard", s.o.Number, "error", err)
	}
	byRoot := make(map[segment.Root]*savedFile, len(saved))
	for i := range saved {
		byRoot[saved[i].root] = &saved[i]
	}
	for _, f := range s.view.sealed {
		if k := byRoot[f.Root]; err == nil && k != nil && k.firstIndex == f.FirstIndex && k.lastIndex == f.LastIndex {
			f.undescribed = !s.catalogue.add(f, k.streams)
		} else {
			s.undescribed++
		}
	}
	s.catalogue.mu.Lock()
	s.catalogue.unsaved = 0
	s.catalogue.mu.Unlock()
}

// saveCatalogue writes the file `catalogue` if at least so many files are not in it.
func (s *Shard) saveCatalogue(unsaved int) {
	s.mu.Lock()
	files := s.view.sealed
	s.mu.Unlock()
	c := &s.catalogue
	c.mu.Lock()
	due := c.unsaved >= unsaved
	if due {
		c.unsaved = 0
	}
	c.mu.Unlock()
	if !due {
		return
	}
	payload := c.encode(files)
	if len(payload) > catalogueLimit-16 {
		return
	}
	if err := vfs.WriteFile(s.o.FS, s.path(catalogueName), encodeEnvelope(catalogueMagic, payload)); err != nil {
		s.o.Logger.Sugar().Warnw("saving the catalogue of the sealed files; it will be made again from them", "shard", s.o.Number, "error", err)
	}
}

// describe describes a file that has just come into the view, from the blocks it was
// sealed with.
func (s *Shard) describe(sealed *segment.Sealed, blocks []*segment.Block) {
	streams := describe(sealed, blocks)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.view.sealed {
		if f.Root == sealed.Root {
			f.undescribed = !s.catalogue.add(f, streams)
			s.undescribed = max(0, s.undescribed-1)
		}
	}
}

// describeLaterLocked has an encoder look into the files that the catalogue does not
// know, when there is nothing else to do.
func (s *Shard) describeLaterLocked() {
	if s.undescribed == 0 || s.describing || s.closing || s.failure != nil {
		return
	}
	s.describing = true
	s.o.Encoders.later(s, func(*segment.BlockEncoder) {
		more := s.describeSome()
		s.saveCatalogue(catalogueSave)
		s.mu.Lock()
		s.describing = false
		if more {
			s.describeLaterLocked()
		}
		s.mu.Unlock()
	})
}

// describeSome looks into some of the files that the catalogue does not know, and reports
// whether there are more.
func (s *Shard) describeSome() (more bool) {
	s.mu.Lock()
	var some []*sealedFile
	s.catalogue.mu.RLock()
	left := 0
	for _, f := range s.view.sealed {
		if f.catalogued == nil && !f.undescribed {
			left++
			if len(some) < catalogueSlice {
				some = append(some, f)
			}
		}
	}
	s.catalogue.mu.RUnlock()
	s.undescribed = left - len(some)
	held := s.o.Files.retain(some)
	s.mu.Unlock()
	if !held {
		return false // cannot be: the shard has references of its own
	}
	defer s.o.Files.release(some...)
	var failed []*sealedFile
	for _, f := range some {
		segment, err := f.acquire()
		if err != nil {
			s.noteDamage(err)
			failed = append(failed, f)
			continue
		}
		if !s.catalogue.add(f, describe(&f.Sealed, segment.Blocks)) {
			failed = append(failed, f)
		}
		f.yield()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range failed {
		f.undescribed = true
	}
	return s.undescribed > 0
}
