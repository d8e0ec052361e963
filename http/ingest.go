package http

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/logcluster/logcluster/segment"
)

// The control parameters of /ingest. All others are labels.
const (
	paramTime   = "_time"
	paramMsg    = "_msg"
	paramLabels = "_labels"
	paramFormat = "_format"
)

// defaultTimes and defaultMessages are the fields tried for an object's time and line.
var (
	defaultTimes    = []string{"_time", "time", "timestamp", "ts", "@timestamp"}
	defaultMessages = []string{"_msg", "message", "msg", "line", "log"}
	// defaultLabels are those of a stream that was given none.
	defaultLabels = segment.Labels{{Name: "source", Value: "ingest"}}
)

// An ingestAnswer is what /ingest answers, whatever happened.
type ingestAnswer struct {
	Accepted  int           `json:"accepted"` // stored as durably as the store promises
	Rejected  int           `json:"rejected"`
	Duplicate bool          `json:"duplicate"` // stored before, under the same Idempotency-Key
	Errors    []ingestError `json:"errors,omitempty"`
	Omitted   int           `json:"errors_omitted,omitempty"` // how many rejections Errors leaves out
	Error     string        `json:"error,omitempty"`          // why nothing of the request is stored
}

// An ingestError is a rejected line.
type ingestError struct {
	Line   int    `json:"line"` // of the body, from 1
	Reason string `json:"reason"`
}

// ingest stores a body of lines or JSON objects.
func (s *Server) ingest(w http.ResponseWriter, r *http.Request, n *Node) error {
	answer, err := s.ingestBody(r, n)
	code := http.StatusOK
	if err != nil {
		status := classify(r.Context(), err, http.StatusServiceUnavailable)
		s.failed(r, status)
		status.header(w)
		code, answer = status.code, ingestAnswer{Error: status.text}
	} else if answer.Rejected > 0 {
		code = http.StatusBadRequest
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	return json.NewEncoder(w).Encode(answer)
}

func (s *Server) ingestBody(r *http.Request, n *Node) (answer ingestAnswer, err error) {
	tenant, err := tenantOf(r)
	if err != nil {
		return answer, err
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return answer, badRequest("cannot read the parameters of the URL: %v", err)
	}
	format, err := bodyFormat(r.Header, query)
	if err != nil {
		return answer, err
	}
	base, err := s.labelParameters(query)
	if err != nil {
		return answer, err
	}
	encoding, err := contentEncoding(r.Header)
	if err != nil {
		return answer, err
	}
	key, err := headerKey(r, tenant, format)
	if err != nil {
		return answer, err
	}
	l := s.memory.lease(r.Context())
	stored := false
	defer func() { l.release(stored) }()
	received, err := s.readBody(r, l)
	if err != nil {
		return answer, err
	}
	body, err := s.decompress(l, received, encoding)
	if err != nil {
		return answer, err
	}
	b := s.builder(tenant, l)
	b.batch.Key = key
	if format == "text" {
		err = s.textLines(b, base, body.b)
	} else {
		err = s.jsonObjects(b, base, query, body.b, format)
	}
	if err != nil {
		return answer, err
	}
	if b.accepted+b.rejected == 0 {
		return answer, badRequest("the body is empty: there is nothing to store")
	}
	receipt, err := s.store(r.Context(), n, b, format)
	if err != nil {
		return answer, err
	}
	answer = ingestAnswer{Accepted: b.accepted, Rejected: b.rejected, Duplicate: receipt.Duplicate, Omitted: b.rejected - len(b.refusals)}
	for _, f := range b.refusals {
		if f.entry > 0 {
			f.reason = fmt.Sprintf("element %d: %s", f.entry, f.reason)
		}
		answer.Errors = append(answer.Errors, ingestError{Line: f.where, Reason: f.reason})
	}
	b.release(s.memory)
	stored = true
	return answer, nil
}

// store appends a batch, if there is anything in it, and counts it.
func (s *Server) store(ctx context.Context, n *Node, b *builder, protocol string) (segment.Receipt, error) {
	var receipt segment.Receipt
	if b.accepted > 0 {
		var err error
		ctx, cancel := context.WithTimeout(ctx, s.options.Timeouts.Append)
		receipt, err = n.Appender.Append(ctx, &b.batch)
		cancel()
		if err != nil {
			return receipt, err
		}
	}
	s.metrics.ingested(protocol, b)
	return receipt, nil
}

// textLines adds one entry a line, with the receiving clock's time. Lines end at \n
// alone and are kept byte for byte; nothing follows a final \n.
func (s *Server) textLines(b *builder, base segment.Labels, body []byte) error {
	if len(base) == 0 {
		base = defaultLabels
	}
	stream, scratch, err := s.streams.set(b.tenant, base, b.scratch)
	b.scratch = scratch
	if err != nil {
		return badRequest("%v", err)
	}
	index, err := b.stream(stream)
	if err != nil {
		return err
	}
	for number := 1; len(body) > 0; number++ {
		line := body
		if i := bytes.IndexByte(body, '\n'); i >= 0 {
			line, body = body[:i], body[i+1:]
		} else {
			body = nil
		}
		if err := b.add(b.now, line, index, 0, number, 0); err != nil {
			return err
		}
	}
	return nil
}

// jsonObjects adds one entry for each object.
func (s *Server) jsonObjects(b *builder, base segment.Labels, query url.Values, body []byte, format string) error {
	o := objects{b: b, base: base, fallback: defaultLabels, times: defaultTimes, messages: defaultMessages}
	if query.Has(paramTime) {
		o.times = splitFields(query.Get(paramTime))
	}
	if query.Has(paramMsg) {
		o.messages = splitFields(query.Get(paramMsg))
	}
	o.labels = splitFields(query.Get(paramLabels))
	for _, name := range o.labels {
		o.labelNames = append(o.labelNames, validName(name))
	}
	body = bytes.TrimPrefix(body, []byte("\xef\xbb\xbf"))
	if format == "ndjson" {
		return o.lines(body)
	}
	return o.document(body)
}

// bodyFormat returns "text", "ndjson" (an object a line) or "json" (objects or an array).
func bodyFormat(h http.Header, query url.Values) (string, error) {
	if query.Has(paramFormat) {
		switch format := query.Get(paramFormat); format {
		case "text", "ndjson", "json":
			return format, nil
		default:
			return "", badRequest("%s is %s: it may be text, ndjson or json", paramFormat, quote(format))
		}
	}
	switch t := mediaType(h); t {
	case "application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl",
		"application/jsonlines", "application/x-jsonlines", "application/stream+json":
		return "ndjson", nil
	case "application/json", "text/json":
		return "json", nil
	default:
		if strings.HasSuffix(t, "+json") {
			return "json", nil
		}
		return "text", nil
	}
}

// labelParameters returns the labels that the URL gives all streams.
func (s *Server) labelParameters(query url.Values) (segment.Labels, error) {
	var pairs []segment.Label
	for _, name := range slices.Sorted(maps.Keys(query)) {
		values := query[name]
		if len(values) > 1 {
			return nil, badRequest("the parameter %s is given %d times: once is enough", quote(name), len(values))
		}
		switch name {
		case paramTime, paramMsg, paramLabels, paramFormat:
			continue
		}
		if strings.HasPrefix(name, "_") {
			return nil, badRequest("unknown parameter %s: those with _ are %s, %s, %s and %s; all others are labels",
				quote(name), paramTime, paramMsg, paramLabels, paramFormat)
		}
		if values[0] == "" {
			return nil, badRequest("the label %s has no value: write %s=VALUE or leave it out", quote(name), name)
		}
		pairs = append(pairs, segment.Label{Name: name, Value: values[0]})
	}
	set := segment.NewLabels(pairs)
	if len(set) == 0 {
		return nil, nil
	}
	if err := s.options.Ingest.checkLabels(set); err != nil {
		return nil, badRequest("%v", err)
	}
	return set, nil
}

// headerKey returns the batch's key for a request with an Idempotency-Key. What decides
// which entries the body makes is part of it: tenant, parameters and format.
func headerKey(r *http.Request, tenant, format string) (segment.Key, error) {
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) == 0 {
		return segment.Key{}, nil
	}
	if len(keys) > 1 || keys[0] == "" || len(keys[0]) > 1024 {
		return segment.Key{}, badRequest("the header Idempotency-Key must stand there once, with 1 to 1024 bytes")
	}
	return batchKey(tenant, r.URL.Path+"?"+r.URL.RawQuery, format, []byte(keys[0])), nil
}

// batchKey is the beginning of the SHA-256 of the parts, each after its length.
func batchKey(tenant, route, format string, what []byte) (key segment.Key) {
	h := sha256.New()
	var size [8]byte
	for _, part := range [][]byte{[]byte(tenant), []byte(route), []byte(format), what} {
		binary.LittleEndian.PutUint64(size[:], uint64(len(part)))
		h.Write(size[:])
		h.Write(part)
	}
	copy(key[:], h.Sum(nil))
	return key
}

// tenantOf returns the tenant that the request names.
func tenantOf(r *http.Request) (string, error) {
	names := r.Header.Values("X-Scope-OrgID")
	switch {
	case len(names) == 0:
		return segment.DefaultTenant, nil
	case len(names) > 1:
		return "", badRequest("the header X-Scope-OrgID is given %d times: once is enough", len(names))
	case strings.Contains(names[0], "|"):
		return "", badRequest("X-Scope-OrgID names several tenants: a request is for one")
	case !segment.ValidTenant(names[0]):
		return "", badRequest("X-Scope-OrgID %s is no tenant: 1 to 64 of letters, digits, _, . and -, and not . or ..", quote(names[0]))
	}
	return names[0], nil
}

// accepts reports whether the Accept header asks for a media type by name.
func accepts(h http.Header, want string) bool {
	for _, value := range h.Values("Accept") {
		for part := range strings.SplitSeq(value, ",") {
			if t, params, err := mime.ParseMediaType(part); err == nil && t == want && params["q"] != "0" {
				return true
			}
		}
	}
	return false
}
