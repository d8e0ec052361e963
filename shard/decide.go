package shard

import (
	"errors"
	"fmt"

	"github.com/logcluster/logcluster/segment"
)

// decide says what a position is at which no record of the log can be read: the end of
// the log, a torn end, or damage; the rows T1 to T9 of doc.go. It returns the place of
// the record with which the log goes on behind the damage, and false if this file's
// part of the log ends here.
func (s *scanner) decide(w *windowReader, t *tailFile, at int64, fault *frameFault, limit uint64, last bool) (int64, bool, error) {
	// If the bad record's header is whole it says where the next one begins. What
	// stands in a payload is never taken for a record then.
	from := at + 1
	if fault.header != nil && fault.header.Index == s.end.index {
		from = at + int64(fault.header.Size())
	}
	next, err := s.following(w, at, from)
	if err != nil {
		return 0, false, err
	}
	if next == nil || next.header.Index >= limit {
		if !last {
			return 0, false, nil // T8: begin notes what is missing up to the next file
		}
		return 0, false, s.decideEnd(w, t, at, fault)
	}
	if last && !s.isBelow(t, at) && !isLost(s.known, s.end.index) {
		torn, err := s.isTorn(w, at, next, fault)
		if err != nil {
			return 0, false, err
		}
		if torn {
			s.torn = true // T4
			return 0, false, nil
		}
	}
	// T5, T6, T7.
	h := &next.header
	loss := Loss{FirstIndex: s.end.index, LastIndex: h.Index - 1, FirstOffset: s.end.offset, EndOffset: h.Offset}
	s.end = position{index: h.Index, offset: h.Offset, epoch: h.PreviousEpoch, unchained: true}
	if b := fault.header; b != nil && b.Index+1 == h.Index && b.Index == loss.FirstIndex {
		loss.Chain = b.Chain
		s.end.chain, s.end.unchained = loss.Chain, false
	}
	s.lose(Damage{File: t.number, Position: at, Loss: loss})
	return next.at, true, nil
}

// isBelow reports whether what stands at a position of a file was fsynced once, by
// what FLOOR and MANIFEST say.
func (s *scanner) isBelow(t *tailFile, at int64) bool {
	return s.mark == nil || s.end.index < s.committed.index ||
		t.number < s.mark.File || t.number == s.mark.File && at < s.mark.Position
}

// decideEnd decides on a place in the last file that no whole record follows.
func (s *scanner) decideEnd(w *windowReader, t *tailFile, at int64, fault *frameFault) error {
	if fault.end {
		clean, err := w.isZero(at)
		if err != nil || clean {
			return err // T1; T2 is checkEnd's
		}
	}
	// T3. What is left of a torn record must not stand behind new ones: the log goes on
	// in a new file.
	s.torn = true
	if s.mark == nil && !fault.end {
		s.loseEnd(t, at, fault) // T9
	}
	return nil
}

// loseEnd notes a bad end that nothing tells from damage as the loss of one record.
func (s *scanner) loseEnd(t *tailFile, at int64, fault *frameFault) {
	l := Loss{FirstIndex: s.end.index, LastIndex: s.end.index, FirstOffset: s.end.offset, EndOffset: s.end.offset, Chain: s.end.chain}
	if h := fault.header; h != nil && h.Index == s.end.index && h.Offset == s.end.offset {
		l.EndOffset += uint64(h.Count)
		l.Chain = h.Chain
	}
	s.lose(Damage{File: t.number, Position: at, Loss: l})
	s.end = position{index: l.LastIndex + 1, offset: l.EndOffset, epoch: s.end.epoch, chain: l.Chain}
}

// following returns the first whole record from a position on that may be a later one
// of this log, and nil if there is none. bad is where the record stands that cannot be
// read. Not everything with right checksums is a later record: behind a torn end the
// disk may show old sectors, and a line may hold a copy of a frame. But records are
// dense, so that their numbers are bounded by the bytes between, and the numbers of
// fsync groups never fall.
func (s *scanner) following(w *windowReader, bad, from int64) (*frameRead, error) {
	for at := from; ; {
		f, err := findFrame(w, s.logID, at)
		if err != nil || f == nil {
			return nil, err
		}
		h := &f.header
		if n := h.Index - s.end.index; h.Index > s.end.index && n <= uint64(f.at-bad)/(segment.HeaderSize+segment.TrailerSize) &&
			h.Offset >= s.end.offset && h.Offset-s.end.offset <= n*segment.MaxFrameEntries &&
			h.PreviousEpoch >= s.end.epoch && h.Epoch >= h.PreviousEpoch && f.trailer.GroupNumber() >= s.group {
			return f, nil
		}
		at = f.at + 1
	}
}

// isTorn reports whether a bad record beyond the mark was written in the same fsync
// group as the whole record `next` behind it, and that group is the last: then the
// group was never acknowledged (H14).
func (s *scanner) isTorn(w *windowReader, bad int64, next *frameRead, fault *frameFault) (bool, error) {
	group := next.trailer.GroupNumber()
	first := next.header.Index - min(next.trailer.GroupPlace(), next.header.Index) // record of the group
	same := first <= s.end.index
	if fault.trailer != nil {
		same = fault.trailer.GroupNumber() >= group
	}
	if !same {
		return false, nil
	}
	for at := next.at + int64(next.header.Size()); ; {
		later, err := s.following(w, bad, at)
		if err != nil {
			return false, err
		}
		if later == nil {
			// Its number is not used again: what is left of it must not look like part of a
			// later group.
			s.group = max(s.group, group)
			return true, nil
		}
		if later.trailer.GroupNumber() > group {
			return false, nil
		}
		at = later.at + int64(later.header.Size())
	}
}

// checkEnd compares the end that was found with what FLOOR and MANIFEST say: what was
// fsynced once and is no longer there is damage (T2).
func (s *scanner) checkEnd() error {
	last := s.tails[len(s.tails)-1]
	proof := s.committed
	if m := s.mark; m != nil {
		if m.File > last.number {
			return &segment.CorruptError{Path: last.path, What: "manifest", Err: fmt.Errorf("it ends with tail file %d, FLOOR knows file %d: an old copy was put in its place", last.number, m.File)}
		}
		s.group = max(s.group, m.Group)
		if m.Index >= proof.index && !s.isReplaced(m) {
			proof = position{index: m.Index + 1, offset: m.NextOffset, epoch: m.Epoch, chain: m.Chain}
		}
	}
	if proof.index <= s.end.index {
		return nil
	}
	if proof.offset < s.end.offset || proof.epoch < s.end.epoch {
		return &segment.CorruptError{Path: last.path, Offset: last.end, What: "tail file", Err: errors.New("the log is known to go on, but with lower offsets or epochs: files of different times are mixed")}
	}
	s.lose(Damage{File: last.number, Position: last.end, Loss: Loss{FirstIndex: s.end.index, LastIndex: proof.index - 1,
		FirstOffset: s.end.offset, EndOffset: proof.offset, Chain: proof.chain}})
	s.end = proof
	return nil
}

// isReplaced reports whether a file behind that of an old mark begins below it: then
// what the mark speaks of was not committed, and is truncated.
func (s *scanner) isReplaced(m *Mark) bool {
	for _, t := range s.tails {
		if t.number > m.File && t.first.index <= m.Index {
			return true
		}
	}
	return false
}
