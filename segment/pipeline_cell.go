package segment

import (
	"errors"
	"math"
	"slices"
	"sort"
)

// ErrTooManyValues: a quantile has more values than Aggregation.MaxValues.
var ErrTooManyValues = errors.New("too many different values for a quantile")

// defaultMaxValues is what Aggregation.MaxValues 0 stands for.
const defaultMaxValues = 4 << 20

// A Cell is what the entries of a series come to that count at the points [Lo, Hi). What
// its fields hold depends on the Measure.
type Cell struct {
	Lo, Hi int
	Count  uint64 // entries

	// Value is the sum, the smallest, largest, first or last value; the mean for variances.
	Value float64
	// Rest is what the sum lacks (Neumaier's summation), or the sum of squared distances
	// from the mean.
	Rest float64
	// Timestamp of the first or last entry.
	Timestamp int64
	// Values of a quantile: Sorted, each once, and Loose ones of which each counts once.
	Sorted []WeightedValue
	Loose  []float64
}

// A WeightedValue is a value that Count entries have.
type WeightedValue struct {
	Value float64
	Count uint64
}

// cell returns the series' cell for the points [lo, hi), which it adds if there is none.
// Both bounds only grow with time, so that their sum orders cells.
func (s *PartialSeries) cell(lo, hi int) *Cell {
	n := len(s.Cells)
	if n > 0 {
		if last := &s.Cells[n-1]; last.Lo == lo && last.Hi == hi {
			return last
		}
	}
	at := n
	if n > 0 && s.Cells[n-1].Lo+s.Cells[n-1].Hi > lo+hi {
		at = sort.Search(n, func(i int) bool { return s.Cells[i].Lo+s.Cells[i].Hi >= lo+hi })
		if c := &s.Cells[at]; c.Lo == lo && c.Hi == hi {
			return c
		}
	}
	s.Cells = slices.Insert(s.Cells, at, Cell{Lo: lo, Hi: hi})
	return &s.Cells[at]
}

// observe adds a value, which some entries of one time have, at the points [lo, hi).
func (p *Partial) observe(s *PartialSeries, a *Aggregation, lo, hi int, timestamp int64, value float64, entries uint64) error {
	if lo >= hi || entries == 0 {
		return nil
	}
	c := s.cell(lo, hi)
	if p.Measure != MeasureQuantile {
		one := Cell{Count: entries, Value: value, Timestamp: timestamp}
		if (p.Measure == MeasureSum || p.Measure == MeasureMean) && entries > 1 {
			one.Value *= float64(entries)
		}
		c.merge(p.Measure, &one)
		return nil
	}
	before := c.held()
	c.Count += entries
	if entries == 1 {
		c.Loose = append(c.Loose, value)
		if len(c.Loose) >= max(1024, len(c.Sorted)) {
			c.settle()
		}
	} else {
		c.settle()
		c.Sorted = unite(c.Sorted, []WeightedValue{{value, entries}})
	}
	p.values += c.held() - before
	limit := a.MaxValues
	if limit <= 0 {
		limit = defaultMaxValues
	}
	if p.values > limit {
		for _, s := range p.Series { // what came in loose may be much the same
			for i := range s.Cells {
				before := s.Cells[i].held()
				s.Cells[i].settle()
				p.values += s.Cells[i].held() - before
			}
		}
		if p.values > limit/2 {
			return ErrTooManyValues
		}
	}
	return nil
}

// held is how many values the cell holds.
func (c *Cell) held() int { return len(c.Sorted) + len(c.Loose) }

// settle moves the loose values to the sorted ones.
func (c *Cell) settle() {
	if len(c.Loose) > 0 {
		c.Sorted = unite(c.Sorted, weigh(c.Loose))
		c.Loose = c.Loose[:0]
	}
}

// weigh sorts values and counts equal ones. NaN comes first.
func weigh(values []float64) []WeightedValue {
	slices.Sort(values)
	var out []WeightedValue
	for _, v := range values {
		if n := len(out); n > 0 && same(out[n-1].Value, v) {
			out[n-1].Count++
		} else {
			out = append(out, WeightedValue{v, 1})
		}
	}
	return out
}

func same(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }

// unite merges two sorted lists into a new one.
func unite(a, b []WeightedValue) []WeightedValue {
	if len(a) == 0 {
		return b
	}
	out := make([]WeightedValue, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		switch {
		case same(a[0].Value, b[0].Value):
			out = append(out, WeightedValue{a[0].Value, a[0].Count + b[0].Count})
			a, b = a[1:], b[1:]
		case a[0].Value < b[0].Value || math.IsNaN(a[0].Value):
			out = append(out, a[0])
			a = a[1:]
		default:
			out = append(out, b[0])
			b = b[1:]
		}
	}
	return append(append(out, a...), b...)
}

// merge adds what another cell holds, and leaves that one as it is.
func (c *Cell) merge(m Measure, o *Cell) {
	if m == MeasureQuantile {
		c.Count += o.Count
		c.settle()
		c.Sorted = unite(c.Sorted, unite(o.Sorted, weigh(slices.Clone(o.Loose))))
		return
	}
	if c.Count == 0 {
		c.Count, c.Value, c.Rest, c.Timestamp = o.Count, o.Value, o.Rest, o.Timestamp
		return
	}
	before := c.Count
	c.Count += o.Count
	switch m {
	case MeasureSum, MeasureMean:
		sum := c.Value + o.Value
		if math.Abs(c.Value) >= math.Abs(o.Value) {
			c.Rest += c.Value - sum + o.Value
		} else {
			c.Rest += o.Value - sum + c.Value
		}
		c.Value = sum
		c.Rest += o.Rest
	case MeasureMin:
		if o.Value < c.Value || math.IsNaN(c.Value) {
			c.Value = o.Value
		}
	case MeasureMax:
		if o.Value > c.Value || math.IsNaN(c.Value) {
			c.Value = o.Value
		}
	case MeasureFirst, MeasureLast:
		earlier := o.Timestamp < c.Timestamp
		if o.Timestamp == c.Timestamp && (o.Value > c.Value || math.IsNaN(c.Value)) ||
			o.Timestamp != c.Timestamp && earlier == (m == MeasureFirst) {
			c.Value, c.Timestamp = o.Value, o.Timestamp
		}
	case MeasureVariance, MeasureDeviation:
		// Chan, Golub, LeVeque: updating formulae for sample variances, 1979.
		delta := o.Value - c.Value
		share := float64(o.Count) / float64(c.Count)
		c.Value += delta * share
		c.Rest += o.Rest + delta*delta*float64(before)*share
	}
}

// result is the value that the cell stands for.
func (c *Cell) result(a *Aggregation) float64 {
	switch a.Measure {
	case MeasureSum, MeasureMean:
		sum := c.Value
		if !math.IsInf(sum, 0) && !math.IsNaN(sum) {
			sum += c.Rest
		}
		if a.Measure == MeasureMean {
			sum /= float64(c.Count)
		}
		return sum
	case MeasureVariance:
		return c.Rest / float64(c.Count)
	case MeasureDeviation:
		return math.Sqrt(c.Rest / float64(c.Count))
	case MeasureQuantile:
		c.settle()
		return quantile(a.Quantile, c.Sorted, c.Count)
	}
	return c.Value
}

// quantile interpolates between the two values next to rank q·(count-1), as
// quantile_over_time does
// (https://prometheus.io/docs/prometheus/latest/querying/functions/#aggregation_over_time).
func quantile(q float64, values []WeightedValue, count uint64) float64 {
	switch {
	case math.IsNaN(q):
		return math.NaN()
	case q < 0:
		return math.Inf(-1)
	case q > 1:
		return math.Inf(1)
	}
	rank := q * float64(count-1)
	lower := uint64(rank)
	at := func(n uint64) float64 {
		for _, v := range values {
			if n < v.Count {
				return v.Value
			}
			n -= v.Count
		}
		return values[len(values)-1].Value
	}
	weight := rank - math.Floor(rank)
	low, high := at(lower), at(min(lower+1, count-1))
	return low*(1-weight) + high*weight
}

// Points returns the value at each evaluation point of the aggregation, and whether the
// series has one there.
func (s *PartialSeries) Points(a *Aggregation) (values []float64, present []bool) {
	values, present = make([]float64, a.Steps), make([]bool, a.Steps)
	if a.Measure <= MeasureBytes {
		var sum, entries uint64
		for i := range values {
			sum += s.Deltas[i]
			entries += s.Touched[i]
			values[i], present[i] = float64(sum), entries > 0
		}
		return values, present
	}
	first := 0 // of the cells that may count at the point
	for i := range values {
		for first < len(s.Cells) && s.Cells[first].Hi <= i {
			first++
		}
		last := first
		for last < len(s.Cells) && s.Cells[last].Lo <= i {
			last++
		}
		if last > first {
			all := mergeCells(a.Measure, s.Cells[first:last])
			values[i], present[i] = all.result(a), true
		}
	}
	return values, present
}

// mergeCells returns what cells come to together.
func mergeCells(m Measure, cells []Cell) *Cell {
	all := &Cell{}
	if m != MeasureQuantile {
		for i := range cells {
			all.merge(m, &cells[i])
		}
		return all
	}
	if len(cells) == 1 {
		cells[0].settle()
		return &cells[0]
	}
	for i := range cells {
		c := &cells[i]
		c.settle()
		all.Count += c.Count
		all.Sorted = append(all.Sorted, c.Sorted...)
	}
	slices.SortFunc(all.Sorted, func(a, b WeightedValue) int {
		switch {
		case a.Value < b.Value, math.IsNaN(a.Value) && !math.IsNaN(b.Value):
			return -1
		case a.Value > b.Value, math.IsNaN(b.Value) && !math.IsNaN(a.Value):
			return 1
		}
		return 0
	})
	return all
}
