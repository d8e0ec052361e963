package shard

import (
	"maps"
	"slices"

	"github.com/logcluster/logcluster/segment"
)

// keyWindow is how many of the last records of a shard idempotency keys are kept for.
const keyWindow = 32768

// A keyPart names one part of one request.
type keyPart struct {
	key  segment.Key
	part uint16 // without segment.PartLast
}

func partOf(h *segment.Header) keyPart { return keyPart{h.Key, h.Part &^ segment.PartLast} }

type keyRecord struct {
	keyPart
	index uint64
	last  uint64 // offset of the record's last entry
}

// keyTable remembers which requests the last records hold. It is part of the state of
// the shard: a function of its log.
type keyTable struct {
	records []keyRecord // in order of index, from first on
	first   int
	byPart  map[keyPart]keyRecord
}

// add takes the key of a DATA record, if it has one, and forgets those of records that
// left the window.
func (t *keyTable) add(h *segment.Header) {
	for t.first < len(t.records) && t.records[t.first].index+keyWindow <= h.Index {
		r := t.records[t.first]
		if t.byPart[r.keyPart].index == r.index {
			delete(t.byPart, r.keyPart)
		}
		t.first++
	}
	if t.first > 1024 && t.first*2 > len(t.records) {
		t.records = append(t.records[:0], t.records[t.first:]...)
		t.first = 0
	}
	if h.Key == (segment.Key{}) || h.Count == 0 {
		return
	}
	if t.byPart == nil {
		t.byPart = map[keyPart]keyRecord{}
	}
	r := keyRecord{partOf(h), h.Index, h.Offset + uint64(h.Count) - 1}
	t.records = append(t.records, r)
	t.byPart[r.keyPart] = r
}

// find returns the record that holds a part of a request.
func (t *keyTable) find(k keyPart) (keyRecord, bool) {
	r, ok := t.byPart[k]
	return r, ok
}

func (t *keyTable) clone() keyTable {
	return keyTable{records: slices.Clone(t.records[t.first:]), byPart: maps.Clone(t.byPart)}
}

const keyRecordSize = 16 + 2 + 8 + 8

func (t *keyTable) encode(e *encoder) {
	live := t.records[t.first:]
	e.u32(uint32(len(live)))
	for _, r := range live {
		e.raw(r.key[:])
		e.u16(r.part)
		e.u64(r.index)
		e.u64(r.last)
	}
}

func (t *keyTable) decode(d *decoder) {
	n := d.count(keyRecordSize)
	*t = keyTable{byPart: make(map[keyPart]keyRecord, n)}
	for range n {
		var r keyRecord
		copy(r.key[:], d.take(16))
		r.part, r.index, r.last = d.u16(), d.u64(), d.u64()
		t.records = append(t.records, r)
		t.byPart[r.keyPart] = r
	}
}
