package cli

import "bytes"

// A chunk is a run of whole lines of one input, sent in one request.
type chunk struct {
	body  []byte // valid until the next call of the cutter
	lines int
	first int // number of its first line in the input, from 1
}

// A cutter cuts an input into chunks. It cuts behind '\n' only and changes no byte (U2).
// Its memory is bounded by maxBytes and maxLine.
type cutter struct {
	maxLines int // in a chunk
	maxBytes int // in a chunk, unless a single line is longer
	maxLine  int // bytes; a longer line is left out and told to tooLong
	send     func(chunk) error
	tooLong  func(line int)

	buffer   []byte // whole lines, then the beginning of the next one
	end      int    // of the whole lines
	lines    int    // number of whole lines
	sent     int    // lines before the buffer
	skipping bool   // within a line that is left out
}

// add takes the next bytes of the input and sends the chunks that are full.
func (c *cutter) add(data []byte) error {
	for len(data) > 0 {
		part, whole := data, false
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			part, whole = data[:i+1], true
		}
		data = data[len(part):]
		switch {
		case c.skipping:
			if whole {
				c.skipping = false
				c.sent++
			}
			continue
		case len(c.buffer)-c.end+len(bytes.TrimSuffix(part, []byte{'\n'})) > c.maxLine:
			if err := c.skip(whole); err != nil {
				return err
			}
			continue
		}
		c.buffer = append(c.buffer, part...)
		if whole {
			if err := c.line(); err != nil {
				return err
			}
		}
	}
	return nil
}

// line counts the line that the buffer ends with as whole.
func (c *cutter) line() error {
	if c.lines > 0 && len(c.buffer) > c.maxBytes {
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.end = len(c.buffer)
	c.lines++
	if c.lines >= c.maxLines || c.end >= c.maxBytes {
		return c.flush()
	}
	return nil
}

// skip leaves out the line that has begun. Lines before it are sent, so that the lines
// of a chunk have numbers without a gap.
func (c *cutter) skip(whole bool) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.tooLong(c.sent + 1)
	c.buffer = c.buffer[:0]
	if c.skipping = !whole; whole {
		c.sent++
	}
	return nil
}

// flush sends the whole lines that wait.
func (c *cutter) flush() error {
	if c.lines == 0 {
		return nil
	}
	if err := c.send(chunk{body: c.buffer[:c.end], lines: c.lines, first: c.sent + 1}); err != nil {
		return err
	}
	c.sent += c.lines
	c.lines = 0
	c.buffer = append(c.buffer[:0], c.buffer[c.end:]...)
	c.end = 0
	return nil
}

// waiting reports whether whole lines wait to be sent.
func (c *cutter) waiting() bool { return c.lines > 0 }

// finish sends what is left at the end of the input: the last line may lack its '\n'.
func (c *cutter) finish() error {
	if len(c.buffer) > c.end {
		if err := c.line(); err != nil {
			return err
		}
	}
	return c.flush()
}
