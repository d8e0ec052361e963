package logql

import "math"

// binary applies an operator to two values. It may reuse their rows.
func (e *evaluation) binary(x *Binary, left, right value) value {
	switch {
	case left.kind == KindScalar && right.kind == KindScalar:
		// A comparison of scalars yields 0 or 1 in any case: there is nothing to drop.
		number, keep := apply(x.Op, left.number, right.number)
		if x.Op.Comparison() {
			number = truth(keep)
		}
		return value{kind: KindScalar, number: number}
	case x.Op.Set():
		return value{kind: KindVector, rows: unite(x.Op, left.rows, right.rows)}
	case left.kind == KindScalar:
		for _, r := range right.rows {
			for i, v := range r.values {
				result, keep := apply(x.Op, left.number, v)
				r.set(i, x, result, keep, v)
			}
		}
		return right
	case right.kind == KindScalar:
		for _, r := range left.rows {
			for i, v := range r.values {
				result, keep := apply(x.Op, v, right.number)
				r.set(i, x, result, keep, v)
			}
		}
		return left
	}
	others := rowsByKey(right.rows)
	matched := left.rows[:0]
	for _, r := range left.rows {
		other, ok := others[r.key]
		if !ok {
			continue
		}
		for i, v := range r.values {
			r.present[i] = r.present[i] && other.present[i]
			result, keep := apply(x.Op, v, other.values[i])
			r.set(i, x, result, keep, v)
		}
		matched = append(matched, r)
	}
	return value{kind: KindVector, rows: matched}
}

// set makes the outcome of an operator the value at point i, if there is one. A comparison
// keeps the vector's own value, or drops it.
func (r *row) set(i int, x *Binary, result float64, keep bool, own float64) {
	switch {
	case !x.Op.Comparison():
		r.values[i] = result
	case x.Bool:
		r.values[i] = truth(keep)
	default:
		r.values[i] = own
		r.present[i] = r.present[i] && keep
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// apply returns the result of an arithmetic operator, or the outcome of a comparison.
func apply(op BinaryOp, a, b float64) (result float64, holds bool) {
	switch op {
	case Power:
		return math.Pow(a, b), false
	case Multiply:
		return a * b, false
	case Divide:
		return a / b, false
	case Modulo:
		return math.Mod(a, b), false
	case Add:
		return a + b, false
	case Subtract:
		return a - b, false
	case Equal:
		return 0, a == b
	case NotEqual:
		return 0, a != b
	case Greater:
		return 0, a > b
	case GreaterOrEqual:
		return 0, a >= b
	case Less:
		return 0, a < b
	default:
		return 0, a <= b
	}
}

// unite applies and, unless or or, point by point.
func unite(op BinaryOp, left, right []row) []row {
	others := rowsByKey(right)
	known := rowsByKey(left)
	for _, r := range left {
		other, ok := others[r.key]
		for i := range r.present {
			there := ok && other.present[i]
			switch {
			case op == And:
				r.present[i] = r.present[i] && there
			case op == Unless:
				r.present[i] = r.present[i] && !there
			case there && !r.present[i]:
				r.values[i], r.present[i] = other.values[i], true
			}
		}
	}
	if op == Or {
		for _, r := range right {
			if _, ok := known[r.key]; !ok {
				left = append(left, r)
			}
		}
	}
	return left
}

func rowsByKey(rows []row) map[string]row {
	m := make(map[string]row, len(rows))
	for _, r := range rows {
		m[r.key] = r
	}
	return m
}
