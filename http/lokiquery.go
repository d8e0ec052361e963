package http

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
)

// defaultLimit is how many entries Loki's clients get if they do not say.
const defaultLimit = 100

// slot waits for one of the places for queries. Give it back.
func (s *Server) slot(ctx context.Context) (release func(), err error) {
	if !s.queries.TryAcquire(1) {
		waiting, cancel := context.WithTimeout(ctx, s.options.Timeouts.Queue)
		err := s.queries.Acquire(waiting, 1)
		cancel()
		if err != nil && ctx.Err() == nil {
			return nil, unavailable("%d queries are running, which is the limit: try again", s.options.Query.Concurrent)
		}
		if err != nil {
			return nil, err
		}
	}
	s.metrics.queries.Inc()
	return func() {
		s.metrics.queries.Dec()
		s.queries.Release(1)
	}, nil
}

// bounded gives a query a place and the time that it may take.
func (s *Server) bounded(ctx context.Context) (context.Context, func(), error) {
	release, err := s.slot(ctx)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeouts.Query)
	return ctx, func() { cancel(); release() }, nil
}

// lokiQueryRange is Loki's query_range.
func (s *Server) lokiQueryRange(w http.ResponseWriter, r *http.Request, n *Node) error {
	values, _, err := form(w, r)
	if err != nil {
		return err
	}
	p := logql.Params{Query: values.Get("query")}
	if p.Start, p.End, err = lokiRange(values, time.Now().UnixNano()); err != nil {
		return err
	}
	if p.End <= p.Start {
		return badRequest("end timestamp must not be before or equal to start time")
	}
	if p.Step, err = stepParam(values); err != nil {
		return err
	}
	length := uint64(p.End) - uint64(p.Start)
	if p.Step == 0 {
		p.Step = time.Duration(max(length/250/uint64(time.Second), 1)) * time.Second
	}
	if length/uint64(p.Step) > uint64(s.options.Query.MaxPoints) {
		return badRequest("exceeded maximum resolution of %d points per time series. Try increasing the value of the step parameter", s.options.Query.MaxPoints)
	}
	if interval := values.Get("interval"); interval != "" && interval != "0" && interval != "0s" {
		return badRequest("interval=%s: thinning out entries is not supported, leave interval out", quote(interval))
	}
	return s.lokiAnswer(w, r, n, values, p)
}

// lokiQuery is Loki's query, of an instant.
func (s *Server) lokiQuery(w http.ResponseWriter, r *http.Request, n *Node) error {
	values, _, err := form(w, r)
	if err != nil {
		return err
	}
	p := logql.Params{Query: values.Get("query")}
	if p.End, err = timeParam(values, "time", time.Now().UnixNano()); err != nil {
		return err
	}
	p.Start = p.End
	return s.lokiAnswer(w, r, n, values, p)
}

// lokiAnswer runs a query and writes its answer.
func (s *Server) lokiAnswer(w http.ResponseWriter, r *http.Request, n *Node, values url.Values, p logql.Params) error {
	var err error
	if p.Query == "" {
		return badRequest("the parameter query is missing")
	}
	if p.Tenant, err = tenantOf(r); err != nil {
		return err
	}
	if p.Direction, err = directionParam(values); err != nil {
		return err
	}
	if p.Limit, err = limitParam(values, defaultLimit, 1, s.options.Query.MaxEntries); err != nil {
		return err
	}
	if p.Strict, err = boolParam(values, "strict"); err != nil {
		return err
	}
	ctx, end, err := s.bounded(r.Context())
	if err != nil {
		return err
	}
	defer end()
	result, err := n.Querier.Query(ctx, p)
	if err != nil {
		return err
	}
	defer result.Close()
	entries, body := s.memory.take(), s.memory.take()
	defer s.memory.put(entries)
	defer s.memory.put(body)
	body.b, err = lokiResult(body.b, result, wantsCategories(r.Header), s.options.Query.MaxAnswer, entries)
	if err != nil {
		return err
	}
	return writeLoki(w, body.b)
}

func writeLoki(w http.ResponseWriter, body []byte) error {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_, err := w.Write(body)
	return err
}

// lokiLabels is Loki's labels.
func (s *Server) lokiLabels(w http.ResponseWriter, r *http.Request, n *Node) error {
	return s.lokiStrings(w, r, func(ctx context.Context, tenant, selector string, start, end int64) ([]string, []string, error) {
		return n.Querier.Labels(ctx, tenant, selector, start, end)
	})
}

// lokiLabelValues is Loki's label/{name}/values.
func (s *Server) lokiLabelValues(w http.ResponseWriter, r *http.Request, n *Node) error {
	name, _ := labelInPath(r.URL.Path)
	if !segment.ValidLabelName(name) {
		return badRequest("%s is no label name: names are letters, digits and _, and do not begin with a digit", quote(name))
	}
	return s.lokiStrings(w, r, func(ctx context.Context, tenant, selector string, start, end int64) ([]string, []string, error) {
		return n.Querier.LabelValues(ctx, tenant, name, selector, start, end)
	})
}

// lokiStrings answers a question whose answer is a list of strings.
func (s *Server) lokiStrings(w http.ResponseWriter, r *http.Request, ask func(ctx context.Context, tenant, selector string, start, end int64) (list, warnings []string, err error)) error {
	values, _, err := form(w, r)
	if err != nil {
		return err
	}
	tenant, start, end, err := streamsParams(r, values)
	if err != nil {
		return err
	}
	ctx, done, err := s.bounded(r.Context())
	if err != nil {
		return err
	}
	defer done()
	list, warnings, err := ask(ctx, tenant, emptySelector(values.Get("query")), start, end)
	if err != nil {
		return err
	}
	body := []byte(`{"status":"success"`)
	if len(warnings) > 0 {
		body = appendStrings(append(body, `,"warnings":`...), warnings)
	}
	if len(list) > 0 {
		body = appendStrings(append(body, `,"data":`...), list)
	}
	return writeLoki(w, append(body, '}', '\n'))
}

// streamsParams reads what all questions about streams have.
func streamsParams(r *http.Request, values url.Values) (tenant string, start, end int64, err error) {
	if tenant, err = tenantOf(r); err != nil {
		return "", 0, 0, err
	}
	if start, end, err = lokiRange(values, time.Now().UnixNano()); err != nil {
		return "", 0, 0, err
	}
	if end <= start {
		return "", 0, 0, badRequest("end timestamp must not be before or equal to start time")
	}
	return tenant, start, end, nil
}

// emptySelector turns the selector of all streams into the engine's.
func emptySelector(selector string) string {
	if strings.Join(strings.Fields(selector), "") == "{}" {
		return ""
	}
	return selector
}

// lokiSeries is Loki's series.
func (s *Server) lokiSeries(w http.ResponseWriter, r *http.Request, n *Node) error {
	values, _, err := form(w, r)
	if err != nil {
		return err
	}
	tenant, start, end, err := streamsParams(r, values)
	if err != nil {
		return err
	}
	var selectors []string
	for _, name := range []string{"match", "match[]"} { // logcli and Grafana.
		for _, selector := range values[name] {
			if selectors = append(selectors, selector); len(selectors) > 100 {
				return badRequest("more than 100 selectors")
			}
		}
	}
	for _, selector := range selectors {
		if emptySelector(selector) == "" {
			selectors = nil // All streams, whatever the others say.
			break
		}
	}
	ctx, done, err := s.bounded(r.Context())
	if err != nil {
		return err
	}
	defer done()
	sets, warnings, err := n.Querier.Series(ctx, tenant, selectors, start, end)
	if err != nil {
		return err
	}
	body := append(appendWarnings([]byte(`{"status":"success",`), warnings), `"data":[`...)
	for i, set := range sets {
		if i > 0 {
			body = append(body, ',')
		}
		body = appendLabels(body, set)
	}
	return writeLoki(w, append(body, ']', '}', '\n'))
}
