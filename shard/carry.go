package shard

import (
	"errors"

	"github.com/logcluster/logcluster/segment"
)

// carryForward makes sure of what may stand in the page cache only: records above the
// mark are copied into a new tail file and synced there, before this replica answers
// anything (H12). A torn end is left behind with its file (H14). If there is neither,
// the log goes on in its last file.
func (s *Shard) carryForward(r *recovery) error {
	fresh := r.found.torn || s.o.AfterFailure || len(r.found.damages) > 0
	if len(r.beyond) == 0 && !fresh {
		r.show()
		return nil
	}
	number := s.tails[len(s.tails)-1].number
	for i := 0; i < len(r.beyond); {
		// Records with a hole between them go into different files.
		j := i + 1
		for j < len(r.beyond) && r.beyond[j].header.Index == r.beyond[j-1].header.Index+1 {
			j++
		}
		number++
		t, err := s.copyRecords(number, r.beyond[i:j])
		if err != nil {
			return err
		}
		s.tails = append(s.tails, t)
		i = j
	}
	end := s.end
	if n := len(r.beyond); n == 0 || r.beyond[n-1].header.Index+1 != end.index {
		number++
		t, err := createTail(s.o.FS, s.o.Dir, number, s.o.Ident.LogID, end)
		if err != nil {
			return err
		}
		s.tails = append(s.tails, t)
	}
	if err := s.saveManifest(); err != nil {
		return err
	}
	t := s.tails[len(s.tails)-1]
	mark := Mark{LogID: s.o.Ident.LogID, File: t.number, Position: t.end, Epoch: end.epoch, Index: end.index - 1, NextOffset: end.offset, Chain: end.chain, Group: s.group}
	if err := s.o.Floor.Set(s.o.Number, mark); err != nil {
		return err
	}
	r.show()
	return nil
}

// copyRecords writes records, which follow each other, into a new tail file, byte by
// byte but for the fsync group, and changes their places.
func (s *Shard) copyRecords(number uint64, records []*recovered) (*tailFile, error) {
	t, err := createTail(s.o.FS, s.o.Dir, number, s.o.Ident.LogID, records[0].before)
	if err != nil {
		return nil, err
	}
	if err := s.copyInto(t, records); err != nil {
		return nil, errors.Join(err, t.release())
	}
	return t, nil
}

func (s *Shard) copyInto(t *tailFile, records []*recovered) error {
	var buf []byte
	flush := func() error {
		_, err := t.file.WriteAt(buf, t.end)
		t.end += int64(len(buf))
		buf = buf[:0]
		return err
	}
	for i, x := range records {
		payload, err := x.tail.load(&x.header, x.at)
		if err != nil {
			return err
		}
		place := i % segment.MaxGroupRecords
		if place == 0 {
			s.group++
		}
		x.tail, x.at = t, t.end+int64(len(buf))
		begin := len(buf)
		buf = segment.AppendHeader(buf, &x.header)
		buf = append(buf, payload...)
		buf = segment.AppendTrailer(buf, segment.Trailer{Group: segment.NewGroup(s.group, place), Commit: x.trailer.Commit}, buf[begin:])
		t.last = x.header.Index
		if len(buf) > 1<<20 {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return errors.Join(flush(), t.file.Sync())
}
