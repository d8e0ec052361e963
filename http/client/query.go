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

// errorTrailer is the HTTP trailer that names the error which ended an answer early.
const errorTrailer = "Logcluster-Error"

// A Query is a question in LogQL.
type Query struct {
	Text string
	// Start and End bound the time, Start included and End not. Zero values are left to
	// the server: End is its now, and Start is End less Since.
	Start, End time.Time
	Since      time.Duration // 0: the server's default
	Limit      int           // of entries; 0: all
	Forward    bool          // oldest entries first
	Step       time.Duration // between the points of a metric query; 0: one value, at End
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
		v.Set("start", strconv.FormatInt(q.Start.UnixNano(), 10))
	}
	if !q.End.IsZero() {
		v.Set("end", strconv.FormatInt(q.End.UnixNano(), 10))
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
// io.EOF only after all of the answer, and else what went wrong (K3). Close the answer.
func (c *Client) QueryLines(ctx context.Context, q Query) (io.ReadCloser, error) {
	return c.query(ctx, &q, "text/plain")
}

func (c *Client) query(ctx context.Context, q *Query, accept string) (*answer, error) {
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
	return &answer{response: response, url: c.URL()}, nil
}

// An answer reads a body to its true end.
type answer struct {
	response *http.Response
	url      string
}

// Read reads the body. Its io.EOF stands for a whole answer.
func (a *answer) Read(p []byte) (int, error) {
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

// Close ends the answer, also before its end: the server then stops searching.
func (a *answer) Close() error { return a.response.Body.Close() }
