package shard

import (
	"errors"
	"fmt"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// mergeState is what a shard knows of its merges. Guarded by Shard.mu but for running.
type mergeState struct {
	running *merge // guarded by Shard.sealMu
	busy    bool   // one is under way, or waits for an encoder
	tidied  uint64 // epoch in which Lead has removed what earlier ones left
	settled bool   // there was nothing to merge, and no segment has come since
	pause   time.Time
	unfit   map[segment.Root]bool // cannot be merged
	done    uint64                // merges
	raw     uint64                // bytes of lines that these have written again
}

// A merge is one that is under way. It is for the holder of Shard.sealMu.
type merge struct {
	inputs   []*sealedFile // retained and open
	open     *segment.Open
	rewriter *segment.Rewriter
}

// mergePause is how long after an error nothing is merged.
const mergePause = 10 * time.Minute

func (o *Options) mergePolicy() mergePolicy { return mergePolicy{o.MergeFanout, o.MergeBytes} }

// mergeLaterLocked has an encoder merge segments when there is nothing else to do, if some
// are due and no other shard of the node merges.
func (s *Shard) mergeLaterLocked(now time.Time) {
	m := &s.merge
	if s.o.MergeFanout < 0 || m.busy || m.settled || now.Before(m.pause) || s.closing || s.writableLocked() != nil || m.tidied != s.leading {
		return
	}
	if !s.o.Encoders.claimMerge(s) {
		return
	}
	if _, n := s.o.mergePolicy().plan(s.state.Sealed, m.unfit); n == 0 {
		m.settled = true
		s.o.Encoders.endMerge(s)
		return
	}
	m.busy = true
	s.o.Encoders.later(s, s.mergeSome)
}

// mergeSome is an encoder's task: it writes one block of a merge and comes again until
// that is done, so that blocks and seals never wait for long.
func (s *Shard) mergeSome(e *segment.BlockEncoder) {
	s.sealMu.Lock()
	defer s.sealMu.Unlock()
	more, err := s.mergeStep(e)
	if err != nil {
		s.mergeFailed(err)
	}
	if more && err == nil {
		s.o.Encoders.later(s, s.mergeSome)
		return
	}
	s.dropMerge()
}

// mergeStep begins what is planned, or goes on. It reports whether there is more to do.
func (s *Shard) mergeStep(e *segment.BlockEncoder) (more bool, err error) {
	s.mu.Lock()
	err = s.writableLocked()
	if s.merge.tidied != s.leading {
		err = ErrNotOwner // Lead has not yet given up what earlier epochs left
	}
	at, n := 0, 0
	if s.merge.running == nil {
		at, n = s.o.mergePolicy().plan(s.state.Sealed, s.merge.unfit)
	}
	s.mu.Unlock()
	m := s.merge.running
	switch {
	case err != nil:
		return false, nil // the next owner begins anew
	case m == nil && n == 0:
		return false, nil
	case m == nil:
		return true, s.beginMerge(at, n)
	}
	done, err := m.rewriter.Step(e)
	if err != nil || !done {
		return err == nil, err
	}
	return false, s.endMerge()
}

// beginMerge opens n segments from one place on and the file that they are merged into.
func (s *Shard) beginMerge(at, n int) error {
	s.mu.Lock()
	m := &merge{}
	files := s.view.sealed[at : at+n]
	s.o.Files.retain(files) // the shard has references of its own
	s.mu.Unlock()
	s.merge.running = m
	size := uint64(0)
	var inputs []*segment.Segment
	for i, f := range files {
		in, err := f.acquire()
		if err != nil {
			s.o.Files.release(files[i:]...)
			return err
		}
		m.inputs = append(m.inputs, f)
		inputs = append(inputs, in)
		size += f.Length
	}
	// A merge takes space before it gives some back.
	if free, total, err := s.o.FS.Free(s.o.Dir); err != nil || free < total/10+2*size {
		return errors.Join(err, fmt.Errorf("the disk is nearly full: %d of %d bytes are free, and the merge of %d segments takes up to %d", free, total, n, size))
	}
	var err error
	if m.open, err = segment.CreateOpen(s.o.FS, fmt.Sprintf("%s/merge-%d", s.o.Dir, files[0].FirstIndex), s.o.Ident.LogID); err != nil {
		return err
	}
	m.rewriter, err = segment.NewRewriter(m.open, inputs)
	return err
}

// endMerge seals the merged file and puts it in the place of its inputs: by REPLACE, then
// for readers, then in MANIFEST; only then the inputs are removed (H2, H22).
func (s *Shard) endMerge() error {
	m := s.merge.running
	sealed, err := m.rewriter.Seal()
	if err != nil {
		return err
	}
	r := replacement{New: sealed}
	for _, f := range m.inputs {
		r.Old = append(r.Old, nameOf(&f.Sealed))
	}
	s.mu.Lock()
	_, err = r.find(s.state.Sealed)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	payload := encoder{}
	r.encode(&payload)
	if err := s.appendControl(control(segment.RecordReplace, payload.b)); err != nil {
		// Whether REPLACE is in the log is not known: the file stays. The next owner knows,
		// and removes it or its inputs.
		return fmt.Errorf("committing REPLACE: %w", err)
	}
	s.describe(&sealed, m.open.Blocks())
	s.mu.Lock()
	s.merge.done++
	s.merge.raw += sealed.RawBytes
	s.mu.Unlock()
	s.o.Logger.Sugar().Debugw("segments merged", "shard", s.o.Number, "segments", len(r.Old), "raw", sealed.RawBytes, "bytes", sealed.Length)
	s.releaseMerge()
	return s.forgetReplaced()
}

// mergeFailed remembers what an error means for the next merge.
func (s *Shard) mergeFailed(err error) {
	s.o.Logger.Sugar().Warnw("merging segments; they stay as they are", "shard", s.o.Number, "error", err)
	if errors.Is(err, segment.ErrCorrupt) {
		s.noteDamage(err)
	}
	m := s.merge.running
	var damage *segment.CorruptError
	s.mu.Lock()
	defer s.mu.Unlock()
	s.merge.pause = time.Now().Add(mergePause)
	if s.merge.unfit == nil {
		s.merge.unfit = map[segment.Root]bool{}
	}
	switch {
	case errors.As(err, &damage):
		// Without what cannot be read the others are merged.
		for _, f := range s.view.sealed {
			if f.path == damage.Path {
				s.merge.unfit[f.Root] = true
				s.merge.pause = time.Time{}
			}
		}
	case errors.Is(err, segment.ErrTooLarge) && m != nil:
		for _, f := range m.inputs {
			s.merge.unfit[f.Root] = true
		}
		s.merge.pause = time.Time{}
	}
}

// dropMerge ends a merge, done or not, and the shard's turn. sealMu is held.
func (s *Shard) dropMerge() {
	s.releaseMerge()
	s.mu.Lock()
	s.merge.busy = false
	s.mu.Unlock()
	s.o.Encoders.endMerge(s)
}

// releaseMerge gives back what a merge holds, and removes what is left of its file.
func (s *Shard) releaseMerge() {
	m := s.merge.running
	s.merge.running = nil
	if m != nil {
		for _, f := range m.inputs {
			f.yield()
		}
		s.o.Files.release(m.inputs...)
		if m.open != nil {
			if err := errors.Join(m.open.Close(), segment.RemoveOpen(s.o.FS, m.open.Path())); err != nil {
				s.o.Logger.Sugar().Warnw("removing what a merge left", "shard", s.o.Number, "error", err)
			}
		}
	}
}
