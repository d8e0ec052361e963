package logql

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/logcluster/logcluster/segment"
)

// Params is one question.
type Params struct {
	Tenant string
	Query  string // LogQL
	// Start and End bound a range query, unix nanoseconds. Of entries, Start <= t < End
	// are returned. A metric query is evaluated at Start, Start+Step, … up to and with End.
	// An instant query is evaluated at End alone: Start equals End and Step is 0.
	Start, End int64
	Step       time.Duration
	Direction  segment.Direction
	Limit      int // of entries; 0: all
	// Strict makes data that cannot be read an error instead of a warning.
	Strict bool
}

// ValueType says which field of a Result holds the answer.
type ValueType string

// The types of answers, named as in Loki's API.
const (
	TypeStreams ValueType = "streams" // Entries
	TypeVector  ValueType = "vector"  // Vector
	TypeMatrix  ValueType = "matrix"  // Matrix
	TypeScalar  ValueType = "scalar"  // Scalar
)

// A Point is a value at a time, unix nanoseconds.
type Point struct {
	Timestamp int64
	Value     float64
}

// A Sample is one series' value in a vector.
type Sample struct {
	Labels segment.Labels
	Point
}

// A Series is a row of a matrix. Points without entries are left out.
type Series struct {
	Labels segment.Labels
	Points []Point
}

// A Result is the answer to a question. Close it.
type Result struct {
	Type    ValueType
	Entries segment.Iterator
	Vector  []Sample // in order of labels, unless the query sorts
	Matrix  []Series // in order of labels
	Scalar  Point

	warnings func() []string
}

// Warnings says what could not be read: the answer lacks it. Each text stands there once.
// While Entries are being read there may be more to come.
func (r *Result) Warnings() []string {
	if r.warnings == nil {
		return nil
	}
	return r.warnings()
}

// Close gives back what the answer holds. It may be called twice.
func (r *Result) Close() error {
	if r.Entries == nil {
		return nil
	}
	return r.Entries.Close()
}

// Options are an Engine's. Limits that are exceeded end a query with a *LimitError.
type Options struct {
	// Source is what is asked. Required.
	Source Source
	// MaxPoints is how many steps a range query may have between Start and End; 0: 11,000.
	// More than segment.MaxSteps - 1 is as good as that.
	MaxPoints int
	// MaxSeries is how many series an answer may have; 0: 10,000.
	MaxSeries int
	// MaxSamples is how many values, series times points, the range aggregations of a
	// query may have together; 0: 10,000,000. Each takes some 16 to 32 bytes of memory.
	MaxSamples int
	// Timeout is how long a query may take; 0: 1 minute, negative: for ever. Its error is
	// context.DeadlineExceeded. Log queries without Params.Limit are streams of any length
	// and end with their context only.
	Timeout time.Duration
}

// An Engine answers questions. It is safe for concurrent use.
type Engine struct {
	options  Options
	timedOut error
}

// NewEngine returns an engine.
func NewEngine(o Options) *Engine {
	if o.MaxPoints <= 0 {
		o.MaxPoints = 11_000
	}
	o.MaxPoints = min(o.MaxPoints, segment.MaxSteps-1)
	if o.MaxSeries <= 0 {
		o.MaxSeries = 10_000
	}
	if o.MaxSamples <= 0 {
		o.MaxSamples = 10_000_000
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	return &Engine{
		options:  o,
		timedOut: fmt.Errorf("the query took longer than the limit of %s: %w", o.Timeout, context.DeadlineExceeded),
	}
}

// Query answers a question. What IsBadQuery reports is the asker's fault, and what is
// context.DeadlineExceeded or context.Canceled is the context's or Options.Timeout's.
func (e *Engine) Query(ctx context.Context, p Params) (*Result, error) {
	x, err := Parse(p.Query)
	if err != nil {
		return nil, err
	}
	if log, ok := x.(*LogExpr); ok {
		return e.log(ctx, p, log)
	}
	return e.metric(ctx, p, x)
}

// log answers a log query.
func (e *Engine) log(ctx context.Context, p Params, x *LogExpr) (*Result, error) {
	switch {
	case p.Start == p.End && p.Step == 0:
		return nil, ErrInstantLogQuery
	case p.End <= p.Start:
		return nil, badRequest("the end of the time range must be after its start")
	case p.Limit < 0:
		return nil, badRequest("the limit is %d: it must be positive, or 0 for all entries", p.Limit)
	}
	damage := newDamage(p.Strict)
	scan := &Scan{Text: x.String(), Query: segment.Query{
		Tenant:    p.Tenant,
		Start:     p.Start,
		End:       p.End,
		Direction: p.Direction,
		Limit:     p.Limit,
		OnDamage:  damage.callback(),
	}}
	if err := x.narrow(&scan.Query); err != nil {
		return nil, err
	}
	bounded, cancel := e.withTimeout(ctx, p.Limit > 0)
	it, err := e.options.Source.Entries(bounded, scan)
	if err != nil {
		err = ended(bounded, err)
		cancel()
		return nil, err
	}
	return &Result{Type: TypeStreams, Entries: &entries{it, bounded, cancel}, warnings: damage.texts}, nil
}

// entries is an iterator that ends its context when it is closed.
type entries struct {
	segment.Iterator
	ctx    context.Context
	cancel context.CancelFunc
}

// Err returns the error that ended the iteration, or nil.
func (e *entries) Err() error {
	if err := e.Iterator.Err(); err != nil {
		return ended(e.ctx, err)
	}
	return nil
}

// Close closes the iterator.
func (e *entries) Close() error {
	err := e.Iterator.Close()
	e.cancel()
	return err
}

// withTimeout returns a context that can be ended and, if limited, ends after the time
// that a query may take.
func (e *Engine) withTimeout(ctx context.Context, limited bool) (context.Context, context.CancelFunc) {
	if !limited || e.options.Timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, e.options.Timeout, e.timedOut)
}

// ended returns why ctx ended, if it did, and else err: when a context ends, sources fail
// in many ways.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// metric answers a query whose value is a vector or a scalar.
func (e *Engine) metric(ctx context.Context, p Params, x Expr) (*Result, error) {
	steps, err := e.steps(p)
	if err != nil {
		return nil, err
	}
	damage := newDamage(p.Strict)
	run := &evaluation{
		source:     e.options.Source,
		tenant:     p.Tenant,
		onDamage:   damage.callback(),
		first:      p.Start,
		step:       int64(p.Step),
		steps:      steps,
		maxSamples: e.options.MaxSamples,
	}
	bounded, cancel := e.withTimeout(ctx, true)
	defer cancel()
	v, err := run.evaluate(bounded, x)
	if err != nil {
		return nil, ended(bounded, err)
	}
	r := &Result{warnings: damage.texts}
	if v.kind == KindScalar && p.Step == 0 {
		r.Type, r.Scalar = TypeScalar, Point{p.End, v.number}
		return r, nil
	}
	if v.kind == KindScalar {
		v.rows = []row{run.constant(v.number)}
	}
	// Whole rows fall away by comparisons.
	v.rows = slices.DeleteFunc(v.rows, func(r row) bool { return !slices.Contains(r.present, true) })
	if n := len(v.rows); n > e.options.MaxSeries {
		return nil, overLimit("maximum of series (%d) reached for a single query, which has %d: narrow the stream selector or aggregate, for example by sum by (…) (…)",
			e.options.MaxSeries, n)
	}
	sortRows(v.rows)
	if p.Step == 0 {
		sortByValue(x, v.rows)
		r.Type, r.Vector = TypeVector, vector(v.rows, p.End)
	} else {
		r.Type, r.Matrix = TypeMatrix, run.matrix(v.rows)
	}
	return r, nil
}

// steps checks the times of a metric query and returns the number of its points.
func (e *Engine) steps(p Params) (int, error) {
	switch {
	case p.End < p.Start:
		return 0, badRequest("the end of the time range must not be before its start")
	case p.Step < 0, p.Step == 0 && p.Start != p.End:
		return 0, badRequest("the step of a range query must be positive")
	case p.Step == 0:
		return 1, nil
	}
	length := uint64(p.End) - uint64(p.Start)
	if length > math.MaxInt64 {
		return 0, badRequest("the time range is longer than 292 years")
	}
	n := length / uint64(p.Step)
	if n > uint64(e.options.MaxPoints) {
		return 0, overLimit("exceeded maximum resolution of %s points per time series. Try increasing the value of the step parameter", thousands(e.options.MaxPoints))
	}
	return int(n) + 1, nil
}

// vector returns the only values of rows.
func vector(rows []row, timestamp int64) []Sample {
	samples := make([]Sample, 0, len(rows))
	for _, r := range rows {
		samples = append(samples, Sample{r.labels, Point{timestamp, r.values[0]}})
	}
	return samples
}

// matrix returns the values of rows at the points where they have one.
func (e *evaluation) matrix(rows []row) []Series {
	series := make([]Series, 0, len(rows))
	for _, r := range rows {
		points := make([]Point, 0, e.steps)
		for i, v := range r.values {
			if r.present[i] {
				points = append(points, Point{e.first + int64(i)*e.step, v})
			}
		}
		series = append(series, Series{r.labels, points})
	}
	return series
}

// Bounds of what is remembered of damage.
const (
	maxWarnings      = 20
	maxWarningLength = 1024
)

// damage gathers what could not be read, from any goroutine.
type damage struct {
	mu       sync.Mutex // guards the rest
	warnings []string   // without repetitions
	more     int        // reports beyond maxWarnings
}

// newDamage returns nil for a strict query, whose damage is an error.
func newDamage(strict bool) *damage {
	if strict {
		return nil
	}
	return &damage{}
}

// callback returns what a segment.Query wants as OnDamage.
func (d *damage) callback() func(error) {
	if d == nil {
		return nil
	}
	return d.add
}

func (d *damage) add(err error) {
	text := err.Error()
	if len(text) > maxWarningLength {
		text = text[:maxWarningLength] + "…"
	}
	text = strings.ToValidUTF8(text, "\uFFFD")
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case slices.Contains(d.warnings, text):
	case len(d.warnings) == maxWarnings:
		d.more++
	default:
		d.warnings = append(d.warnings, text)
	}
}

// texts returns the warnings so far.
func (d *damage) texts() []string {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	warnings := slices.Clone(d.warnings)
	if d.more > 0 {
		warnings = append(warnings, fmt.Sprintf("and %d more reports of data that could not be read", d.more))
	}
	return warnings
}
