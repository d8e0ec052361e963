package segment

import (
	"encoding/binary"
	"math/bits"
)

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
	r := t % unit
	if r < 0 {
		r += unit
	}
	return t - r
}

// addNumbers encodes w.numbers. It declines if few distinct values make a dictionary
// the better choice.
func (w *columnWriter) addNumbers(slot int, format numberFormat, parameter uint8) bool {
	smallest, largest := w.numbers[0], w.numbers[0]
	for _, x := range w.numbers {
		smallest, largest = min(smallest, x), max(largest, x)
	}
	span := uint64(largest) - uint64(smallest)
	width := uint(bits.Len64(span))
	n := len(w.numbers)
	switch {
	case format == formatTime:
	case width > 8 && n >= 32 && w.fewDistinct(n/4):
		return false
	case width > 0 && width <= 8 && n >= 256 && w.fewDistinct(32):
		// As small, and queries decide on each value once.
		return false
	}
	if width > 8 && n >= splitFrom && format != formatTime && w.addSplit(slot, format, parameter, smallest, largest) {
		return true
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
