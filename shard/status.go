package shard

import (
	"errors"
	"maps"
	"slices"
)

// Status is what a shard says of itself.
type Status struct {
	Shard          uint32
	State          string // "ok", "damaged", "no owner", "failed"
	Epoch          uint64 // in which this replica leads; 0: it does not
	LogID          uint64
	LastIndex      uint64
	Commit         uint64
	NextOffset     uint64
	TailFiles      int
	TailBytes      int64
	OpenBlocks     int
	OpenRows       uint64 // entries that are not sealed
	Backlog        int64  // raw bytes that no block holds
	SealedSegments int
	SealedEntries  uint64
	SealedBytes    uint64 // of the files
	SealedRaw      uint64 // of the lines in them
	Merges         uint64 // of sealed segments, since the shard was opened
	MergedRaw      uint64 // of the lines that these have written again
	Damage         []string
}

// Status returns what the shard is and holds now.
func (s *Shard) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Shard: s.o.Number, State: "ok", Epoch: s.leading, LogID: s.o.Ident.LogID, LastIndex: s.end.index - 1, Commit: s.commit,
		NextOffset: s.state.NextOffset, TailFiles: len(s.tails), OpenBlocks: len(s.view.blocks), OpenRows: s.rollRows, Backlog: s.backlog,
		SealedSegments: len(s.state.Sealed), Merges: s.merge.done, MergedRaw: s.merge.raw}
	for _, t := range s.tails {
		st.TailBytes += t.end
	}
	for i := range s.state.Sealed {
		st.SealedEntries += s.state.Sealed[i].Entries
		st.SealedBytes += s.state.Sealed[i].Length
		st.SealedRaw += s.state.Sealed[i].RawBytes
	}
	st.Damage = append(st.Damage, s.faults...)
	for _, path := range slices.Sorted(maps.Keys(s.unreadable)) {
		st.Damage = append(st.Damage, s.unreadable[path])
	}
	for i := range s.state.Losses {
		st.Damage = append(st.Damage, "lost for good: "+s.state.Losses[i].String())
	}
	switch {
	case s.failure != nil && !errors.Is(s.failure, ErrClosed):
		st.State = "failed"
		st.Damage = append(st.Damage, s.failure.Error())
	case s.leading == 0:
		st.State = "no owner"
	case len(st.Damage) > 0:
		st.State = "damaged"
	}
	return st
}
