package http

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/logcluster/logcluster/segment"
	"google.golang.org/protobuf/encoding/protowire"
)

// The fields of Loki's push protocol that are read; all others are skipped:
//
//	PushRequest  1 streams (Stream, repeated)
//	Stream       1 labels (string)  2 entries (Entry, repeated)
//	Entry        1 timestamp (google.protobuf.Timestamp)  2 line (string)  3 structured metadata (Pair, repeated)
//	Timestamp    1 seconds (int64)  2 nanos (int32)
//	Pair         1 name (string)  2 value (string)
//
// The decoder goes over the message once. Lines are views of it.

// errTruncated is the error of every message whose lengths do not fit it.
var errTruncated = badRequest("the protobuf message is damaged: a field does not fit into its message")

// A protoField is a field of a message. A field of another wire type than expected is
// skipped like an unknown one.
type protoField struct {
	number uint64
	kind   protowire.Type
	varint uint64
	bytes  []byte
}

// nextField splits the first field off a message that is not empty.
func nextField(m []byte) (f protoField, rest []byte, err error) {
	tag, n := uvarint(m)
	if n <= 0 || tag>>3 == 0 || tag>>3 > math.MaxInt32 {
		return f, nil, errTruncated
	}
	m = m[n:]
	f.number, f.kind = tag>>3, protowire.Type(tag&7)
	switch f.kind {
	case protowire.BytesType:
		size, n := uvarint(m)
		if n <= 0 || size > uint64(len(m)-n) {
			return f, nil, errTruncated
		}
		f.bytes = m[n : n+int(size) : n+int(size)]
		return f, m[n+int(size):], nil
	case protowire.VarintType:
		if f.varint, n = uvarint(m); n <= 0 {
			return f, nil, errTruncated
		}
		return f, m[n:], nil
	case protowire.Fixed32Type, protowire.Fixed64Type:
		size := 4
		if f.kind == protowire.Fixed64Type {
			size = 8
		}
		if len(m) < size {
			return f, nil, errTruncated
		}
		return f, m[size:], nil
	}
	return f, nil, badRequest("the protobuf message is damaged: wire type %d", f.kind)
}

// uvarint is binary.Uvarint with a short way for a single byte.
func uvarint(b []byte) (uint64, int) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1
	}
	return binary.Uvarint(b)
}

// is reports whether the field has a number and holds bytes.
func (f *protoField) is(number uint64) bool {
	return f.number == number && f.kind == protowire.BytesType
}

// decodePush adds the entries of a PushRequest and returns how many streams it has.
func decodePush(b *builder, message []byte) (streams int, err error) {
	for len(message) > 0 {
		var f protoField
		if f, message, err = nextField(message); err != nil {
			return streams, err
		}
		if f.is(1) {
			if err := decodeStream(b, f.bytes, streams); err != nil {
				return streams, err
			}
			streams++
		}
	}
	return streams, nil
}

// decodeStream adds the entries of a stream.
func decodeStream(b *builder, message []byte, number int) error {
	stream := b.begin()
	var labels []byte
	entries := 0
	for len(message) > 0 {
		f, rest, err := nextField(message)
		if err != nil {
			return err
		}
		message = rest
		switch {
		case f.is(1):
			labels = f.bytes
		case f.is(2):
			if err := decodeEntry(b, f.bytes, stream, number, entries); err != nil {
				return err
			}
			entries++
		}
	}
	if entries == 0 {
		return nil // Loki ignores such a stream, whatever its labels.
	}
	s, scratch, bad := b.streams.parsed(b.tenant, labels, b.scratch)
	b.scratch = scratch
	return b.end(s, number, string(labels[:min(len(labels), 200)]), bad)
}

// decodeEntry adds one entry.
func decodeEntry(b *builder, message []byte, stream uint32, number, entry int) error {
	var line []byte
	var seconds, nanos int64
	b.pairs = b.pairs[:0]
	for len(message) > 0 {
		f, rest, err := nextField(message)
		if err != nil {
			return err
		}
		message = rest
		switch {
		case f.is(1):
			if seconds, nanos, err = decodeTimestamp(f.bytes, seconds, nanos); err != nil {
				return err
			}
		case f.is(2):
			line = f.bytes
		case f.is(3):
			if err := decodePair(b, f.bytes); err != nil {
				return err
			}
		}
	}
	const limit = math.MaxInt64 / 1_000_000_000
	if uint64(nanos) > 999_999_999 || seconds >= limit || seconds <= -limit {
		return b.addRefused(line, stream, number, entry, reasonTime,
			fmt.Sprintf("the timestamp of %d seconds and %d nanoseconds is no time in the years 1678 to 2261", seconds, nanos))
	}
	metadata := uint32(0)
	if len(b.pairs) > 0 {
		if bad := b.checkMetadata(); bad != "" {
			return b.addRefused(line, stream, number, entry, reasonMetadata, bad)
		}
		var err error
		if metadata, err = b.meta(); err != nil {
			return err
		}
	}
	return b.add(seconds*1_000_000_000+nanos, line, stream, metadata, number, entry)
}

// decodeTimestamp reads a Timestamp over earlier values, as protobuf merges messages.
func decodeTimestamp(message []byte, seconds, nanos int64) (int64, int64, error) {
	for len(message) > 0 {
		f, rest, err := nextField(message)
		if err != nil {
			return 0, 0, err
		}
		message = rest
		if f.kind == protowire.VarintType {
			switch f.number {
			case 1:
				seconds = int64(f.varint)
			case 2:
				nanos = int64(int32(f.varint))
			}
		}
	}
	return seconds, nanos, nil
}

// decodePair adds a pair of structured metadata to b.pairs. They are views of the message.
func decodePair(b *builder, message []byte) error {
	var pair segment.Label
	for len(message) > 0 {
		f, rest, err := nextField(message)
		if err != nil {
			return err
		}
		message = rest
		switch {
		case f.is(1):
			pair.Name = view(f.bytes)
		case f.is(2):
			pair.Value = view(f.bytes)
		}
	}
	// One more than the limit is enough to refuse the entry.
	if len(b.pairs) <= b.limits.MaxMetadataPairs {
		b.pairs = append(b.pairs, pair)
	}
	return nil
}

// looksLikeJSON reports whether a body that is not what it should be is JSON instead.
func looksLikeJSON(body []byte) bool {
	return strings.HasPrefix(strings.TrimLeft(string(body[:min(len(body), 64)]), " \t\r\n"), "{")
}
