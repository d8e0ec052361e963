package segment

import (
	"encoding/binary"
	"fmt"
)

// A StreamTable numbers the streams of a segment in the order of their first use.
type StreamTable struct {
	Streams []*Stream
	refs    map[string]uint32 // by canonical form
	bytes   uint64            // of the canonical forms
}

// Ref returns the number of a stream, which is added if it is new.
func (t *StreamTable) Ref(s *Stream, scratch *[]byte) uint32 {
	key := s.AppendKey((*scratch)[:0])
	*scratch = key
	if ref, ok := t.refs[string(key)]; ok {
		return ref
	}
	if t.refs == nil {
		t.refs = map[string]uint32{}
	}
	ref := uint32(len(t.Streams))
	t.refs[string(key)] = ref
	t.bytes += uint64(len(key))
	t.Streams = append(t.Streams, s)
	return ref
}

// encodeStreams encodes streams: each canonical form as the length of the prefix that
// it shares with the one before, and the rest after its length.
func encodeStreams(streams []*Stream) []byte {
	dst := binary.AppendUvarint(nil, uint64(len(streams)))
	var previous, key []byte
	for _, s := range streams {
		key = s.AppendKey(key[:0])
		shared := 0
		for shared < len(key) && shared < len(previous) && key[shared] == previous[shared] {
			shared++
		}
		dst = binary.AppendUvarint(dst, uint64(shared))
		dst = binary.AppendUvarint(dst, uint64(len(key)-shared))
		dst = append(dst, key[shared:]...)
		previous, key = key, previous
	}
	return dst
}

// Limits of the streams of a segment. The bytes are those of the canonical forms: what
// is in front-coded form on disk is whole in memory.
const (
	maxStreams     = 1 << 20
	maxStreamBytes = 64 << 20
)

// parseStreams decodes what encodeStreams encoded. held is how many bytes of canonical
// forms the caller has already.
func parseStreams(r *reader, held uint64) ([]*Stream, error) {
	// Every stream takes at least two bytes.
	n := r.uvarint(min(maxStreams, uint64(len(r.b))/2))
	streams := make([]*Stream, 0, n)
	var key []byte
	for range n {
		shared := r.uvarint(uint64(len(key)))
		rest := r.bytes(uint64(len(r.b)))
		if r.err != nil {
			break
		}
		key = append(key[:shared], rest...)
		if held += uint64(len(key)); held > maxStreamBytes {
			return nil, fmt.Errorf("streams of more than %d bytes", maxStreamBytes)
		}
		s, err := ParseStream(key)
		if err != nil {
			return nil, err
		}
		streams = append(streams, s)
	}
	if r.err != nil {
		return nil, fmt.Errorf("streams: %w", r.err)
	}
	return streams, nil
}
