package shard

import (
	"errors"
	"fmt"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// groupLimit is how many bytes one group holds at most, if it holds more than one record.
const groupLimit = 16 << 20

// writeLoop is the only one who writes records. While one group is written and synced
// the next one gathers in the queue: a group commit without a timer.
func (s *Shard) writeLoop() {
	var buf []byte
	for {
		s.mu.Lock()
		for s.failure == nil && (len(s.queue) == 0 && !s.closing || s.fences > 0) {
			s.work.Wait()
		}
		if s.failure != nil || len(s.queue) == 0 && s.closing {
			s.mu.Unlock()
			return
		}
		group := s.takeGroupLocked()
		s.writing = true
		s.room.Broadcast()
		s.mu.Unlock()

		var err error
		if group[0].header.Flags&segment.FlagRoll != 0 {
			err = s.roll()
		}
		if err == nil {
			buf, err = s.writeGroup(buf, group)
		}

		s.mu.Lock()
		s.writing = false
		s.room.Broadcast()
		if err == nil {
			err = s.failure // the filler's: what it synced may be what was written here
		}
		if err != nil {
			// First the failure, then the answers: who hears of it finds Failed closed.
			s.failLocked(err)
			for _, it := range group {
				it.finish(s.unavailable(errors.Join(ErrFailed, err)))
			}
			s.mu.Unlock()
			return
		}
		s.durable = s.end.index - 1
		s.unapplied = append(s.unapplied, group...)
		// Fence waits for the end of a group: the epoch is still the one it was written in.
		s.commitLocked(s.quorum(s.durable))
		s.mu.Unlock()
		if cap(buf) > 4<<20 {
			buf = nil
		}
	}
}

// takeGroupLocked takes the next group from the queue. A record with FlagRoll begins a
// group, since it begins a file.
func (s *Shard) takeGroupLocked() []*item {
	n, size := 0, 0
	for n < len(s.queue) && n < segment.MaxGroupRecords {
		it := s.queue[n]
		if n > 0 && (it.header.Flags&segment.FlagRoll != 0 || size+len(it.payload) > groupLimit) {
			break
		}
		size += len(it.payload)
		n++
	}
	group := s.queue[:n:n]
	s.queue = s.queue[n:]
	s.queued -= int64(size)
	return group
}

// writeGroup gives the records their places, writes them and syncs the file. Only then
// the end of the log moves.
func (s *Shard) writeGroup(buf []byte, group []*item) ([]byte, error) {
	s.mu.Lock()
	end, epoch, commit := s.end, s.leading, s.commit
	tail := s.tails[len(s.tails)-1]
	number := s.group + 1
	s.mu.Unlock()
	if epoch == 0 {
		return buf, ErrNotOwner // it failed meanwhile
	}
	buf = buf[:0]
	at := tail.end
	for place, it := range group {
		h := &it.header
		h.LogID, h.Index, h.Offset, h.Epoch, h.PreviousEpoch = s.o.Ident.LogID, end.index, end.offset, epoch, end.epoch
		h.Chain = h.NextChain(end.chain, it.payload)
		it.tail, it.at = tail, at+int64(len(buf))
		begin := len(buf)
		buf = segment.AppendHeader(buf, h)
		buf = append(buf, it.payload...)
		buf = segment.AppendTrailer(buf, segment.Trailer{Group: segment.NewGroup(number, place), Commit: commit}, buf[begin:])
		end = position{index: h.Index + 1, offset: h.Offset + uint64(h.Count), epoch: epoch, chain: h.Chain}
	}
	if err := s.fill.reserve(at + int64(len(buf))); err != nil {
		return buf, err
	}
	if _, err := tail.file.WriteAt(buf, at); err != nil {
		return buf, fmt.Errorf("writing the log: %w", err)
	}
	start := time.Now()
	if err := tail.file.Sync(); err != nil {
		return buf, fmt.Errorf("syncing the log: %w", err)
	}
	if err := s.fill.settle(); err != nil {
		return buf, fmt.Errorf("syncing the log beside the writer: %w", err)
	}
	s.o.ObserveFsync(time.Since(start).Seconds())
	mark := Mark{LogID: s.o.Ident.LogID, File: tail.number, Position: at + int64(len(buf)), Epoch: epoch, Index: end.index - 1, NextOffset: end.offset, Chain: end.chain, Group: number}
	if err := s.o.Floor.Set(s.o.Number, mark); err != nil {
		return buf, fmt.Errorf("marking what is synced: %w", err)
	}
	s.mu.Lock()
	s.end, s.group = end, number
	tail.end, tail.last = mark.Position, mark.Index
	s.mu.Unlock()
	s.fill.ahead(tail.path, mark.Position)
	return buf, nil
}

// roll ends the tail file and begins the next one at the end of the log.
func (s *Shard) roll() error {
	s.mu.Lock()
	old, at := s.tails[len(s.tails)-1], s.end
	s.mu.Unlock()
	if err := s.fill.close(); err != nil {
		return err
	}
	if err := old.file.Truncate(old.end); err != nil {
		return fmt.Errorf("trimming the tail: %w", err)
	}
	if err := old.file.Sync(); err != nil {
		return fmt.Errorf("trimming the tail: %w", err)
	}
	next, err := createTail(s.o.FS, s.o.Dir, old.number+1, s.o.Ident.LogID, at)
	if err != nil {
		return fmt.Errorf("beginning a tail file: %w", err)
	}
	s.mu.Lock()
	s.tails = append(s.tails, next)
	s.mu.Unlock()
	return s.saveManifest()
}

// commitLocked makes records up to index visible and answers those who wait for them.
func (s *Shard) commitLocked(index uint64) {
	n := 0
	for n < len(s.unapplied) && s.unapplied[n].header.Index <= index {
		it := s.unapplied[n]
		if err := s.state.apply(&it.header, it.payload); err != nil {
			s.failLocked(err)
			return
		}
		s.commit = it.header.Index
		if it.header.Type == segment.RecordData {
			if s.inFlight[partOf(&it.header)] == it {
				delete(s.inFlight, partOf(&it.header))
			}
			s.showLocked(it.header, it.streams, it.tail, it.at)
		}
		switch it.header.Type {
		case segment.RecordSeal:
			s.showSealedLocked(s.state.Sealed[len(s.state.Sealed)-1])
		case segment.RecordReplace:
			// It was parsed when it was applied.
			r, _ := parseReplacement(it.payload)
			s.replaces++
			s.showReplacedLocked(&r)
		}
		it.finish(nil)
		n++
	}
	clear(s.unapplied[:n])
	s.unapplied = s.unapplied[n:]
	if len(s.unapplied) == 0 {
		s.unapplied = nil
	}
	if s.blockDueLocked() {
		s.scheduleLocked()
	}
}

// saveManifest writes MANIFEST as things stand.
func (s *Shard) saveManifest() error {
	s.manifestMu.Lock()
	defer s.manifestMu.Unlock()
	s.mu.Lock()
	s.manifestSequence++
	m := &manifest{Sequence: s.manifestSequence, State: s.state, Damages: s.damages}
	for _, t := range s.tails {
		m.Tails = append(m.Tails, manifestTail{t.number, t.first})
	}
	b := m.encode()
	replaces := s.replaces
	s.mu.Unlock()
	if err := writeManifestBytes(s.o.FS, s.o.Dir, b); err != nil {
		return err
	}
	s.mu.Lock()
	s.replacesSaved = replaces
	s.mu.Unlock()
	return nil
}
