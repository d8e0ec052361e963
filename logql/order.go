package logql

import (
	"cmp"
	"math"
	"slices"
)

// selectRows removes the values that topk or bottomk does not select, point by point. Of
// equal values those of the first series, in order of labels, are selected; NaN comes last.
func (e *evaluation) selectRows(x *VectorAggregation, rows []row) {
	if x.Op != TopK && x.Op != BottomK {
		return
	}
	sortRows(rows)
	groups := map[string][]*row{}
	for i := range rows {
		key := string(x.Grouping.Apply(rows[i].labels).AppendKey(nil))
		groups[key] = append(groups[key], &rows[i])
	}
	var there []*row
	for _, group := range groups {
		for i := range e.steps {
			there = there[:0]
			for _, r := range group {
				if r.present[i] {
					there = append(there, r)
				}
			}
			if len(there) <= x.K {
				continue
			}
			slices.SortStableFunc(there, func(a, b *row) int { return compareValues(a.values[i], b.values[i], x.Op == TopK) })
			for _, r := range there[x.K:] {
				r.present[i] = false
			}
		}
	}
}

// sortByValue puts the rows of an instant query in the order that its outermost operation
// asks for, if it asks for one.
func sortByValue(x Expr, rows []row) {
	a, ok := x.(*VectorAggregation)
	if !ok || !a.Op.selects() {
		return
	}
	slices.SortStableFunc(rows, func(left, right row) int {
		return compareValues(left.values[0], right.values[0], a.Op == TopK || a.Op == SortDesc)
	})
}

// compareValues orders values, NaN last in any case.
func compareValues(a, b float64, descending bool) int {
	switch {
	case math.IsNaN(a) || math.IsNaN(b):
		return cmp.Compare(b, a) // to which NaN is the smallest
	case descending:
		return cmp.Compare(b, a)
	}
	return cmp.Compare(a, b)
}
