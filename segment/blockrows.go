package segment

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// A blockReader gives the lines of a block's rows. What it needs is read when it is
// first needed. It is for one goroutine.
type blockReader struct {
	block   *Block
	times   []int64
	ids     []uint16 // template of each row; nil: all rows are stored as they are
	hasIDs  bool     // ids are read
	columns *blockColumns
	ranks   []uint32 // of each row among the rows of its template, or among those without one
	// byTemplate is the rows template by template; firstOf where those of one begin in it.
	byTemplate, firstOf []uint32
	loaded              []bool // by local template: all its columns are decoded

	fallback []*ChunkRef
	lines    []*lines
	metadata *blockMetadata
	pipeline *Pipeline   // that what is loaded goes through
	row      PipelineRow // of pipeline
	single   bool        // few lines will be asked for
	damaged  bool        // a line could not be put together: none is any more
}

// reader prepares the reading of rows, and reads their timestamps.
func (b *Block) reader() (*blockReader, error) {
	r := b.lazyReader()
	return r, r.loadTimes()
}

// loadTimes reads the timestamps, which are needed for everything but counts.
func (r *blockReader) loadTimes() (err error) {
	if r.times == nil {
		r.times, err = r.block.timestamps()
	}
	return err
}

// lazyReader is reader without the timestamps.
func (b *Block) lazyReader() *blockReader {
	r := &blockReader{block: b}
	for i := range b.Meta.Chunks {
		if c := &b.Meta.Chunks[i]; c.Kind == ChunkFallback {
			r.fallback = append(r.fallback, c)
		}
	}
	r.lines = make([]*lines, len(r.fallback))
	return r
}

// loadIDs reads the template of each row, and compares how many rows each has with the
// directory.
func (r *blockReader) loadIDs() error {
	if r.hasIDs {
		return nil
	}
	var err error
	if r.ids, err = r.block.templateIDs(); err != nil {
		return err
	}
	used := r.block.Meta.Templates
	counts := make([]uint32, len(used))
	for _, id := range r.ids {
		if int(id) < len(counts) {
			counts[id]++
		} else if id != fallbackID {
			return r.block.damage(ChunkTemplateIDs, fmt.Errorf("template %d of %d", id, len(counts)))
		}
	}
	for i := range counts {
		if r.ids != nil && counts[i] != used[i].Rows {
			return r.block.damage(ChunkTemplateIDs, fmt.Errorf("%d rows of template %d, want %d", counts[i], i, used[i].Rows))
		}
	}
	r.hasIDs = true
	return nil
}

// rank numbers the rows of each template, and those without one.
func (r *blockReader) rank() error {
	if r.ranks != nil {
		return nil
	}
	if err := r.loadIDs(); err != nil {
		return err
	}
	ranks := make([]uint32, r.block.Meta.Rows)
	if r.ids == nil {
		for i := range ranks {
			ranks[i] = uint32(i)
		}
		r.ranks = ranks
		return nil
	}
	counts := make([]uint32, len(r.block.Meta.Templates))
	bare := uint32(0)
	for i, id := range r.ids {
		if id == fallbackID {
			ranks[i] = bare
			bare++
			continue
		}
		ranks[i] = counts[id]
		counts[id]++
	}
	r.ranks = ranks
	return nil
}

// open reads the directory of the columns too.
func (r *blockReader) open() error {
	if err := r.rank(); err != nil || r.ids == nil {
		return err
	}
	return r.openColumns()
}

// openColumns reads the directory of the columns of a block that has templates.
func (r *blockReader) openColumns() error {
	if r.columns != nil {
		return nil
	}
	var err error
	if r.columns, err = r.block.columns(); err != nil {
		return err
	}
	if r.columns == nil {
		return r.block.damage(ChunkColumns, errors.New("there is none"))
	}
	r.loaded = make([]bool, len(r.columns.templates))
	return nil
}

// rowsOf returns the rows of a template, by rank. The ids must be loaded.
func (r *blockReader) rowsOf(local int) []uint32 {
	if r.byTemplate == nil {
		at := uint32(0)
		r.firstOf = make([]uint32, len(r.block.Meta.Templates))
		for i, u := range r.block.Meta.Templates {
			r.firstOf[i] = at
			at += u.Rows
		}
		r.byTemplate = make([]uint32, at)
		next := slices.Clone(r.firstOf)
		for row, id := range r.ids {
			if id != fallbackID {
				r.byTemplate[next[id]] = uint32(row)
				next[id]++
			}
		}
	}
	first := r.firstOf[local]
	return r.byTemplate[first : first+r.block.Meta.Templates[local].Rows]
}

// append appends the line of a row to dst.
func (r *blockReader) append(dst []byte, row int) ([]byte, error) {
	if err := r.open(); err != nil {
		return nil, err
	}
	if r.ids == nil || r.ids[row] == fallbackID {
		line, err := r.bare(r.ranks[row])
		return append(dst, line...), err
	}
	id := r.ids[row]
	t, err := r.columns.columnsOf(int(id))
	if err != nil {
		return nil, err
	}
	if r.single {
		return r.appendOne(dst, t, row)
	}
	if !r.loaded[id] {
		for k := range t.columns {
			if err := r.columns.load(t, &t.columns[k]); err != nil {
				return nil, err
			}
		}
		r.loaded[id] = true
	}
	rank, ts := int(r.ranks[row]), r.times[row]
	for k := range t.columns {
		dst = append(dst, t.template.literals[k]...)
		dst = t.columns[k].append(dst, rank, ts)
	}
	return append(dst, t.template.literals[len(t.columns)]...), nil
}

// appendOne is append for few rows of a block: it takes single values out of the
// columns instead of decoding these.
func (r *blockReader) appendOne(dst []byte, t *blockTemplate, row int) ([]byte, error) {
	rank, ts := int(r.ranks[row]), r.times[row]
	var err error
	for k := range t.columns {
		dst = append(dst, t.template.literals[k]...)
		if dst, err = r.columns.one(dst, t, &t.columns[k], rank, ts); err != nil {
			return nil, err
		}
	}
	return append(dst, t.template.literals[len(t.columns)]...), nil
}

// bare returns the line of the rank-th row that is stored as it is.
func (r *blockReader) bare(rank uint32) ([]byte, error) {
	for i, ref := range r.fallback {
		if rank >= ref.FirstRow && rank-ref.FirstRow < ref.Rows {
			l, err := r.bareChunk(i)
			if err != nil {
				return nil, err
			}
			return l.line(int(rank - ref.FirstRow)), nil
		}
	}
	return nil, r.block.damage(ChunkFallback, fmt.Errorf("no chunk holds line %d", rank))
}

// bareChunk returns the k-th FALLBACK chunk.
func (r *blockReader) bareChunk(k int) (*lines, error) {
	var err error
	if r.lines[k] == nil {
		r.lines[k], err = r.block.lines(r.fallback[k])
	}
	return r.lines[k], err
}

// each calls f with every row of the block, in block order.
func (r *blockReader) each(f func(row int, offset uint64, metadata Labels, line []byte) error) error {
	offsets, err := r.block.offsets()
	if err != nil {
		return err
	}
	metadata, err := r.block.allMetadata()
	if err != nil {
		return err
	}
	var line []byte
	raw := uint64(0)
	for row := range offsets {
		if line, err = r.append(line[:0], row); err != nil {
			return err
		}
		var set Labels
		if metadata != nil {
			set = metadata[row]
		}
		raw += uint64(len(line))
		if err := f(row, offsets[row], set, line); err != nil {
			return err
		}
	}
	if raw != r.block.Meta.RawBytes {
		return r.block.damage(ChunkColumns, fmt.Errorf("%d bytes of lines, want %d", raw, r.block.Meta.RawBytes))
	}
	return nil
}

// allMetadata decodes META; nil if no row has structured metadata.
func (b *Block) allMetadata() ([]Labels, error) {
	var all []Labels
	for i := range b.Meta.Chunks {
		ref := &b.Meta.Chunks[i]
		if ref.Kind != ChunkMetadata {
			continue
		}
		sets, err := b.metadata(ref)
		if err != nil {
			return nil, err
		}
		if int(ref.FirstRow) != len(all) {
			return nil, b.damage(ref.Kind, fmt.Errorf("chunk of row %d, want %d", ref.FirstRow, len(all)))
		}
		all = append(all, sets...)
	}
	if all != nil && len(all) != int(b.Meta.Rows) {
		return nil, b.damage(ChunkMetadata, fmt.Errorf("%d rows, want %d", len(all), b.Meta.Rows))
	}
	return all, nil
}

// rowDigest adds up Σ h·(offset+1) over a block's rows, and compares what the directory
// says of each run with its rows.
type rowDigest struct {
	block  *Block
	run    int
	hashed []byte
	sum    uint64

	lo, hi int64 // timestamps of the run so far
	raw    uint64
	err    error
}

func newRowDigest(b *Block) *rowDigest {
	return &rowDigest{block: b, lo: math.MaxInt64, hi: math.MinInt64}
}

// add takes the next row, in block order.
func (d *rowDigest) add(row int, ts int64, offset uint64, metadata Labels, line []byte) {
	for run := &d.block.Meta.Runs[d.run]; uint32(row) >= run.FirstRow+run.Rows; run = &d.block.Meta.Runs[d.run] {
		d.endRun()
	}
	d.lo, d.hi, d.raw = min(d.lo, ts), max(d.hi, ts), d.raw+uint64(len(line))
	var h uint64
	h, d.hashed = hashEntry(d.hashed, ts, d.block.Stream(&d.block.Meta.Runs[d.run]).ID, line, metadata)
	d.sum += h * (offset + 1)
}

// endRun compares the run with its rows.
func (d *rowDigest) endRun() {
	run := &d.block.Meta.Runs[d.run]
	if d.err == nil && (d.lo != run.MinTimestamp || d.hi != run.MaxTimestamp || d.raw != run.RawBytes) {
		d.err = d.block.damage(ChunkTimestamps, fmt.Errorf("run %d holds %d bytes from %d to %d, want %d from %d to %d",
			d.run, d.raw, d.lo, d.hi, run.RawBytes, run.MinTimestamp, run.MaxTimestamp))
	}
	d.run++
	d.lo, d.hi, d.raw = math.MaxInt64, math.MinInt64, 0
}

// end is called behind the last row.
func (d *rowDigest) end() error {
	d.endRun()
	lo, hi := int64(math.MaxInt64), int64(math.MinInt64)
	for _, run := range d.block.Meta.Runs {
		lo, hi = min(lo, run.MinTimestamp), max(hi, run.MaxTimestamp)
	}
	if m := d.block.Meta; d.err == nil && (lo != m.MinTimestamp || hi != m.MaxTimestamp) {
		d.err = d.block.damage(ChunkTimestamps, fmt.Errorf("timestamps from %d to %d, want %d to %d", lo, hi, m.MinTimestamp, m.MaxTimestamp))
	}
	return d.err
}

// verify reads all of the block and compares its digest with the directory's.
func (b *Block) verify() error {
	r, err := b.reader()
	if err != nil {
		return err
	}
	d := newRowDigest(b)
	err = r.each(func(row int, offset uint64, metadata Labels, line []byte) error {
		d.add(row, r.times[row], offset, metadata, line)
		return nil
	})
	if err == nil {
		err = d.end()
	}
	if err == nil && d.sum != b.Meta.Digest {
		err = &CorruptError{Path: b.file.chunks.path, Offset: int64(b.Meta.Chunks[0].Offset), What: fmt.Sprintf("block %d", b.Meta.Number),
			Err: fmt.Errorf("digest %#x, want %#x", d.sum, b.Meta.Digest)}
	}
	return err
}
