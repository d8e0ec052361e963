package http

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/logcluster/logcluster/logql"
)

// statusClientClosed is the status of requests whose client hung up. It is seen in
// metrics only: nobody is left to read it. (nginx's number; Loki uses it too.)
const statusClientClosed = 499

// defaultRetry is what Retry-After says when nothing better is known.
const defaultRetry = time.Second

// errShutdown ends what is still running when Close's patience ends.
var errShutdown = &statusError{code: http.StatusServiceUnavailable, text: "the node is shutting down: send the request to another node or try again", retry: 5 * time.Second}

// A statusError is a failure together with the answer that the client gets.
type statusError struct {
	code  int
	text  string
	retry time.Duration // of Retry-After, with 503
	allow string        // the methods there are, with 405

	logged bool // was logged where it happened
}

func (e *statusError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &statusError{code: http.StatusBadRequest, text: fmt.Sprintf(format, args...)}
}

func tooLarge(format string, args ...any) error {
	return &statusError{code: http.StatusRequestEntityTooLarge, text: fmt.Sprintf(format, args...)}
}

func unavailable(format string, args ...any) error {
	return &statusError{code: http.StatusServiceUnavailable, text: fmt.Sprintf(format, args...), retry: defaultRetry}
}

// classify finds the answer to an error. The rule that senders rely on: overload, a
// change of owner and shutdown are 503 with Retry-After, never a 4xx, because agents
// drop what is answered by a 4xx. The deadline's status is 503 for writes and 504 for
// queries.
func classify(ctx context.Context, err error, deadline int) *statusError {
	var status *statusError
	if cause := context.Cause(ctx); errors.As(cause, &status) && errors.Is(err, context.Canceled) {
		return status // The server ended the request, not the client.
	}
	if errors.As(err, &status) {
		return status
	}
	var retry interface{ RetryAfter() time.Duration }
	if errors.As(err, &retry) {
		return &statusError{code: http.StatusServiceUnavailable, text: err.Error(), retry: max(retry.RetryAfter(), defaultRetry)}
	}
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &size):
		return &statusError{code: http.StatusRequestEntityTooLarge, text: fmt.Sprintf("the body is larger than the limit of %d bytes", size.Limit)}
	case logql.IsBadQuery(err):
		return &statusError{code: http.StatusBadRequest, text: err.Error()}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return &statusError{code: deadline, text: "not done in time: " + err.Error(), retry: defaultRetry}
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return &statusError{code: statusClientClosed, text: "the client hung up"}
	}
	return &statusError{code: http.StatusInternalServerError, text: err.Error()}
}

// write sends the error as text, in the form that all of Loki's clients and people read.
func (e *statusError) write(w http.ResponseWriter) {
	e.header(w)
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(e.code)
	_, _ = w.Write(append([]byte(e.text), '\n')) // A client that is gone needs no answer.
}

// header sets what goes with the status.
func (e *statusError) header(w http.ResponseWriter) {
	if e.allow != "" {
		w.Header().Set("Allow", e.allow)
	}
	if e.code == http.StatusServiceUnavailable {
		seconds := math.Ceil(max(e.retry, defaultRetry).Seconds())
		w.Header().Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
}
