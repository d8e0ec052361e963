package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxIngestAnswer bounds the answer to a batch, in bytes: the server lists some hundred
// refused lines.
const maxIngestAnswer = 16 << 20

// Format says how the bytes of a Batch hold entries.
type Format string

// The formats of /ingest.
const (
	// Text: one entry a line, ended by '\n' (the last one also by the end). All other
	// bytes belong to the line, '\r' too. The server's clock gives the time.
	Text Format = "text/plain"
	// NDJSON: one JSON object a line.
	NDJSON Format = "application/x-ndjson"
)

// A Batch is what one request sends.
type Batch struct {
	// Labels name the stream of all entries. Their names do not begin with '_'. None: the
	// server's default.
	Labels map[string]string
	Body   []byte
	Format Format // empty: Text
	Fields Fields // of NDJSON
	// Key marks the batch: the server stores batches of one key once. 1 to 1024 printable
	// ASCII characters. Empty: a random one, so that retries are safe.
	Key string
}

// Fields names the fields of JSON objects that the server takes for what an entry is
// made of. Of times and messages it takes the first that an object has.
type Fields struct {
	Times    []string // none: the server's default, which knows the usual names
	Messages []string // likewise
	Labels   []string // none: no field becomes a label
}

// A Result is what the server did with a Batch.
type Result struct {
	Accepted int `json:"accepted"` // entries stored
	Rejected int `json:"rejected"` // entries refused
	// Duplicate: a batch of the same key had been stored before.
	Duplicate bool `json:"duplicate"`
	// Errors tells of refused lines, in their order, and Omitted of how many it does not.
	Errors  []LineError `json:"errors"`
	Omitted int         `json:"errors_omitted"`
}

// A LineError says why the server refused a line. The others of its batch are stored.
type LineError struct {
	Line   int    `json:"line"` // in the batch, from 1
	Reason string `json:"reason"`
}

// Ingest stores a batch: when it returns without an error, all entries but those
// refused are safe on the server's disks. It tries again as Options.Retry says. After
// an error it is not known whether the batch is stored, unless the error is a
// *StatusError below 500: then it is not.
func (c *Client) Ingest(ctx context.Context, b Batch) (*Result, error) {
	if b.Format == "" {
		b.Format = Text
	}
	if b.Key == "" {
		b.Key = rand.Text()
	}
	query := b.parameters()
	body, encoding := b.Body, ""
	if c.options.Compress {
		body, encoding = compress(b.Body), "gzip"
	}
	var result *Result
	err := c.options.Retry.do(ctx, func(ctx context.Context) (err error) {
		result, err = c.ingestOnce(ctx, &b, query, body, encoding)
		return err
	})
	return result, err
}

// parameters are those of the URL. They are part of what the key stands for, so their
// order is always the same.
func (b *Batch) parameters() url.Values {
	query := make(url.Values, len(b.Labels))
	for name, value := range b.Labels {
		query.Set(name, value)
	}
	for name, fields := range map[string][]string{"_time": b.Fields.Times, "_msg": b.Fields.Messages, "_labels": b.Fields.Labels} {
		if len(fields) > 0 {
			query.Set(name, strings.Join(fields, ","))
		}
	}
	return query
}

// ingestOnce is one attempt at a batch.
func (c *Client) ingestOnce(ctx context.Context, b *Batch, query url.Values, body []byte, encoding string) (*Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.options.Timeout, fmt.Errorf("no answer within %s", c.options.Timeout))
	defer cancel()
	r, err := c.request(ctx, http.MethodPost, "ingest", query, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", string(b.Format))
	r.Header.Set("Idempotency-Key", b.Key)
	if encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
	code, header, answer, err := c.whole(r, maxIngestAnswer)
	if err != nil {
		return nil, err
	}
	// A batch of which lines were refused is answered by 400, but with counts and without
	// an error: its other lines are stored.
	var result struct {
		Result
		Accepted *int   `json:"accepted"`
		Error    string `json:"error"`
	}
	err = json.Unmarshal(answer, &result)
	counted := err == nil && result.Accepted != nil && result.Error == ""
	switch {
	case counted && (code == http.StatusOK || code == http.StatusBadRequest):
		result.Result.Accepted = *result.Accepted
		return &result.Result, nil
	case code == http.StatusOK:
		return nil, fmt.Errorf("%s answered a batch with something else than counts: is it a logcluster node?", c.URL())
	}
	return nil, newStatusError(code, header, answer)
}

// whole sends a request and reads all of a short answer.
func (c *Client) whole(r *http.Request, limit int64) (code int, header http.Header, body []byte, err error) {
	response, err := c.send(r)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return 0, nil, nil, c.lost(r, err)
	}
	if int64(len(body)) > limit {
		return 0, nil, nil, fmt.Errorf("%s answered with more than %d bytes", c.URL(), limit)
	}
	return response.StatusCode, response.Header, body, nil
}

// compress packs a body with gzip at its fastest level.
func compress(body []byte) []byte {
	var packed bytes.Buffer
	// Neither the level nor a write to memory can fail.
	w, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	w.Write(body)
	w.Close()
	return packed.Bytes()
}
