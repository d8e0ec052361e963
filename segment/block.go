package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A Block is up to 65,536 encoded entries that can be read and searched. Open and
// sealed segments hold the same blocks. It is immutable and safe for concurrent use.
type Block struct {
	Meta *BlockMeta
	file *blockFile
}

// A blockFile is what the blocks of one file have in common.
type blockFile struct {
	chunks    chunkReader
	streams   []*Stream      // by reference
	templates []*Template    // by number
	folds     []*fold        // by number
	filter    *segmentFilter // nil: there is none
}

// Stream returns the stream of a run.
func (b *Block) Stream(r *BlockRun) *Stream { return b.file.streams[r.Stream] }

func (b *Block) read(ref *ChunkRef) ([]byte, error) { return b.file.chunks.read(ref, b.Meta.Number) }

func (b *Block) damage(kind ChunkKind, err error) error {
	e := &CorruptError{Path: b.file.chunks.path, What: fmt.Sprintf("%s chunk of block %d", kind, b.Meta.Number), Err: err}
	if ref := b.Meta.find(kind); ref != nil {
		e.Offset = int64(ref.Offset)
	}
	return e
}

// timestamps decodes TS: the timestamps of all rows in block order.
func (b *Block) timestamps() ([]int64, error) {
	ref := b.Meta.find(ChunkTimestamps)
	if ref == nil {
		return nil, b.damage(ChunkTimestamps, errors.New("there is none"))
	}
	raw, err := b.read(ref)
	if err != nil {
		return nil, err
	}
	times, err := decodeTimestamps(b.Meta, raw)
	if err != nil {
		return nil, b.damage(ChunkTimestamps, err)
	}
	return times, nil
}

func decodeTimestamps(m *BlockMeta, raw []byte) ([]int64, error) {
	if len(raw) < 10 || raw[0] != 1 || raw[1] > 8 {
		return nil, errors.New("unknown encoding")
	}
	width, smallest := int(raw[1]), binary.LittleEndian.Uint64(raw[2:])
	r := reader{b: raw[10:]}
	times := make([]int64, m.Rows)
	for _, run := range m.Runs {
		if run.Rows == 0 {
			return nil, errors.New("run without rows")
		}
		times[run.FirstRow] = int64(uint64(run.MinTimestamp) + r.uvarint(math.MaxUint64))
	}
	rows := int(m.Rows) - len(m.Runs)
	if r.err != nil || len(r.b) != rows*width {
		return nil, fmt.Errorf("%d bytes of distances, want %d: %w", len(r.b), rows*width, r.fault())
	}
	i := 0
	for _, run := range m.Runs {
		t := uint64(times[run.FirstRow])
		for k := run.FirstRow + 1; k < run.FirstRow+run.Rows; k++ {
			v := smallest
			for w := range width {
				v += uint64(r.b[w*rows+i]) << (8 * w)
			}
			t += v
			times[k] = int64(t)
			i++
		}
		for _, t := range times[run.FirstRow : run.FirstRow+run.Rows] {
			if t < run.MinTimestamp || t > run.MaxTimestamp {
				return nil, fmt.Errorf("timestamp %d outside its run's range", t)
			}
		}
	}
	return times, nil
}

// offsets decodes ORDER: the offsets of all rows in block order.
func (b *Block) offsets() ([]uint64, error) {
	ref := b.Meta.find(ChunkOrder)
	if ref == nil {
		return nil, b.damage(ChunkOrder, errors.New("there is none"))
	}
	raw, err := b.read(ref)
	if err != nil {
		return nil, err
	}
	out, err := decodeOrder(b.Meta, raw)
	if err != nil {
		return nil, b.damage(ChunkOrder, err)
	}
	return out, nil
}

func decodeOrder(m *BlockMeta, raw []byte) ([]uint64, error) {
	next := make([]uint32, len(m.Runs))
	for i, run := range m.Runs {
		next[i] = run.FirstRow
	}
	out := make([]uint64, m.Rows)
	offset, rows := m.FirstOffset, uint32(0)
	r := reader{b: raw}
	for len(r.b) > 0 && r.err == nil {
		run := r.uvarint(uint64(len(m.Runs)))
		count := r.uvarint(m.EndOffset - offset)
		if run > 0 {
			at, end := next[run-1], m.Runs[run-1].FirstRow+m.Runs[run-1].Rows
			if count > uint64(end-at) {
				return nil, fmt.Errorf("%d rows too many in run %d", count, run-1)
			}
			for i := range uint32(count) {
				out[at+i] = offset + uint64(i)
			}
			next[run-1] += uint32(count)
			rows += uint32(count)
		}
		offset += count
	}
	if r.err != nil || rows != m.Rows {
		return nil, fmt.Errorf("%d rows, want %d: %w", rows, m.Rows, r.fault())
	}
	return out, nil
}

// lines is the decoded lines of one FALLBACK chunk.
type lines struct {
	first uint32   // row of the block
	ends  []uint32 // in text
	text  []byte
}

func (l *lines) line(i int) []byte {
	start := uint32(0)
	if i > 0 {
		start = l.ends[i-1]
	}
	return l.text[start:l.ends[i]:l.ends[i]]
}

func (b *Block) lines(ref *ChunkRef) (*lines, error) {
	raw, err := b.read(ref)
	if err != nil {
		return nil, err
	}
	l, err := decodeLines(ref, raw)
	if err != nil {
		return nil, &CorruptError{Path: b.file.chunks.path, Offset: int64(ref.Offset), What: "FALLBACK chunk", Err: err}
	}
	return l, nil
}

func decodeLines(ref *ChunkRef, raw []byte) (*lines, error) {
	if len(raw) < 4 {
		return nil, errShort
	}
	n := binary.LittleEndian.Uint32(raw)
	if uint64(n) > uint64(len(raw)-4) || n < ref.Rows {
		return nil, fmt.Errorf("%d bytes of lengths for %d rows in %d", n, ref.Rows, len(raw))
	}
	r := reader{b: raw[4 : 4+n]}
	l := &lines{first: ref.FirstRow, ends: make([]uint32, ref.Rows), text: raw[4+n:]}
	end := uint64(0)
	for i := range l.ends {
		end += r.uvarint(MaxLine)
		if end > uint64(len(l.text)) {
			return nil, fmt.Errorf("line %d ends at byte %d of %d", i, end, len(l.text))
		}
		l.ends[i] = uint32(end)
	}
	if err := r.done(); err != nil || end != uint64(len(l.text)) {
		return nil, fmt.Errorf("lines of %d bytes, want %d: %w", len(l.text), end, r.fault())
	}
	return l, nil
}

// metadata decodes one META chunk: the sets of its rows, nil where there is none.
func (b *Block) metadata(ref *ChunkRef) ([]Labels, error) {
	raw, err := b.read(ref)
	if err != nil {
		return nil, err
	}
	sets, err := parseMetadata(raw, int(ref.Rows))
	if err != nil {
		return nil, &CorruptError{Path: b.file.chunks.path, Offset: int64(ref.Offset), What: "META chunk", Err: err}
	}
	if sets == nil {
		sets = make([]Labels, ref.Rows)
	}
	return sets, nil
}
