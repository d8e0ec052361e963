package shard

import (
	"errors"
	"fmt"

	"github.com/logcluster/logcluster/segment"
)

// A record is a frame in a tail file.
type record struct {
	header  segment.Header
	trailer segment.Trailer
	tail    *tailFile
	at      int64
	before  position
}

// A scanner reads the tail files in order, decides by the table of doc.go what cannot
// be read, and hands out what is part of the log.
type scanner struct {
	logID uint64
	tails []*tailFile
	// mark is what FLOOR says, nil if it says nothing. committed is up to where
	// MANIFEST knows the log: nothing below either can be a torn end.
	mark      *Mark
	committed position
	// known are losses and damages, by first index, that are stepped over without a new
	// decision.
	known []Loss
	visit func(r *record, payload []byte) error

	scanned
}

// What a scan has found.
type scanned struct {
	end     position // behind the last record
	group   uint64   // highest number of an fsync group
	commit  uint64   // highest index that a trailer says to be committed
	damages []Damage
	// torn: the last file ends with bytes that are no whole record.
	torn bool
}

// scan reads all files.
func (s *scanner) scan() error {
	if len(s.tails) == 0 {
		return errors.New("there is no tail file")
	}
	var before *tailFile
	for i, t := range s.tails {
		limit := endOfTail(s.tails, i)
		if limit <= t.first.index {
			continue // all of it was carried forward
		}
		if before == nil {
			s.end = t.first
		}
		if err := s.begin(t, before); err != nil {
			return err
		}
		if err := s.scanTail(t, limit, i == len(s.tails)-1); err != nil {
			return fmt.Errorf("%q: %w", t.path, err)
		}
		before = t
	}
	return s.checkEnd()
}

// endOfTail returns the first index that a file behind tails[i] holds: the part of
// tails[i] in the log ends there, whatever it holds.
func endOfTail(tails []*tailFile, i int) uint64 {
	end := ^uint64(0)
	for _, later := range tails[i+1:] {
		end = min(end, later.first.index)
	}
	return end
}

// beginOfTails returns the first index that the files hold.
func beginOfTails(tails []*tailFile) uint64 {
	return min(tails[0].first.index, endOfTail(tails, 0))
}

// begin compares the end of the log so far with the beginning of the next file.
func (s *scanner) begin(t, before *tailFile) error {
	first := t.first
	switch {
	case first.index > s.end.index:
		// The file before it ends too early: what is missing between them is lost.
		s.lose(Damage{File: before.number, Position: before.end, Loss: Loss{FirstIndex: s.end.index, LastIndex: first.index - 1,
			FirstOffset: s.end.offset, EndOffset: first.offset, Chain: first.chain}})
	case first.index == s.end.index && !s.end.unchained && !first.unchained && first.chain != s.end.chain:
		return &segment.CorruptError{Path: t.path, What: "tail file", Err: fmt.Errorf("it does not continue the log at record %d", first.index)}
	}
	s.end = first
	return nil
}

// scanTail reads one file's part of the log, which ends before record limit.
func (s *scanner) scanTail(t *tailFile, limit uint64, last bool) error {
	size, err := t.file.Size()
	if err != nil {
		return err
	}
	w := &windowReader{file: t.file, size: size}
	at := int64(tailHeaderSize)
	t.end = at
	for s.end.index < limit {
		f, fault, err := readFrame(w, s.logID, at)
		if err != nil {
			return err
		}
		if fault == nil {
			fault = s.place(&f.header, f.payload)
		}
		if fault != nil {
			next, found, err := s.decide(w, t, at, fault, limit, last)
			if err != nil || !found {
				return err
			}
			at = next
			continue
		}
		h := &f.header
		r := &record{header: *h, trailer: f.trailer, tail: t, at: at, before: s.end}
		s.end = position{index: h.Index + 1, offset: h.Offset + uint64(h.Count), epoch: h.Epoch, chain: h.Chain}
		s.group = max(s.group, f.trailer.GroupNumber())
		s.commit = max(s.commit, min(f.trailer.Commit, h.Index))
		at += int64(h.Size())
		t.end, t.last = at, h.Index
		if isLost(s.known, h.Index) {
			continue // it reads well now, but the log has gone on without it
		}
		if err := s.visit(r, f.payload); err != nil {
			return err
		}
	}
	return nil
}

// place checks that a record continues the log where the scan stands.
func (s *scanner) place(h *segment.Header, payload []byte) *frameFault {
	fault := &frameFault{header: h}
	switch {
	case h.Index != s.end.index || h.Offset != s.end.offset || h.PreviousEpoch != s.end.epoch || h.Epoch < s.end.epoch:
		fault.err = fmt.Errorf("record %d at offset %d does not continue the log at record %d, offset %d", h.Index, h.Offset, s.end.index, s.end.offset)
	case !s.end.unchained && h.NextChain(s.end.chain, payload) != h.Chain:
		fault.err = fmt.Errorf("record %d does not continue the chain", h.Index)
	default:
		return nil
	}
	return fault
}

// lose notes a damage, but for what of it is known already.
func (s *scanner) lose(d Damage) {
	if rest, some := withoutKnown(d.Loss, s.known); some {
		d.Loss = rest
		s.damages = append(s.damages, d)
	}
}

// withoutKnown returns what is left of a loss behind the known ones that it begins in,
// and false if nothing is. known are in order of their first index.
func withoutKnown(l Loss, known []Loss) (Loss, bool) {
	for i := range known {
		k := &known[i]
		if k.FirstIndex > l.FirstIndex || k.LastIndex < l.FirstIndex {
			continue
		}
		if k.LastIndex >= l.LastIndex {
			return l, false
		}
		l.FirstIndex, l.FirstOffset = k.LastIndex+1, max(l.FirstOffset, k.EndOffset)
	}
	return l, true
}

// isLost reports whether a record is in one of the losses.
func isLost(losses []Loss, index uint64) bool {
	for i := range losses {
		if losses[i].FirstIndex <= index && index <= losses[i].LastIndex {
			return true
		}
	}
	return false
}
