package http

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
)

// queryParams are what /query understands.
var queryParams = []string{"query", "q", "start", "end", "since", "limit", "direction", "time", "step", "strict"}

// warningsTrailer follows an answer of plain text.
const warningsTrailer = "Logcluster-Warnings"

// query answers LogQL with a stream of lines.
func (s *Server) query(w http.ResponseWriter, r *http.Request, n *Node) error {
	p, err := s.queryParams(w, r)
	if err != nil {
		return err
	}
	release, err := s.slot(r.Context())
	if err != nil {
		return err
	}
	defer release()
	// A query may run for as long as it goes on answering: the time starts anew with
	// whatever the client has taken.
	ctx, cancel := context.WithCancelCause(r.Context())
	patience := s.options.Timeouts.Query
	late := &statusError{code: http.StatusGatewayTimeout, text: fmt.Sprintf("the query took longer than the limit of %s without an answer", patience)}
	timer := time.AfterFunc(patience, func() { cancel(late) })
	defer func() {
		timer.Stop()
		cancel(nil)
	}()
	result, err := n.Querier.Query(ctx, p)
	if err != nil {
		return because(ctx, err)
	}
	defer result.Close()
	plain := accepts(r.Header, "text/plain") && !accepts(r.Header, "application/x-ndjson")
	var first *segment.Entry
	if result.Type == logql.TypeStreams {
		// An error now can still have a status of its own.
		if result.Entries.Next() {
			first = result.Entries.At()
		} else if err := result.Entries.Err(); err != nil {
			return because(ctx, err)
		}
	}
	if plain {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Trailer", warningsTrailer)
	} else {
		w.Header().Set("Content-Type", "application/x-ndjson")
	}
	out := newStreamWriter(w, func() { timer.Reset(patience) })
	defer out.close()
	write := &resultWriter{out: out, plain: plain}
	if result.Type != logql.TypeStreams {
		write.metric(result)
	} else if first != nil {
		write.entry(first)
		for result.Entries.Next() && out.failed() == nil {
			write.entry(result.Entries.At())
		}
		if err := because(ctx, result.Entries.Err()); err != nil && out.failed() == nil {
			if !plain {
				out.line(append(appendString([]byte(`{"error":`), err.Error()), '}'))
			}
			// In plain text there is no room for the reason: a log line may look like
			// anything. The broken connection says that there is one.
			_ = out.close()
			return err
		}
	}
	if warnings := result.Warnings(); len(warnings) > 0 {
		if plain {
			w.Header().Set(warningsTrailer, headerText(strings.Join(warnings, "; ")))
		} else {
			out.line(append(appendStrings([]byte(`{"warnings":`), warnings), '}'))
		}
	}
	return out.close()
}

// because returns why ctx was ended, if the server ended it, or err.
func because(ctx context.Context, err error) error {
	var status *statusError
	if err != nil && errors.As(context.Cause(ctx), &status) {
		return status
	}
	return err
}

// headerText makes a text fit for a header: one line, ASCII, and not too long.
func headerText(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	return text[:min(len(text), 4096)]
}

// queryParams reads the question.
func (s *Server) queryParams(w http.ResponseWriter, r *http.Request) (p logql.Params, err error) {
	values, body, err := form(w, r)
	if err != nil {
		return p, err
	}
	if p.Tenant, err = tenantOf(r); err != nil {
		return p, err
	}
	if !values.Has("query") && !values.Has("q") && strings.TrimSpace(body) != "" {
		// The body is the query. curl -d calls it a form.
		if values, err = url.ParseQuery(r.URL.RawQuery); err != nil {
			return p, badRequest("cannot read the parameters of the URL: %v", err)
		}
		values.Set("query", body)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(queryParams, name) {
			return p, badRequest("unknown parameter %s: there are %s", quote(name), strings.Join(queryParams, ", "))
		}
		if len(values[name]) > 1 {
			return p, badRequest("the parameter %s is given %d times: once is enough", name, len(values[name]))
		}
	}
	if p.Query = values.Get("query"); values.Has("q") {
		if values.Has("query") {
			return p, badRequest("query and q are the same parameter: give one of them")
		}
		p.Query = values.Get("q")
	}
	if strings.TrimSpace(p.Query) == "" {
		return p, badRequest(`the query is missing: /query?query={app="web"}, percent-encoded, or the query as the body of a POST`)
	}
	expression, err := logql.Parse(p.Query)
	if err != nil {
		return p, err
	}
	if p.Direction, err = directionParam(values); err != nil {
		return p, err
	}
	if p.Limit, err = limitParam(values, 0, 0, math.MaxInt-1); err != nil {
		return p, err
	}
	if p.Strict, err = boolParam(values, "strict"); err != nil {
		return p, err
	}
	if p.Step, err = stepParam(values); err != nil {
		return p, err
	}
	return p, queryRange(&p, values, expression.Kind() == logql.KindLog, time.Now().UnixNano())
}

// queryRange reads the times of a question. A log query is over everything unless it says
// otherwise; a metric query without a step is of one instant.
func queryRange(p *logql.Params, values url.Values, log bool, now int64) (err error) {
	// Entries may be ahead of this clock.
	latest := now
	if log {
		latest += int64(futureGrace) + 1
	}
	if values.Get("time") != "" {
		if log || p.Step != 0 {
			return badRequest("time is for metric queries of one instant, without a step; a range has start or since, and end")
		}
		p.End, err = timeParam(values, "time", now)
		p.Start = p.End
		return err
	}
	if p.End, err = timeParam(values, "end", latest); err != nil {
		return err
	}
	if log && p.Step != 0 {
		return badRequest("step is for metric queries, this is a log query")
	}
	if !log && p.Step == 0 {
		p.Start = p.End
		return nil
	}
	since, err := sinceParam(values, 0)
	if err != nil {
		return err
	}
	switch {
	case values.Get("start") != "":
		if since != 0 {
			return badRequest("start and since exclude each other")
		}
		p.Start, err = timeParam(values, "start", 0)
	case since != 0:
		p.Start = before(min(p.End, now), since)
	case log:
		p.Start = 0
	default:
		p.Start = before(p.End, time.Hour)
	}
	if err == nil && p.End <= p.Start {
		return badRequest("the end of the time range must be after its start")
	}
	return err
}

// A resultWriter writes the parts of an answer, one a line.
type resultWriter struct {
	out   *streamWriter
	plain bool
	buf   []byte // scratch

	stream *segment.Stream // of the entry before
	labels []byte          // its labels, as JSON
}

// entry writes {"time":…,"labels":{…},"line":…,"metadata":{…},"parsed":{…}}, or the line alone.
func (w *resultWriter) entry(e *segment.Entry) {
	if w.plain {
		w.out.line(e.Line)
		return
	}
	if e.Stream != w.stream {
		w.stream, w.labels = e.Stream, appendLabels(w.labels[:0], e.Stream.Labels)
	}
	b := append(w.buf[:0], `{"time":"`...)
	b = append(formatTime(b, e.Timestamp), `","labels":`...)
	b = append(b, w.labels...)
	if utf8.Valid(e.Line) {
		b = appendString(append(b, `,"line":`...), e.Line)
	} else {
		b = base64.StdEncoding.AppendEncode(append(b, `,"line_base64":"`...), e.Line)
		b = append(b, '"')
	}
	if len(e.Metadata) > 0 {
		b = appendLabels(append(b, `,"metadata":`...), e.Metadata)
	}
	if len(e.Parsed) > 0 {
		b = appendLabels(append(b, `,"parsed":`...), e.Parsed)
	}
	w.buf = append(b, '}')
	w.out.line(w.buf)
}

// metric writes one series a line, or, as text, one sample a line.
func (w *resultWriter) metric(r *logql.Result) {
	switch r.Type {
	case logql.TypeScalar:
		w.sample(nil, r.Scalar)
	case logql.TypeVector:
		for _, sample := range r.Vector {
			w.sample(sample.Labels, sample.Point)
		}
	default:
		for _, series := range r.Matrix {
			w.series(series)
		}
	}
}

// sample writes {"labels":{…},"time":…,"value":…} or `{…} value`.
func (w *resultWriter) sample(set segment.Labels, p logql.Point) {
	b := w.buf[:0]
	if w.plain {
		b = append(append(b, set.String()...), ' ')
		b = strconv.AppendFloat(b, p.Value, 'f', -1, 64)
	} else {
		b = appendLabels(append(b, `{"labels":`...), set)
		b = formatTime(append(b, `,"time":"`...), p.Timestamp)
		b = appendNumber(append(b, `","value":`...), p.Value)
		b = append(b, '}')
	}
	w.buf = b
	w.out.line(b)
}

// series writes {"labels":{…},"values":[[time,value],…]} or `time {…} value` for each value.
func (w *resultWriter) series(series logql.Series) {
	if w.plain {
		labels := series.Labels.String()
		for _, p := range series.Points {
			b := append(formatTime(w.buf[:0], p.Timestamp), ' ')
			b = append(append(b, labels...), ' ')
			w.buf = strconv.AppendFloat(b, p.Value, 'f', -1, 64)
			w.out.line(w.buf)
		}
		return
	}
	b := appendLabels(append(w.buf[:0], `{"labels":`...), series.Labels)
	b = append(b, `,"values":[`...)
	for i, p := range series.Points {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(formatTime(append(b, '[', '"'), p.Timestamp), '"', ',')
		b = append(appendNumber(b, p.Value), ']')
	}
	w.buf = append(b, ']', '}')
	w.out.line(w.buf)
}
