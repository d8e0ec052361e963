package segment

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"unsafe"

	"github.com/logcluster/logcluster/segment/field"
)

// The labels that say what went wrong with a row, and their values.
const (
	ErrorLabel        = "__error__"
	ErrorDetailsLabel = "__error_details__"

	JSONParserErr       = "JSONParserErr"
	LogfmtParserErr     = "LogfmtParserErr"
	LabelFilterErr      = "LabelFilterErr"
	SampleExtractionErr = "SampleExtractionErr"
)

// extractedSuffix is added to the name of an extracted label that is taken already.
const extractedSuffix = "_extracted"

// A PipelineError says that a line of an aggregation could not be parsed or compared, or
// has no value. It is the asker's to decide what becomes of such lines.
type PipelineError struct {
	Kind   string // the value of __error__
	Labels Labels // of the row, all of them
}

// Error returns the message of Loki's.
func (e *PipelineError) Error() string {
	return "pipeline error: '" + e.Kind + "' for series: '" + e.Labels.String() + "'. " +
		"Use a label filter to intentionally skip this error. (e.g | __error__!=\"" + e.Kind + "\"). " +
		"To skip all potential errors you can match empty errors.(e.g __error__=\"\") " +
		"The label filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )"
}

// ErrTooManySeries: an aggregation has more series than Aggregation.MaxSeries.
var ErrTooManySeries = errors.New("too many series")

// A PipelineRow is a line on its way through a Pipeline. The zero value is ready for use, by one
// goroutine, for one line after the other.
type PipelineRow struct {
	stream   *Stream
	metadata Labels
	fields   field.Fields

	failed  string // __error__
	details error  // __error_details__
	excused bool   // a filter that names them has let the row pass since
	invalid bool   // an unwrap could not read the value
	value   float64

	labels []field.Field // scratch of all
	key    []byte
}

// Run sends a line through the pipeline and reports whether it is kept. Until the next
// call, row says what has become of it. The row's texts share the line's memory.
func (p *Pipeline) Run(row *PipelineRow, stream *Stream, metadata Labels, line []byte) (keep bool) {
	row.begin(stream, metadata)
	return p.run(row, p.Stages, line)
}

// runExtracted is Run of a line without metadata of which the first stage, a parser, has extracted the
// fields.
func (p *Pipeline) runExtracted(row *PipelineRow, stream *Stream, fields []field.Field) (keep bool) {
	row.begin(stream, nil)
	row.fields.List = append(row.fields.List, fields...)
	return p.run(row, p.Stages[1:], nil)
}

func (r *PipelineRow) begin(stream *Stream, metadata Labels) {
	r.stream, r.metadata = stream, metadata
	r.fields.Reset()
	r.failed, r.details, r.excused, r.invalid, r.value = "", nil, false, false, 0
}

func (p *Pipeline) run(row *PipelineRow, stages []PipelineStage, line []byte) (keep bool) {
	for _, stage := range stages {
		switch s := stage.(type) {
		case *JSONStage:
			var err error
			if s.all != nil {
				err = s.all.Scan(line, &row.fields)
			} else {
				err = s.paths.Scan(line, &row.fields)
			}
			row.fail(JSONParserErr, err)
		case *LogfmtStage:
			row.fail(LogfmtParserErr, s.parser.Scan(line, &row.fields))
		case *LabelFilter:
			if !row.matches(s) {
				return false
			}
			row.excused = row.excused || row.failed != "" && s.looksAtError()
		case *UnwrapStage:
			text := row.Get(s.Label)
			if text == "" {
				return false
			}
			var err error
			if row.value, err = s.Value(text); err != nil {
				row.invalid = true
				row.fail(SampleExtractionErr, err)
			}
		}
	}
	return true
}

// Value returns the number that the unwrapped label's value stands for.
func (s *UnwrapStage) Value(text string) (float64, error) {
	switch s.Conversion {
	case ConvertDuration:
		d, err := field.ParseDuration(text)
		return d.Seconds(), err
	case ConvertBytes:
		n, err := field.ParseBytes(text)
		return float64(n), err
	}
	return field.ParseNumber(text)
}

// fail sets the error, if there is one and it is the first.
func (r *PipelineRow) fail(kind string, err error) {
	if err != nil && r.failed == "" {
		r.failed, r.details = kind, err
	}
}

func (r *PipelineRow) matches(f *LabelFilter) bool {
	switch f.Kind {
	case FilterAnd:
		return r.matches(f.Left) && r.matches(f.Right)
	case FilterOr:
		return r.matches(f.Left) || r.matches(f.Right)
	}
	keep, err := f.Match(r.Get(f.Name))
	r.fail(LabelFilterErr, err)
	return keep
}

// Get returns the value of a label, "" if the row has none.
func (r *PipelineRow) Get(name string) string {
	switch name {
	case ErrorLabel:
		return r.failed
	case ErrorDetailsLabel:
		return r.errorDetails()
	}
	if v := r.given(name); v != "" {
		return v
	}
	base, suffixed := strings.CutSuffix(name, extractedSuffix)
	suffixed = suffixed && r.given(base) != ""
	for i := range r.fields.List {
		if f := &r.fields.List[i]; f.Name == name || suffixed && f.Name == base {
			return f.Value
		}
	}
	return ""
}

// given returns the value of a label of the stream or the metadata.
func (r *PipelineRow) given(name string) string {
	for i := range r.stream.Labels {
		if l := &r.stream.Labels[i]; l.Name == name {
			return l.Value
		}
	}
	if len(r.metadata) == 0 {
		return ""
	}
	return r.metadata.Get(name)
}

func (r *PipelineRow) errorDetails() string {
	if r.details == nil {
		return ""
	}
	return r.details.Error()
}

// Err returns why the row cannot be counted (P4), or nil.
func (r *PipelineRow) Err() error {
	if r.failed == "" || r.excused && !r.invalid {
		return nil
	}
	r.gather(true)
	return &PipelineError{r.failed, r.clone()}
}

// Parsed returns the labels that the row has beyond those of its stream and its metadata,
// in memory of their own. Empty ones are among them if a parser keeps them.
func (r *PipelineRow) Parsed() Labels {
	r.gather(false)
	if len(r.labels) == 0 {
		return nil
	}
	return r.clone()
}

// gather makes labels the row's labels, sorted: all, or those that were extracted.
func (r *PipelineRow) gather(all bool) {
	r.labels = r.labels[:0]
	if all {
		for _, l := range r.stream.Labels {
			r.labels = append(r.labels, field.Field(l))
		}
		for _, l := range r.metadata {
			if r.stream.Labels.Get(l.Name) == "" {
				r.labels = append(r.labels, field.Field(l))
			}
		}
	}
	for _, f := range r.fields.List {
		if f.Name == ErrorLabel || f.Name == ErrorDetailsLabel {
			continue
		}
		if r.given(f.Name) != "" {
			f.Name += extractedSuffix
			if r.given(f.Name) != "" {
				continue
			}
		}
		r.labels = append(r.labels, f)
	}
	if r.failed != "" {
		r.labels = append(r.labels, field.Field{Name: ErrorLabel, Value: r.failed}, field.Field{Name: ErrorDetailsLabel, Value: r.errorDetails()})
	}
	slices.SortStableFunc(r.labels, func(a, b field.Field) int { return strings.Compare(a.Name, b.Name) })
	r.labels = slices.CompactFunc(r.labels, func(a, b field.Field) bool { return a.Name == b.Name })
}

// clone copies the gathered labels, into one piece of memory.
func (r *PipelineRow) clone() Labels {
	size := 0
	for _, l := range r.labels {
		size += len(l.Name) + len(l.Value)
	}
	buffer := make([]byte, 0, size)
	own := func(s string) string {
		from := len(buffer)
		buffer = append(buffer, s...)
		return unsafe.String(unsafe.SliceData(buffer[from:]), len(s))
	}
	labels := make(Labels, len(r.labels))
	for i, l := range r.labels {
		labels[i] = Label{own(l.Name), own(l.Value)}
	}
	return labels
}

// group returns the key of the labels that name the row's series. It is valid until the
// next call.
func (r *PipelineRow) group(g *Grouping) []byte {
	r.key = r.key[:0]
	add := func(name, value string) {
		if value != "" {
			r.key = binary.AppendUvarint(r.key, uint64(len(name)))
			r.key = append(r.key, name...)
			r.key = binary.AppendUvarint(r.key, uint64(len(value)))
			r.key = append(r.key, value...)
		}
	}
	if !g.Without {
		for _, name := range g.Names {
			add(name, r.Get(name))
		}
		return r.key
	}
	r.gather(true)
	for _, l := range r.labels {
		if !slices.Contains(g.Names, l.Name) {
			add(l.Name, l.Value)
		}
	}
	return r.key
}

// labelsOfKey is the inverse of Labels.AppendKey.
func labelsOfKey(key string) Labels {
	labels := Labels{}
	next := func() (s string) {
		n, size := uint64(0), 0
		for shift := 0; ; shift += 7 {
			c := key[size]
			size++
			n |= uint64(c&0x7f) << shift
			if c < 0x80 {
				break
			}
		}
		s, key = key[size:size+int(n)], key[size+int(n):]
		return s
	}
	for key != "" {
		name := next()
		labels = append(labels, Label{name, next()})
	}
	return labels
}
