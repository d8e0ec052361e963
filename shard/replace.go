package shard

import (
	"fmt"
	"slices"
	"sort"

	"github.com/logcluster/logcluster/segment"
)

// A replacement is what a REPLACE record says: segments that follow each other are
// replaced by one that holds the same entries.
type replacement struct {
	Old []segmentName
	New segment.Sealed
}

// A segmentName is what a REPLACE record says of a segment that is replaced.
type segmentName struct {
	FirstIndex, LastIndex uint64
	Root                  segment.Root
}

const (
	segmentNameSize = 8 + 8 + 32
	// maxReplaced bounds the segments that one record replaces.
	maxReplaced = 1024
)

func nameOf(s *segment.Sealed) segmentName { return segmentName{s.FirstIndex, s.LastIndex, s.Root} }

func (r *replacement) encode(e *encoder) {
	e.u32(uint32(len(r.Old)))
	for i := range r.Old {
		e.u64(r.Old[i].FirstIndex)
		e.u64(r.Old[i].LastIndex)
		e.raw(r.Old[i].Root[:])
	}
	e.b = r.New.Append(e.b)
}

// parseReplacement decodes what encode wrote.
func parseReplacement(payload []byte) (replacement, error) {
	d := decoder{b: payload}
	var r replacement
	n := d.count(segmentNameSize)
	if d.err == nil && (n == 0 || n > maxReplaced) {
		d.err = fmt.Errorf("%d segments, want 1 to %d", n, maxReplaced)
	}
	if d.err != nil {
		return r, fmt.Errorf("REPLACE: %w", d.err)
	}
	r.Old = make([]segmentName, n)
	for i := range r.Old {
		r.Old[i].FirstIndex, r.Old[i].LastIndex = d.u64(), d.u64()
		copy(r.Old[i].Root[:], d.take(32))
	}
	var err error
	if r.New, err = segment.ParseSealed(d.b); err != nil {
		return r, fmt.Errorf("REPLACE: %w", err)
	}
	return r, nil
}

// find returns where the old segments stand in a list. They must stand there just as the
// replacement says, and together hold what the new one does.
func (r *replacement) find(sealed []segment.Sealed) (at int, err error) {
	if len(r.Old) == 0 {
		return 0, fmt.Errorf("REPLACE of no segment")
	}
	first := r.Old[0].FirstIndex
	at = sort.Search(len(sealed), func(i int) bool { return sealed[i].FirstIndex >= first })
	if at+len(r.Old) > len(sealed) {
		return 0, fmt.Errorf("REPLACE of %d segments from record %d on, which are not there", len(r.Old), first)
	}
	sum := sealed[at]
	for i := range r.Old {
		s := &sealed[at+i]
		if nameOf(s) != r.Old[i] {
			return 0, fmt.Errorf("REPLACE of a segment of records %d to %d with root %s, but there is one of %d to %d with root %s",
				r.Old[i].FirstIndex, r.Old[i].LastIndex, r.Old[i].Root, s.FirstIndex, s.LastIndex, s.Root)
		}
		if i > 0 {
			sum.LastIndex, sum.EndOffset, sum.Chain = s.LastIndex, s.EndOffset, s.Chain
			sum.Entries += s.Entries
			sum.RawBytes += s.RawBytes
			sum.Digest += s.Digest
			sum.MinTimestamp, sum.MaxTimestamp = min(sum.MinTimestamp, s.MinTimestamp), max(sum.MaxTimestamp, s.MaxTimestamp)
		}
	}
	sum.Length, sum.Root = r.New.Length, r.New.Root
	if sum != r.New {
		return 0, fmt.Errorf("REPLACE by a segment with %+v, those before it hold %+v", r.New, sum)
	}
	return at, nil
}

// apply returns the list with the new segment in the place of the old ones. The list itself
// is not changed: others may read it.
func (r *replacement) apply(sealed []segment.Sealed) ([]segment.Sealed, error) {
	at, err := r.find(sealed)
	if err != nil {
		return nil, err
	}
	return slices.Concat(sealed[:at], []segment.Sealed{r.New}, sealed[at+len(r.Old):]), nil
}

// showReplacedLocked puts the new file in the place of the old ones. Running queries keep
// those; they are removed once MANIFEST does not name them any more.
func (s *Shard) showReplacedLocked(r *replacement) {
	last := r.Old[len(r.Old)-1].LastIndex
	var files []*sealedFile
	placed := false
	for _, f := range s.view.sealed {
		if f.FirstIndex < r.New.FirstIndex || f.LastIndex > last {
			files = append(files, f)
			continue
		}
		if !placed {
			placed = true
			files = append(files, s.newSealedFile(r.New))
			s.undescribed++ // until whoever has made it describes it
		}
		s.replaced = append(s.replaced, f)
	}
	s.view.sealed = files
	s.merge.settled = false
}

// forgetReplaced removes the files that REPLACE records have put others in the place of,
// also those of records that were applied while the shard was opened: MANIFEST forgets
// them first (H2, H22).
func (s *Shard) forgetReplaced() error {
	s.mu.Lock()
	due, gone := s.replaces > s.replacesSaved, s.replaced
	s.mu.Unlock()
	if due {
		if err := s.saveManifest(); err != nil {
			s.fail(fmt.Errorf("writing the manifest: %w", err))
			return err
		}
	}
	if len(gone) == 0 {
		return nil
	}
	s.mu.Lock()
	s.replaced = slices.Clone(s.replaced[len(gone):])
	s.mu.Unlock()
	s.catalogue.forget(gone)
	s.o.Files.discard(gone)
	if err := s.o.FS.SyncDir(s.o.Dir); err != nil {
		s.o.Logger.Sugar().Warnw("removing what a merged segment replaces", "shard", s.o.Number, "error", err)
	}
	return nil
}
