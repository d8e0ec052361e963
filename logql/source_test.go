package logql

import (
	"bytes"
	"cmp"
	"context"
	"math"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/logcluster/logcluster/segment"
)

// A store is a Source in memory.
type store struct {
	entries []segment.Entry
	// readers > 0: Partial counts by Span and Add, as storage does, in that many parts which
	// it then merges. Else it looks at every point and every entry.
	readers int
	// replan: scans are first stripped of what their text says, and planned again.
	replan bool
	damage []error // reported on each scan

	mu    sync.Mutex
	scans []Scan
}

func newStore(entries ...segment.Entry) *store {
	s := &store{entries: entries}
	slices.SortStableFunc(s.entries, func(a, b segment.Entry) int { return cmp.Compare(a.Timestamp, b.Timestamp) })
	for i := range s.entries {
		s.entries[i].Offset = uint64(i)
	}
	return s
}

func (s *store) begin(ctx context.Context, scan *Scan) (*Scan, error) {
	s.mu.Lock()
	s.scans = append(s.scans, *scan)
	s.mu.Unlock()
	if s.replan {
		stripped := *scan
		stripped.Query.Matchers, stripped.Query.Filters, stripped.Query.Pipeline = nil, nil, nil
		if a := scan.Aggregation; a != nil {
			stripped.Aggregation = &segment.Aggregation{First: a.First, Step: a.Step, Steps: a.Steps, MaxSeries: a.MaxSeries}
		}
		if err := stripped.Replan(); err != nil {
			return nil, err
		}
		scan = &stripped
	}
	for _, err := range s.damage {
		if err := scan.Query.Damaged(err); err != nil {
			return nil, err
		}
	}
	return scan, ctx.Err()
}

// selected returns the entries that a query asks for, oldest first.
func (s *store) selected(q *segment.Query) []segment.Entry {
	var found []segment.Entry
	for _, e := range s.entries {
		if e.Timestamp >= q.Start && e.Timestamp < q.End && q.MatchesStream(e.Stream) && q.KeepsLine(e.Line) {
			found = append(found, e)
		}
	}
	return found
}

func (s *store) Entries(ctx context.Context, scan *Scan) (segment.Iterator, error) {
	scan, err := s.begin(ctx, scan)
	if err != nil {
		return nil, err
	}
	if scan.Query.Pipeline != nil {
		return segment.SelectUnits(ctx, 0, s.frames(0, 1), &scan.Query, nil), nil
	}
	found := s.selected(&scan.Query)
	if scan.Query.Direction == segment.Backward {
		slices.Reverse(found)
	}
	if limit := scan.Query.Limit; limit > 0 && len(found) > limit {
		found = found[:limit]
	}
	return &sliceIterator{ctx: ctx, entries: found, at: -1}, nil
}

type sliceIterator struct {
	ctx     context.Context
	entries []segment.Entry
	at      int
	closed  int
}

func (i *sliceIterator) Next() bool {
	if i.ctx.Err() != nil || i.at+1 >= len(i.entries) {
		return false
	}
	i.at++
	return true
}
func (i *sliceIterator) At() *segment.Entry { return &i.entries[i.at] }
func (i *sliceIterator) Err() error         { return i.ctx.Err() }
func (i *sliceIterator) Close() error       { i.closed++; return nil }

func (s *store) Partial(ctx context.Context, scan *Scan) (*segment.Partial, error) {
	scan, err := s.begin(ctx, scan)
	if err != nil {
		return nil, err
	}
	a := scan.Aggregation
	if err := a.Validate(); err != nil {
		return nil, err
	}
	parts := make([]*segment.Partial, max(s.readers, 1))
	for i := range parts {
		parts[i] = segment.NewPartial(a)
	}
	if scan.Query.Pipeline != nil {
		for i := range parts {
			if err := segment.AggregateUnits(ctx, s.frames(i, len(parts)), &scan.Query, a, parts[i]); err != nil {
				return nil, err
			}
		}
		for _, p := range parts[1:] {
			parts[0].Merge(p)
		}
		return parts[0], nil
	}
	for n, e := range s.selected(&scan.Query) {
		value := uint64(1)
		if a.Measure == segment.MeasureBytes {
			value = uint64(len(e.Line))
		}
		series := parts[n%len(parts)].For(a.Grouping.Apply(e.Stream.Labels))
		if s.readers > 0 {
			lo, hi := a.Span(e.Timestamp)
			series.Add(lo, hi, value, 1)
			continue
		}
		for i := range a.Steps {
			if point := a.First + int64(i)*a.Step; covers(point, a.Range, e.Timestamp) {
				series.Add(i, i+1, value, 1)
			}
		}
	}
	for _, p := range parts[1:] {
		parts[0].Merge(p)
	}
	return parts[0], nil
}

// frames returns every n-th entry from the i-th on as a shard's tail holds them.
func (s *store) frames(i, n int) []segment.Unit {
	var units []segment.Unit
	var encoder segment.FrameEncoder
	for ; i < len(s.entries); i += n {
		e := &s.entries[i]
		b := &segment.Batch{Streams: []*segment.Stream{e.Stream}, Rows: []segment.Row{{Timestamp: e.Timestamp, Line: e.Line}}}
		if len(e.Metadata) > 0 {
			b.Metadata, b.Rows[0].Metadata = []segment.Labels{e.Metadata}, 1
		}
		frames, err := encoder.Encode(b, []uint32{0})
		if err != nil {
			panic(err)
		}
		f := frames[0]
		f.Header.Offset = e.Offset
		payload := bytes.Clone(f.Payload)
		units = append(units, &segment.FrameUnit{Header: f.Header, Streams: f.Streams, Load: func() ([]byte, error) { return payload, nil }})
		f.Release()
	}
	return units
}

// covers reports whether point - length < timestamp <= point.
func covers(point, length, timestamp int64) bool {
	return timestamp <= point && uint64(point)-uint64(timestamp) < uint64(length)
}

func (s *store) Streams(ctx context.Context, scan *Scan) ([]segment.Labels, error) {
	scan, err := s.begin(ctx, scan)
	if err != nil {
		return nil, err
	}
	seen := map[string]segment.Labels{}
	for _, e := range s.selected(&scan.Query) {
		seen[string(e.Stream.Labels.AppendKey(nil))] = e.Stream.Labels
	}
	var sets []segment.Labels
	for _, labels := range seen {
		sets = append(sets, labels)
	}
	return sets, nil
}

// A sample of a reference vector.
type sample struct {
	labels segment.Labels
	value  float64
}

// reference evaluates an expression at one point by the definition: over all entries,
// without plan, push-down or simplification. It returns a vector by labels or a scalar.
func (s *store) reference(t *testing.T, x Expr, tenant string, at int64) (vector map[string]sample, scalar float64) {
	t.Helper()
	vector = map[string]sample{}
	switch x := x.(type) {
	case *Number:
		return nil, x.Value
	case *VectorLiteral:
		_, scalar := s.reference(t, x.Scalar, tenant, at)
		vector["{}"] = sample{segment.Labels{}, scalar}
	case *Negation:
		inner, scalar := s.reference(t, x.Inner, tenant, at)
		if inner == nil {
			return nil, -scalar
		}
		for key, v := range inner {
			vector[key] = sample{v.labels, -v.value}
		}
	case *RangeAggregation:
		groups := map[string][]referenceEntry{}
		for _, e := range s.entries {
			if !covers(at-int64(x.Range.Offset), int64(x.Range.Range), e.Timestamp) {
				continue
			}
			labels, value, keep := referenceRow(t, x.Range.Log, tenant, &e)
			if !keep {
				continue
			}
			if unwrap := x.Range.Log.unwrap(); unwrap != nil && x.Grouping.Without {
				labels = referenceGroup(&segment.Grouping{Without: true, Names: []string{unwrap.Label}}, labels)
			}
			labels = referenceGroup(&x.Grouping, labels)
			groups[labels.String()] = append(groups[labels.String()], referenceEntry{e, labels, value})
		}
		for key, group := range groups {
			vector[key] = sample{group[0].labels, referenceRange(x, group)}
		}
	case *VectorAggregation:
		inner, _ := s.reference(t, x.Inner, tenant, at)
		groups := map[string][]sample{}
		for _, v := range inner {
			labels := referenceGroup(&x.Grouping, v.labels)
			groups[labels.String()] = append(groups[labels.String()], sample{labels, v.value})
		}
		if x.Op.selects() {
			return referenceSelect(x, inner), 0
		}
		for key, group := range groups {
			vector[key] = sample{group[0].labels, referenceAggregate(x.Op, group)}
		}
	case *Binary:
		left, a := s.reference(t, x.Left, tenant, at)
		right, b := s.reference(t, x.Right, tenant, at)
		return referenceBinary(x, left, right, a, b)
	default:
		t.Fatalf("no reference for %T", x)
	}
	return vector, 0
}

// A referenceEntry is an entry that counts in a range.
type referenceEntry struct {
	segment.Entry
	labels segment.Labels
	value  float64
}

// referenceRow sends an entry through the stages one after the other.
func referenceRow(t *testing.T, x *LogExpr, tenant string, e *segment.Entry) (labels segment.Labels, value float64, keep bool) {
	t.Helper()
	if e.Stream.Tenant != tenant {
		return nil, 0, false
	}
	for _, m := range x.Matchers {
		if !m.Matches(e.Stream.Labels.Get(m.Name)) {
			return nil, 0, false
		}
	}
	var stages []segment.PipelineStage
	for _, stage := range x.Stages {
		if s, ok := stage.(*PipelineStage); ok {
			stages = append(stages, s.PipelineStage)
			continue
		}
		f := stage.(*LineFilter)
		found := false
		for _, v := range f.Values {
			if f.Type == segment.MatchEqual || f.Type == segment.MatchNotEqual {
				found = found || bytes.Contains(e.Line, []byte(v))
			} else {
				found = found || regexp.MustCompile("(?s)"+v).Match(e.Line)
			}
		}
		if found == (f.Type == segment.MatchNotEqual || f.Type == segment.MatchNotRegexp) {
			return nil, 0, false
		}
	}
	labels = e.Stream.Labels
	if len(stages) == 0 {
		return labels, 0, true
	}
	// What a pipeline means is tested in its package.
	var row segment.PipelineRow
	if !segment.NewPipeline(stages...).Run(&row, e.Stream, e.Metadata, e.Line) {
		return nil, 0, false
	}
	labels = segment.NewLabels(slices.Concat(labels, e.Metadata, row.Parsed()))
	if unwrap := x.unwrap(); unwrap != nil {
		var err error
		if value, err = unwrap.Value(row.Get(unwrap.Label)); err != nil {
			t.Fatal(err)
		}
	}
	return labels, value, true
}

func referenceRange(x *RangeAggregation, group []referenceEntry) float64 {
	count, bytes, sum := float64(len(group)), 0.0, 0.0
	var values []float64
	for _, e := range group {
		bytes += float64(len(e.Line))
		sum += e.value
		values = append(values, e.value)
	}
	seconds := x.Range.Range.Seconds()
	slices.Sort(values)
	// The largest of those with the earliest, or the latest, time.
	at := func(sign int) float64 {
		best := group[0]
		for _, e := range group {
			if c := sign * cmp.Compare(e.Timestamp, best.Timestamp); c > 0 || c == 0 && e.value > best.value {
				best = e
			}
		}
		return best.value
	}
	switch x.Op {
	case CountOverTime:
		return count
	case Rate:
		if x.Range.Log.unwrap() != nil {
			return sum / seconds
		}
		return count / seconds
	case BytesOverTime:
		return bytes
	case BytesRate:
		return bytes / seconds
	case SumOverTime:
		return sum
	case AvgOverTime:
		return sum / count
	case MinOverTime:
		return values[0]
	case MaxOverTime:
		return values[len(values)-1]
	case FirstOverTime:
		return at(-1)
	case LastOverTime:
		return at(1)
	case QuantileOverTime:
		rank := x.Quantile * (count - 1)
		low, high := values[int(rank)], values[min(int(rank)+1, len(values)-1)]
		return low + (high-low)*(rank-math.Floor(rank))
	}
	panic("no reference for " + x.Op.String())
}

// referenceSelect keeps a series if fewer than K of its group come before it.
func referenceSelect(x *VectorAggregation, inner map[string]sample) map[string]sample {
	vector := map[string]sample{}
	for key, v := range inner {
		before := 0
		group := referenceGroup(&x.Grouping, v.labels).String()
		for _, other := range inner {
			better := other.value > v.value
			if x.Op == BottomK {
				better = other.value < v.value
			}
			same := referenceGroup(&x.Grouping, other.labels).String() == group
			if same && (better || other.value == v.value && compareLabels(other.labels, v.labels) < 0) {
				before++
			}
		}
		if before < x.K || x.Op == Sort || x.Op == SortDesc {
			vector[key] = v
		}
	}
	return vector
}

func referenceGroup(g *segment.Grouping, l segment.Labels) segment.Labels {
	out := segment.Labels{}
	for _, p := range l {
		if slices.Contains(g.Names, p.Name) != g.Without {
			out = append(out, p)
		}
	}
	return out
}

func referenceAggregate(op VectorOp, group []sample) float64 {
	var values []float64
	total := 0.0
	for _, s := range group {
		values = append(values, s.value)
		total += s.value
	}
	return [...]float64{total, total / float64(len(values)), slices.Min(values), slices.Max(values), float64(len(values))}[op]
}

func referenceBinary(x *Binary, left, right map[string]sample, a, b float64) (map[string]sample, float64) {
	vector := map[string]sample{}
	if x.Op.Set() {
		for key, v := range left {
			if _, ok := right[key]; ok && x.Op == And || !ok && x.Op == Unless || x.Op == Or {
				vector[key] = v
			}
		}
		for key, v := range right {
			if _, ok := left[key]; !ok && x.Op == Or {
				vector[key] = v
			}
		}
		return vector, 0
	}
	put := func(key string, labels segment.Labels, own, a, b float64) {
		result, holds := apply(x.Op, a, b)
		switch {
		case !x.Op.Comparison():
			vector[key] = sample{labels, result}
		case x.Bool:
			vector[key] = sample{labels, truth(holds)}
		case holds:
			vector[key] = sample{labels, own}
		}
	}
	switch {
	case left == nil && right == nil:
		result, holds := apply(x.Op, a, b)
		if x.Op.Comparison() {
			result = truth(holds)
		}
		return nil, result
	case right == nil:
		for key, v := range left {
			put(key, v.labels, v.value, v.value, b)
		}
	case left == nil:
		for key, v := range right {
			put(key, v.labels, v.value, a, v.value)
		}
	default:
		for key, v := range left {
			if other, ok := right[key]; ok {
				put(key, v.labels, v.value, v.value, other.value)
			}
		}
	}
	return vector, 0
}
