package shard

import (
	"fmt"
	"slices"

	"github.com/logcluster/logcluster/segment"
)

// state is the shard's state machine: what the committed log says up to an index. It is
// identical on all replicas at an index. MANIFEST holds a snapshot of it as STATE.
type state struct {
	Index         uint64 // of the last record applied
	NextOffset    uint64
	Epoch         uint64 // of the last record
	Chain         segment.Chain
	ConfigVersion uint64
	LogStart      uint64 // entries below this offset are gone by retention
	History       []epochStart
	Sealed        []segment.Sealed // in order, without overlap
	Losses        []Loss           // in order
	Keys          keyTable
}

// epochStart is where the records of an epoch begin.
type epochStart struct {
	Epoch, Index uint64
}

// Loss is a range of the log that is gone, as a LOSS record says.
type Loss struct {
	FirstIndex, LastIndex  uint64
	FirstOffset, EndOffset uint64        // [first, end)
	Chain                  segment.Chain // with which the log goes on after the range
}

const lossSize = 4*8 + 16

func (l *Loss) encode(e *encoder) {
	e.u64(l.FirstIndex)
	e.u64(l.LastIndex)
	e.u64(l.FirstOffset)
	e.u64(l.EndOffset)
	e.raw(l.Chain[:])
}

func (l *Loss) decode(d *decoder) {
	l.FirstIndex, l.LastIndex, l.FirstOffset, l.EndOffset = d.u64(), d.u64(), d.u64(), d.u64()
	copy(l.Chain[:], d.take(16))
}

func (l *Loss) String() string {
	return fmt.Sprintf("records %d to %d, %d entries from offset %d", l.FirstIndex, l.LastIndex, l.EndOffset-l.FirstOffset, l.FirstOffset)
}

// apply takes the next committed record. The payload is that of control records.
func (st *state) apply(h *segment.Header, payload []byte) error {
	if h.Epoch != st.Epoch {
		st.History = append(st.History, epochStart{h.Epoch, h.Index})
	}
	switch h.Type {
	case segment.RecordData:
		st.Keys.add(h)
	case segment.RecordSeal:
		s, err := segment.ParseSealed(payload)
		if err != nil {
			return fmt.Errorf("record %d: %w", h.Index, err)
		}
		if n := len(st.Sealed); n > 0 && s.FirstIndex <= st.Sealed[n-1].LastIndex {
			return fmt.Errorf("record %d seals from %d on, but up to %d is sealed", h.Index, s.FirstIndex, st.Sealed[n-1].LastIndex)
		}
		st.Sealed = append(st.Sealed, s)
	case segment.RecordReplace:
		r, err := parseReplacement(payload)
		if err == nil {
			var sealed []segment.Sealed
			if sealed, err = r.apply(st.Sealed); err == nil {
				st.Sealed = sealed
			}
		}
		if err != nil {
			return fmt.Errorf("record %d: %w", h.Index, err)
		}
	case segment.RecordLoss:
		d := decoder{b: payload}
		var l Loss
		if l.decode(&d); d.err != nil || len(d.b) != 0 {
			return fmt.Errorf("record %d: LOSS of %d bytes, want %d", h.Index, len(payload), lossSize)
		}
		if l.LastIndex < l.FirstIndex || l.EndOffset < l.FirstOffset || l.LastIndex >= h.Index {
			return fmt.Errorf("record %d: LOSS of %s", h.Index, &l)
		}
		st.Losses = append(st.Losses, l)
	case segment.RecordBarrier:
	default:
		return fmt.Errorf("%w: %s record %d in the log: use a later release", segment.ErrVersion, h.Type, h.Index)
	}
	st.Index, st.Epoch, st.Chain = h.Index, h.Epoch, h.Chain
	st.NextOffset = h.Offset + uint64(h.Count)
	return nil
}

// clone returns a copy that shares nothing that apply changes.
func (st *state) clone() state {
	c := *st
	c.History = slices.Clone(st.History)
	c.Sealed = slices.Clone(st.Sealed)
	c.Losses = slices.Clone(st.Losses)
	c.Keys = st.Keys.clone()
	return c
}

// end is where the record behind the last applied one goes.
func (st *state) end() position {
	return position{index: st.Index + 1, offset: st.NextOffset, epoch: st.Epoch, chain: st.Chain}
}

// sealedEnd is the last record that a segment file stands for.
func (st *state) sealedEnd() uint64 {
	if n := len(st.Sealed); n > 0 {
		return st.Sealed[n-1].LastIndex
	}
	return 0
}

func (st *state) encode(e *encoder) {
	for _, v := range []uint64{st.Index, st.NextOffset, st.Epoch, st.ConfigVersion, st.LogStart} {
		e.u64(v)
	}
	e.raw(st.Chain[:])
	e.u32(uint32(len(st.History)))
	for _, h := range st.History {
		e.u64(h.Epoch)
		e.u64(h.Index)
	}
	e.u32(uint32(len(st.Sealed)))
	for i := range st.Sealed {
		e.b = st.Sealed[i].Append(e.b)
	}
	e.u32(uint32(len(st.Losses)))
	for i := range st.Losses {
		st.Losses[i].encode(e)
	}
	st.Keys.encode(e)
}

func (st *state) decode(d *decoder) error {
	*st = state{Index: d.u64(), NextOffset: d.u64(), Epoch: d.u64(), ConfigVersion: d.u64(), LogStart: d.u64()}
	copy(st.Chain[:], d.take(16))
	for range d.count(16) {
		st.History = append(st.History, epochStart{d.u64(), d.u64()})
	}
	for range d.count(segment.SealedSize) {
		s, err := segment.ParseSealed(d.take(segment.SealedSize))
		if err != nil {
			return err
		}
		st.Sealed = append(st.Sealed, s)
	}
	st.Losses = make([]Loss, d.count(lossSize))
	for i := range st.Losses {
		st.Losses[i].decode(d)
	}
	st.Keys.decode(d)
	if d.err == nil && len(d.b) != 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	return d.err
}
