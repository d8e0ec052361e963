package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Trailers of an answer of plain text, which has no room for them within.
const (
	errorTrailer    = "Logcluster-Error"    // what ended the answer early
	warningsTrailer = "Logcluster-Warnings" // what it lacks, between "; "
)

// A Query is a question in LogQL.
type Query struct {
	Text string
	// Start and End bound the time of a log query, Start included and End not, and of a
	// metric query with a Step. Zero values are left to the server: End is its now.
	Start, End time.Time
	// Since gives Start as End, or now, less Since. Start and Since exclude each other.
	Since   time.Duration
	Limit   int           // of entries; 0: all
	Forward bool          // oldest entries first
	Step    time.Duration // between the points of a metric query; 0: one value, at End
	// Strict makes data that cannot be read an error instead of a warning.
	Strict bool
}

// values is the query as a form.
func (q *Query) values() url.Values {
	v := url.Values{"query": {q.Text}, "limit": {strconv.Itoa(q.Limit)}, "direction": {"backward"}}
	if q.Forward {
		v.Set("direction", "forward")
	}
	if !q.Start.IsZero() {
		v.Set("start", q.Start.UTC().Format(time.RFC3339Nano))
	}
	if !q.End.IsZero() {
		v.Set("end", q.End.UTC().Format(time.RFC3339Nano))
	}
	if q.Since > 0 {
		v.Set("since", q.Since.String())
	}
	if q.Step > 0 {
		v.Set("step", q.Step.String())
	}
	if q.Strict {
		v.Set("strict", "true")
	}
	return v
}

// Query asks and returns the answer row by row. Close the Rows.
func (c *Client) Query(ctx context.Context, q Query) (*Rows, error) {
	answer, err := c.query(ctx, &q, "application/x-ndjson")
	if err != nil {
		return nil, err
	}
	return newRows(answer), nil
}

// QueryLines asks and returns the lines alone, each followed by '\n'. Reading yields
// io.EOF only after all of the answer, and else what went wrong (K3). Of a metric query
// the lines are the labels and values of its samples. Close the answer.
func (c *Client) QueryLines(ctx context.Context, q Query) (*Answer, error) {
	return c.query(ctx, &q, "text/plain")
}

func (c *Client) query(ctx context.Context, q *Query, accept string) (*Answer, error) {
	// A form, because a query may be longer than an address can be.
	r, err := c.request(ctx, http.MethodPost, "query", nil, strings.NewReader(q.values().Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", accept)
	response, err := c.send(r)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		defer response.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody))
		return nil, newStatusError(response.StatusCode, response.Header, body)
	}
	return &Answer{response: response, url: c.URL()}, nil
}

// An Answer is the body of an answer, as the server sends it.
type Answer struct {
	response *http.Response
	url      string
}

// Read reads the body. Its io.EOF stands for a whole answer.
func (a *Answer) Read(p []byte) (int, error) {
	n, err := a.response.Body.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		if message := a.response.Trailer.Get(errorTrailer); message != "" {
			return n, &StreamError{Message: message}
		}
	case a.response.Request.Context().Err() != nil:
		err = a.response.Request.Context().Err()
	default:
		err = fmt.Errorf("%s cut the answer off, what came is not all of it: %w", a.url, err)
	}
	return n, err
}

// Warnings says what the answer lacks. It is complete after the end of the body.
func (a *Answer) Warnings() []string {
	if text := a.response.Trailer.Get(warningsTrailer); text != "" {
		return []string{text}
	}
	return nil
}

// Close ends the answer, also before its end: the server then stops searching.
func (a *Answer) Close() error { return a.response.Body.Close() }
