package segment

import (
	"slices"
	"strconv"
	"strings"

	"github.com/logcluster/logcluster/segment/field"
)

// A Pipeline is what a query does with a line beyond line filters: parsers extract labels
// from it, label filters decide by them, and an unwrap makes one of them the line's value.
// Line filters are no part of it: as nothing changes the line, they stand in Query.Filters
// wherever the query has them.
//
// A Pipeline is immutable and is shared by goroutines. Run (on a PipelineRow) is its meaning: whatever
// answers from columns must answer as Run does.
//
//	P1  The labels of a row are those of its stream, its structured metadata and what parsers
//	    extracted. Of one name the stream's counts, then the metadata's, then the first
//	    extracted; an extracted label whose name the stream or the metadata has is called
//	    name_extracted. An empty label is an absent one.
//	P2  A fault keeps the row and sets __error__ and __error_details__, if they are not set
//	    yet: JSONParserErr and LogfmtParserErr by a parser, which keeps what it extracted
//	    before the fault; LabelFilterErr by a comparison with a number, duration or size
//	    whose label is there but is none: the comparison then holds; SampleExtractionErr by
//	    an unwrap whose label is there but is none.
//	P3  A comparison with a number, duration or size drops a row without the label, and so
//	    does an unwrap.
//	P4  A row with an error that counts in an Aggregation ends it with a *PipelineError,
//	    unless a label filter that names __error__ (or __error_details__) has let it pass
//	    since. A row that an unwrap could not read has no value: it ends it in any case.
type Pipeline struct {
	Stages []PipelineStage

	names  []string // that filters and unwraps look at, sorted
	finite bool     // parsers extract no other labels than were asked for by Narrow
}

// PipelineStage is one of *JSONStage, *LogfmtStage, *LabelFilter and *UnwrapStage.
type PipelineStage interface {
	String() string

	isPipelineStage()
}

// JSONStage is | json: all scalars of the line's object, or the values at given paths.
type JSONStage struct {
	Expressions []field.Expression // none: all scalars

	all   *field.JSON
	paths *field.JSONPaths
}

// LogfmtStage is | logfmt: all pairs of the line, or the values of given keys.
type LogfmtStage struct {
	Strict, KeepEmpty bool
	Expressions       []field.Expression // none: all pairs

	parser *field.Logfmt
}

// Conversion says how the text of an unwrapped label becomes a number.
type Conversion uint8

// The conversions.
const (
	ConvertNumber   Conversion = iota
	ConvertDuration            // duration_seconds(label): a duration, in seconds
	ConvertBytes               // bytes(label): a size, in bytes
)

// UnwrapStage is | unwrap: the value of the row is that of a label.
type UnwrapStage struct {
	Label      string
	Conversion Conversion
}

// NewJSONStage compiles a stage.
func NewJSONStage(expressions ...field.Expression) (*JSONStage, error) {
	s := &JSONStage{Expressions: expressions}
	if len(expressions) == 0 {
		s.all = field.NewJSON(nil)
		return s, nil
	}
	var err error
	s.paths, err = field.NewJSONPaths(expressions)
	return s, err
}

// NewLogfmtStage compiles a stage.
func NewLogfmtStage(strict, keepEmpty bool, expressions ...field.Expression) (*LogfmtStage, error) {
	s := &LogfmtStage{Strict: strict, KeepEmpty: keepEmpty, Expressions: expressions}
	if len(expressions) == 0 {
		s.parser = field.NewLogfmt(nil, strict, keepEmpty)
		return s, nil
	}
	var err error
	s.parser, err = field.NewLogfmtKeys(expressions, strict)
	return s, err
}

func (*JSONStage) isPipelineStage()   {}
func (*LogfmtStage) isPipelineStage() {}
func (*LabelFilter) isPipelineStage() {}
func (*UnwrapStage) isPipelineStage() {}

// String returns the stage as it stands in a query, without the |.
func (s *JSONStage) String() string { return "json" + expressionsText(s.Expressions) }

// String returns the stage as it stands in a query, without the |.
func (s *LogfmtStage) String() string {
	text := "logfmt"
	if s.Strict {
		text += " --strict"
	}
	if s.KeepEmpty {
		text += " --keep-empty"
	}
	return text + expressionsText(s.Expressions)
}

func expressionsText(list []field.Expression) string {
	var b strings.Builder
	for i, e := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte(' ')
		b.WriteString(e.Label)
		if e.Label != e.Path {
			b.WriteByte('=')
			b.WriteString(strconv.Quote(e.Path))
		}
	}
	return b.String()
}

// String returns the stage as it stands in a query, without the |.
func (s *UnwrapStage) String() string {
	switch s.Conversion {
	case ConvertDuration:
		return "unwrap duration_seconds(" + s.Label + ")"
	case ConvertBytes:
		return "unwrap bytes(" + s.Label + ")"
	}
	return "unwrap " + s.Label
}

// NewPipeline returns the pipeline of some stages.
func NewPipeline(stages ...PipelineStage) *Pipeline {
	p := &Pipeline{Stages: stages}
	for _, stage := range stages {
		switch s := stage.(type) {
		case *LabelFilter:
			p.names = s.appendNames(p.names)
		case *UnwrapStage:
			p.names = append(p.names, s.Label)
		}
	}
	slices.Sort(p.names)
	p.names = slices.Compact(p.names)
	return p
}

// Names returns the names, sorted, of the labels that the filters and the unwrap look at.
func (p *Pipeline) Names() []string { return p.names }

// Narrow returns a pipeline that gives the same rows, but is not bound to extract labels
// other than those that its stages look at and those in names. Errors are the same.
func (p *Pipeline) Narrow(names []string) *Pipeline {
	wanted := slices.Concat(p.names, names)
	for _, n := range wanted {
		if base, ok := strings.CutSuffix(n, extractedSuffix); ok {
			wanted = append(wanted, base)
		}
	}
	slices.Sort(wanted)
	wanted = slices.Compact(wanted)
	narrow := &Pipeline{Stages: slices.Clone(p.Stages), names: p.names, finite: true}
	for i, stage := range narrow.Stages {
		switch s := stage.(type) {
		case *JSONStage:
			if s.all != nil {
				narrow.Stages[i] = &JSONStage{all: field.NewJSON(wanted)}
			}
		case *LogfmtStage:
			if len(s.Expressions) == 0 {
				narrow.Stages[i] = &LogfmtStage{Strict: s.Strict, KeepEmpty: s.KeepEmpty, parser: field.NewLogfmt(wanted, s.Strict, s.KeepEmpty)}
			}
		}
	}
	return narrow
}

// needs returns p narrowed to what an aggregation looks at.
func (p *Pipeline) needs(a *Aggregation) *Pipeline {
	if p == nil || a.Grouping.Without {
		return p
	}
	return p.Narrow(a.Grouping.Names)
}

// String returns the stages as they stand in a query.
func (p *Pipeline) String() string {
	var b strings.Builder
	for _, s := range p.Stages {
		b.WriteString("| ")
		b.WriteString(s.String())
		b.WriteByte(' ')
	}
	return strings.TrimSuffix(b.String(), " ")
}
