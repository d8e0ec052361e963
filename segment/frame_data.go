package segment

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

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

// buffers holds payload buffers between requests.
var buffers sync.Pool

func getBuffer(n int) *[]byte {
	if b, ok := buffers.Get().(*[]byte); ok {
		if cap(*b) >= n {
			*b = (*b)[:n]
			return b
		}
	}
	b := make([]byte, n, max(n, 64<<10))
	return &b
}

func putBuffer(b *[]byte) {
	if cap(*b) <= MaxFrameRaw*2 {
		buffers.Put(b)
	}
}

// A FrameEncoder turns rows of batches into frames. The zero value is ready; it keeps
// scratch memory and is for one goroutine at a time.
type FrameEncoder struct {
	raw, times, lengths, metadata, hashed []byte
	lists                                 map[string]uint32 // metadata key lists of this frame
	refs                                  []uint32          // batch stream → 1 + stream of this frame
	order                                 []uint32          // streams of this frame, as batch streams
	runs                                  []frameRun
}

type frameRun struct{ stream, count uint32 }

// Encode makes the frames of the given rows of a batch, which all belong to one shard:
// one frame, or several parts if they are many. Rows that are refused take part in
// the cut only. The frames' payloads belong to the caller, who releases them.
func (e *FrameEncoder) Encode(b *Batch, rows []uint32) ([]*Frame, error) {
	var frames []*Frame
	part := uint16(0)
	for first := 0; first < len(rows); {
		last, size := first, 0
		for last < len(rows) && last-first < MaxFrameEntries {
			r := &b.Rows[rows[last]]
			n := rowSize(b, r, last == first || r.Stream != b.Rows[rows[last-1]].Stream)
			if last > first && size+n > MaxFrameRaw {
				break
			}
			size += n
			last++
		}
		f, err := e.encodePart(b, rows[first:last])
		if err != nil {
			for _, f := range frames {
				f.Release()
			}
			return nil, err
		}
		if f != nil {
			f.Header.Part = part
			f.Header.Key = b.Key
			frames = append(frames, f)
		}
		part++
		first = last
	}
	if len(frames) > 0 {
		frames[len(frames)-1].Header.Part |= PartLast
	}
	return frames, nil
}

// rowSize is an upper bound of the raw bytes that a row needs in a frame, the same
// for the same row in a repeat of the request. A row that begins a run is taken to
// define its stream.
func rowSize(b *Batch, r *Row, begins bool) int {
	n := len(r.Line) + 24
	if r.Metadata != 0 {
		n += labelsSize(b.Metadata[r.Metadata-1])
	}
	if begins {
		n += 80 + labelsSize(b.Streams[r.Stream].Labels)
	}
	return n
}

func labelsSize(l Labels) int {
	n := 0
	for _, p := range l {
		n += len(p.Name) + len(p.Value) + 8
	}
	return n
}

func (e *FrameEncoder) encodePart(b *Batch, rows []uint32) (*Frame, error) {
	e.times, e.lengths, e.metadata = e.times[:0], e.lengths[:0], e.metadata[:0]
	e.order, e.runs = e.order[:0], e.runs[:0]
	if cap(e.refs) < len(b.Streams) {
		e.refs = make([]uint32, len(b.Streams))
	}
	e.refs = e.refs[:len(b.Streams)]
	clear(e.refs)
	clear(e.lists)
	h := Header{Type: RecordData, MinTimestamp: math.MaxInt64, MaxTimestamp: math.MinInt64}
	var lists []Labels
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
		if n := len(e.runs); n > 0 && e.runs[n-1].stream == ref-1 {
			e.runs[n-1].count++
		} else {
			e.runs = append(e.runs, frameRun{ref - 1, 1})
		}
		e.times = binary.AppendVarint(e.times, r.Timestamp-previous)
		previous = r.Timestamp
		h.MinTimestamp = min(h.MinTimestamp, r.Timestamp)
		h.MaxTimestamp = max(h.MaxTimestamp, r.Timestamp)
		e.lengths = binary.AppendUvarint(e.lengths, uint64(len(r.Line)))
		text += len(r.Line)

		e.hashed = binary.LittleEndian.AppendUint64(e.hashed[:0], uint64(r.Timestamp))
		e.hashed = binary.LittleEndian.AppendUint64(e.hashed, b.Streams[r.Stream].ID)
		e.hashed = append(e.hashed, r.Line...)
		if r.Metadata != 0 {
			set := b.Metadata[r.Metadata-1]
			e.hashed = set.AppendKey(e.hashed)
			lists = e.appendMetadata(lists, set, int(h.Count))
		} else if len(lists) > 0 {
			e.metadata = append(e.metadata, 0)
		}
		sum := xxhash.Sum64(e.hashed)
		h.DigestA += sum
		h.DigestB += sum * uint64(h.Count+1)
		h.Count++
	}
	if h.Count == 0 {
		return nil, nil
	}
	f := &Frame{Header: h}
	raw := e.assemble(b, f, lists, rows, text)
	h = f.Header
	h.Streams = uint32(len(e.order))
	h.RawLength = uint32(len(raw))
	if len(raw) > MaxPayload {
		return nil, fmt.Errorf("frame of %d bytes: %w: the format holds %d", len(raw), ErrTooLarge, MaxPayload)
	}
	f.pooled = getBuffer(s2.MaxEncodedLen(len(raw)))
	if enc := s2.Encode(*f.pooled, raw); len(enc) < len(raw) {
		h.Codec, f.Payload = CodecS2, enc
	} else {
		h.Codec, f.Payload = CodecNone, append((*f.pooled)[:0], raw...)
	}
	h.PayloadLength = uint32(len(f.Payload))
	h.PayloadCRC = Checksum(f.Payload)
	f.Header = h
	return f, nil
}

// appendMetadata writes one entry's metadata: 1 + its key list, then its values.
// Entries before the first with metadata are counted only then.
func (e *FrameEncoder) appendMetadata(lists []Labels, set Labels, before int) []Labels {
	if len(lists) == 0 {
		for range before {
			e.metadata = append(e.metadata, 0)
		}
	}
	var key []byte
	for _, l := range set {
		key = binary.AppendUvarint(key, uint64(len(l.Name)))
		key = append(key, l.Name...)
	}
	if e.lists == nil {
		e.lists = map[string]uint32{}
	}
	ref, ok := e.lists[string(key)]
	if !ok {
		ref = uint32(len(lists))
		e.lists[string(key)] = ref
		lists = append(lists, set)
	}
	e.metadata = binary.AppendUvarint(e.metadata, uint64(ref)+1)
	for _, l := range set {
		e.metadata = binary.AppendUvarint(e.metadata, uint64(len(l.Value)))
		e.metadata = append(e.metadata, l.Value...)
	}
	return lists
}

// assemble puts the sections of the payload together; doc.go describes them.
func (e *FrameEncoder) assemble(b *Batch, f *Frame, lists []Labels, rows []uint32, text int) []byte {
	raw := append(e.raw[:0], make([]byte, payloadHeaderSize)...)
	sections := 0
	mark := len(raw)
	end := func() {
		binary.LittleEndian.PutUint32(raw[4*sections:], uint32(len(raw)-mark))
		sections++
		mark = len(raw)
	}
	var key []byte
	for _, s := range e.order {
		stream := b.Streams[s]
		f.Streams = append(f.Streams, stream)
		key = stream.AppendKey(key[:0])
		raw = binary.AppendUvarint(raw, uint64(len(key)))
		raw = append(raw, key...)
	}
	end()
	for _, r := range e.runs {
		raw = binary.AppendUvarint(raw, uint64(r.stream))
		raw = binary.AppendUvarint(raw, uint64(r.count))
	}
	end()
	raw = append(raw, e.times...)
	end()
	raw = append(raw, e.lengths...)
	end()
	if len(lists) > 0 {
		raw = binary.AppendUvarint(raw, uint64(len(lists)))
		for _, set := range lists {
			raw = binary.AppendUvarint(raw, uint64(len(set)))
			for _, l := range set {
				raw = binary.AppendUvarint(raw, uint64(len(l.Name)))
				raw = append(raw, l.Name...)
			}
		}
		raw = append(raw, e.metadata...)
	}
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
	return raw
}

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
// at a time. The zero value is ready.
type FrameDecoder struct {
	// Intern returns the stream of a canonical form; nil makes a new Stream each time.
	Intern func(key []byte) (*Stream, error)

	raw  []byte
	data Data
}

// Decode decodes the payload of a DATA record, whose checksum it verifies first.
func (d *FrameDecoder) Decode(h *Header, payload []byte) (*Data, error) {
	if err := h.CheckPayload(payload); err != nil {
		return nil, err
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
		run := Run{Stream: uint32(r.uvarint(uint64(len(data.Streams)) - 1)), Count: uint32(r.uvarint(uint64(count)))}
		data.Runs = append(data.Runs, run)
		total += uint64(run.Count)
	}
	if r.err != nil || total != uint64(count) {
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
	return d.parseMetadata(sections[4], count)
}

func (d *FrameDecoder) parseStreams(h *Header, b []byte) error {
	r := reader{b: b}
	data := &d.data
	data.Streams = data.Streams[:0]
	for len(r.b) > 0 && r.err == nil {
		key := r.bytes(uint64(len(r.b)))
		if r.err != nil {
			break
		}
		intern := d.Intern
		if intern == nil {
			intern = ParseStream
		}
		s, err := intern(key)
		if err != nil {
			return err
		}
		data.Streams = append(data.Streams, s)
	}
	if r.err != nil || len(data.Streams) != int(h.Streams) || h.Streams == 0 {
		return fmt.Errorf("%d streams, want %d: %w", len(data.Streams), h.Streams, r.fault())
	}
	return nil
}

func (d *FrameDecoder) parseMetadata(b []byte, count int) error {
	d.data.Metadata = nil
	if len(b) == 0 {
		return nil
	}
	r := reader{b: b}
	lists := make([][]string, r.uvarint(uint64(len(b))))
	for i := range lists {
		names := make([]string, r.uvarint(uint64(len(r.b))))
		for j := range names {
			names[j] = string(r.bytes(uint64(len(r.b))))
		}
		lists[i] = names
		if r.err != nil {
			return fmt.Errorf("metadata names: %w", r.err)
		}
	}
	sets := make([]Labels, count)
	for i := range sets {
		ref := r.uvarint(uint64(len(lists)))
		if ref == 0 {
			continue
		}
		set := make(Labels, len(lists[ref-1]))
		for j, name := range lists[ref-1] {
			set[j] = Label{name, string(r.bytes(uint64(len(r.b))))}
		}
		sets[i] = set
	}
	if err := r.done(); err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	d.data.Metadata = sets
	return nil
}

// ParseStream decodes the canonical form of a stream.
func ParseStream(key []byte) (*Stream, error) {
	r := reader{b: key}
	tenant := string(r.bytes(64))
	var labels Labels
	for len(r.b) > 0 && r.err == nil {
		l := Label{Name: string(r.bytes(uint64(len(r.b)))), Value: string(r.bytes(uint64(len(r.b))))}
		if n := len(labels); n > 0 && labels[n-1].Name >= l.Name {
			return nil, corrupt("stream", "labels %q and %q out of order", labels[n-1].Name, l.Name)
		}
		labels = append(labels, l)
	}
	if r.err != nil {
		return nil, &CorruptError{What: "stream", Err: r.err}
	}
	if !ValidTenant(tenant) {
		return nil, corrupt("stream", "tenant %q", tenant)
	}
	return &Stream{Tenant: tenant, Labels: labels, ID: xxhash.Sum64(key)}, nil
}
