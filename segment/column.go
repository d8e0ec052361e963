package segment

import (
	"encoding/binary"
	"math/bits"
)

// columnEncoding says how the values of one slot of one template in a block are stored.
// The numbers are part of the format.
type columnEncoding uint8

const (
	columnConst  columnEncoding = 0 // one value for all rows, in COLUMNS
	columnNumber columnEncoding = 1 // numbers less the smallest, packed in bits in BIN
	columnPlanes columnEncoding = 2 // the same as byte planes in NUM
	columnDict   columnEncoding = 3 // the distinct values in COLUMNS, ids packed in BIN
	columnDictID columnEncoding = 4 // the same, ids as byte planes in ID
	columnHex    columnEncoding = 5 // hex digits, two in a byte, in BIN
	columnText   columnEncoding = 6 // lengths packed in BIN, bytes in STR
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

// add encodes a column: as the narrowest of what its values allow.
func (w *columnWriter) add(c *columnSource) {
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
	if format, parameter, ok := w.parse(c); ok && w.addNumbers(format, parameter) {
		return
	}
	if w.addDict(c) {
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

// parse reads all values as numbers of one format, if they are.
func (w *columnWriter) parse(c *columnSource) (numberFormat, uint8, bool) {
	first := c.value(0)
	if len(first) == 0 {
		return 0, 0, false
	}
	switch {
	case len(first) >= 20 && first[4] == '-' && first[len(first)-1] == 'Z':
		return w.parseTimes(c)
	case byteClass[first[0]] != classDigit && first[0] != '-':
		return 0, 0, false
	}
	w.numbers, w.lengths = w.numbers[:0], w.lengths[:0]
	canonical, fixed := true, true
	for i := range c.spans {
		v := c.value(i)
		if len(v) == 0 || len(v) > maxDigits {
			return w.parsePoints(c)
		}
		var x int64
		negative := v[0] == '-' && len(v) > 1
		digits := v
		if negative {
			digits = v[1:]
		}
		for _, d := range digits {
			if d -= '0'; d > 9 {
				return w.parsePoints(c)
			}
			x = x*10 + int64(d)
		}
		if negative {
			if digits[0] == '0' {
				return w.parsePoints(c)
			}
			x, fixed = -x, false
		}
		canonical = canonical && (digits[0] != '0' || len(v) == 1)
		fixed = fixed && len(v) == len(first)
		w.numbers = append(w.numbers, x)
		w.lengths = append(w.lengths, uint8(len(v)))
		if !canonical && negative {
			return 0, 0, false
		}
	}
	switch {
	case canonical:
		return formatDecimal, 0, true
	case fixed:
		return formatFixed, uint8(len(first)), true
	}
	for _, x := range w.numbers {
		if x < 0 {
			return 0, 0, false
		}
	}
	return formatDigits, 0, true
}

// parsePoints reads values as numbers with a point, or as IPv4 addresses.
func (w *columnWriter) parsePoints(c *columnSource) (numberFormat, uint8, bool) {
	w.numbers = w.numbers[:0]
	scale := -1
	for i := range c.spans {
		x, s, ok := parsePoint(c.value(i))
		if !ok || scale >= 0 && s != scale {
			return w.parseIPv4s(c)
		}
		scale = s
		w.numbers = append(w.numbers, x)
	}
	return formatPoint, uint8(scale), true
}

// parsePoint reads canonical digits, a point, and at least one digit.
func parsePoint(v []byte) (mantissa int64, scale int, ok bool) {
	negative := len(v) > 0 && v[0] == '-'
	if negative {
		v = v[1:]
	}
	if len(v) < 3 || len(v) > maxDigits || v[0] == '0' && v[1] != '.' {
		return 0, 0, false
	}
	point := -1
	for i, d := range v {
		if d == '.' && point < 0 && i > 0 {
			point = i
			continue
		}
		if d -= '0'; d > 9 {
			return 0, 0, false
		}
		mantissa = mantissa*10 + int64(d)
	}
	if point < 0 || point == len(v)-1 || negative && mantissa == 0 {
		return 0, 0, false
	}
	if negative {
		mantissa = -mantissa
	}
	return mantissa, len(v) - 1 - point, true
}

func (w *columnWriter) parseIPv4s(c *columnSource) (numberFormat, uint8, bool) {
	w.numbers = w.numbers[:0]
	for i := range c.spans {
		x, ok := parseIPv4(c.value(i))
		if !ok {
			return 0, 0, false
		}
		w.numbers = append(w.numbers, x)
	}
	return formatIPv4, 0, true
}

func parseIPv4(v []byte) (int64, bool) {
	if len(v) < 7 || len(v) > 15 {
		return 0, false
	}
	var x, part int64
	parts, digits := 0, 0
	for i := 0; i <= len(v); i++ {
		if i == len(v) || v[i] == '.' {
			if digits == 0 || part > 255 {
				return 0, false
			}
			x = x<<8 | part
			parts++
			part, digits = 0, 0
			continue
		}
		d := v[i] - '0'
		if d > 9 || digits > 0 && part == 0 || digits == 3 {
			return 0, false
		}
		part = part*10 + int64(d)
		digits++
	}
	return x, parts == 4
}

func (w *columnWriter) parseTimes(c *columnSource) (numberFormat, uint8, bool) {
	w.numbers = w.numbers[:0]
	pattern, ok := timePatternOf(c.value(0))
	if !ok {
		return 0, 0, false
	}
	unit := pattern.unit()
	for i := range c.spans {
		t, ok := pattern.parse(c.value(i))
		if !ok {
			if pattern != timeTrimmed {
				// Nanoseconds without trailing zeros look like any other pattern now and then.
				return w.parseTrimmed(c)
			}
			return 0, 0, false
		}
		w.numbers = append(w.numbers, t-floor(c.times[i], unit))
	}
	return formatTime, uint8(pattern), true
}

func (w *columnWriter) parseTrimmed(c *columnSource) (numberFormat, uint8, bool) {
	w.numbers = w.numbers[:0]
	for i := range c.spans {
		t, ok := timeTrimmed.parse(c.value(i))
		if !ok {
			return 0, 0, false
		}
		w.numbers = append(w.numbers, t-c.times[i])
	}
	return formatTime, uint8(timeTrimmed), true
}

// floor rounds a timestamp down to a whole unit.
func floor(t, unit int64) int64 {
	if r := t % unit; r < 0 {
		return t - r - unit
	} else {
		return t - r
	}
}

// addNumbers encodes w.numbers. It declines if few distinct values make a dictionary
// the better choice.
func (w *columnWriter) addNumbers(format numberFormat, parameter uint8) bool {
	smallest, largest := w.numbers[0], w.numbers[0]
	for _, x := range w.numbers {
		smallest, largest = min(smallest, x), max(largest, x)
	}
	span := uint64(largest) - uint64(smallest)
	width := uint(bits.Len64(span))
	n := len(w.numbers)
	if width > 8 && n >= 32 && format != formatTime && w.fewDistinct(n/4) {
		return false
	}
	planes := n >= planesFrom && width > 0
	encoding := columnNumber
	if planes {
		encoding = columnPlanes
	}
	w.directory = append(w.directory, byte(encoding), byte(format), parameter)
	w.directory = binary.AppendVarint(w.directory, smallest)
	w.directory = append(w.directory, byte(width))
	if format == formatDigits {
		w.addLengths(w.lengths)
	}
	if !planes {
		for _, x := range w.numbers {
			w.packed.put(uint64(x)-uint64(smallest), width)
		}
		w.packed.flush()
		return true
	}
	out := w.streams[streamNumbers]
	for plane := uint(0); plane < width; plane += 8 {
		for _, x := range w.numbers {
			out = append(out, byte((uint64(x)-uint64(smallest))>>plane))
		}
	}
	w.streams[streamNumbers] = out
	return true
}

// addLengths writes small numbers, less the smallest, packed.
func (w *columnWriter) addLengths(lengths []uint8) {
	smallest, largest := lengths[0], lengths[0]
	for _, l := range lengths {
		smallest, largest = min(smallest, l), max(largest, l)
	}
	width := uint(bits.Len8(largest - smallest))
	w.directory = append(w.directory, smallest, byte(width))
	for _, l := range lengths {
		w.packed.put(uint64(l-smallest), width)
	}
	w.packed.flush()
}

// fewDistinct reports whether w.numbers has at most limit (and 256) distinct values.
func (w *columnWriter) fewDistinct(limit int) bool {
	limit = min(limit, 256)
	if w.seen == nil {
		w.seen = map[int64]struct{}{}
	}
	clear(w.seen)
	for _, x := range w.numbers {
		w.seen[x] = struct{}{}
		if len(w.seen) > limit {
			return false
		}
	}
	return true
}

// addDict encodes values that repeat.
func (w *columnWriter) addDict(c *columnSource) bool {
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
	width := uint(bits.Len(uint(len(w.distinct) - 1)))
	encoding := columnDict
	if n >= planesFrom {
		encoding = columnDictID
	}
	w.directory = append(w.directory, byte(encoding))
	w.directory = binary.AppendUvarint(w.directory, uint64(len(w.distinct)))
	for _, v := range w.distinct {
		w.directory = binary.AppendUvarint(w.directory, uint64(len(v)))
		w.directory = append(w.directory, v...)
	}
	if encoding == columnDict {
		for _, id := range w.ids {
			w.packed.put(uint64(id), width)
		}
		w.packed.flush()
		return true
	}
	for plane := uint(0); plane < width; plane += 8 {
		for _, id := range w.ids {
			w.streams[streamIDs] = append(w.streams[streamIDs], byte(id>>plane))
		}
	}
	return true
}

const hexDigits = "0123456789abcdef"

// addHex encodes hex digits, all of one length, in lower or in upper case.
func (w *columnWriter) addHex(c *columnSource) bool {
	length := len(c.value(0))
	if length < 4 || length > maxHexDigits {
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
		digitCase = 1
	}
	w.directory = append(w.directory, byte(columnHex), digitCase)
	w.directory = binary.AppendUvarint(w.directory, uint64(length))
	for i := range c.spans {
		v := c.value(i)
		for k := 0; k+1 < length; k += 2 {
			w.packed.out = append(w.packed.out, nibble(v[k])<<4|nibble(v[k+1]))
		}
		if length%2 == 1 {
			w.packed.out = append(w.packed.out, nibble(v[length-1]))
		}
	}
	return true
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
