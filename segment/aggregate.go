package segment

import (
	"fmt"
	"math"
	"math/bits"
)

// Measure is what an aggregation makes of the entries of a series.
type Measure uint8

// The measures. All but the first two are of the values that the unwrap of the query's
// pipeline gives the rows: without one there are none.
const (
	MeasureCount     Measure = iota // number of entries
	MeasureBytes                    // sum of the lengths of their lines
	MeasureSum                      // sum of their values
	MeasureMean                     // arithmetic mean
	MeasureMin                      // smallest; NaN only if there is no other
	MeasureMax                      // largest; NaN only if there is no other
	MeasureFirst                    // of the earliest entry; of several the largest
	MeasureLast                     // of the latest entry; of several the largest
	MeasureVariance                 // population variance
	MeasureDeviation                // population standard deviation
	MeasureQuantile                 // quantile Aggregation.Quantile, interpolated
)

// A Grouping says which labels name the series that an entry counts in: those of its
// stream or, if the query has a pipeline, of its PipelineRow.
type Grouping struct {
	// Without false: the labels in Names only (none: all entries are one series).
	// Without true: all labels but those in Names (none: one series a stream).
	Without bool
	Names   []string // sorted
}

// Apply returns the labels that name the series of a stream.
func (g *Grouping) Apply(l Labels) Labels {
	out := make(Labels, 0, len(l))
	for _, p := range l {
		named := false
		for _, n := range g.Names {
			named = named || n == p.Name
		}
		if named != g.Without {
			out = append(out, p)
		}
	}
	return out
}

// MaxSteps is the largest number of evaluation points of an aggregation.
const MaxSteps = 1 << 20

// An Aggregation turns the entries of a Query into one value for each series and
// evaluation point. Point i is at First + i·Step and covers the entries with
// point - Range < timestamp <= point, as in LogQL's range vectors.
type Aggregation struct {
	Measure     Measure
	Quantile    float64 // of MeasureQuantile; below 0 and above 1 the answer is -Inf and +Inf
	Grouping    Grouping
	First, Step int64 // unix nanoseconds, nanoseconds (ignored when Steps is 1)
	Steps       int   // 1 to MaxSteps
	Range       int64 // nanoseconds, > 0

	// MaxSeries is how many series may be found in lines before ErrTooManySeries ends the
	// aggregation; 0: any number. Series of streams alone are not counted.
	MaxSeries int
	// MaxValues is how many different values quantiles may gather, for all series and windows
	// together, before ErrTooManyValues ends the aggregation; 0: 4,194,304 (64 MiB).
	MaxValues int
}

// Validate reports what is wrong with the aggregation's bounds.
func (a *Aggregation) Validate() error {
	switch {
	case a.Measure > MeasureQuantile:
		return fmt.Errorf("measure %d is unknown", a.Measure)
	case a.Steps < 1 || a.Steps > MaxSteps:
		return fmt.Errorf("%d evaluation points: must be 1 to %d", a.Steps, MaxSteps)
	case a.Range <= 0:
		return fmt.Errorf("range of %d ns: must be positive", a.Range)
	case a.Steps > 1 && a.Step <= 0:
		return fmt.Errorf("step of %d ns: must be positive", a.Step)
	case a.Steps > 1 && (math.MaxInt64-max(a.First, 0))/int64(a.Steps-1) < a.Step:
		return fmt.Errorf("step of %d ns: the last of %d evaluation points is out of range", a.Step, a.Steps)
	}
	return nil
}

// Bounds returns the timestamps [start, end) that any evaluation point covers, for
// the Start and End of the Query beside the aggregation. The aggregation must be valid.
func (a *Aggregation) Bounds() (start, end int64) {
	last := a.First
	if a.Steps > 1 {
		last += int64(a.Steps-1) * a.Step
	}
	start, end = a.First-a.Range+1, last+1
	if start > a.First { // below the range of int64
		start = math.MinInt64
	}
	if end < last { // above it
		end = math.MaxInt64
	}
	return start, end
}

// Span returns the evaluation points [lo, hi) that an entry with timestamp ts counts
// in. lo == hi for an entry that no point covers. Both only grow with ts: between two
// timestamps of equal spans all have that span.
func (a *Aggregation) Span(ts int64) (lo, hi int) {
	steps, step := max(a.Steps, 1), uint64(a.Step)
	if steps == 1 {
		step = math.MaxUint64 // there is no second point
	}
	window := uint64(a.Range)
	// lo is the first point >= ts, hi the first >= ts + range. Differences of two
	// timestamps may take all of 64 bits, and the sum one more.
	if ts <= a.First {
		before := uint64(a.First) - uint64(ts)
		if before >= window {
			return 0, 0
		}
		return 0, ceilSteps(0, window-before, step, steps)
	}
	after := uint64(ts) - uint64(a.First)
	sum, carry := bits.Add64(after, window, 0)
	return ceilSteps(0, after, step, steps), ceilSteps(carry, sum, step, steps)
}

// ceilSteps is the smallest i with i·step >= hi·2⁶⁴ + lo, at most limit.
func ceilSteps(hi, lo, step uint64, limit int) int {
	if hi >= step {
		return limit
	}
	var q, rest uint64
	if hi == 0 {
		q, rest = lo/step, lo%step
	} else {
		q, rest = bits.Div64(hi, lo, step)
	}
	if rest > 0 {
		q++ // cannot overflow: a rest needs a step of 2 or more
	}
	return int(min(q, uint64(limit)))
}

// A Partial is what one reader found for an Aggregation: it can be merged with those of
// other readers, in any order. Counts and lengths come out the same whatever the order;
// sums, means and variances of values may differ in their last digits.
type Partial struct {
	Measure Measure
	Steps   int
	Series  map[string]*PartialSeries // by the key of the labels

	values int // that quantiles hold
}

// PartialSeries is one series of a Partial.
type PartialSeries struct {
	Labels Labels

	// For MeasureCount and MeasureBytes:
	// Deltas[i] is the difference between the values at points i and i-1, modulo 2⁶⁴,
	// so that an entry that counts in many points costs two additions.
	Deltas []uint64
	// Touched[i] is the same for the number of entries: LogQL leaves out the points
	// of a series that no entry falls in, also where the value is 0.
	Touched []uint64

	// Cells, for the other measures: what the entries that count at the same points come to,
	// in ascending order of these points. An entry costs one cell, however many points it
	// counts at.
	Cells []Cell
}

// NewPartial returns an empty Partial for an aggregation.
func NewPartial(a *Aggregation) *Partial {
	return &Partial{Measure: a.Measure, Steps: a.Steps, Series: map[string]*PartialSeries{}}
}

// For returns the series of the labels, which it adds if there is none.
func (p *Partial) For(labels Labels) *PartialSeries {
	key := string(labels.AppendKey(nil))
	s := p.Series[key]
	if s == nil {
		s = p.add(key, labels)
	}
	return s
}

// series is For by the labels' key.
func (p *Partial) series(key string) *PartialSeries {
	s := p.Series[key]
	if s == nil {
		s = p.add(key, labelsOfKey(key))
	}
	return s
}

func (p *Partial) add(key string, labels Labels) *PartialSeries {
	s := &PartialSeries{Labels: labels}
	if p.Measure <= MeasureBytes {
		s.Deltas, s.Touched = make([]uint64, p.Steps+1), make([]uint64, p.Steps+1)
	}
	p.Series[key] = s
	return s
}

// Add counts value, from n entries, at the points [lo, hi).
func (s *PartialSeries) Add(lo, hi int, value, n uint64) {
	if lo >= hi {
		return
	}
	s.Deltas[lo] += value
	s.Deltas[hi] -= value
	s.Touched[lo] += n
	s.Touched[hi] -= n
}

// Values returns the value and the number of entries at each evaluation point, for
// MeasureCount and MeasureBytes.
func (s *PartialSeries) Values() (values, entries []uint64) {
	n := len(s.Deltas) - 1
	values, entries = make([]uint64, n), make([]uint64, n)
	var v, e uint64
	for i := range n {
		v += s.Deltas[i]
		e += s.Touched[i]
		values[i], entries[i] = v, e
	}
	return values, entries
}

// Merge adds another Partial of the same aggregation to p and leaves that one as it is.
func (p *Partial) Merge(other *Partial) {
	p.values += other.values
	for key, o := range other.Series {
		s := p.Series[key]
		if s == nil {
			s = p.add(key, o.Labels)
		}
		for i := range o.Deltas {
			s.Deltas[i] += o.Deltas[i]
			s.Touched[i] += o.Touched[i]
		}
		for i := range o.Cells {
			c := &o.Cells[i]
			s.cell(c.Lo, c.Hi).merge(p.Measure, c)
		}
	}
}
