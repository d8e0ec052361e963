package logql

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/logcluster/logcluster/segment"
)

// An evaluation is a metric query on its way: the points that it is evaluated at, and how
// much it has taken so far.
type evaluation struct {
	source   Source
	tenant   string
	onDamage func(error)

	first, step int64
	steps       int

	maxSamples int
	samples    int // that range aggregations returned so far
}

// A row is a series of a vector, at all points.
type row struct {
	key     string // of the labels
	labels  segment.Labels
	values  []float64
	present []bool // whether there is a value at the point
}

// A value is what an expression evaluates to: a number or rows with different labels.
// Whoever is returned rows may change them.
type value struct {
	kind   Kind
	number float64
	rows   []row
}

func (e *evaluation) newRow(key string, labels segment.Labels) row {
	return row{key: key, labels: labels, values: make([]float64, e.steps), present: make([]bool, e.steps)}
}

// evaluate returns the value of a vector or scalar expression.
func (e *evaluation) evaluate(ctx context.Context, x Expr) (value, error) {
	if err := ctx.Err(); err != nil {
		return value{}, err
	}
	if r, grouping, ok := pushable(x); ok {
		return e.rangeVector(ctx, x, r, grouping)
	}
	switch x := x.(type) {
	case *Number:
		return value{kind: KindScalar, number: x.Value}, nil
	case *VectorLiteral:
		v, err := e.evaluate(ctx, x.Scalar)
		if err != nil {
			return value{}, err
		}
		return value{kind: KindVector, rows: []row{e.constant(v.number)}}, nil
	case *Negation:
		v, err := e.evaluate(ctx, x.Inner)
		v.number = -v.number
		for _, r := range v.rows {
			for i := range r.values {
				r.values[i] = -r.values[i]
			}
		}
		return v, err
	case *VectorAggregation:
		v, err := e.evaluate(ctx, x.Inner)
		if err != nil {
			return value{}, err
		}
		if x.Op.selects() {
			e.selectRows(x, v.rows)
			return v, nil
		}
		return value{kind: KindVector, rows: e.aggregate(x.Op, &x.Grouping, v.rows)}, nil
	case *Binary:
		left, err := e.evaluate(ctx, x.Left)
		if err != nil {
			return value{}, err
		}
		right, err := e.evaluate(ctx, x.Right)
		if err != nil {
			return value{}, err
		}
		return e.binary(x, left, right), nil
	}
	return value{}, fmt.Errorf("%s cannot be evaluated to a vector or a scalar", x)
}

// constant returns a row without labels that has one value everywhere.
func (e *evaluation) constant(number float64) row {
	r := e.newRow("", segment.Labels{})
	for i := range r.values {
		r.values[i], r.present[i] = number, true
	}
	return r
}

// maxScanSeries bounds the series of one scan, of which each shard may hold as many for a
// while: a series costs some hundred bytes, however few points it has.
const maxScanSeries = 100_000

// rangeVector has the source count the entries of a range aggregation.
func (e *evaluation) rangeVector(ctx context.Context, x Expr, r *RangeAggregation, grouping segment.Grouping) (value, error) {
	scan, err := plan(x.String(), r, grouping, e.first, e.step, e.steps)
	if err != nil {
		return value{}, err
	}
	scan.Query.Tenant, scan.Query.OnDamage = e.tenant, e.onDamage
	scan.MaxSeries = min(max((e.maxSamples-e.samples)/e.steps, 1), maxScanSeries)
	scan.Aggregation.MaxSeries = scan.MaxSeries
	partial, err := e.source.Partial(ctx, scan)
	switch {
	case errors.Is(err, segment.ErrTooManySeries):
		return value{}, TooManySeries(scan.MaxSeries, e.steps)
	case errors.Is(err, segment.ErrTooManyValues):
		return value{}, overLimit("the quantile needs too many different values in memory: narrow the stream selector, the range or the time range")
	case err != nil:
		return value{}, err
	}
	if partial.Steps != e.steps || partial.Measure != scan.Aggregation.Measure {
		return value{}, fmt.Errorf("partial result of %s has %d points of measure %d where %d of measure %d were asked for",
			quote(scan.Text), partial.Steps, partial.Measure, e.steps, scan.Aggregation.Measure)
	}
	if e.samples += len(partial.Series) * e.steps; e.samples > e.maxSamples {
		return value{}, TooManySeries(scan.MaxSeries, e.steps)
	}
	unit := 1.0
	if r.Op == Rate || r.Op == BytesRate {
		unit = r.Range.Range.Seconds()
	}
	rows := make([]row, 0, len(partial.Series))
	for key, s := range partial.Series {
		row := row{key: key, labels: s.Labels}
		row.values, row.present = s.Points(scan.Aggregation)
		for i := range row.values {
			row.values[i] /= unit
		}
		if slices.Contains(row.present, true) {
			rows = append(rows, row)
		}
		delete(partial.Series, key) // It may be large: two copies are one too many.
	}
	// In this order values are added up: without it, sums would differ in the last bit
	// from one time to the next.
	sortRows(rows)
	return value{kind: KindVector, rows: rows}, nil
}

// TooManySeries says that a scan found more than maxSeries series at each of steps points.
func TooManySeries(maxSeries, steps int) error {
	return overLimit("the query needs more than %s series at %s points each: narrow the stream selector, "+
		"aggregate directly by sum by (…) (…), or evaluate fewer points", thousands(maxSeries), thousands(steps))
}

func sortRows(rows []row) {
	slices.SortFunc(rows, func(a, b row) int { return compareLabels(a.labels, b.labels) })
}

// compareLabels orders label sets by their pairs, one by one.
func compareLabels(a, b segment.Labels) int {
	return slices.CompareFunc(a, b, func(a, b segment.Label) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Value, b.Value))
	})
}

// aggregate unites rows whose labels are equal after the grouping.
func (e *evaluation) aggregate(op VectorOp, g *segment.Grouping, rows []row) []row {
	var (
		groups []row
		counts [][]float64 // of the rows that have a value, for each group and point
		index  = map[string]int{}
		key    []byte
	)
	for _, r := range rows {
		labels := g.Apply(r.labels)
		key = labels.AppendKey(key[:0])
		n, ok := index[string(key)]
		if !ok {
			n = len(groups)
			index[string(key)] = n
			groups = append(groups, e.newRow(string(key), labels))
			counts = append(counts, make([]float64, e.steps))
		}
		group, count := &groups[n], counts[n]
		for i, v := range r.values {
			if !r.present[i] {
				continue
			}
			old := group.values[i]
			switch {
			case !group.present[i]:
				group.values[i], group.present[i] = v, true
			case op == Min && (v < old || math.IsNaN(old)), op == Max && (v > old || math.IsNaN(old)):
				group.values[i] = v
			case op == Sum || op == Avg:
				group.values[i] = old + v
			}
			count[i]++
		}
	}
	for n, group := range groups {
		for i := range group.values {
			switch {
			case !group.present[i]:
			case op == Count:
				group.values[i] = counts[n][i]
			case op == Avg:
				group.values[i] /= counts[n][i]
			}
		}
	}
	return groups
}
