package shard

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/logcluster/logcluster/internal/vfs"
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

// A windowReader reads a file front to back through one buffer.
type windowReader struct {
	file vfs.File
	size int64
	buf  []byte
	at   int64 // of buf in the file
}

// bytes returns n bytes at a position, fewer at the end of the file. They are valid
// until the next call.
func (w *windowReader) bytes(at int64, n int) ([]byte, error) {
	n = int(min(int64(n), max(w.size-at, 0)))
	if at >= w.at && at+int64(n) <= w.at+int64(len(w.buf)) {
		return w.buf[at-w.at:][:n], nil
	}
	want := min(int64(max(n, 1<<20)), w.size-at)
	if want <= 0 {
		return nil, nil
	}
	if int64(cap(w.buf)) < want {
		w.buf = make([]byte, want)
	}
	w.buf, w.at = w.buf[:want], at
	if k, err := w.file.ReadAt(w.buf, at); k < len(w.buf) {
		w.buf = w.buf[:0]
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return w.buf[:n], nil
}

// A frameFault says why no record could be read at a position.
type frameFault struct {
	err error
	// end: nothing was written there, as far as one can see: the file ends or is zero.
	end bool
	// header and trailer are what could be read of the bad record; nil if unreadable.
	header  *segment.Header
	trailer *segment.Trailer
}

// readFrame reads and checks the record at a position: both checksums and the log id,
// not its place in the log.
func readFrame(w *windowReader, logID uint64, at int64) (h segment.Header, tr segment.Trailer, payload []byte, fault *frameFault, err error) {
	b, err := w.bytes(at, segment.HeaderSize)
	if err != nil {
		return h, tr, nil, nil, err
	}
	if allZero(b) {
		return h, tr, nil, &frameFault{err: errors.New("nothing was written here"), end: true}, nil
	}
	h, perr := segment.ParseHeader(b)
	if errors.Is(perr, segment.ErrVersion) {
		return h, tr, nil, nil, perr
	}
	if perr == nil && h.LogID != logID {
		perr = fmt.Errorf("log id %x, want %x", h.LogID, logID)
	}
	if perr != nil {
		return h, tr, nil, &frameFault{err: perr}, nil
	}
	b, err = w.bytes(at, h.Size())
	if err != nil {
		return h, tr, nil, nil, err
	}
	fault = &frameFault{header: &h}
	if len(b) < h.Size() {
		fault.err = fmt.Errorf("record of %d bytes in %d", h.Size(), len(b))
		return h, tr, nil, fault, nil
	}
	payload = b[segment.HeaderSize : segment.HeaderSize+int(h.PayloadLength)]
	tr, terr := segment.ParseTrailer(b[h.Size()-segment.TrailerSize:], b)
	if terr == nil {
		fault.trailer = &tr
	}
	if fault.err = errors.Join(h.CheckPayload(payload), terr); fault.err != nil {
		return h, tr, nil, fault, nil
	}
	return h, tr, payload, nil, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// findFrame returns the first position >= from at which a whole record of this log with
// an index above `above` stands, and false if there is none.
func findFrame(w *windowReader, logID uint64, from int64, above uint64) (int64, bool, error) {
	magic := segment.FrameMagic()
	for at := from; at+segment.HeaderSize <= w.size; {
		b, err := w.bytes(at, 1<<16)
		if err != nil {
			return 0, false, err
		}
		i := bytes.Index(b, magic)
		if i < 0 {
			at += int64(max(len(b)-len(magic)+1, 1))
			continue
		}
		at += int64(i)
		h, _, _, fault, err := readFrame(w, logID, at)
		if err != nil && !errors.Is(err, segment.ErrVersion) {
			return 0, false, err
		}
		if err == nil && fault == nil && h.Index > above {
			return at, true, nil
		}
		at++
	}
	return 0, false, nil
}

// A scanned log is what the tail files hold, in order.
type scanned struct {
	end     position // behind the last record
	group   uint64   // highest number of an fsync group
	commit  uint64   // highest index that a trailer says to be committed
	damages []Damage
	// torn: the last file ends with bytes that are no whole record.
	torn bool
}

// scanTails reads the tail files in order and calls visit with each record that is
// part of the log. It decides for what cannot be read whether it is a torn end, which
// never was acknowledged, or damage.
//
// known are the losses and damages that are stepped over without a new decision.
func scanTails(logID uint64, tails []*tailFile, mark *Mark, known []Loss, visit func(r *record, payload []byte) error) (*scanned, error) {
	s := &scanned{}
	if len(tails) == 0 {
		return s, errors.New("there is no tail file")
	}
	s.end = tails[0].first
	for i, t := range tails {
		limit := ^uint64(0) // first index that a later file holds instead
		for _, later := range tails[i+1:] {
			limit = min(limit, later.first.index)
		}
		if err := s.scanTail(logID, t, limit, mark, known, i == len(tails)-1, visit); err != nil {
			return nil, fmt.Errorf("%q: %w", t.path, err)
		}
	}
	return s, s.checkMark(tails, mark)
}

func (s *scanned) scanTail(logID uint64, t *tailFile, limit uint64, mark *Mark, known []Loss, last bool, visit func(r *record, payload []byte) error) error {
	size, err := t.file.Size()
	if err != nil {
		return err
	}
	w := &windowReader{file: t.file, size: size}
	begin := t.first
	if begin.index > s.end.index {
		// The file before it ends too early: what is missing between them is lost.
		s.lose(Damage{File: t.number, Position: 0, Loss: Loss{FirstIndex: s.end.index, LastIndex: begin.index - 1,
			FirstOffset: s.end.offset, EndOffset: begin.offset, Chain: begin.chain}}, known)
	} else if begin.index == s.end.index && !s.end.unchained && begin.chain != s.end.chain {
		return &segment.CorruptError{Path: t.path, What: "tail file", Err: fmt.Errorf("it does not continue the log at record %d", begin.index)}
	}
	s.end = begin
	at := int64(tailHeaderSize)
	for s.end.index < limit {
		h, tr, payload, fault, err := readFrame(w, logID, at)
		if err != nil {
			return err
		}
		if fault == nil {
			fault = s.place(&h, payload)
		}
		if fault != nil {
			next, goOn, err := s.fault(w, logID, t, at, fault, limit, mark, known, last)
			if err != nil {
				return err
			}
			if !goOn {
				break
			}
			at = next
			continue
		}
		r := &record{header: h, trailer: tr, tail: t, at: at, before: s.end}
		s.end = position{index: h.Index + 1, offset: h.Offset + uint64(h.Count), epoch: h.Epoch, chain: h.Chain}
		s.group = max(s.group, tr.GroupNumber())
		s.commit = max(s.commit, min(tr.Commit, h.Index))
		at += int64(h.Size())
		t.end, t.last = at, h.Index
		if err := visit(r, payload); err != nil {
			return err
		}
	}
	return nil
}

// place checks that a record continues the log where the scan stands.
func (s *scanned) place(h *segment.Header, payload []byte) *frameFault {
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

// fault decides on a position at which no record of the log can be read. It returns
// where to go on, or false if the file's part of the log ends here.
//
// Torn is what lies beyond the mark and is followed by no whole record of a later
// fsync group: the group that was being written when the power went. It was never
// acknowledged. All else was fsynced once: damage.
func (s *scanned) fault(w *windowReader, logID uint64, t *tailFile, at int64, f *frameFault, limit uint64, mark *Mark, known []Loss, last bool) (int64, bool, error) {
	// What follows is found by its own checksums. If the bad record's header is whole,
	// it says where the next one begins.
	from := at + 1
	if f.header != nil && f.header.Index == s.end.index {
		from = at + int64(f.header.Size())
	}
	next, found, err := findFrame(w, logID, from, s.end.index)
	if err == nil && !found && from > at+1 {
		next, found, err = findFrame(w, logID, at+1, s.end.index)
	}
	if err != nil {
		return 0, false, err
	}
	if !found {
		if !f.end && last {
			s.torn = true
		}
		// A mark beyond this place is dealt with in checkMark; without any mark a bad
		// end cannot be told from damage.
		if mark == nil && !f.end && last {
			s.loseEnd(t, at, f, known)
		}
		return 0, false, nil
	}
	h, tr, _, _, err := readFrame(w, logID, next)
	if err != nil {
		return 0, false, err
	}
	if h.Index >= limit {
		return 0, false, nil
	}
	below := mark == nil || t.number < mark.File || t.number == mark.File && at < mark.Position
	if !below && last && !isKnown(known, s.end.index) {
		torn, err := s.sameGroup(w, logID, next, &h, tr, f)
		if err != nil {
			return 0, false, err
		}
		if torn {
			s.torn = true
			return 0, false, nil
		}
	}
	if h.Offset < s.end.offset {
		return 0, false, &segment.CorruptError{Path: t.path, Offset: next, What: fmt.Sprintf("record %d", h.Index), Err: errors.New("its offset is below that of a record before it")}
	}
	loss := Loss{FirstIndex: s.end.index, LastIndex: h.Index - 1, FirstOffset: s.end.offset, EndOffset: h.Offset}
	s.end = position{index: h.Index, offset: h.Offset, epoch: h.PreviousEpoch, unchained: true}
	if f.header != nil && f.header.Index+1 == h.Index {
		loss.Chain = f.header.Chain
		s.end.chain, s.end.unchained = loss.Chain, false
	}
	s.lose(Damage{File: t.number, Position: at, Loss: loss}, known)
	return next, true, nil
}

// sameGroup reports whether a bad record was written in the same fsync group as the
// whole record h behind it, and that group is the last: then the group was never
// acknowledged, and its end goes.
func (s *scanned) sameGroup(w *windowReader, logID uint64, next int64, h *segment.Header, tr segment.Trailer, f *frameFault) (bool, error) {
	first := h.Index - min(tr.GroupPlace(), h.Index) // record of h's group
	same := first <= s.end.index
	if f.trailer != nil {
		same = f.trailer.GroupNumber() >= tr.GroupNumber()
	}
	if !same {
		return false, nil
	}
	at := next + int64(h.Size())
	for {
		at, found, err := findFrame(w, logID, at, s.end.index)
		if err != nil || !found {
			return !found, err
		}
		h, later, _, _, err := readFrame(w, logID, at)
		if err != nil {
			return false, err
		}
		if later.GroupNumber() > tr.GroupNumber() {
			return false, nil
		}
		at += int64(h.Size())
	}
}

// lose notes a damage, which may be known already.
func (s *scanned) lose(d Damage, known []Loss) {
	if !isKnown(known, d.FirstIndex) {
		s.damages = append(s.damages, d)
	}
}

func isKnown(known []Loss, index uint64) bool {
	for i := range known {
		if known[i].FirstIndex == index {
			return true
		}
	}
	return false
}

// loseEnd notes a bad end that nothing tells from damage as the loss of one record.
func (s *scanned) loseEnd(t *tailFile, at int64, f *frameFault, known []Loss) {
	l := Loss{FirstIndex: s.end.index, LastIndex: s.end.index, FirstOffset: s.end.offset, EndOffset: s.end.offset, Chain: s.end.chain}
	if h := f.header; h != nil && h.Index == s.end.index && h.Offset == s.end.offset {
		l.EndOffset += uint64(h.Count)
		l.Chain = h.Chain
	}
	s.lose(Damage{File: t.number, Position: at, Loss: l}, known)
	s.end = position{index: l.LastIndex + 1, offset: l.EndOffset, epoch: s.end.epoch, chain: l.Chain}
}

// checkMark compares the end that was found with the mark: what was fsynced once and
// is no longer there is damage.
func (s *scanned) checkMark(tails []*tailFile, mark *Mark) error {
	if mark == nil || mark.Index < s.end.index {
		return nil
	}
	last := tails[len(tails)-1]
	s.damages = append(s.damages, Damage{File: last.number, Position: last.end, Loss: Loss{FirstIndex: s.end.index, LastIndex: mark.Index,
		FirstOffset: s.end.offset, EndOffset: max(mark.NextOffset, s.end.offset), Chain: mark.Chain}})
	s.end = position{index: mark.Index + 1, offset: max(mark.NextOffset, s.end.offset), epoch: mark.Epoch, chain: mark.Chain}
	s.group = max(s.group, mark.Group)
	return nil
}
