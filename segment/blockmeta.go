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
	Templates                  []TemplateUse // by local number
	Chunks                     []ChunkRef
}

// A TemplateUse is a template that lines of a block have.
type TemplateUse struct {
	ID   uint32 // in the segment's TEMPLATES
	Rows uint32
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
	u(uint64(len(m.Templates)))
	for _, t := range m.Templates {
		u(uint64(t.ID))
		u(uint64(t.Rows))
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

// parseBlockMeta decodes one directory. streams is how many streams there are to
// refer to, templates how many templates, fileEnd where the chunks must end.
func parseBlockMeta(r *reader, streams, templates int, fileEnd uint64) (*BlockMeta, error) {
	m := &BlockMeta{}
	m.Number = uint16(r.uvarint(MaxBlocks - 1))
	m.FirstIndex = r.uvarint(math.MaxUint64)
	m.LastIndex = m.FirstIndex + r.uvarint(math.MaxUint64)
	m.FirstOffset = r.uvarint(math.MaxUint64)
	m.EndOffset = m.FirstOffset + r.uvarint(math.MaxUint64)
	m.Rows = uint32(r.uvarint(MaxBlockRows))
	m.RawBytes = r.uvarint(maxFile)
	m.MinTimestamp = r.varint()
	m.MaxTimestamp = int64(uint64(m.MinTimestamp) + r.uvarint(math.MaxUint64))
	m.Digest = r.u64()
	copy(m.Chain[:], r.take(uint64(len(m.Chain))))
	m.Runs = make([]BlockRun, r.uvarint(min(MaxBlockRows, uint64(len(r.b)))))
	row := uint32(0)
	for i := range m.Runs {
		run := BlockRun{Stream: uint32(r.uvarint(uint64(streams) - 1)), FirstRow: row, Rows: uint32(r.uvarint(uint64(m.Rows - row)))}
		run.MinTimestamp = int64(uint64(m.MinTimestamp) + r.uvarint(math.MaxUint64))
		run.MaxTimestamp = int64(uint64(run.MinTimestamp) + r.uvarint(math.MaxUint64))
		run.RawBytes = r.uvarint(m.RawBytes)
		row += run.Rows
		m.Runs[i] = run
	}
	m.Templates = make([]TemplateUse, r.uvarint(min(maxTemplates, uint64(len(r.b)))))
	shaped := uint64(0)
	for i := range m.Templates {
		m.Templates[i] = TemplateUse{ID: uint32(r.uvarint(uint64(templates) - 1)), Rows: uint32(r.uvarint(uint64(m.Rows)))}
		shaped += uint64(m.Templates[i].Rows)
	}
	if shaped > uint64(m.Rows) || templates == 0 && len(m.Templates) > 0 {
		return nil, fmt.Errorf("block directory: templates of %d rows in %d", shaped, m.Rows)
	}
	m.Chunks = make([]ChunkRef, r.uvarint(min(1<<20, uint64(len(r.b)))))
	for i := range m.Chunks {
		c := ChunkRef{Kind: ChunkKind(r.uvarint(255)), Offset: r.uvarint(fileEnd), Encoded: uint32(r.uvarint(maxChunk)), Raw: uint32(r.uvarint(maxChunk))}
		c.FirstRow = uint32(r.uvarint(uint64(m.Rows)))
		c.Rows = uint32(r.uvarint(uint64(m.Rows - c.FirstRow)))
		if r.err == nil && (c.Offset%8 != 0 || c.Offset < fileHeaderSize || c.Offset+c.size() > fileEnd) {
			return nil, fmt.Errorf("chunk at %d of %d bytes is outside the blocks' part of the file", c.Offset, c.Encoded)
		}
		m.Chunks[i] = c
	}
	switch {
	case r.err != nil:
		return nil, fmt.Errorf("block directory: %w", r.err)
	case row != m.Rows || m.Rows == 0:
		return nil, fmt.Errorf("block directory: runs of %d rows, want %d", row, m.Rows)
	case m.EndOffset-m.FirstOffset < uint64(m.Rows) || m.MaxTimestamp < m.MinTimestamp:
		return nil, fmt.Errorf("block directory: %d rows in %d offsets", m.Rows, m.EndOffset-m.FirstOffset)
	}
	return m, nil
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
