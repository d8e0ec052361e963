package segment

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/compress/s2"
)

// A Frame is a DATA record before it has its place in the log: everything but index,
// offset, epochs and chain is set.
type Frame struct {
	Header  Header
	Payload []byte
	Streams []*Stream // the streams that the payload defines, in its order

	pooled *[]byte
}

// Release gives the payload's memory back. The frame must not be used any more.
func (f *Frame) Release() {
	if f.pooled != nil {
		putBuffer(f.pooled)
		f.pooled, f.Payload = nil, nil
	}
}

// A FrameEncoder turns rows of batches into frames. The zero value is ready; it keeps
// scratch memory and is for one goroutine at a time.
type FrameEncoder struct {
	raw, packed, times, lengths, hashed, key []byte

	metadata metadataEncoder
	seen     []uint32 // batch stream → 1 + last part with a row of it
	refs     []uint32 // batch stream → 1 + stream of this frame
	order    []uint32 // streams of this frame, as batch streams
	runs     []Run
}

// Encode makes the frames of the given rows of a batch, which all belong to one shard:
// one frame, or several parts if they are many. Rows that are refused take part in
// the cut only, so that a repeat of which more or fewer are refused is cut alike. The
// frames' payloads belong to the caller, who releases them.
//
// It fails with ErrTooLarge for a line above MaxLine, for a row that no frame holds, and
// for a batch of more than 32,768 parts, and for streams and metadata that are not as
// NewStream and NewLabels make them.
func (e *FrameEncoder) Encode(b *Batch, rows []uint32) ([]*Frame, error) {
	var frames []*Frame
	fail := func(err error) ([]*Frame, error) {
		for _, f := range frames {
			f.Release()
		}
		return nil, err
	}
	e.seen = slices.Grow(e.seen[:0], len(b.Streams))[:len(b.Streams)]
	clear(e.seen)
	part := 0
	for first := 0; first < len(rows); part++ {
		if part >= PartLast {
			return fail(fmt.Errorf("batch of more than %d parts: %w: send less at a time", PartLast, ErrTooLarge))
		}
		last := e.cut(b, rows, first, uint32(part)+1)
		f, err := e.encodePart(b, rows[first:last])
		if err != nil {
			return fail(err)
		}
		if f != nil {
			f.Header.Part = uint16(part)
			f.Header.Key = b.Key
			frames = append(frames, f)
		}
		first = last
	}
	if len(frames) > 0 {
		frames[len(frames)-1].Header.Part |= PartLast
	}
	return frames, nil
}

// cut returns where the part that begins with row first ends. It is decided by upper
// bounds of the raw bytes that rows need, the same for the same rows in a repeat of the
// request, whichever of them are refused.
func (e *FrameEncoder) cut(b *Batch, rows []uint32, first int, part uint32) int {
	size := payloadHeaderSize
	last := first
	for ; last < len(rows) && last-first < MaxFrameEntries; last++ {
		r := &b.Rows[rows[last]]
		n := len(r.Line) + 32 // numbers of at most 10, 4, 3, 3 and 3 bytes
		if r.Metadata != 0 {
			n += labelsSize(b.Metadata[r.Metadata-1])
		}
		// A refused row may be of a stream that was found bad too.
		defines := int(r.Stream) < len(b.Streams) && e.seen[r.Stream] != part
		if defines {
			n += 80 + labelsSize(b.Streams[r.Stream].Labels)
		}
		if last > first && size+n > MaxFrameRaw {
			break
		}
		if defines {
			e.seen[r.Stream] = part
		}
		size += n
	}
	return last
}

func labelsSize(l Labels) int {
	n := 0
	for _, p := range l {
		n += len(p.Name) + len(p.Value) + 8
	}
	return n
}

// encodePart makes one frame, or nil if all rows are refused.
func (e *FrameEncoder) encodePart(b *Batch, rows []uint32) (*Frame, error) {
	e.times, e.lengths = e.times[:0], e.lengths[:0]
	e.order, e.runs = e.order[:0], e.runs[:0]
	e.metadata.reset()
	if cap(e.refs) < len(b.Streams) {
		e.refs = make([]uint32, len(b.Streams))
	}
	e.refs = e.refs[:len(b.Streams)]
	clear(e.refs)
	h := Header{Type: RecordData, MinTimestamp: math.MaxInt64, MaxTimestamp: math.MinInt64}
	var previous int64
	text := 0
	for _, i := range rows {
		r := &b.Rows[i]
		if r.Refused {
			continue
		}
		if len(r.Line) > MaxLine {
			return nil, fmt.Errorf("line of %d bytes: %w: the format holds %d", len(r.Line), ErrTooLarge, MaxLine)
		}
		ref := e.refs[r.Stream]
		if ref == 0 {
			e.order = append(e.order, r.Stream)
			ref = uint32(len(e.order))
			e.refs[r.Stream] = ref
		}
		if n := len(e.runs); n > 0 && e.runs[n-1].Stream == ref-1 {
			e.runs[n-1].Count++
		} else {
			e.runs = append(e.runs, Run{ref - 1, 1})
		}
		e.times = binary.AppendVarint(e.times, r.Timestamp-previous)
		previous = r.Timestamp
		h.MinTimestamp = min(h.MinTimestamp, r.Timestamp)
		h.MaxTimestamp = max(h.MaxTimestamp, r.Timestamp)
		e.lengths = binary.AppendUvarint(e.lengths, uint64(len(r.Line)))
		text += len(r.Line)
		var set Labels
		if r.Metadata != 0 {
			set = b.Metadata[r.Metadata-1]
		}
		if err := e.metadata.add(set); err != nil {
			return nil, err
		}
		var sum uint64
		sum, e.hashed = hashEntry(e.hashed, r.Timestamp, b.Streams[r.Stream].ID, r.Line, set)
		h.DigestA += sum
		h.DigestB += sum * uint64(h.Count+1)
		h.Count++
	}
	if h.Count == 0 {
		return nil, nil
	}
	h.Streams = uint32(len(e.order))
	f := &Frame{Header: h}
	raw, err := e.assemble(b, f, rows, text)
	if err != nil {
		return nil, err
	}
	return f, e.compress(f, raw)
}

// compress makes the payload of raw and completes the header.
func (e *FrameEncoder) compress(f *Frame, raw []byte) error {
	if len(raw) > MaxPayload {
		return fmt.Errorf("frame of %d bytes: %w: the format holds %d", len(raw), ErrTooLarge, MaxPayload)
	}
	h := &f.Header
	h.RawLength = uint32(len(raw))
	// The payload is copied into a buffer of its size, since frames wait in queues.
	packed := slices.Grow(e.packed[:0], s2.MaxEncodedLen(len(raw)))
	packed = s2.Encode(packed[:cap(packed)], raw)
	if e.packed = packed[:0]; cap(packed) > 2*MaxFrameRaw {
		e.packed = nil
	}
	if h.Codec = CodecS2; len(packed) >= len(raw) {
		h.Codec, packed = CodecNone, raw
	}
	f.pooled = getBuffer(len(packed))
	copy(*f.pooled, packed)
	f.Payload = *f.pooled
	h.PayloadLength = uint32(len(f.Payload))
	h.PayloadCRC = Checksum(f.Payload)
	return nil
}

// hashEntry is h of the digests: xxhash64 over timestamp, stream id, line and metadata.
func hashEntry(scratch []byte, ts int64, stream uint64, line []byte, metadata Labels) (uint64, []byte) {
	scratch = binary.LittleEndian.AppendUint64(scratch[:0], uint64(ts))
	scratch = binary.LittleEndian.AppendUint64(scratch, stream)
	scratch = append(scratch, line...)
	scratch = metadata.AppendKey(scratch)
	return xxhash.Sum64(scratch), scratch
}

// assemble puts the sections of the payload together; doc.go describes them.
func (e *FrameEncoder) assemble(b *Batch, f *Frame, rows []uint32, text int) ([]byte, error) {
	raw := append(e.raw[:0], make([]byte, payloadHeaderSize)...)
	sections := 0
	mark := len(raw)
	end := func() {
		binary.LittleEndian.PutUint32(raw[4*sections:], uint32(len(raw)-mark))
		sections++
		mark = len(raw)
	}
	for _, s := range e.order {
		stream := b.Streams[s]
		if err := stream.check(); err != nil {
			return nil, err
		}
		f.Streams = append(f.Streams, stream)
		e.key = stream.AppendKey(e.key[:0])
		raw = binary.AppendUvarint(raw, uint64(len(e.key)))
		raw = append(raw, e.key...)
	}
	end()
	for _, r := range e.runs {
		raw = binary.AppendUvarint(raw, uint64(r.Stream))
		raw = binary.AppendUvarint(raw, uint64(r.Count))
	}
	end()
	raw = append(raw, e.times...)
	end()
	raw = append(raw, e.lengths...)
	end()
	raw = e.metadata.append(raw)
	end()
	if need := len(raw) + text; cap(raw) < need {
		raw = append(make([]byte, 0, need+need/4), raw...)
	}
	for _, i := range rows {
		if r := &b.Rows[i]; !r.Refused {
			raw = append(raw, r.Line...)
		}
	}
	if cap(raw) <= 2*MaxFrameRaw {
		e.raw = raw
	} else {
		e.raw = nil
	}
	return raw, nil
}
