package shard

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
)

// dropTails removes the tail files whose records all stand in sealed files that this
// replica holds whole, or in later tail files. MANIFEST forgets them first (H2, H21).
func (s *Shard) dropTails() error {
	s.mu.Lock()
	sealed, first := s.view.sealed, beginOfTails(s.tails)
	s.mu.Unlock()
	held := uint64(0)
	for _, f := range sealed {
		if f.LastIndex >= first {
			_, err := f.acquire()
			if err != nil {
				s.o.Logger.Sugar().Errorw("a sealed file cannot be read; the log's tail is kept", "shard", s.o.Number, "error", err)
				break
			}
			f.yield()
		}
		held = f.LastIndex
	}
	gone := s.forgetTails(held)
	if len(gone) == 0 {
		return nil
	}
	if err := s.saveManifest(); err != nil {
		s.fail(fmt.Errorf("writing the manifest: %w", err))
		return err
	}
	damaged := s.damagedFiles()
	var errs []error
	for _, t := range gone {
		// A damaged file belongs to the log no more, but is kept for people to look at.
		if !damaged[t.number] {
			errs = append(errs, s.o.FS.Remove(t.path))
		}
		errs = append(errs, t.release())
	}
	if err := errors.Join(append(errs, s.o.FS.SyncDir(s.o.Dir))...); err != nil {
		// What could not be removed takes space and no more: the next owner removes it.
		s.o.Logger.Sugar().Warnw("removing what a sealed segment replaces", "shard", s.o.Number, "error", err)
	}
	return nil
}

// forgetTails takes the tail files off the list that are not needed beside sealed
// records up to held.
func (s *Shard) forgetTails(held uint64) (gone []*tailFile) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kept []*tailFile
	for i, t := range s.tails {
		if end := endOfTail(s.tails, i); end <= held+1 || end <= t.first.index {
			gone = append(gone, t)
		} else {
			kept = append(kept, t)
		}
	}
	if beginOfTails(kept) > held+1 {
		return nil // cannot be: no hole is made, whatever the files say
	}
	s.tails = kept
	return gone
}

// damagedFiles returns the numbers of the tail files that damage was found in.
func (s *Shard) damagedFiles() map[uint64]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	damaged := map[uint64]bool{}
	for _, d := range s.damages {
		damaged[d.File] = true
	}
	return damaged
}

var (
	sealedName = regexp.MustCompile(`^seg-[0-9]+-[0-9]+-[0-9a-f]{64}$`)
	openName   = regexp.MustCompile(`^(open|merge)-[0-9]+(\.aux)?(\.tmp)?$`)
	tailNames  = regexp.MustCompile(`^tail-([0-9]+)$`)
)

// tidy removes what earlier processes left and nothing needs: open segments, files of
// seals that were never committed, whose entries the tails hold or a committed seal
// covers, and tail files that the manifest has named and forgotten. It runs once this
// replica is the owner and knows what is committed. A name that it does not know, and
// a tail file that the manifest never came to, it leaves alone (H20).
func (s *Shard) tidy() {
	damaged := s.damagedFiles()
	s.mu.Lock()
	needed := map[string]bool{}
	for i := range s.state.Sealed {
		needed[s.state.Sealed[i].FileName()] = true
	}
	for _, t := range s.tails {
		needed[path.Base(t.path)] = true
	}
	for number := range damaged {
		needed[tailBase(number)] = true
	}
	if s.open != nil {
		needed[path.Base(s.open.Path())] = true
		needed[path.Base(s.open.Path())+".aux"] = true
	}
	last := s.tails[len(s.tails)-1].number
	s.mu.Unlock()
	names, err := s.o.FS.List(s.o.Dir)
	errs := []error{err}
	for _, name := range names {
		rest := sealedName.MatchString(name) || openName.MatchString(name)
		if m := tailNames.FindStringSubmatch(name); m != nil {
			n, err := strconv.ParseUint(m[1], 10, 64)
			rest = err == nil && n < last
		}
		if !rest || needed[name] {
			continue
		}
		if err := s.o.FS.Remove(s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.o.Logger.Sugar().Warnw("removing what an earlier process left", "shard", s.o.Number, "error", err)
	}
}
