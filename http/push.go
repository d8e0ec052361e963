package http

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/klauspost/compress/snappy"
)

// snappyRatio is more than the factor by which a snappy block can grow: its densest
// element makes 64 bytes of 3.
const snappyRatio = 22

// push is Loki's POST /loki/api/v1/push
// (https://grafana.com/docs/loki/latest/reference/loki-http-api/#ingest-logs).
func (s *Server) push(w http.ResponseWriter, r *http.Request, n *Node) error {
	tenant, err := tenantOf(r)
	if err != nil {
		return err
	}
	encoding, err := contentEncoding(r.Header)
	if err != nil {
		return err
	}
	protocol := "loki_protobuf"
	switch t := mediaType(r.Header); {
	case t == "application/json" || strings.HasSuffix(t, "+json"):
		protocol = "loki_json"
	case encoding != "" && encoding != "snappy":
		return unsupported("Content-Encoding", encoding, "protobuf as a snappy block, with Content-Encoding snappy or none, or JSON with Content-Type: application/json")
	}
	l := s.memory.lease(r.Context())
	stored := false
	defer func() { l.release(stored) }()
	received, err := s.readBody(r, l)
	if err != nil {
		return err
	}
	b := s.builder(tenant, l)
	// The body has the entries' timestamps: it is its own idempotency key.
	b.batch.Key = batchKey(tenant, r.URL.Path+"?"+r.URL.RawQuery, protocol+" "+encoding, received.b)
	var streams int
	if protocol == "loki_json" {
		body, err := s.decompress(l, received, encoding)
		if err != nil {
			return err
		}
		if streams, err = decodePushJSON(b, body.b); err != nil {
			return err
		}
	} else {
		body, err := s.unsnap(l, received)
		if err != nil {
			return err
		}
		if streams, err = decodePush(b, body.b); err != nil {
			return err
		}
	}
	if streams == 0 {
		return &statusError{code: http.StatusUnprocessableEntity, text: "error at least one valid stream is required for ingestion"}
	}
	if _, err := s.store(r.Context(), n, b, protocol); err != nil {
		return err
	}
	refused := b.report()
	b.release(s.memory)
	stored = true
	if refused != "" {
		return badRequest("%s", refused)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// unsnap decodes a snappy block, whose length is checked before it is allocated
// (https://github.com/google/snappy/blob/main/format_description.txt).
func (s *Server) unsnap(l *lease, body *buffer) (*buffer, error) {
	size, err := snappy.DecodedLen(body.b)
	switch {
	case err != nil && looksLikeJSON(body.b), err == nil && size > snappyRatio*len(body.b) && looksLikeJSON(body.b):
		return nil, badRequest("the body is JSON: send it with Content-Type: application/json")
	case err != nil:
		return nil, badRequest("the body is not a snappy block: %v", err)
	case int64(size) > s.options.Ingest.MaxDecoded:
		return nil, tooLarge("the snappy block has %d bytes when decoded, the limit is %d: send less at a time", size, s.options.Ingest.MaxDecoded)
	case size > snappyRatio*len(body.b):
		return nil, badRequest("the body is not a snappy block: it claims %d bytes, which %d cannot hold", size, len(body.b))
	}
	out, err := l.buffer(-1)
	if err != nil {
		return nil, err
	}
	if err := l.exactly(out, size); err != nil {
		return nil, err
	}
	decoded, err := snappy.Decode(out.b[:cap(out.b)], body.b)
	if err != nil {
		if looksLikeJSON(body.b) {
			return nil, badRequest("the body is JSON: send it with Content-Type: application/json")
		}
		return nil, badRequest("the body is not a snappy block: %v", err)
	}
	out.b = decoded
	return out, nil
}

// report says which entries of a push were refused and why; "" if none was.
func (b *builder) report() string {
	if b.rejected == 0 {
		return ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d entries are refused, the others are stored:", b.rejected, b.rejected+b.accepted)
	for _, f := range b.refusals {
		if f.entry < 0 {
			fmt.Fprintf(&text, "\nstream %d %s: %s", f.where, f.labels, f.reason)
		} else {
			fmt.Fprintf(&text, "\nstream %d %s, entry %d: %s", f.where, f.labels, f.entry, f.reason)
		}
	}
	if more := b.rejected - len(b.refusals); more > 0 {
		fmt.Fprintf(&text, "\nand %d more", more)
	}
	return text.String()
}
