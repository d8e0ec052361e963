package shard

import "github.com/logcluster/logcluster/segment"

const (
	// firstTier is the raw bytes of lines up to which segments are of the first tier; those of
	// the next tier are four times as large.
	firstTier = 1 << 20
	// maxMergeInputs bounds the files that a merge holds open.
	maxMergeInputs = 64
	// maxMergeEntries leaves room for blocks that are not full.
	maxMergeEntries = segment.MaxBlocks * segment.MaxBlockRows / 4
)

// A mergePolicy says which segments are merged.
type mergePolicy struct {
	fanout int    // how many of a tier
	bytes  uint64 // of lines that a merged segment has at most
}

// plan returns the place and the number of the segments that are to be merged next; 0: none.
//
// They stand side by side, are of one tier or below it, the lowest tier first, and are
// fanout or, if the next one would be too much, at least half as many. Together they are at least twice
// as large as the largest of them: so an entry is written again at most once for each
// doubling of its segment.
func (p mergePolicy) plan(sealed []segment.Sealed, unfit map[segment.Root]bool) (at, n int) {
	for tier := uint64(firstTier); ; tier *= 4 {
		fits := func(s *segment.Sealed) bool { return s.RawBytes <= tier && !unfit[s.Root] }
		for at < len(sealed) {
			if !fits(&sealed[at]) {
				at++
				continue
			}
			var bytes, entries, largest uint64
			more := false
			for n = 0; at+n < len(sealed) && fits(&sealed[at+n]); n++ {
				s := &sealed[at+n]
				more = n == maxMergeInputs || bytes+s.RawBytes > p.bytes || entries+s.Entries > maxMergeEntries
				if more {
					break
				}
				bytes += s.RawBytes
				entries += s.Entries
				largest = max(largest, s.RawBytes)
			}
			if (n >= p.fanout || more && n >= max(2, p.fanout/2)) && bytes >= 2*largest {
				return at, n
			}
			at += max(n, 1)
		}
		if at = 0; tier >= p.bytes/2 {
			return 0, 0
		}
	}
}
