package segment

import "bytes"

// test reports whether a value satisfies the condition.
func (c *slotCondition) test(value []byte) bool {
	k := len(c.text)
	n := planNeedle{fold: c.fold}
	switch c.kind {
	case valueContains:
		if !n.fold {
			return bytes.Contains(value, c.text)
		}
		for i := 0; i+k <= len(value); i++ {
			if n.equal(value[i:i+k], c.text) {
				return true
			}
		}
		return false
	case valueBegins:
		return len(value) >= k && n.equal(value[:k], c.text)
	case valueEnds:
		return len(value) >= k && n.equal(value[len(value)-k:], c.text)
	}
	return len(value) == k && n.equal(value, c.text)
}

// mayHold reports whether any value of the column can satisfy a condition, by the
// directory alone.
func (col *column) mayHold(c *slotCondition) bool {
	switch col.encoding {
	case columnConst:
		return c.test(col.entries[0])
	case columnHex, columnHexPlanes:
		length, _ := col.hexText()
		if len(c.text) > length || c.kind == valueEquals && len(c.text) != length {
			return false
		}
		for _, d := range c.text {
			if class := byteClass[d]; class != classDigit && class != classHex && (d != '-' || length == int(col.smallest)) {
				return false
			}
		}
	case columnDict:
		for _, e := range col.entries {
			if c.test(e) {
				return true
			}
		}
		return false
	case columnFold:
		return col.mayFold(c)
	case columnNumber, columnPlanes, columnSplit:
		allowed := ""
		switch col.format {
		case formatDecimal:
			allowed = "-"
		case formatPoint:
			allowed = "-."
		case formatIPv4:
			allowed = "."
		case formatTime:
			allowed = "-:.TZtz"
		}
		for _, d := range c.text {
			if byteClass[d] != classDigit && bytes.IndexByte([]byte(allowed), d) < 0 {
				return false
			}
		}
	}
	return true
}

// filter clears keep[i] for each value that does not satisfy a condition.
func (c *blockColumns) filter(t *blockTemplate, cond *slotCondition, keep []bool, times func(i int) int64) error {
	col := &t.columns[cond.slot]
	if !col.mayHold(cond) {
		clear(keep)
		return nil
	}
	if col.encoding == columnConst {
		return nil
	}
	if err := c.load(t, col); err != nil {
		return err
	}
	if col.encoding == columnDict {
		holds := make([]bool, len(col.entries))
		for i, e := range col.entries {
			holds[i] = cond.test(e)
		}
		for i, id := range col.ids {
			keep[i] = keep[i] && holds[id]
		}
		return nil
	}
	if (col.encoding == columnHex || col.encoding == columnHexPlanes) && col.parameter&hexUUID == 0 && !cond.fold && len(cond.text) == int(col.smallest) && col.smallest%2 == 0 {
		col.filterHex(cond.text, keep)
		return nil
	}
	if col.encoding == columnFold {
		col.keepFold(cond, keep)
	}
	var value []byte
	for i := range keep {
		if keep[i] {
			ts := int64(0)
			if col.format == formatTime {
				ts = times(i)
			}
			value = col.append(value[:0], i, ts)
			keep[i] = cond.test(value)
		}
	}
	return nil
}

// filterHex keeps the values that are the given hex digits: it looks for their bytes.
func (col *column) filterHex(text []byte, keep []bool) {
	for _, d := range text {
		if byteClass[d] == classHex && (d >= 'a') != (col.parameter == 0) {
			clear(keep)
			return
		}
	}
	packed := make([]byte, 0, len(text)/2)
	for k := 0; k < len(text); k += 2 {
		packed = append(packed, nibble(text[k])<<4|nibble(text[k+1]))
	}
	size, next := len(packed), 0 // next value to decide
	for at := 0; at+size <= len(col.payload); {
		found := bytes.Index(col.payload[at:], packed)
		if found < 0 {
			break
		}
		at += found
		if at%size != 0 { // it lies across two values
			at++
			continue
		}
		clear(keep[next : at/size])
		next = at/size + 1
		at += size
	}
	clear(keep[next:])
}
