package segment

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
)

// A column is the stored values of one slot of one template in a block. Its payload is
// decoded when a value is first asked for.
type column struct {
	encoding  columnEncoding
	format    numberFormat
	parameter uint8
	width     uint  // bits
	smallest  int64 // of numbers; of lengths for columnText
	rows      int
	lenMin    uint8 // formatDigits: of the numbers of digits
	lenWidth  uint
	entries   [][]byte // columnConst: one; columnDict: the dictionary
	power     int64    // columnSplit: of the leading digits' unit
	high      []int64  // columnSplit: the dictionary of the leading digits
	use       *foldUse // of a folded slot
	slot      *foldSlot

	// Ids, of columnDict and columnSplit.
	count   int // of the dictionary
	storage idStorage
	source  int      // idsDerived: slot
	mapping []uint32 // idsDerived: by the ids of the source
	ids     []uint32

	at [streamCount]int // where its payload begins in each packed stream

	decoded bool
	numbers []uint64 // numbers less smallest; lengths turned into ends
	lengths []uint64 // formatDigits
	payload []byte   // columnHex, columnText
}

// blockColumns is the columns of a block and what they are read from.
type blockColumns struct {
	block     *Block
	templates []blockTemplate
	payloads  [streamCount]*packedStream
	ends      [streamCount]int // of the payloads
}

// A blockTemplate is a template as a block uses it. Its columns' directory is read when
// it is first needed: a query needs that of few templates.
type blockTemplate struct {
	template  *Template
	rows      int
	directory []byte
	at        [streamCount]int // where its columns' payloads begin
	columns   []column         // nil: not read yet
	id        uint32           // in the segment
}

// A packedStream is the chunks of one kind of a block, read one by one as needed.
type packedStream struct {
	block  *Block
	refs   []*ChunkRef
	starts []int    // of each chunk in the stream, and the end of all
	data   [][]byte // nil: not read yet
}

func (b *Block) packed(kind ChunkKind) *packedStream {
	p := &packedStream{block: b, starts: []int{0}}
	for i := range b.Meta.Chunks {
		if c := &b.Meta.Chunks[i]; c.Kind == kind {
			p.refs = append(p.refs, c)
			p.starts = append(p.starts, p.starts[len(p.starts)-1]+int(c.Raw))
		}
	}
	p.data = make([][]byte, len(p.refs))
	return p
}

// bytes returns n bytes at a position. A column's payload is never split between chunks.
func (p *packedStream) bytes(at, n int) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	lo, hi := 0, len(p.refs)
	for lo < hi {
		if mid := (lo + hi) / 2; p.starts[mid+1] <= at {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(p.refs) || at < p.starts[lo] || at+n > p.starts[lo+1] {
		return nil, fmt.Errorf("column of %d bytes at %d is outside its chunks", n, at)
	}
	if p.data[lo] == nil {
		data, err := p.block.read(p.refs[lo])
		if err != nil {
			return nil, err
		}
		p.data[lo] = data
	}
	return p.data[lo][at-p.starts[lo]:][:n:n], nil
}

// columns reads the directory of the columns; nil if the block has no templates.
func (b *Block) columns() (*blockColumns, error) {
	ref := b.Meta.find(ChunkColumns)
	if ref == nil {
		return nil, nil
	}
	raw, err := b.read(ref)
	if err != nil {
		return nil, err
	}
	c := &blockColumns{block: b}
	for i, kind := range streamKinds {
		c.payloads[i] = b.packed(kind)
	}
	if err := c.parse(raw); err != nil {
		return nil, b.damage(ChunkColumns, err)
	}
	return c, nil
}

func (c *blockColumns) parse(raw []byte) error {
	r := reader{b: raw}
	var at [streamCount]int
	used := c.block.Meta.Templates
	c.templates = make([]blockTemplate, len(used))
	lengths := make([]uint64, len(used))
	for i := range c.templates {
		t := &c.templates[i]
		t.rows, t.template, t.at, t.id = int(used[i].Rows), c.block.file.templates[used[i].ID], at, used[i].ID
		lengths[i] = r.uvarint(uint64(len(r.b)))
		for k := range at {
			at[k] += int(r.uvarint(maxFile))
		}
	}
	for i := range c.templates {
		c.templates[i].directory = r.take(lengths[i])
	}
	for k, p := range c.payloads {
		if size := p.starts[len(p.starts)-1]; at[k] != size && r.err == nil {
			return fmt.Errorf("%s of %d bytes for columns of %d", streamKinds[k], size, at[k])
		}
	}
	c.ends = at
	return r.done()
}

// columnsOf reads the directory of a template's columns.
func (c *blockColumns) columnsOf(local int) (*blockTemplate, error) {
	t := &c.templates[local]
	if t.columns != nil {
		return t, nil
	}
	r := reader{b: t.directory}
	at := t.at
	columns := make([]column, t.template.slots())
	use, err := c.parseFoldUse(&r, t, t.id, &at)
	if err != nil {
		return nil, c.block.damage(ChunkColumns, fmt.Errorf("template %d: %w", local, err))
	}
	for k := range columns {
		if s := use.slot(k); s != nil {
			columns[k] = use.folded(s, t.rows, &at)
			continue
		}
		if err := columns[k].parse(&r, t.rows, columns[:k], &at); err != nil {
			return nil, c.block.damage(ChunkColumns, fmt.Errorf("template %d, slot %d: %w", local, k, err))
		}
	}
	if err := r.done(); err != nil {
		return nil, c.block.damage(ChunkColumns, fmt.Errorf("template %d: %w", local, err))
	}
	end := c.ends
	if local+1 < len(c.templates) {
		end = c.templates[local+1].at
	}
	if at != end {
		return nil, c.block.damage(ChunkColumns, fmt.Errorf("template %d: its columns end elsewhere", local))
	}
	t.columns = columns
	return t, nil
}

// parse reads a column's directory entry and moves `at` behind its payload.
func (col *column) parse(r *reader, rows int, earlier []column, at *[streamCount]int) error {
	col.encoding, col.rows, col.at = columnEncoding(r.uvarint(uint64(columnHexPlanes))), rows, *at
	switch col.encoding {
	case columnConst:
		col.entries = [][]byte{r.bytes(maxColumnBytes)}
	case columnNumber, columnPlanes:
		col.format, col.parameter = numberFormat(r.uvarint(uint64(formatTime))), uint8(r.uvarint(255))
		col.smallest, col.width = r.varint(), uint(r.uvarint(64))
		if err := col.checkFormat(); err != nil {
			return err
		}
		if col.format == formatDigits {
			col.lenMin, col.lenWidth = uint8(r.uvarint(maxDigits)), uint(r.uvarint(8))
			at[streamBits] += packedSize(rows, col.lenWidth)
		}
		if col.encoding == columnNumber {
			at[streamBits] += packedSize(rows, col.width)
		} else {
			at[streamNumbers] += rows * planes(col.width)
		}
	case columnDict:
		col.entries = make([][]byte, r.uvarint(min(dictLimit, uint64(len(r.b)))))
		for i := range col.entries {
			col.entries[i] = r.bytes(maxColumnBytes)
		}
		if err := col.parseIDs(r, rows, len(col.entries), earlier, at); err != nil {
			return err
		}
	case columnSplit:
		col.format, col.parameter = numberFormat(r.uvarint(uint64(formatIPv4))), uint8(r.uvarint(maxDigits))
		if err := col.checkFormat(); err != nil {
			return err
		}
		low := r.uvarint(maxDigits)
		col.power = powersOf10[low]
		col.high = make([]int64, r.uvarint(min(dictLimit, uint64(len(r.b)))))
		for i := range col.high {
			col.high[i] = int64(r.uvarint(uint64(math.MaxInt64 / col.power)))
		}
		if col.format == formatDigits {
			col.lenMin, col.lenWidth = uint8(r.uvarint(maxDigits)), uint(r.uvarint(8))
			at[streamBits] += packedSize(rows, col.lenWidth)
		}
		if err := col.parseIDs(r, rows, len(col.high), earlier, at); err != nil {
			return err
		}
		col.width = uint(bits.Len64(uint64(col.power - 1)))
		at[streamBits] += packedSize(rows, col.width)
	case columnHex, columnHexPlanes:
		col.parameter = uint8(r.uvarint(hexUpperCase | hexUUID))
		if col.smallest = int64(r.uvarint(maxHexDigits)); col.smallest == 0 && r.err == nil {
			return errors.New("hex digits, none of them")
		}
		if col.parameter&hexUUID != 0 && col.smallest != uuidLength-4 && r.err == nil {
			return fmt.Errorf("UUID of %d digits", col.smallest)
		}
		if col.encoding == columnHex {
			at[streamBits] += rows * int((col.smallest+1)/2)
		} else {
			at[streamNumbers] += rows * int((col.smallest+1)/2)
		}
	case columnText:
		col.smallest, col.width = int64(r.uvarint(maxColumnBytes)), uint(r.uvarint(32))
		at[streamBits] += packedSize(rows, col.width)
		// The bytes' length is known when the lengths are: it is stored beside them.
		at[streamText] += int(r.uvarint(maxColumnBytes))
		col.lenWidth = uint(at[streamText] - col.at[streamText])
	default:
		return fmt.Errorf("unknown encoding %d", col.encoding)
	}
	return r.err
}

// checkFormat refuses parameters that no format has.
func (col *column) checkFormat() error {
	ok := col.parameter == 0
	switch col.format {
	case formatFixed, formatPoint:
		ok = col.parameter > 0 && col.parameter <= maxDigits
	case formatTime:
		ok = col.parameter < timePatterns
	}
	if !ok {
		return fmt.Errorf("number format %d with parameter %d", col.format, col.parameter)
	}
	return nil
}

// parseIDs reads how the ids of a dictionary of count entries are stored.
func (col *column) parseIDs(r *reader, rows, count int, earlier []column, at *[streamCount]int) error {
	if count == 0 {
		return errors.New("empty dictionary")
	}
	col.count = count
	col.storage = idStorage(r.uvarint(uint64(idsDerived)))
	switch col.storage {
	case idsPacked:
		at[streamBits] += packedSize(rows, col.idWidth())
	case idsPlanes:
		at[streamIDs] += rows * planes(col.idWidth())
	case idsDerived:
		col.source = int(r.uvarint(maxSlots))
		if col.source >= len(earlier) || earlier[col.source].count == 0 || earlier[col.source].storage >= idsDerived {
			return fmt.Errorf("ids that follow from those of slot %d", col.source)
		}
		col.mapping = make([]uint32, earlier[col.source].count)
		for i := range col.mapping {
			col.mapping[i] = uint32(r.uvarint(uint64(count) - 1))
		}
	}
	return r.err
}

func (col *column) idWidth() uint { return uint(bits.Len(uint(col.count - 1))) }

// planes is the bytes of a number in byte planes.
func planes(width uint) int { return int(width+7) / 8 }

// load decodes the payload of a column of a template.
func (c *blockColumns) load(t *blockTemplate, col *column) error {
	if col.decoded {
		return nil
	}
	if col.storage == idsDerived {
		if err := c.load(t, &t.columns[col.source]); err != nil {
			return err
		}
	}
	if col.slot != nil && col.encoding != columnConst {
		if err := c.foldIDs(t, col); err != nil {
			return err
		}
	}
	err := c.loadPayload(t, col)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		err = c.block.damage(ChunkColumns, err)
	}
	col.decoded = err == nil
	return err
}

func (c *blockColumns) loadPayload(t *blockTemplate, col *column) error {
	n := col.rows
	bitsAt := col.at[streamBits]
	packed := func(width uint) ([]uint64, error) {
		b, err := c.payloads[streamBits].bytes(bitsAt, packedSize(n, width))
		if err != nil {
			return nil, err
		}
		bitsAt += len(b)
		out := make([]uint64, n)
		unpack(out, b, width)
		return out, nil
	}
	inPlanes := func(stream int, width uint) ([]uint64, error) {
		k := planes(width)
		b, err := c.payloads[stream].bytes(col.at[stream], n*k)
		if err != nil {
			return nil, err
		}
		out := make([]uint64, n)
		for p := range k {
			for i, v := range b[p*n : (p+1)*n] {
				out[i] |= uint64(v) << (8 * p)
			}
		}
		return out, nil
	}
	var err error
	if col.format == formatDigits && (col.encoding == columnNumber || col.encoding == columnPlanes || col.encoding == columnSplit) {
		if col.lengths, err = packed(col.lenWidth); err != nil {
			return err
		}
		for i := range col.lengths {
			if col.lengths[i] += uint64(col.lenMin); col.lengths[i] > maxDigits || col.lengths[i] == 0 {
				return fmt.Errorf("number of %d digits", col.lengths[i])
			}
		}
	}
	if col.count > 0 && col.storage != idsVariants {
		var ids []uint64
		switch col.storage {
		case idsPacked:
			ids, err = packed(col.idWidth())
		case idsPlanes:
			ids, err = inPlanes(streamIDs, col.idWidth())
		}
		if err != nil {
			return err
		}
		col.ids = make([]uint32, n)
		if col.storage == idsDerived {
			for i, id := range t.columns[col.source].ids {
				col.ids[i] = col.mapping[id]
			}
		}
		for i, id := range ids {
			if id >= uint64(col.count) {
				return fmt.Errorf("id %d in a dictionary of %d", id, col.count)
			}
			col.ids[i] = uint32(id)
		}
	}
	switch col.encoding {
	case columnNumber, columnPlanes:
		if col.encoding == columnNumber {
			col.numbers, err = packed(col.width)
		} else {
			col.numbers, err = inPlanes(streamNumbers, col.width)
		}
	case columnSplit:
		if col.numbers, err = packed(col.width); err != nil {
			return err
		}
		for i, low := range col.numbers {
			if low >= uint64(col.power) {
				return fmt.Errorf("low digits %d, must be below %d", low, col.power)
			}
			col.numbers[i] += uint64(col.high[col.ids[i]]) * uint64(col.power)
		}
	case columnFold:
		if col.numbers, err = packed(col.width); err == nil {
			err = col.checkLow()
		}
	case columnHexPlanes:
		size := int((col.smallest + 1) / 2)
		var b []byte
		if b, err = c.payloads[streamNumbers].bytes(col.at[streamNumbers], n*size); err == nil {
			col.payload = make([]byte, n*size)
			for k := range size {
				for i, v := range b[k*n : (k+1)*n] {
					col.payload[i*size+k] = v
				}
			}
		}
	case columnHex:
		col.payload, err = c.payloads[streamBits].bytes(bitsAt, n*int((col.smallest+1)/2))
	case columnText:
		if col.numbers, err = packed(col.width); err != nil {
			return err
		}
		end := uint64(0)
		for i, l := range col.numbers {
			end += l + uint64(col.smallest)
			col.numbers[i] = end
		}
		if end != uint64(col.lenWidth) {
			return fmt.Errorf("text of %d bytes, want %d", col.lenWidth, end)
		}
		col.payload, err = c.payloads[streamText].bytes(col.at[streamText], int(end))
	}
	return err
}

// appendTemplateIDs writes the row → local template column, as two byte planes.
func appendTemplateIDs(dst []byte, ids []uint16) []byte {
	for _, id := range ids {
		dst = append(dst, byte(id))
	}
	for _, id := range ids {
		dst = append(dst, byte(id>>8))
	}
	return dst
}

// fallbackID marks a row whose line is stored as it is.
const fallbackID = math.MaxUint16

// templateIDs decodes TID; nil if the block has no templates.
func (b *Block) templateIDs() ([]uint16, error) {
	ref := b.Meta.find(ChunkTemplateIDs)
	if ref == nil {
		return nil, nil
	}
	raw, err := b.read(ref)
	if err != nil {
		return nil, err
	}
	n := int(b.Meta.Rows)
	if len(raw) != 2*n {
		return nil, b.damage(ChunkTemplateIDs, fmt.Errorf("%d bytes, want %d", len(raw), 2*n))
	}
	ids := make([]uint16, n)
	for i := range ids {
		ids[i] = uint16(raw[i]) | uint16(raw[n+i])<<8
	}
	return ids, nil
}
