package segment

import (
	"encoding/binary"
	"fmt"
	"math"
)

// BlockMeta is the directory of one block: what is in it, in numbers, and where its
// chunks stand. It answers counts and time ranges without a read of the block.
type BlockMeta struct {
	Number                     uint16
	FirstIndex, LastIndex      uint64 // records of the log
	FirstOffset, EndOffset     uint64 // [first, end) with the gaps
	Rows                       uint32
	RawBytes                   uint64 // of all lines
	MinTimestamp, MaxTimestamp int64
	Digest                     uint64 // Σ h·(offset+1) over the rows
	Chain                      Chain  // of the record LastIndex
	Runs                       []BlockRun
	Chunks                     []ChunkRef
}

// A BlockRun is the rows of one stream in a block. They stand together, in the order
// of their offsets; the runs in the order of their stream's reference.
type BlockRun struct {
	Stream                     uint32 // reference in the segment's STREAMS
	FirstRow, Rows             uint32
	MinTimestamp, MaxTimestamp int64
	RawBytes                   uint64
}

func (m *BlockMeta) append(dst []byte) []byte {
	u := func(v uint64) { dst = binary.AppendUvarint(dst, v) }
	u(uint64(m.Number))
	u(m.FirstIndex)
	u(m.LastIndex - m.FirstIndex)
	u(m.FirstOffset)
	u(m.EndOffset - m.FirstOffset)
	u(uint64(m.Rows))
	u(m.RawBytes)
	dst = binary.AppendVarint(dst, m.MinTimestamp)
	u(uint64(m.MaxTimestamp) - uint64(m.MinTimestamp))
	dst = binary.LittleEndian.AppendUint64(dst, m.Digest)
	dst = append(dst, m.Chain[:]...)
	u(uint64(len(m.Runs)))
	for _, r := range m.Runs {
		u(uint64(r.Stream))
		u(uint64(r.Rows))
		u(uint64(r.MinTimestamp) - uint64(m.MinTimestamp))
		u(uint64(r.MaxTimestamp) - uint64(r.MinTimestamp))
		u(r.RawBytes)
	}
	u(uint64(len(m.Chunks)))
	for _, c := range m.Chunks {
		u(uint64(c.Kind))
		u(c.Offset)
		u(uint64(c.Encoded))
		u(uint64(c.Raw))
		u(uint64(c.FirstRow))
		u(uint64(c.Rows))
	}
	return dst
}

// maxBlockStored bounds what the chunks of a block decode to. Lines and metadata of a
// block come from payloads of at most MaxPayload; a chunk may repeat lists of names.
const maxBlockStored = 1 << 30

// parseBlockMeta decodes one directory and checks that it is sound in itself: readers
// rely on it without a further look. streams is how many streams there are to refer to,
// fileEnd where the chunks must end.
func parseBlockMeta(r *reader, streams int, fileEnd uint64) (*BlockMeta, error) {
	m := &BlockMeta{}
	m.Number = uint16(r.uvarint(MaxBlocks - 1))
	m.FirstIndex = r.uvarint(math.MaxUint64)
	m.LastIndex = m.FirstIndex + r.uvarint(math.MaxUint64-m.FirstIndex)
	m.FirstOffset = r.uvarint(math.MaxUint64)
	m.EndOffset = m.FirstOffset + r.uvarint(math.MaxUint64-m.FirstOffset)
	m.Rows = uint32(r.uvarint(MaxBlockRows))
	m.RawBytes = r.uvarint(maxFile)
	m.MinTimestamp = r.varint()
	m.MaxTimestamp = r.above(m.MinTimestamp)
	m.Digest = r.u64()
	copy(m.Chain[:], r.take(uint64(len(m.Chain))))
	if err := m.parseRuns(r, streams); err != nil {
		return nil, fmt.Errorf("block directory: %w", err)
	}
	if err := m.parseChunks(r, fileEnd); err != nil {
		return nil, fmt.Errorf("block directory: %w", err)
	}
	if m.EndOffset-m.FirstOffset < uint64(m.Rows) {
		return nil, fmt.Errorf("block directory: %d rows in %d offsets", m.Rows, m.EndOffset-m.FirstOffset)
	}
	return m, nil
}

// above reads a timestamp as its distance from one that is not larger.
func (r *reader) above(t int64) int64 {
	return int64(uint64(t) + r.uvarint(uint64(math.MaxInt64)-uint64(t)))
}

func (m *BlockMeta) parseRuns(r *reader, streams int) error {
	// A run takes at least five bytes.
	m.Runs = make([]BlockRun, r.uvarint(min(MaxBlockRows, uint64(len(r.b))/5)))
	row, raw := uint32(0), uint64(0)
	for i := range m.Runs {
		run := BlockRun{Stream: uint32(r.uvarint(math.MaxUint32)), FirstRow: row, Rows: uint32(r.uvarint(uint64(m.Rows - row)))}
		run.MinTimestamp = r.above(m.MinTimestamp)
		run.MaxTimestamp = r.above(run.MinTimestamp)
		run.RawBytes = r.uvarint(m.RawBytes - raw)
		switch {
		case r.err != nil:
			return r.err
		case uint64(run.Stream) >= uint64(streams) || i > 0 && run.Stream <= m.Runs[i-1].Stream:
			return fmt.Errorf("run %d is of stream %d, out of %d", i, run.Stream, streams)
		case run.Rows == 0 || run.MaxTimestamp > m.MaxTimestamp:
			return fmt.Errorf("run %d of %d rows ends at %d, the block at %d", i, run.Rows, run.MaxTimestamp, m.MaxTimestamp)
		}
		row += run.Rows
		raw += run.RawBytes
		m.Runs[i] = run
	}
	if r.err == nil && (row != m.Rows || row == 0 || raw != m.RawBytes) {
		return fmt.Errorf("runs of %d rows with %d bytes, want %d with %d", row, raw, m.Rows, m.RawBytes)
	}
	return r.err
}

// rowKind reports whether the chunks of a kind are cut by rows. Kinds that this version
// does not know are left alone: without a required feature bit they may be ignored.
func rowKind(k ChunkKind) bool {
	return k == ChunkTimestamps || k == ChunkOrder || k == ChunkFallback || k == ChunkMetadata
}

// parseChunks also checks that there are the chunks that every block has, and that
// those of lines and metadata cover its rows one after the other.
func (m *BlockMeta) parseChunks(r *reader, fileEnd uint64) error {
	// A chunk takes at least six bytes.
	m.Chunks = make([]ChunkRef, r.uvarint(uint64(len(r.b))/6))
	var rows [256]uint32
	var count [256]int
	stored := uint64(0)
	for i := range m.Chunks {
		c := ChunkRef{Kind: ChunkKind(r.uvarint(255)), Offset: r.uvarint(fileEnd), Encoded: uint32(r.uvarint(maxChunk)), Raw: uint32(r.uvarint(maxChunk))}
		c.FirstRow = uint32(r.uvarint(uint64(m.Rows)))
		c.Rows = uint32(r.uvarint(uint64(m.Rows - c.FirstRow)))
		switch {
		case r.err != nil:
			return r.err
		case c.Offset%8 != 0 || c.Offset < fileHeaderSize || c.Offset+c.size() > fileEnd:
			return fmt.Errorf("%s chunk at %d of %d bytes is outside the blocks' part of the file", c.Kind, c.Offset, c.Encoded)
		case rowKind(c.Kind) && (c.Rows == 0 || c.FirstRow != rows[c.Kind]):
			return fmt.Errorf("%s chunk of %d rows from row %d, want row %d", c.Kind, c.Rows, c.FirstRow, rows[c.Kind])
		}
		rows[c.Kind] += c.Rows
		count[c.Kind]++
		if stored += uint64(c.Raw); stored > maxBlockStored {
			return fmt.Errorf("chunks of more than %d bytes", maxBlockStored)
		}
		m.Chunks[i] = c
	}
	if r.err != nil {
		return r.err
	}
	for _, kind := range []ChunkKind{ChunkTimestamps, ChunkOrder, ChunkFallback, ChunkMetadata} {
		switch {
		case kind == ChunkMetadata && count[kind] == 0:
		case rows[kind] != m.Rows || (kind == ChunkTimestamps || kind == ChunkOrder) && count[kind] != 1:
			return fmt.Errorf("%d %s chunks of %d rows, want %d", count[kind], kind, rows[kind], m.Rows)
		}
	}
	return nil
}

// find returns the first chunk of a kind, or nil.
func (m *BlockMeta) find(kind ChunkKind) *ChunkRef {
	for i := range m.Chunks {
		if m.Chunks[i].Kind == kind {
			return &m.Chunks[i]
		}
	}
	return nil
}
