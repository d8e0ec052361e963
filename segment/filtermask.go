package segment

// A byteMask is a set of bytes. Those beyond ASCII are one member, for which NUL stands.
type byteMask [2]uint64

func maskOf(text []byte) (m byteMask) {
	for _, c := range text {
		m.add(c)
	}
	return m
}

func (m *byteMask) add(c byte) {
	if c >= 0x80 {
		c = 0
	}
	m[c>>6] |= 1 << (c & 63)
}

func (m byteMask) has(c byte) bool {
	if c >= 0x80 {
		c = 0
	}
	return m[c>>6]>>(c&63)&1 != 0
}

func (m byteMask) or(o byteMask) byteMask { return byteMask{m[0] | o[0], m[1] | o[1]} }

// without returns the members that o lacks.
func (m byteMask) without(o byteMask) byteMask { return byteMask{m[0] &^ o[0], m[1] &^ o[1]} }

func (m byteMask) empty() bool { return m[0]|m[1] == 0 }

// capitals are A to Z, as bits of the second word; small letters stand 32 bits higher.
const capitals = (1<<26 - 1) << 1

// folded returns the set with the small letter for each capital one.
func (m byteMask) folded() byteMask {
	m[1] = m[1]&^capitals | m[1]&capitals<<32
	return m
}

// A slotFacts is what is known of all values of one slot of a template: in a segment, or of
// its kind. No value is shorter or longer than these bounds, or holds other bytes.
type slotFacts struct {
	mask     byteMask
	shortest int
	longest  int
	// listed: each value is in the filter of values, grammed: and so are its grams in that
	// of grams.
	listed, grammed bool
}

// unbounded is the length from which on lengths are not told apart.
const unbounded = 1<<16 - 1

var (
	digitMask = maskOf([]byte("0123456789"))
	wordMask  = digitMask.or(maskOf([]byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")))
	allMask   = byteMask{^uint64(0), ^uint64(0)}
	// plainMask is what stands in a quoted string as it is.
	plainMask = maskBetween(0x20, 0x7f).without(maskOf([]byte("\\\"")))
	bareMask  = allMask.without(maskOf([]byte(" \"")))
)

// factsOf is what a kind promises.
func (k slotKind) facts() slotFacts {
	f := slotFacts{mask: allMask, shortest: k.shortest(), longest: unbounded}
	switch k {
	case slotDigits:
		f.mask = digitMask
	case slotWord:
		f.mask = wordMask
	case slotBare:
		f.mask = bareMask
	}
	return f
}

// maskBetween is the set of bytes from lo on and below hi.
func maskBetween(lo, hi byte) (m byteMask) {
	for c := lo; c < hi; c++ {
		m.add(c)
	}
	return m
}
