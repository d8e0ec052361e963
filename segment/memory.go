package segment

// What the tables of an open file take beside their bytes, about: structures, slice
// headers, and what the allocator rounds up.
const (
	segmentMemory  = 1 << 10
	streamMemory   = 96
	labelMemory    = 32
	templateMemory = 160
	literalMemory  = 25 // a slice header and the kind of the slot behind it
	blockMemory    = 288
	runMemory      = 40
	useMemory      = 8
	chunkMemory    = 40
	foldMemory     = 128
	maskMemory     = 16
	factMemory     = 8
	foldGrowth     = 4 // a decoded fold to its bytes in the file, which stay
)

// MemoryBytes returns about how many bytes of memory the segment's tables take while
// it is open: leaf hashes, streams, templates, the directories of its blocks, and folds, as
// if all of them were decoded already. It is to be asked for before the segment is read.
func (s *Segment) MemoryBytes() int64 {
	n := segmentMemory + len(s.leaves)
	if len(s.Blocks) > 0 {
		file := s.Blocks[0].file
		for _, stream := range file.streams {
			n += stream.MemoryBytes()
		}
		for _, t := range file.templates {
			n += templateMemory + len(t.key) + literalMemory*len(t.literals)
		}
		for _, f := range file.folds {
			n += foldMemory + foldGrowth*len(f.raw)
		}
		n += file.filter.memoryBytes()
	}
	for _, b := range s.Blocks {
		n += blockMemory + runMemory*len(b.Meta.Runs) + useMemory*len(b.Meta.Templates) + chunkMemory*len(b.Meta.Chunks)
	}
	return int64(n)
}

// memoryBytes is what FILTERS takes in memory, but for the grams of literals, which are about as
// large as these. The filter of values stays on disk.
func (f *segmentFilter) memoryBytes() int {
	if f == nil {
		return 0
	}
	n := segmentMemory + maskMemory*(len(f.masks)+len(f.unions)) + factMemory*(len(f.slots)+len(f.first)) + chunkMemory*len(f.parts)
	if f.grams != nil {
		n += len(f.grams.bits)
	}
	return n
}

// MemoryBytes returns about how many bytes of memory the stream takes.
func (s *Stream) MemoryBytes() int {
	n := streamMemory + len(s.Tenant)
	for _, l := range s.Labels {
		n += labelMemory + len(l.Name) + len(l.Value)
	}
	return n
}
