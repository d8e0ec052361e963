package segment

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
)

// A Rewriter writes the entries of sealed segments, which follow each other in the log,
// into one open segment. Small blocks are joined; entries, offsets, gaps and digest stay
// what they are. The blocks of the inputs are read one at a time.
//
// It is for one goroutine at a time, and must not be used any more after an error: the open
// segment is to be closed and removed then. The inputs must stay open until Seal.
type Rewriter struct {
	open   *Open
	inputs []*Segment
	want   Sealed // range and sums of all inputs
	input  int    // place of the next block
	block  int
	rows   rewrittenRows
}

// NewRewriter prepares a rewrite into an open segment without blocks. It refuses inputs
// that do not follow each other, and with ErrTooLarge those that together are more than one
// segment may hold.
func NewRewriter(o *Open, inputs []*Segment) (*Rewriter, error) {
	if len(o.blocks) > 0 || len(inputs) == 0 {
		return nil, fmt.Errorf("rewriting %d segments into one that has %d blocks", len(inputs), len(o.blocks))
	}
	w := &Rewriter{open: o, inputs: inputs, want: inputs[0].Sealed}
	for i, s := range inputs {
		if s.LogID != o.logID {
			return nil, fmt.Errorf("rewriting %q: log id %x, want %x", s.path, s.LogID, o.logID)
		}
		if i == 0 {
			continue
		}
		t := &w.want
		if s.FirstIndex != t.LastIndex+1 || s.FirstOffset != t.EndOffset {
			return nil, fmt.Errorf("rewriting %q: it begins with record %d and offset %d behind record %d and offset %d", s.path, s.FirstIndex, s.FirstOffset, t.LastIndex, t.EndOffset)
		}
		t.LastIndex, t.EndOffset, t.Chain = s.LastIndex, s.EndOffset, s.Chain
		t.Entries += s.Entries
		t.RawBytes += s.RawBytes
		t.Digest += s.Digest
		t.MinTimestamp, t.MaxTimestamp = min(t.MinTimestamp, s.MinTimestamp), max(t.MaxTimestamp, s.MaxTimestamp)
	}
	return w, w.checkTables()
}

// checkTables adds up what the inputs have of what a segment has bounds for. Templates keep
// a quarter free: joined blocks may have some that neither had alone.
func (w *Rewriter) checkTables() error {
	blocks, streamBytes, templateBytes := 0, 0, 0
	streams, templates := map[string]bool{}, map[string]bool{}
	var key []byte
	for _, s := range w.inputs {
		blocks += len(s.Blocks)
		for _, stream := range s.Streams() {
			if key = stream.AppendKey(key[:0]); !streams[string(key)] {
				streams[string(key)] = true
				streamBytes += len(key)
			}
		}
		for _, t := range s.Blocks[0].file.templates {
			if !templates[string(t.key)] {
				templates[string(t.key)] = true
				templateBytes += len(t.key)
			}
		}
	}
	if blocks > MaxBlocks || len(streams) > maxStreams-MaxBlockRows || streamBytes > maxChunk/3 ||
		len(templates) > maxTemplates/4*3 || templateBytes > maxTemplateBytes/4*3 {
		return fmt.Errorf("rewriting %d segments with %d blocks, %d streams of %d bytes and %d templates of %d bytes: %w for one segment",
			len(w.inputs), blocks, len(streams), streamBytes, len(templates), templateBytes, ErrTooLarge)
	}
	return nil
}

// next returns the next block of the inputs, or nil.
func (w *Rewriter) next() *Block {
	if w.input == len(w.inputs) {
		return nil
	}
	return w.inputs[w.input].Blocks[w.block]
}

func (w *Rewriter) advance() {
	if w.block++; w.block == len(w.inputs[w.input].Blocks) {
		w.input, w.block = w.input+1, 0
	}
}

// Step writes one block, of as many of the inputs' next ones as fit into it. It reports
// whether that was the last. An input that does not hold what it says is ErrCorrupt.
func (w *Rewriter) Step(e *BlockEncoder) (done bool, err error) {
	b := w.next()
	if b == nil {
		return true, nil
	}
	if w.open.Full() {
		return false, fmt.Errorf("rewriting into %q: %w for one segment", w.open.path, ErrTooLarge)
	}
	e.Reset(uint16(len(w.open.blocks)), b.Meta.FirstIndex, b.Meta.FirstOffset)
	metadata := uint64(0) // bytes of META chunks
	for ; b != nil; b = w.next() {
		// A block of an input is never cut: which of its rows are of which record is not
		// known any more, and blocks of one file share no record.
		if metadata += metadataBytes(b.Meta); !e.takes(b.Meta, metadata) {
			break
		}
		if err := w.rows.read(b); err != nil {
			return false, err
		}
		if err := e.addRows(&w.rows, &w.open.streams); err != nil {
			return false, err
		}
		w.advance()
	}
	if _, err := w.open.Append(e); err != nil {
		return false, err
	}
	return b == nil, nil
}

// Seal seals the open segment behind the last step, if it holds what the inputs held.
func (w *Rewriter) Seal() (Sealed, error) {
	if w.next() != nil {
		return Sealed{}, errors.New("sealing a rewritten segment before its last block")
	}
	t := w.open.trailer(w.want.SealRange)
	got := t.sealed(0)
	want := w.want
	want.Length, want.Root = got.Length, got.Root
	if got != want {
		return Sealed{}, fmt.Errorf("the rewritten segment %q holds %+v, its inputs %+v", w.open.path, got, want)
	}
	return w.open.Seal(w.want.SealRange)
}

func metadataBytes(m *BlockMeta) (n uint64) {
	for i := range m.Chunks {
		if m.Chunks[i].Kind == ChunkMetadata {
			n += uint64(m.Chunks[i].Raw)
		}
	}
	return n
}

// takes reports whether the rows of a block can join those that were gathered; metadata
// is how many bytes all of them have then. The first block always can.
func (e *BlockEncoder) takes(m *BlockMeta, metadata uint64) bool {
	return len(e.refs) == 0 || len(e.refs)+int(m.Rows) <= MaxBlockRows && uint64(len(e.text))+m.RawBytes+metadata <= MaxBlockRaw &&
		m.EndOffset-e.meta.FirstOffset <= math.MaxUint32
}

// rewrittenRows are the rows of a block in the order of their offsets.
type rewrittenRows struct {
	meta    *BlockMeta
	data    Data
	offsets []uint64

	text  []byte // in block order
	order []rewrittenRow
}

type rewrittenRow struct {
	offset     uint64
	row        uint32
	start, end uint32 // in text
}

// read decodes a block and compares its rows with its directory.
func (r *rewrittenRows) read(b *Block) error {
	from, err := b.reader()
	if err != nil {
		return err
	}
	r.meta, r.text, r.order = b.Meta, r.text[:0], r.order[:0]
	d := &r.data
	d.Streams, d.Runs, d.Timestamps, d.Ends, d.Text, d.Metadata = d.Streams[:0], d.Runs[:0], d.Timestamps[:0], d.Ends[:0], d.Text[:0], nil
	sets := make([]Labels, b.Meta.Rows)
	some := false
	sum := newRowDigest(b)
	err = from.each(func(row int, offset uint64, metadata Labels, line []byte) error {
		start := uint32(len(r.text))
		r.text = append(r.text, line...)
		r.order = append(r.order, rewrittenRow{offset, uint32(row), start, uint32(len(r.text))})
		sets[row] = metadata
		some = some || metadata != nil
		sum.add(row, from.times[row], offset, metadata, line)
		return nil
	})
	if err == nil {
		err = sum.end()
	}
	if err == nil && sum.sum != b.Meta.Digest {
		err = b.damage(ChunkTimestamps, fmt.Errorf("its rows have digest %#x, want %#x", sum.sum, b.Meta.Digest))
	}
	if err != nil {
		return err
	}
	slices.SortFunc(r.order, func(a, b rewrittenRow) int { return cmp.Compare(a.offset, b.offset) })
	for i := range b.Meta.Runs {
		d.Streams = append(d.Streams, b.Stream(&b.Meta.Runs[i]))
	}
	r.offsets = r.offsets[:0]
	for _, o := range r.order {
		run := b.runOf(o.row)
		if n := len(d.Runs); n > 0 && d.Runs[n-1].Stream == run && r.offsets[len(r.offsets)-1]+1 == o.offset {
			d.Runs[n-1].Count++
		} else {
			d.Runs = append(d.Runs, Run{run, 1})
		}
		r.offsets = append(r.offsets, o.offset)
		d.Timestamps = append(d.Timestamps, from.times[o.row])
		d.Text = append(d.Text, r.text[o.start:o.end]...)
		d.Ends = append(d.Ends, uint32(len(d.Text)))
		if some {
			d.Metadata = append(d.Metadata, sets[o.row])
		}
	}
	return nil
}

// runOf returns the place of the run that a row belongs to.
func (b *Block) runOf(row uint32) uint32 {
	i, found := slices.BinarySearchFunc(b.Meta.Runs, row, func(r BlockRun, row uint32) int { return cmp.Compare(r.FirstRow, row) })
	if !found {
		i--
	}
	return uint32(i)
}

// addRows adds the rows of a block as records: one for each stretch of offsets without a
// gap, all with the index of the block's last record. The digest that the rows must have
// once they are encoded is that of the block's directory.
func (e *BlockEncoder) addRows(r *rewrittenRows, streams *StreamTable) error {
	digest := r.meta.Digest
	row, run, text := 0, 0, uint32(0)
	for first := 0; first < len(r.offsets); first = row {
		d := Data{Streams: r.data.Streams}
		begin := run
		for row = first; row < len(r.offsets) && (row == first || r.offsets[row] == r.offsets[row-1]+1); run++ {
			row += int(r.data.Runs[run].Count)
		}
		d.Runs, d.Timestamps = r.data.Runs[begin:run], r.data.Timestamps[first:row]
		d.Ends = make([]uint32, row-first)
		for i := range d.Ends {
			d.Ends[i] = r.data.Ends[first+i] - text
		}
		d.Text = r.data.Text[text:r.data.Ends[row-1]]
		text = r.data.Ends[row-1]
		if r.data.Metadata != nil {
			d.Metadata = r.data.Metadata[first:row]
		}
		if first > 0 {
			e.meta.LastIndex-- // the next record of the encoder is still this block
		}
		h := Header{Type: RecordData, Index: r.meta.LastIndex, Offset: r.offsets[first], Count: uint32(row - first), DigestB: digest, Chain: r.meta.Chain}
		digest = 0
		if err := e.Add(&h, &d, streams); err != nil {
			return err
		}
	}
	e.meta.EndOffset = r.meta.EndOffset
	return nil
}
