package segment

import "strconv"

// append appends the text of value i, which belongs to a row with timestamp ts. The
// column must be loaded.
func (col *column) append(dst []byte, i int, ts int64) []byte {
	switch col.encoding {
	case columnConst:
		return append(dst, col.entries[0]...)
	case columnDict:
		return append(dst, col.entries[col.ids[i]]...)
	case columnFold:
		id := col.ids[i]
		dst = append(dst, col.entries[id]...)
		return digits(dst, int64(col.numbers[i]), int(col.slot.cuts[id]))
	case columnText:
		start := uint64(0)
		if i > 0 {
			start = col.numbers[i-1]
		}
		return append(dst, col.payload[start:col.numbers[i]]...)
	case columnHex, columnHexPlanes:
		return col.appendHex(dst, i)
	}
	x := col.smallest + int64(col.numbers[i])
	switch col.format {
	case formatFixed:
		return digits(dst, x, int(col.parameter))
	case formatDigits:
		return digits(dst, x, int(col.lengths[i]))
	case formatPoint:
		return appendPoint(dst, x, int(col.parameter))
	case formatIPv4:
		for shift := 24; shift >= 0; shift -= 8 {
			dst = strconv.AppendUint(dst, uint64(x)>>shift&255, 10)
			if shift > 0 {
				dst = append(dst, '.')
			}
		}
		return dst
	case formatTime:
		p := timePattern(col.parameter)
		return p.append(dst, floor(ts, p.unit())+x)
	}
	return strconv.AppendInt(dst, x, 10)
}

func appendPoint(dst []byte, x int64, scale int) []byte {
	if x < 0 {
		dst = append(dst, '-')
		x = -x
	}
	var b [24]byte
	d := strconv.AppendUint(b[:0], uint64(x), 10)
	for len(d) <= scale {
		d = append(d[:1], d...)
		d[0] = '0'
	}
	dst = append(dst, d[:len(d)-scale]...)
	dst = append(dst, '.')
	return append(dst, d[len(d)-scale:]...)
}

const hexUpper = "0123456789ABCDEF"

// hexText is the length of the values of hex digits, and the bytes that they can have.
func (col *column) hexText() (length int, digits string) {
	length, digits = int(col.smallest), hexDigits
	if col.parameter&hexUpperCase != 0 {
		digits = hexUpper
	}
	if col.parameter&hexUUID != 0 {
		return uuidLength, digits + "-"
	}
	return length, digits
}

func (col *column) appendHex(dst []byte, i int) []byte {
	table := hexDigits
	if col.parameter&hexUpperCase != 0 {
		table = hexUpper
	}
	length := int(col.smallest)
	size := (length + 1) / 2
	uuid := col.parameter&hexUUID != 0
	for k, v := range col.payload[i*size : (i+1)*size] {
		if uuid && k >= 4 && k <= 10 && k%2 == 0 {
			dst = append(dst, '-')
		}
		if 2*k+1 < length {
			dst = append(dst, table[v>>4])
		}
		dst = append(dst, table[v&15])
	}
	return dst
}
