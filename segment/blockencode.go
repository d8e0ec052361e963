package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// chunkCut is the raw size at which a packed chunk of a block ends. A query reads whole
// chunks: smaller ones cost ratio, larger ones cost queries for few streams.
const chunkCut = 512 << 10

// maxKeptValues is how many places of values are kept from block to block: 16 MiB.
const maxKeptValues = 2 << 20

// A BlockEncoder gathers the entries of consecutive records and encodes them as a
// block. It keeps scratch memory and is for one goroutine at a time. The zero value
// is ready.
type BlockEncoder struct {
	meta     BlockMeta
	expected uint64 // digest by the records' headers
	started  bool

	refs     []uint32 // of each row, in offset order
	times    []int64
	starts   []uint32
	ends     []uint32
	offsets  []uint32 // from meta.FirstOffset
	text     []byte
	metadata []Labels // as long as refs once any row has some
	sets     metadataEncoder

	key, raw, out []byte
	sorted        []uint32 // row in block order → row in offset order

	shred shredScratch
}

// Rows returns the rows gathered so far.
func (e *BlockEncoder) Rows() int { return len(e.refs) }

// RawBytes returns the line bytes gathered so far.
func (e *BlockEncoder) RawBytes() int { return len(e.text) }

// Reset begins a block with the record at index and the entry at offset.
func (e *BlockEncoder) Reset(number uint16, index, offset uint64) {
	e.meta = BlockMeta{Number: number, FirstIndex: index, LastIndex: index - 1, FirstOffset: offset, EndOffset: offset}
	e.expected, e.started = 0, true
	e.refs, e.times, e.starts, e.ends, e.offsets = e.refs[:0], e.times[:0], e.starts[:0], e.ends[:0], e.offsets[:0]
	e.text, e.metadata = e.text[:0], e.metadata[:0]
	if cap(e.text) > 2*MaxBlockRaw {
		e.text = nil
	}
	if cap(e.shred.values) > maxKeptValues {
		e.shred.values = nil
	}
}

// Fits reports whether a record's entries can join the block. The first record always
// does.
func (e *BlockEncoder) Fits(h *Header) bool {
	return len(e.refs) == 0 || e.holds(h) && len(e.text)+int(h.RawLength) <= MaxBlockRaw
}

// holds reports whether rows and offsets of a record stay in the format's bounds.
func (e *BlockEncoder) holds(h *Header) bool {
	return len(e.refs)+int(h.Count) <= MaxBlockRows && h.Offset+uint64(h.Count) >= h.Offset &&
		h.Offset+uint64(h.Count)-e.meta.FirstOffset <= math.MaxUint32
}

// Add takes the entries of the next record, which must fit. Offsets that were skipped
// since the record before become a gap.
func (e *BlockEncoder) Add(h *Header, d *Data, streams *StreamTable) error {
	switch {
	case !e.started:
		return errors.New("block encoder is not reset")
	case h.Offset < e.meta.EndOffset || h.Index <= e.meta.LastIndex && len(e.refs) > 0:
		return corrupt("log", "record %d has offset %d after record %d and offset %d", h.Index, h.Offset, e.meta.LastIndex, e.meta.EndOffset)
	case !e.holds(h) || len(e.text)+len(d.Text) > math.MaxUint32:
		return fmt.Errorf("record %d with %d entries at offset %d: %w for a block of %d rows from offset %d", h.Index, h.Count, h.Offset, ErrTooLarge, len(e.refs), e.meta.FirstOffset)
	case len(d.Timestamps) != int(h.Count):
		return fmt.Errorf("record %d of %d entries was decoded as %d", h.Index, h.Count, len(d.Timestamps))
	}
	base := uint32(len(e.text))
	e.text = append(e.text, d.Text...)
	row := 0
	for _, run := range d.Runs {
		ref := streams.Ref(d.Streams[run.Stream], &e.key)
		for range run.Count {
			e.refs = append(e.refs, ref)
			start := base
			if row > 0 {
				start = base + d.Ends[row-1]
			}
			e.starts = append(e.starts, start)
			e.ends = append(e.ends, base+d.Ends[row])
			e.offsets = append(e.offsets, uint32(h.Offset+uint64(row)-e.meta.FirstOffset))
			row++
		}
	}
	e.times = append(e.times, d.Timestamps...)
	if d.Metadata != nil {
		for len(e.metadata) < len(e.refs)-row {
			e.metadata = append(e.metadata, nil)
		}
		e.metadata = append(e.metadata, d.Metadata...)
	} else if len(e.metadata) > 0 {
		for range row {
			e.metadata = append(e.metadata, nil)
		}
	}
	e.meta.EndOffset = h.Offset + uint64(h.Count)
	e.meta.LastIndex, e.meta.Chain = h.Index, h.Chain
	e.expected += h.RangeDigest()
	return nil
}

// Encode encodes the block whose first chunk will stand at the given position of the
// file, decodes it again, and compares it line by line with what was added. The bytes
// are valid until the next Reset.
func (e *BlockEncoder) Encode(at uint64, streams *StreamTable, templates *templateTable) ([]byte, *BlockMeta, error) {
	m := e.meta
	m.Rows, m.RawBytes = uint32(len(e.refs)), uint64(len(e.text))
	if m.Rows == 0 || !e.started {
		return nil, nil, errors.New("block without entries")
	}
	e.started = false
	e.sort(&m)
	e.out = e.out[:0]
	encodeTemplates := func(m *BlockMeta) error { return e.encodeTemplates(m, templates) }
	for _, encode := range []func(*BlockMeta) error{e.encodeTimestamps, e.encodeOrder, encodeTemplates, e.encodeLines, e.encodeMetadata} {
		if err := encode(&m); err != nil {
			return nil, nil, err
		}
	}
	for i := range m.Chunks {
		m.Chunks[i].Offset += at
	}
	if err := e.verify(&m, at, streams, templates); err != nil {
		return nil, nil, fmt.Errorf("block of records %d to %d does not read back as it was written: %w", m.FirstIndex, m.LastIndex, err)
	}
	return e.out, &m, nil
}

// sort orders the rows by stream and, inside a stream, by offset, and makes the runs.
func (e *BlockEncoder) sort(m *BlockMeta) {
	counts := map[uint32]uint32{}
	for i := 0; i < len(e.refs); {
		j := i
		for j < len(e.refs) && e.refs[j] == e.refs[i] {
			j++
		}
		counts[e.refs[i]] += uint32(j - i)
		i = j
	}
	streams := make([]uint32, 0, len(counts))
	for ref := range counts {
		streams = append(streams, ref)
	}
	slices.Sort(streams)
	next := make(map[uint32]uint32, len(streams))
	row := uint32(0)
	m.Runs = make([]BlockRun, 0, len(streams))
	for _, ref := range streams {
		m.Runs = append(m.Runs, BlockRun{Stream: ref, FirstRow: row, Rows: counts[ref], MinTimestamp: math.MaxInt64, MaxTimestamp: math.MinInt64})
		next[ref] = row
		row += counts[ref]
	}
	e.sorted = slices.Grow(e.sorted[:0], len(e.refs))[:len(e.refs)]
	for i := 0; i < len(e.refs); {
		ref, at := e.refs[i], next[e.refs[i]]
		for i < len(e.refs) && e.refs[i] == ref {
			e.sorted[at] = uint32(i)
			at++
			i++
		}
		next[ref] = at
	}
	m.MinTimestamp, m.MaxTimestamp = math.MaxInt64, math.MinInt64
	for i := range m.Runs {
		r := &m.Runs[i]
		for _, from := range e.sorted[r.FirstRow : r.FirstRow+r.Rows] {
			r.MinTimestamp = min(r.MinTimestamp, e.times[from])
			r.MaxTimestamp = max(r.MaxTimestamp, e.times[from])
			r.RawBytes += uint64(e.ends[from] - e.starts[from])
		}
		m.MinTimestamp, m.MaxTimestamp = min(m.MinTimestamp, r.MinTimestamp), max(m.MaxTimestamp, r.MaxTimestamp)
	}
}

func (e *BlockEncoder) chunk(m *BlockMeta, kind ChunkKind, raw []byte, firstRow, rows uint32) error {
	out, ref, err := appendChunk(e.out, kind, m.Number, raw)
	if err != nil {
		return err
	}
	ref.FirstRow, ref.Rows = firstRow, rows
	e.out = out
	m.Chunks = append(m.Chunks, ref)
	return nil
}

// encodeTimestamps writes TS: for each run the distance of its first row from the
// run's minimum, then of all other rows the distance from the row before, less the
// smallest of these distances, as byte planes. A distance may overflow: all sums are
// modulo 2⁶⁴, here and in the decoder.
func (e *BlockEncoder) encodeTimestamps(m *BlockMeta) error {
	smallest, largest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, r := range m.Runs {
		for k := r.FirstRow + 1; k < r.FirstRow+r.Rows; k++ {
			d := e.times[e.sorted[k]] - e.times[e.sorted[k-1]]
			smallest, largest = min(smallest, d), max(largest, d)
		}
	}
	if smallest > largest {
		smallest, largest = 0, 0
	}
	width := 0
	for span := uint64(largest) - uint64(smallest); width < 8 && span>>(8*width) != 0; width++ {
	}
	raw := append(e.raw[:0], 1, byte(width))
	raw = binary.LittleEndian.AppendUint64(raw, uint64(smallest))
	for _, r := range m.Runs {
		raw = binary.AppendUvarint(raw, uint64(e.times[e.sorted[r.FirstRow]])-uint64(r.MinTimestamp))
	}
	rows := int(m.Rows) - len(m.Runs)
	at := len(raw)
	raw = append(raw, make([]byte, rows*width)...)
	i := 0
	for _, r := range m.Runs {
		for k := r.FirstRow + 1; k < r.FirstRow+r.Rows; k++ {
			v := uint64(e.times[e.sorted[k]]-e.times[e.sorted[k-1]]) - uint64(smallest)
			for w := range width {
				raw[at+w*rows+i] = byte(v >> (8 * w))
			}
			i++
		}
	}
	e.raw = raw
	return e.chunk(m, ChunkTimestamps, raw, 0, m.Rows)
}

// encodeOrder writes ORDER: the rows in offset order, as (1 + run, count) pairs; run 0
// is a gap of count offsets that have no entries.
func (e *BlockEncoder) encodeOrder(m *BlockMeta) error {
	numbers := make(map[uint32]uint64, len(m.Runs))
	for i, r := range m.Runs {
		numbers[r.Stream] = uint64(i) + 1
	}
	raw := e.raw[:0]
	expected := uint32(0)
	for i := 0; i < len(e.refs); {
		if gap := e.offsets[i] - expected; gap > 0 {
			raw = binary.AppendUvarint(raw, 0)
			raw = binary.AppendUvarint(raw, uint64(gap))
		}
		j := i + 1
		for j < len(e.refs) && e.refs[j] == e.refs[i] && e.offsets[j] == e.offsets[j-1]+1 {
			j++
		}
		raw = binary.AppendUvarint(raw, numbers[e.refs[i]])
		raw = binary.AppendUvarint(raw, uint64(j-i))
		expected = e.offsets[j-1] + 1
		i = j
	}
	e.raw = raw
	return e.chunk(m, ChunkOrder, raw, 0, m.Rows)
}

// encodeLines writes FALLBACK chunks of the rows that have no template: the lengths of
// some rows' lines, then the lines. FirstRow and Rows of their references count these rows only.
func (e *BlockEncoder) encodeLines(m *BlockMeta) error {
	rows := e.shred.fallback
	for first := 0; first < len(rows); {
		size, last := 0, first
		for last < len(rows) && size < chunkCut {
			from := e.sorted[rows[last]]
			size += int(e.ends[from] - e.starts[from])
			last++
		}
		raw := append(e.raw[:0], 0, 0, 0, 0)
		for _, k := range rows[first:last] {
			from := e.sorted[k]
			raw = binary.AppendUvarint(raw, uint64(e.ends[from]-e.starts[from]))
		}
		binary.LittleEndian.PutUint32(raw, uint32(len(raw)-4))
		for _, k := range rows[first:last] {
			from := e.sorted[k]
			raw = append(raw, e.text[e.starts[from]:e.ends[from]]...)
		}
		e.raw = raw
		if err := e.chunk(m, ChunkFallback, raw, uint32(first), uint32(last-first)); err != nil {
			return err
		}
		first = last
	}
	return nil
}

// encodeMetadata writes META, if any row has some. It is cut like the lines, by the
// rows' bytes: the lists of names that a chunk begins with may be larger than that.
func (e *BlockEncoder) encodeMetadata(m *BlockMeta) error {
	if len(e.metadata) == 0 {
		return nil
	}
	first := uint32(0)
	for first < m.Rows {
		last := first
		e.sets.reset()
		for last < m.Rows && len(e.sets.rows) < chunkCut {
			if err := e.sets.add(e.metadata[e.sorted[last]]); err != nil {
				return err
			}
			last++
		}
		e.raw = e.sets.append(e.raw[:0])
		if err := e.chunk(m, ChunkMetadata, e.raw, first, last-first); err != nil {
			return err
		}
		first = last
	}
	return nil
}

// verify decodes the encoded block and compares it with the rows that were added, and
// their digest with that of the records.
func (e *BlockEncoder) verify(m *BlockMeta, at uint64, streams *StreamTable, templates *templateTable) error {
	b := &Block{Meta: m, file: &blockFile{chunks: chunkReader{r: shifted{e.out, int64(at)}}, streams: streams.Streams, templates: templates.templates, folds: templates.folds.folds}}
	r, err := b.reader()
	if err != nil {
		return err
	}
	sum := newRowDigest(b)
	err = r.each(func(row int, offset uint64, metadata Labels, line []byte) error {
		from := e.sorted[row]
		if offset != m.FirstOffset+uint64(e.offsets[from]) || r.times[row] != e.times[from] || !bytes.Equal(line, e.text[e.starts[from]:e.ends[from]]) {
			return fmt.Errorf("row %d differs", row)
		}
		if len(e.metadata) > 0 && !metadata.Equal(e.metadata[from]) {
			return fmt.Errorf("structured metadata of row %d differs", row)
		}
		sum.add(row, r.times[row], offset, metadata, line)
		return nil
	})
	if err != nil {
		return err
	}
	if err := sum.end(); err != nil {
		return err
	}
	// The directory too: what a reader would refuse must not wait for the seal.
	directory := reader{b: m.append(nil)}
	if _, err := parseBlockMeta(&directory, len(streams.Streams), len(templates.templates), at+uint64(len(e.out))); err != nil {
		return err
	}
	if m.Digest = sum.sum; m.Digest != e.expected {
		return fmt.Errorf("digest %#x, the records' is %#x", m.Digest, e.expected)
	}
	return nil
}

// shifted reads bytes as if they stood at a later position.
type shifted struct {
	b  []byte
	at int64
}

func (s shifted) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(s.b).ReadAt(p, off-s.at)
}
