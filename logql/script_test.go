package logql

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/logcluster/logcluster/segment"
)

// TestScripts runs the scripts of testdata/logql. Their commands:
//
//	load                      streams, each with indented lines: time since 1970, then the line,
//	                          Go-quoted if it begins with a quote
//	eval instant at=60s       the query below, with the answer by the definition, entry by entry
//	eval range start= end= step=
//	eval log start= end= [limit=] [direction=forward]
//	parse                     the kind and the canonical form of each query, one on a line
//	error                     the error of Parse
//	plan [at=60s]             the scans of the query
//	labels, series [selector=] [start= end=]   the label names with their values; the streams
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "../testdata/logql", func(t *testing.T, path string) {
		s := newStore()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "load":
				return load(t, d, s)
			case "eval":
				return evaluateScript(t, d, s)
			case "parse":
				return eachLine(d.Input, func(query string) string {
					x, err := Parse(query)
					if err != nil {
						return err.Error()
					}
					return x.Kind().String() + ": " + x.String()
				})
			case "error":
				x, err := Parse(d.Input)
				if err == nil {
					return "no error: " + x.String()
				}
				return fmt.Sprintf("%T: %v", err, err)
			case "plan":
				return planScript(t, d)
			case "labels":
				return labelsScript(t, d, s)
			case "series":
				series, _, err := NewEngine(Options{Source: s}).Series(context.Background(), "t", splitLines(d.Input), scriptTime(t, d, "start", 0), scriptTime(t, d, "end", time.Hour))
				if err != nil {
					return err.Error()
				}
				var b strings.Builder
				for _, labels := range series {
					fmt.Fprintln(&b, labels)
				}
				return b.String()
			}
			t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
			return ""
		})
	})
}

func splitLines(input string) []string {
	if input == "" {
		return nil
	}
	return strings.Split(input, "\n")
}

func eachLine(input string, f func(string) string) string {
	var b strings.Builder
	for _, line := range splitLines(input) {
		fmt.Fprintln(&b, f(line))
	}
	return b.String()
}

// scriptTime returns a time argument, unix nanoseconds.
func scriptTime(t *testing.T, d *datadriven.TestData, key string, absent time.Duration) int64 {
	t.Helper()
	if !d.HasArg(key) {
		return int64(absent)
	}
	var text string
	d.ScanArgs(t, key, &text)
	at, err := ParseDuration(text)
	if err != nil {
		d.Fatalf(t, "%s: %v", key, err)
	}
	return int64(at)
}

func load(t *testing.T, d *datadriven.TestData, s *store) string {
	t.Helper()
	entries := s.entries
	var stream *segment.Stream
	for _, text := range splitLines(d.Input) {
		if !strings.HasPrefix(text, " ") {
			labels, err := ParseLabels(text)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			stream = segment.NewStream("t", labels)
			continue
		}
		at, line, _ := strings.Cut(strings.TrimSpace(text), " ")
		timestamp, err := ParseDuration(at)
		if err != nil {
			d.Fatalf(t, "%v", err)
		}
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, `"`) {
			if line, err = strconv.Unquote(line); err != nil {
				d.Fatalf(t, "%s: %v", text, err)
			}
		}
		entries = append(entries, segment.Entry{Timestamp: int64(timestamp), Stream: stream, Line: []byte(line)})
	}
	s.entries = newStore(entries...).entries
	return fmt.Sprintf("%d entries", len(s.entries))
}

func evaluateScript(t *testing.T, d *datadriven.TestData, s *store) string {
	t.Helper()
	p := Params{Tenant: "t", Query: d.Input}
	switch d.CmdArgs[0].Key {
	case "instant":
		p.Start = scriptTime(t, d, "at", 0)
		p.End = p.Start
	case "range":
		p.Step = time.Duration(scriptTime(t, d, "step", 0))
		fallthrough
	case "log":
		p.Start, p.End = scriptTime(t, d, "start", 0), scriptTime(t, d, "end", 0)
		if d.HasArg("limit") {
			d.ScanArgs(t, "limit", &p.Limit)
		}
		if d.HasArg("direction") {
			p.Direction = segment.Forward
		}
	default:
		d.Fatalf(t, "eval instant, range or log")
	}
	r, err := NewEngine(Options{Source: s}).Query(context.Background(), p)
	if err != nil {
		return "error: " + err.Error()
	}
	defer r.Close()
	var b strings.Builder
	number := func(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
	switch r.Type {
	case TypeScalar:
		fmt.Fprintf(&b, "scalar %s at %s\n", number(r.Scalar.Value), time.Duration(r.Scalar.Timestamp))
	case TypeVector:
		fmt.Fprintf(&b, "vector of %d\n", len(r.Vector))
		for _, v := range r.Vector {
			fmt.Fprintf(&b, "  %s %s at %s\n", v.Labels, number(v.Value), time.Duration(v.Timestamp))
		}
	case TypeMatrix:
		fmt.Fprintf(&b, "matrix of %d\n", len(r.Matrix))
		for _, series := range r.Matrix {
			fmt.Fprintf(&b, "  %s", series.Labels)
			for _, point := range series.Points {
				fmt.Fprintf(&b, " %s:%s", time.Duration(point.Timestamp), number(point.Value))
			}
			b.WriteByte('\n')
		}
	case TypeStreams:
		b.WriteString("entries\n")
		for r.Entries.Next() {
			e := r.Entries.At()
			fmt.Fprintf(&b, "  %s %s %q", time.Duration(e.Timestamp), e.Stream.Labels, e.Line)
			if e.Parsed != nil {
				fmt.Fprintf(&b, " %s", e.Parsed)
			}
			b.WriteByte('\n')
		}
		if err := r.Entries.Err(); err != nil {
			return "error: " + err.Error()
		}
	}
	return b.String()
}

// planScript shows what a query asks of the source.
func planScript(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	s := newStore()
	p := Params{Tenant: "t", Query: d.Input, Start: scriptTime(t, d, "start", 0), End: scriptTime(t, d, "end", time.Minute), Step: time.Duration(scriptTime(t, d, "step", 30*time.Second)), Limit: 10}
	if _, err := NewEngine(Options{Source: s}).Query(context.Background(), p); err != nil {
		return "error: " + err.Error()
	}
	var b strings.Builder
	for _, scan := range s.scans {
		q := &scan.Query
		fmt.Fprintf(&b, "%s\n  tenant %s, [%s, %s)\n", scan.Text, q.Tenant, time.Duration(q.Start), time.Duration(q.End))
		for _, m := range q.Matchers {
			fmt.Fprintf(&b, "  label %s\n", m)
		}
		for _, f := range q.Filters {
			fmt.Fprintf(&b, "  line %s\n", &LineFilter{f.Type, f.Values})
		}
		if q.Pipeline != nil {
			fmt.Fprintf(&b, "  pipeline %s\n", q.Pipeline)
		}
		if a := scan.Aggregation; a != nil {
			fmt.Fprintf(&b, "  %d points from %s by %s, range %s, measure %d, without %t %q\n",
				a.Steps, time.Duration(a.First), time.Duration(a.Step), time.Duration(a.Range), a.Measure, a.Grouping.Without, a.Grouping.Names)
		} else {
			fmt.Fprintf(&b, "  limit %d, direction %d\n", q.Limit, q.Direction)
		}
	}
	return b.String()
}

func labelsScript(t *testing.T, d *datadriven.TestData, s *store) string {
	t.Helper()
	engine := NewEngine(Options{Source: s})
	start, end := scriptTime(t, d, "start", 0), scriptTime(t, d, "end", time.Hour)
	names, _, err := engine.Labels(context.Background(), "t", d.Input, start, end)
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, name := range names {
		values, _, err := engine.LabelValues(context.Background(), "t", name, d.Input, start, end)
		if err != nil {
			return err.Error()
		}
		fmt.Fprintf(&b, "%s: %q\n", name, values)
	}
	return b.String()
}
