package segment

import (
	"bytes"
	"math"
	"slices"
)

// A foldSource is the values of the rows of one template in the block being encoded.
type foldSource struct {
	text   []byte
	values []slotValue
	at     []uint32 // where each row's values begin in values
}

func (s *foldSource) value(row, slot int) []byte {
	v := s.values[int(s.at[row])+slot]
	return s.text[v.start:v.end]
}

const (
	foldFrom    = 3   // rows from which on a template may be folded
	foldSample  = 512 // of which are looked at to decide how
	foldClosely = 32  // of which from which on more than the likeliest ways are tried
	foldBlocks  = 4   // blocks that are expected to share what DICT has of a template
	variantCost = 4   // of a slot in a new variant
	never       = math.MaxUint8

	// mostVariants is how many a fold may be expected to have: with more of them queries
	// would be slower than with columns.
	mostVariants = 1 << 14
	unfolded     = -1
)

// A foldChooser decides which slots of a template are folded, and how many of their
// digits are left to the block, by what some rows would take either way: numbers below
// are bits a row.
//
// It begins with all slots folded, each as is best for it alone, and then changes one
// after the other while that makes the whole smaller. The values of most logs come
// together in few ways, which only all of them together show.
type foldChooser struct {
	rows   []int
	slots  []foldCandidate
	hashes []uint64 // of each row: the sum of what its values in folded slots have as hashes
	trial  []uint64
	keys   []uint64
	places []uint64
	counts []uint16
}

// A foldCandidate is what the sample's values of one slot look like.
type foldCandidate struct {
	sorted  []uint16 // the sample's rows by length and bytes of the value
	need    []uint8  // how many last digits must go for a value to begin as the one before
	digits  int      // how many all values end with
	length  float64  // of a value, on average
	perByte float64  // of values as text
	plain   float64  // what the slot takes by itself
	best    int      // digits to leave to the block, if the slot were alone
	single  bool     // all values are the same but for the digits that are left
	once    [maxFoldDigits + 1]int
	choice  int // digits to leave to the block, or unfolded
}

// choose returns the slots to fold; nil if the template is better left as it is.
func (c *foldChooser) choose(s *foldSource, slots int) []foldSlot {
	if slots == 0 || slots > maxFoldSlots || len(s.at) < foldFrom {
		return nil
	}
	c.rows = c.rows[:0]
	for i, n := 0, min(len(s.at), foldSample); i < n; i++ {
		c.rows = append(c.rows, i*len(s.at)/n)
	}
	m := len(c.rows)
	c.slots = slices.Grow(c.slots[:0], slots)[:slots]
	c.hashes, c.trial = slices.Grow(c.hashes[:0], m)[:m], slices.Grow(c.trial[:0], m)[:m]
	plain := 0.0
	for slot := range c.slots {
		c.look(s, slot)
		plain += c.slots[slot].plain
	}
	total := c.descend(len(s.at))
	folded := 0
	for slot := range c.slots {
		folded += btoi(c.slots[slot].choice != unfolded)
	}
	if folded == 0 || total+40/float64(len(s.at)) > 0.95*plain {
		return nil
	}
	chosen := make([]foldSlot, 0, folded)
	for slot := range c.slots {
		if f := &c.slots[slot]; f.choice != unfolded {
			chosen = append(chosen, foldSlot{slot: slot, digits: f.choice})
		}
	}
	return chosen
}

// descend begins with all slots folded and changes the choice for one slot after the
// other while that makes the whole smaller. It returns what that is for n rows.
func (c *foldChooser) descend(n int) float64 {
	clear(c.hashes)
	parts, folded := 0.0, 0 // parts: what the slots take besides the variants
	for slot := range c.slots {
		f := &c.slots[slot]
		f.choice = f.best
		folded++
		if !f.single {
			c.mix(c.hashes, c.hashes, slot, unfolded, f.best)
		}
		parts += c.choiceCost(f, f.choice)
	}
	m := len(c.rows)
	total := parts + c.variants(c.hashes, n, folded)
	for changed, pass := true, 0; changed && pass < 2; pass++ {
		changed = false
		for slot := range c.slots {
			f := &c.slots[slot]
			if f.single {
				continue
			}
			from, without := f.choice, parts-c.choiceCost(f, f.choice)
			for _, choice := range f.choices(m) {
				if choice == f.choice {
					continue
				}
				slots := folded + btoi(choice != unfolded) - btoi(f.choice != unfolded)
				c.mix(c.trial, c.hashes, slot, f.choice, choice)
				rest := without + c.choiceCost(f, choice)
				if cost := rest + c.variants(c.trial, n, slots); cost < total {
					total, parts, folded = cost, rest, slots
					f.choice = choice
					c.hashes, c.trial = c.trial, c.hashes
				}
			}
			changed = changed || f.choice != from
		}
	}
	return total
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// choices are the ways that are tried for a slot.
func (f *foldCandidate) choices(rows int) []int {
	all := [7]int{unfolded, f.best}
	n := 2
	if rows < foldClosely {
		return all[:n]
	}
	for _, digits := range [...]int{f.best - 1, f.best - 2, f.best + 1, f.best + 2, f.digits} {
		if digits >= 0 && digits <= f.digits && !slices.Contains(all[:n], digits) {
			all[n] = digits
			n++
		}
	}
	return all[:n]
}

// choiceCost is what a slot takes besides the variants' numbers.
func (c *foldChooser) choiceCost(f *foldCandidate, choice int) float64 {
	if choice == unfolded {
		return f.plain
	}
	return c.valueCost(f, choice)
}

// valueCost is what the values of a folded slot take: the digits that are left, and in
// DICT the values that are new. Of these the values tell that the sample has once: their
// share is about the probability that a row brings a new one (Good, 1953).
func (c *foldChooser) valueCost(f *foldCandidate, digits int) float64 {
	return float64(lowWidth(digits)) + float64(f.once[digits])*(16+f.perByte*(f.length-float64(digits)))/float64(len(c.rows))
}

// variants is what the variants take in a block of n rows, given the sample's hashes:
// their entropy, and their places in DICT.
func (c *foldChooser) variants(hashes []uint64, n, slots int) float64 {
	if slots == 0 {
		return 0
	}
	m := float64(len(hashes))
	var entropy, once, twice, distinct float64
	for _, k := range c.count(hashes) {
		switch k {
		case 0:
			continue
		case 1:
			once++
		case 2:
			twice++
		}
		distinct++
		entropy += float64(k) * log2Of(int(k))
	}
	entropy = math.Log2(m) - entropy/m
	// How many there are in all (Chao, 1984).
	all := distinct + once*once/(2*twice+1)
	// The entropy of a sample is no more than the sample has rows for.
	entropy += once / m * max(0, math.Log2(all/m))
	fresh := min(once/m, all/float64(foldBlocks*n))
	cost := entropy + fresh*variantCost*float64(slots)
	if all > mostVariants {
		cost += 1000 * math.Log2(all/mostVariants)
	}
	return cost
}

// count returns how often each hash is there; places of zero stand for none.
func (c *foldChooser) count(hashes []uint64) []uint16 {
	size := 4
	for size < 2*len(hashes) {
		size *= 2
	}
	c.places, c.counts = slices.Grow(c.places[:0], size)[:size], slices.Grow(c.counts[:0], size)[:size]
	clear(c.counts)
	for _, h := range hashes {
		at := int(h>>32) & (size - 1)
		for c.counts[at] > 0 && c.places[at] != h {
			at = (at + 1) & (size - 1)
		}
		c.places[at] = h
		c.counts[at]++
	}
	return c.counts
}

// log2Of is the logarithm of small numbers, from a table.
func log2Of(n int) float64 {
	if n < len(log2s) {
		return log2s[n]
	}
	return math.Log2(float64(n))
}

var log2s = func() (t [64]float64) {
	for i := 1; i < len(t); i++ {
		t[i] = math.Log2(float64(i))
	}
	return t
}()

// mix sets to to from, with another choice for a slot.
func (c *foldChooser) mix(to, from []uint64, slot, before, after int) {
	f := &c.slots[slot]
	oldClass, newClass := uint64(0), uint64(0)
	base := uint64(slot+1) * 0x9e3779b97f4a7c15
	oldHash, newHash := scramble(base+uint64(before)<<32), scramble(base+uint64(after)<<32)
	if before == unfolded {
		oldHash = 0
	}
	if after == unfolded {
		newHash = 0
	}
	for i, row := range f.sorted {
		if i > 0 {
			need := int(f.need[i])
			if before != unfolded && need > before {
				oldClass++
				oldHash = scramble(base + uint64(before)<<32 + oldClass)
			}
			if after != unfolded && need > after {
				newClass++
				newHash = scramble(base + uint64(after)<<32 + newClass)
			}
		}
		to[row] = from[row] - oldHash + newHash
	}
}

// scramble is the finalizer of SplitMix64.
func scramble(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// same reports whether all rows have the given value.
func (c *foldChooser) same(s *foldSource, slot int, first []byte) bool {
	for _, row := range c.rows {
		if string(s.value(row, slot)) != string(first) {
			return false
		}
	}
	return true
}

// look finds out about one slot.
func (c *foldChooser) look(s *foldSource, slot int) {
	f := &c.slots[slot]
	m := len(c.rows)
	if first := s.value(0, slot); c.same(s, slot, first) {
		f.length, f.perByte, f.best, f.single = float64(len(first)), 5, 0, true
		f.plain = 8 * (f.length + 2) / float64(len(s.at))
		f.once[0] = 0
		return
	}
	value := func(i uint16) []byte { return s.value(c.rows[i], slot) }
	f.sorted = f.sorted[:0]
	f.digits, f.length = maxFoldDigits, 0
	numeric, hex := true, true
	smallest, largest := uint64(math.MaxUint64), uint64(0)
	for i := range c.rows {
		v := value(uint16(i))
		f.sorted = append(f.sorted, uint16(i))
		f.length += float64(len(v))
		n := trailingDigits(v)
		f.digits = min(f.digits, n)
		for _, d := range v {
			hex = hex && byteClass[d] != classOther && byteClass[d] != classLetter
		}
		if numeric = numeric && n == len(v) && n > 0; numeric {
			x := parseDigits(v)
			smallest, largest = min(smallest, x), max(largest, x)
		}
	}
	f.length /= float64(m)
	f.perByte = 5
	if numeric {
		f.perByte = 3.5
	} else if hex {
		f.perByte = 4.2
	}
	c.sort(f, value)
	// Of the values that are left if k digits go: how many there are, how many of one row
	// only, and of how many rows the last one is so far.
	var distinct, rows [maxFoldDigits + 1]int
	for k := range rows {
		rows[k], f.once[k] = 1, 0
	}
	f.need = append(f.need[:0], 0)
	whole, entropy, run := 1, 0.0, 1
	for i := 1; i < m; i++ {
		x, y := value(f.sorted[i-1]), value(f.sorted[i])
		need := uint8(never)
		if len(x) == len(y) {
			if k := len(x) - commonPrefix(x, y); k <= maxFoldDigits {
				need = uint8(k)
			}
		}
		f.need = append(f.need, need)
		for k := 0; k <= f.digits; k++ {
			if k >= int(need) {
				rows[k]++
				continue
			}
			distinct[k]++
			if rows[k] == 1 {
				f.once[k]++
			}
			rows[k] = 1
		}
		if need == 0 {
			run++
			continue
		}
		whole++
		entropy += entropyOf(run, m)
		run = 1
	}
	entropy += entropyOf(run, m)
	f.best = 0
	least := math.Inf(1)
	for k := 0; k <= f.digits; k++ {
		n := distinct[k] + 1
		if rows[k] == 1 {
			f.once[k]++
		}
		// Digits that seem to be as good either way are better left to the block: with other
		// slots' values they would make variants that do not come again.
		if cost := c.valueCost(f, k) + math.Log2(float64(n)) + float64(f.once[k])*variantCost/float64(m); cost < least+1 {
			f.best, f.single, least = k, n == 1, min(cost, least)
		}
	}
	all := float64(len(s.at))
	f.plain = f.perByte*f.length + 40/all
	f.plain = min(f.plain, entropy+float64(whole)*f.perByte*(1+f.length)/float64(m)+24/all)
	if numeric && f.length <= maxDigits {
		f.plain = min(f.plain, math.Log2(float64(largest-smallest)+1)+56/all)
	}
}

// sort orders a slot's rows by length and bytes of the value: by a number that begins
// with these, and where that is the same, by the bytes themselves.
func (c *foldChooser) sort(f *foldCandidate, value func(i uint16) []byte) {
	first := value(0)
	common := len(first)
	for i := range f.sorted {
		common = min(common, commonPrefix(first[:common], value(uint16(i))))
	}
	c.keys = c.keys[:0]
	for i := range f.sorted {
		v := value(uint16(i))
		key := uint64(min(len(v), 255))
		for k := common; k < common+5; k++ {
			key <<= 8
			if k < len(v) {
				key |= uint64(v[k])
			}
		}
		c.keys = append(c.keys, key<<16|uint64(i))
	}
	slices.Sort(c.keys)
	for i, key := range c.keys {
		f.sorted[i] = uint16(key)
	}
	for i := 0; i < len(c.keys); {
		j := i + 1
		for j < len(c.keys) && c.keys[j]>>16 == c.keys[i]>>16 {
			j++
		}
		if n := len(value(f.sorted[i])); j > i+1 && (n > common+5 || n >= 255) {
			slices.SortFunc(f.sorted[i:j], func(a, b uint16) int {
				x, y := value(a), value(b)
				if len(x) != len(y) {
					return len(x) - len(y)
				}
				return bytes.Compare(x, y)
			})
		}
		i = j
	}
}

// entropyOf is what n of m rows with the same value add to the entropy.
func entropyOf(n, m int) float64 {
	p := float64(n) / float64(m)
	return -p * math.Log2(p)
}

func trailingDigits(v []byte) int {
	n := 0
	for n < len(v) && n < maxFoldDigits && v[len(v)-1-n]-'0' <= 9 {
		n++
	}
	return n
}

// parseDigits reads at most 18 digits.
func parseDigits(v []byte) uint64 {
	x := uint64(0)
	for _, d := range v {
		x = x*10 + uint64(d-'0')
	}
	return x
}

func commonPrefix(x, y []byte) int {
	n := 0
	for n < len(x) && n < len(y) && x[n] == y[n] {
		n++
	}
	return n
}
