package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// one appends the text of a single value without decoding the column: of a row or two
// it is far cheaper. It is the same text that append gives after load.
func (c *blockColumns) one(dst []byte, t *blockTemplate, col *column, i int, ts int64) ([]byte, error) {
	if col.decoded || col.encoding == columnText {
		if err := c.load(t, col); err != nil {
			return nil, err
		}
		return col.append(dst, i, ts), nil
	}
	if col.encoding == columnConst {
		return append(dst, col.entries[0]...), nil
	}
	v, err := c.single(t, col, i)
	if err != nil {
		if !errors.Is(err, ErrCorrupt) {
			err = c.block.damage(ChunkColumns, err)
		}
		return nil, err
	}
	return v.append(dst, 0, ts), nil
}

// single is a decoded column of value i alone.
func (c *blockColumns) single(t *blockTemplate, col *column, i int) (*column, error) {
	one := &column{encoding: col.encoding, format: col.format, parameter: col.parameter, smallest: col.smallest, rows: 1,
		entries: col.entries, power: col.power, high: col.high, use: col.use, slot: col.slot, decoded: true}
	bitsAt := col.at[streamBits]
	packed := func(width uint) (uint64, error) {
		b, err := c.payloads[streamBits].bytes(bitsAt, packedSize(col.rows, width))
		bitsAt += packedSize(col.rows, width)
		if err != nil || width == 0 {
			return 0, err
		}
		return unpackOne(b, i, width), nil
	}
	var err error
	if col.format == formatDigits && col.encoding != columnDict && col.encoding != columnHex && col.encoding != columnHexPlanes {
		n, err := packed(col.lenWidth)
		if err != nil {
			return nil, err
		}
		if n += uint64(col.lenMin); n > maxDigits || n == 0 {
			return nil, fmt.Errorf("number of %d digits", n)
		}
		one.lengths = []uint64{n}
	}
	id := uint64(0)
	if col.slot != nil && col.encoding != columnConst {
		variant, err := c.single(t, &col.use.variants, i)
		if err != nil {
			return nil, err
		}
		one.ids = []uint32{col.slot.id(variant.ids[0])}
	} else if col.count > 0 {
		if id, err = c.singleID(t, col, i, packed); err != nil {
			return nil, err
		}
		one.ids = []uint32{uint32(id)}
	}
	switch col.encoding {
	case columnNumber:
		v, err := packed(col.width)
		one.numbers = []uint64{v}
		return one, err
	case columnPlanes:
		v, err := c.singlePlanes(streamNumbers, col.at[streamNumbers], col.rows, col.width, i)
		one.numbers = []uint64{v}
		return one, err
	case columnSplit:
		low, err := packed(col.width)
		if err == nil && low >= uint64(col.power) {
			err = fmt.Errorf("low digits %d, must be below %d", low, col.power)
		}
		one.numbers = []uint64{low + uint64(col.high[id])*uint64(col.power)}
		return one, err
	case columnFold:
		low, err := packed(col.width)
		one.numbers = []uint64{low}
		if err == nil {
			err = one.checkLow()
		}
		return one, err
	case columnHexPlanes:
		size := int((col.smallest + 1) / 2)
		b, err := c.payloads[streamNumbers].bytes(col.at[streamNumbers], col.rows*size)
		if err != nil {
			return nil, err
		}
		one.payload = make([]byte, size)
		for k := range size {
			one.payload[k] = b[k*col.rows+i]
		}
	case columnHex:
		size := int((col.smallest + 1) / 2)
		b, err := c.payloads[streamBits].bytes(bitsAt, col.rows*size)
		if err != nil {
			return nil, err
		}
		one.payload = b[i*size : (i+1)*size]
	}
	return one, nil
}

func (c *blockColumns) singleID(t *blockTemplate, col *column, i int, packed func(uint) (uint64, error)) (id uint64, err error) {
	switch col.storage {
	case idsPacked:
		id, err = packed(col.idWidth())
	case idsPlanes:
		id, err = c.singlePlanes(streamIDs, col.at[streamIDs], col.rows, col.idWidth(), i)
	case idsDerived:
		source, err := c.single(t, &t.columns[col.source], i)
		if err != nil {
			return 0, err
		}
		id = uint64(col.mapping[source.ids[0]])
	}
	if err == nil && id >= uint64(col.count) {
		err = fmt.Errorf("id %d in a dictionary of %d", id, col.count)
	}
	return id, err
}

func (c *blockColumns) singlePlanes(stream, at, rows int, width uint, i int) (uint64, error) {
	k := planes(width)
	b, err := c.payloads[stream].bytes(at, rows*k)
	if err != nil {
		return 0, err
	}
	var v uint64
	for p := range k {
		v |= uint64(b[p*rows+i]) << (8 * p)
	}
	return v, nil
}

// unpackOne is value i of unpack.
func unpackOne(b []byte, i int, bits uint) uint64 {
	at := uint(i) * bits
	byteAt, shift := int(at>>3), at&7
	var word [16]byte
	copy(word[:9], b[byteAt:])
	v := binary.LittleEndian.Uint64(word[:]) >> shift
	if shift+bits > 64 {
		v |= uint64(word[8]) << (64 - shift)
	}
	return v & (^uint64(0) >> (64 - bits))
}
