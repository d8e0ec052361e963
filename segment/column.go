package segment

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// columnEncoding says how the values of one slot of one template in a block are stored.
// The numbers are part of the format.
type columnEncoding uint8

const (
	columnConst     columnEncoding = 0 // one value for all rows, in COLUMNS
	columnNumber    columnEncoding = 1 // numbers less the smallest, packed in bits in BIN
	columnPlanes    columnEncoding = 2 // the same as byte planes in NUM
	columnDict      columnEncoding = 3 // the distinct values in COLUMNS, and ids
	columnHex       columnEncoding = 5 // hex digits, two in a byte, in BIN
	columnText      columnEncoding = 6 // lengths packed in BIN, bytes in STR
	columnSplit     columnEncoding = 7 // numbers whose leading digits repeat: a dictionary of these, and the other digits packed in BIN
	columnHexPlanes columnEncoding = 9 // the same as byte planes in NUM
	columnFold      columnEncoding = 8 // the fold of a template, before its columns; a column of last digits packed in BIN
)

// idStorage says how the ids of a dictionary are stored.
type idStorage uint8

const (
	idsPacked  idStorage = 0 // packed in BIN
	idsPlanes  idStorage = 1 // byte planes in ID
	idsDerived idStorage = 2 // they follow from the ids of an earlier slot of the template, by a map in COLUMNS

	idsVariants idStorage = 3 // they follow from variants: not in COLUMNS
)

// numberFormat says how a number of a columnNumber or columnPlanes is written.
type numberFormat uint8

const (
	formatDecimal numberFormat = 0 // canonical: no leading zeros, '-' before negative ones
	formatFixed   numberFormat = 1 // as many digits as the parameter says, zeros in front
	formatDigits  numberFormat = 2 // any digits; their number stands in a column of its own
	formatPoint   numberFormat = 3 // canonical with as many digits behind a point as the parameter says
	formatIPv4    numberFormat = 4 // four canonical numbers with points between
	formatTime    numberFormat = 5 // RFC 3339 in UTC; the distance from the row's timestamp; parameter: timePattern
)

const (
	maxDigits      = 18   // of a number
	dictLimit      = 4096 // distinct values
	planesFrom     = 96   // rows from which on byte planes are used
	maxHexDigits   = 1 << 10
	maxColumnBytes = maxChunk
)

// A columnWriter gathers the columns of a block.
type columnWriter struct {
	directory []byte // COLUMNS
	packed    bitWriter
	streams   [streamCount][]byte // NUM, ID, STR; BIN is packed.out
	numbers   []int64
	lengths   []uint8
	dict      map[string]uint32
	distinct  []string
	ids       []uint32
	seen      map[int64]struct{}

	// Of the template being written: the columns that have ids.
	vectors []idVector
	mapping []int32
	chooser foldChooser
	// Of the rows being folded: their variants, and what one of them has.
	variants []uint32
	parts    [][]byte
	cuts     []uint8
	uuids    []byte
	added    []foldAddition // of the block
	highs    map[int64]uint32
	high     []int64
}

// An idVector is the ids of one column.
type idVector struct {
	slot  int
	count int
	ids   []uint32
}

// The packed streams of a block.
const (
	streamNumbers = iota // NUM
	streamIDs            // ID
	streamText           // STR
	streamBits           // BIN
	streamCount
)

var streamKinds = [streamCount]ChunkKind{ChunkNumbers, ChunkIDs, ChunkStrings, ChunkBinary}

// A columnSource is the values of one slot, in the order of rows.
type columnSource struct {
	text  []byte
	spans []slotValue // absolute in text
	times []int64     // of the rows
}

func (c *columnSource) value(i int) []byte { return c.text[c.spans[i].start:c.spans[i].end] }

// begin starts a template.
func (w *columnWriter) begin() { w.vectors = w.vectors[:0] }

// addIDs writes a column's ids, below count: not at all if they follow from those of an
// earlier column, as when two fields of a log always change together.
func (w *columnWriter) addIDs(slot int, ids []uint32, count int) {
	for i := range w.vectors {
		v := &w.vectors[i]
		if v.count > len(ids)/2 || !w.derive(v, ids) {
			continue
		}
		w.directory = binary.AppendUvarint(append(w.directory, byte(idsDerived)), uint64(v.slot))
		for _, id := range w.mapping {
			w.directory = binary.AppendUvarint(w.directory, uint64(max(id, 0)))
		}
		return
	}
	if len(w.vectors) < cap(w.vectors) {
		w.vectors = w.vectors[:len(w.vectors)+1]
	} else {
		w.vectors = append(w.vectors, idVector{})
	}
	v := &w.vectors[len(w.vectors)-1]
	v.slot, v.count, v.ids = slot, count, append(v.ids[:0], ids...)
	w.putIDs(ids, count)
}

// derive finds the map from an earlier column's ids, if there is one.
func (w *columnWriter) derive(v *idVector, ids []uint32) bool {
	w.mapping = w.mapping[:0]
	for range v.count {
		w.mapping = append(w.mapping, -1)
	}
	for i, id := range ids {
		switch known := w.mapping[v.ids[i]]; {
		case known < 0:
			w.mapping[v.ids[i]] = int32(id)
		case known != int32(id):
			return false
		}
	}
	return true
}

// add encodes a column: as the narrowest of what its values allow.
func (w *columnWriter) add(slot int, c *columnSource) {
	n := len(c.spans)
	first := c.value(0)
	constant := true
	for i := 1; i < n && constant; i++ {
		constant = string(c.value(i)) == string(first)
	}
	if constant {
		w.directory = append(w.directory, byte(columnConst))
		w.bytes(first)
		return
	}
	if format, parameter, ok := w.parse(c); ok && w.addNumbers(slot, format, parameter) {
		return
	}
	if w.addDict(slot, c) {
		return
	}
	if w.addHex(c) {
		return
	}
	w.addText(c)
}

func (w *columnWriter) bytes(b []byte) {
	w.directory = binary.AppendUvarint(w.directory, uint64(len(b)))
	w.directory = append(w.directory, b...)
}

// addDict encodes values that repeat.
func (w *columnWriter) addDict(slot int, c *columnSource) bool {
	n := len(c.spans)
	limit := min(n/2, dictLimit)
	if w.dict == nil {
		w.dict = map[string]uint32{}
	}
	clear(w.dict)
	w.distinct, w.ids = w.distinct[:0], w.ids[:0]
	for i := range c.spans {
		v := c.value(i)
		id, ok := w.dict[string(v)]
		if !ok {
			if len(w.distinct) >= limit {
				return false
			}
			id = uint32(len(w.distinct))
			own := string(v)
			w.dict[own] = id
			w.distinct = append(w.distinct, own)
		}
		w.ids = append(w.ids, id)
	}
	w.directory = append(w.directory, byte(columnDict))
	w.directory = binary.AppendUvarint(w.directory, uint64(len(w.distinct)))
	for _, v := range w.distinct {
		w.directory = binary.AppendUvarint(w.directory, uint64(len(v)))
		w.directory = append(w.directory, v...)
	}
	w.addIDs(slot, w.ids, len(w.distinct))
	return true
}

const (
	splitFrom   = 24 // rows from which on numbers are tried to be split
	splitSample = 48 // of which are looked at to find where
)

var powersOf10 = [maxDigits + 1]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

// addSplit encodes w.numbers as leading digits out of a dictionary and the digits behind
// them, if that is clearly smaller: ids that are given out in ranges look like this.
func (w *columnWriter) addSplit(slot int, format numberFormat, parameter uint8, smallest, largest int64) bool {
	if smallest < 0 {
		return false
	}
	n := len(w.numbers)
	step := max(n/splitSample, 1)
	whole := float64(bits.Len64(uint64(largest - smallest)))
	best, bestCost := 0, whole*0.9
	for k := 1; k <= maxDigits && powersOf10[k] <= largest; k++ {
		w.high = w.high[:0]
		for i := 0; i < n; i += step {
			w.high = append(w.high, w.numbers[i]/powersOf10[k])
		}
		slices.Sort(w.high)
		sample := len(w.high)
		distinct := len(slices.Compact(w.high))
		if distinct*2 > sample {
			continue
		}
		// Bits a number: of the low digits, of the id, and of the dictionary, of which the
		// sample shows a part only.
		cost := float64(k)*3.3219 + float64(bits.Len(uint(distinct))) + float64(distinct*32)/float64(n)
		if cost < bestCost {
			best, bestCost = k, cost
		}
	}
	if best == 0 {
		return false
	}
	if w.highs == nil {
		w.highs = map[int64]uint32{}
	}
	clear(w.highs)
	w.high, w.ids = w.high[:0], w.ids[:0]
	power := powersOf10[best]
	for _, x := range w.numbers {
		h := x / power
		id, ok := w.highs[h]
		if !ok {
			if len(w.high) >= min(n/3, dictLimit) {
				return false
			}
			id = uint32(len(w.high))
			w.highs[h] = id
			w.high = append(w.high, h)
		}
		w.ids = append(w.ids, id)
	}
	w.directory = append(w.directory, byte(columnSplit), byte(format), parameter, byte(best))
	w.directory = binary.AppendUvarint(w.directory, uint64(len(w.high)))
	for _, h := range w.high {
		w.directory = binary.AppendUvarint(w.directory, uint64(h))
	}
	if format == formatDigits {
		w.addLengths(w.lengths)
	}
	w.addIDs(slot, w.ids, len(w.high))
	width := uint(bits.Len64(uint64(power - 1)))
	for _, x := range w.numbers {
		w.packed.put(uint64(x%power), width)
	}
	w.packed.flush()
	return true
}

const hexDigits = "0123456789abcdef"

// addHex encodes hex digits, all of one length, in lower or in upper case.
func (w *columnWriter) addHex(c *columnSource) bool {
	length := len(c.value(0))
	if length == uuidLength && isUUID(c.value(0)) {
		return w.addUUID(c)
	}
	// Few values are smaller as text: the stream of text has those of other templates, too,
	// which are often the same.
	if length < 4 || length > maxHexDigits || len(c.spans) < planesFrom {
		return false
	}
	lower, upper := true, true
	for i := range c.spans {
		v := c.value(i)
		if len(v) != length {
			return false
		}
		for _, d := range v {
			switch {
			case byteClass[d] == classDigit:
			case byteClass[d] != classHex:
				return false
			case d >= 'a':
				upper = false
			default:
				lower = false
			}
		}
		if !lower && !upper {
			return false
		}
	}
	digitCase := byte(0)
	if !lower {
		digitCase = hexUpperCase
	}
	encoding := columnHex
	if c.hexRepeats(length) {
		encoding = columnHexPlanes
	}
	w.directory = append(w.directory, byte(encoding), digitCase)
	w.directory = binary.AppendUvarint(w.directory, uint64(length))
	if encoding == columnHexPlanes {
		out := w.streams[streamNumbers]
		for k := 0; k < length; k += 2 {
			for i := range c.spans {
				out = append(out, hexByte(c.value(i), k))
			}
		}
		w.streams[streamNumbers] = out
		return true
	}
	for i := range c.spans {
		v := c.value(i)
		for k := 0; k < length; k += 2 {
			w.packed.out = append(w.packed.out, hexByte(v, k))
		}
	}
	return true
}

// addUUID encodes UUIDs, all in one case, as the hex digits that they are.
func (w *columnWriter) addUUID(c *columnSource) bool {
	w.uuids = w.uuids[:0]
	plain := columnSource{spans: make([]slotValue, len(c.spans)), times: c.times}
	for i := range c.spans {
		v := c.value(i)
		if !isUUID(v) {
			return false
		}
		start := uint32(len(w.uuids))
		w.uuids = append(append(append(append(append(w.uuids, v[:8]...), v[9:13]...), v[14:18]...), v[19:23]...), v[24:36]...)
		plain.spans[i] = slotValue{start, uint32(len(w.uuids))}
	}
	plain.text = w.uuids
	at := len(w.directory)
	if !w.addHex(&plain) {
		return false
	}
	w.directory[at+1] |= hexUUID
	return true
}

// Parameters of columns of hex digits.
const (
	hexUpperCase = 1
	hexUUID      = 2 // 32 digits, with '-' behind the 8th, 12th, 16th and 20th
)

// hexRepeats reports whether a good part of the values' bytes are much the same in all
// of them, as those of ids that share a machine's or a second's part are.
func (c *columnSource) hexRepeats(length int) bool {
	same := 0
	for k := 0; k < length; k += 2 {
		var seen [4]uint64
		distinct := 0
		for i, n := 0, 64; i < n; i++ {
			b := hexByte(c.value(i*len(c.spans)/n), k)
			if word, bit := &seen[b>>6], uint64(1)<<(b&63); *word&bit == 0 {
				*word |= bit
				distinct++
			}
		}
		if distinct <= 20 {
			same++
		}
	}
	return same*2*4 >= length
}

// hexByte is two hex digits from the k-th on, or the last one.
func hexByte(v []byte, k int) byte {
	if k+1 == len(v) {
		return nibble(v[k])
	}
	return nibble(v[k])<<4 | nibble(v[k+1])
}

func nibble(d byte) byte {
	if d <= '9' {
		return d - '0'
	}
	return d&0xf + 9
}

// addText encodes values as they are.
func (w *columnWriter) addText(c *columnSource) {
	smallest, largest := uint32(1<<31), uint32(0)
	for _, s := range c.spans {
		smallest, largest = min(smallest, s.end-s.start), max(largest, s.end-s.start)
	}
	width := uint(bits.Len32(largest - smallest))
	w.directory = append(w.directory, byte(columnText))
	w.directory = binary.AppendUvarint(w.directory, uint64(smallest))
	w.directory = append(w.directory, byte(width))
	total := uint64(0)
	for _, s := range c.spans {
		total += uint64(s.end - s.start)
	}
	w.directory = binary.AppendUvarint(w.directory, total)
	for i, s := range c.spans {
		w.packed.put(uint64(s.end-s.start-smallest), width)
		w.streams[streamText] = append(w.streams[streamText], c.value(i)...)
	}
	w.packed.flush()
}
