package shard

import (
	"sync"

	"github.com/logcluster/logcluster/segment"
)

// A catalogue knows which streams each sealed file of a shard has, and when about, so
// that a query does not open files that cannot match. It is derived from the files'
// own directories and is never the only one to know: a file that it does not describe
// may hold anything, and is read (K1).
//
// Its memory comes out of the node's FilesOptions.MaxCatalogue. When that is used up
// further files are not described.
type catalogue struct {
	files *Files

	mu      sync.RWMutex
	streams []*segment.Stream // by number; only ever appended to
	numbers map[uint64]uint32 // by Stream.ID
	bytes   int64             // of memory that is reserved
	unsaved int               // files that were described since the last save
}

// fileStreams are the streams of a sealed file.
type fileStreams struct {
	numbers []uint32 // in catalogue.streams
	// spans say when the entries of each stream are: the file's time range is cut into
	// 256 equal slots, the first and the last one that has some of them stand here. They
	// may be too wide, but never too narrow.
	spans [][2]uint8
}

const (
	fileStreamsMemory = 64
	perStreamMemory   = 6  // of a file: number and span
	numberMemory      = 32 // an entry of catalogue.numbers
)

func (d *fileStreams) memory() int64 {
	return fileStreamsMemory + perStreamMemory*int64(len(d.numbers))
}

// A timeGrid cuts the time range of a file into 256 slots.
type timeGrid struct {
	min, max int64
	step     uint64
}

func gridOf(s *segment.Sealed) timeGrid {
	return timeGrid{s.MinTimestamp, s.MaxTimestamp, (uint64(s.MaxTimestamp)-uint64(s.MinTimestamp))/256 + 1}
}

// slot returns the slot of a timestamp, or the nearest.
func (g *timeGrid) slot(t int64) uint8 {
	t = min(max(t, g.min), g.max)
	return uint8((uint64(t) - uint64(g.min)) / g.step)
}

// A describedStream is a stream of a file before it has a number.
type describedStream struct {
	stream *segment.Stream
	span   [2]uint8
}

// describe gathers the streams of a file from the directories of its blocks.
func describe(sealed *segment.Sealed, blocks []*segment.Block) []describedStream {
	grid := gridOf(sealed)
	var d []describedStream
	places := map[*segment.Stream]int{}
	for _, b := range blocks {
		for i := range b.Meta.Runs {
			run := &b.Meta.Runs[i]
			first, last := grid.slot(run.MinTimestamp), grid.slot(run.MaxTimestamp)
			stream := b.Stream(run)
			at, known := places[stream]
			if !known {
				places[stream] = len(d)
				d = append(d, describedStream{stream, [2]uint8{first, last}})
				continue
			}
			span := &d[at].span
			span[0], span[1] = min(span[0], first), max(span[1], last)
		}
	}
	return d
}

// add describes a file. It returns false if there is no room for it.
func (c *catalogue) add(f *sealedFile, d []describedStream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.catalogued != nil {
		return true
	}
	need := fileStreamsMemory + perStreamMemory*int64(len(d))
	for i := range d {
		stream := d[i].stream
		number, known := c.numbers[stream.ID]
		if known && !c.streams[number].Equal(stream) {
			return false // two streams with one id: the file is read instead
		}
		if !known {
			need += int64(stream.MemoryBytes()) + numberMemory
		}
	}
	if !c.files.reserve(need) {
		return false
	}
	c.bytes += need
	if c.numbers == nil {
		c.numbers = map[uint64]uint32{}
	}
	streams := &fileStreams{numbers: make([]uint32, len(d)), spans: make([][2]uint8, len(d))}
	for i := range d {
		stream := d[i].stream
		number, known := c.numbers[stream.ID]
		if !known {
			number = uint32(len(c.streams))
			c.streams = append(c.streams, stream)
			c.numbers[stream.ID] = number
		}
		streams.numbers[i], streams.spans[i] = number, d[i].span
	}
	f.catalogued = streams
	c.unsaved++
	return true
}

// forget gives the memory of files back that are the shard's no more. Queries may still
// ask for them: they are read then.
func (c *catalogue) forget(files []*sealedFile) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range files {
		if f.catalogued != nil {
			n := f.catalogued.memory()
			c.bytes -= n
			c.files.giveBack(n)
			f.catalogued = nil
		}
	}
}

// close gives all memory back. The catalogue can be used no more.
func (c *catalogue) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.files.giveBack(c.bytes)
	c.streams, c.numbers, c.bytes = nil, nil, 0
}

// A selection is what a query needs of the sealed files.
type selection struct {
	read    []*sealedFile     // may hold entries that match
	streams []*segment.Stream // that match, of the files that are described; if asked for
}

// find returns the files that may hold entries for a query. With streams, files that are
// described are not among them, but their matching streams are.
func (c *catalogue) find(files []*sealedFile, q *segment.Query, streams bool) (s selection) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	// Each stream is compared with the query's matchers once.
	const unknown, yes, no, told = 0, 1, 2, 3
	matches := make([]uint8, len(c.streams))
	for _, f := range files {
		if f.MinTimestamp >= q.End || f.MaxTimestamp < q.Start {
			continue
		}
		d := f.catalogued
		if d == nil {
			s.read = append(s.read, f)
			continue
		}
		grid := gridOf(&f.Sealed)
		first, last := grid.slot(q.Start), grid.slot(q.End-1)
		for i, number := range d.numbers {
			m := matches[number]
			if m == no || m == told || d.spans[i][0] > last || d.spans[i][1] < first {
				continue
			}
			if m == unknown {
				if !q.MatchesStream(c.streams[number]) {
					matches[number] = no
					continue
				}
				matches[number] = yes
			}
			if !streams {
				s.read = append(s.read, f)
				break
			}
			matches[number] = told
			s.streams = append(s.streams, c.streams[number])
		}
	}
	return s
}
