package segment

import (
	"encoding/binary"
	"fmt"
)

// payloadHeaderSize is the size of the payload's section lengths: streams, runs,
// timestamps, line lengths, metadata; u32 each. The lines are the rest.
const payloadHeaderSize = 5 * 4

// Data is a decoded DATA payload. Its slices are valid until the next decoding.
type Data struct {
	Streams    []*Stream
	Runs       []Run
	Timestamps []int64
	Ends       []uint32 // Ends[i] is where line i ends in Text
	Text       []byte
	Metadata   []Labels // nil if no entry has any
}

// A Run is a number of entries in a row that are of one stream.
type Run struct {
	Stream uint32 // index in Data.Streams
	Count  uint32
}

// Line returns the bytes of line i.
func (d *Data) Line(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = d.Ends[i-1]
	}
	return d.Text[start:d.Ends[i]:d.Ends[i]]
}

// A FrameDecoder decodes payloads. It keeps scratch memory and is for one goroutine
// at a time. The zero value is ready. It holds no more than a small multiple of
// MaxPayload, whatever the bytes are.
type FrameDecoder struct {
	// Intern returns the stream of a canonical form; nil makes a new Stream each time.
	Intern func(key []byte) (*Stream, error)

	raw  []byte
	data Data
}

// Decode decodes the payload of a DATA record, whose checksum it verifies first. What it
// returns is valid until the next call; if the codec is none, as long as payload stays.
func (d *FrameDecoder) Decode(h *Header, payload []byte) (*Data, error) {
	if err := h.CheckPayload(payload); err != nil {
		return nil, err
	}
	if h.RawLength > MaxPayload || h.Count > MaxFrameEntries {
		return nil, corrupt("frame header", "lengths out of bounds: raw %d, entries %d", h.RawLength, h.Count)
	}
	raw, err := decompress(d.raw, h.Codec, payload, int(h.RawLength))
	if err != nil {
		return nil, err
	}
	if h.Codec != CodecNone {
		d.raw = raw
	}
	if err := d.parse(h, raw); err != nil {
		return nil, &CorruptError{What: "frame payload", Err: err}
	}
	return &d.data, nil
}

func (d *FrameDecoder) parse(h *Header, raw []byte) error {
	if h.Type != RecordData || len(raw) < payloadHeaderSize {
		return fmt.Errorf("%s record with %d bytes holds no entries", h.Type, len(raw))
	}
	var sections [5][]byte
	rest := raw[payloadHeaderSize:]
	for i := range sections {
		n := binary.LittleEndian.Uint32(raw[4*i:])
		if uint64(n) > uint64(len(rest)) {
			return fmt.Errorf("section %d of %d bytes in %d", i, n, len(rest))
		}
		sections[i], rest = rest[:n], rest[n:]
	}
	data := &d.data
	count := int(h.Count)
	if len(sections[2]) < count || len(sections[3]) < count {
		return fmt.Errorf("%d entries in %d bytes of timestamps and %d of lengths", count, len(sections[2]), len(sections[3]))
	}
	if err := d.parseStreams(h, sections[0]); err != nil {
		return err
	}
	r := reader{b: sections[1]}
	data.Runs = data.Runs[:0]
	total := uint64(0)
	for len(r.b) > 0 && r.err == nil {
		run := Run{Stream: uint32(r.uvarint(uint64(len(data.Streams)) - 1)), Count: uint32(r.uvarint(uint64(count) - total))}
		if run.Count == 0 && r.err == nil {
			return fmt.Errorf("run %d is empty", len(data.Runs))
		}
		data.Runs = append(data.Runs, run)
		total += uint64(run.Count)
	}
	if err := r.done(); err != nil || total != uint64(count) {
		return fmt.Errorf("runs of %d entries, want %d: %w", total, count, r.fault())
	}
	if cap(data.Timestamps) < count {
		data.Timestamps, data.Ends = make([]int64, count), make([]uint32, count)
	}
	data.Timestamps, data.Ends = data.Timestamps[:count], data.Ends[:count]
	r = reader{b: sections[2]}
	var ts int64
	for i := range data.Timestamps {
		ts += r.varint()
		data.Timestamps[i] = ts
		if ts < h.MinTimestamp || ts > h.MaxTimestamp {
			return fmt.Errorf("timestamp %d outside the frame's range", ts)
		}
	}
	if err := r.done(); err != nil {
		return fmt.Errorf("timestamps: %w", err)
	}
	r = reader{b: sections[3]}
	end := uint64(0)
	for i := range data.Ends {
		end += r.uvarint(MaxLine)
		if end > uint64(len(rest)) {
			return fmt.Errorf("line %d ends at byte %d of %d", i, end, len(rest))
		}
		data.Ends[i] = uint32(end)
	}
	if err := r.done(); err != nil || end != uint64(len(rest)) {
		return fmt.Errorf("lines of %d bytes, want %d: %w", len(rest), end, r.fault())
	}
	data.Text = rest
	var err error
	if data.Metadata, err = parseMetadata(sections[4], count); err != nil {
		return err
	}
	return nil
}

func (d *FrameDecoder) parseStreams(h *Header, b []byte) error {
	intern := d.Intern
	if intern == nil {
		intern = ParseStream
	}
	r := reader{b: b}
	data := &d.data
	data.Streams = data.Streams[:0]
	for len(data.Streams) < int(h.Streams) {
		key := r.bytes(uint64(len(r.b)))
		if r.err != nil {
			break
		}
		s, err := intern(key)
		if err != nil {
			return err
		}
		data.Streams = append(data.Streams, s)
	}
	if err := r.done(); err != nil || h.Streams == 0 {
		return fmt.Errorf("%d streams, want %d: %w", len(data.Streams), h.Streams, r.fault())
	}
	return nil
}
