package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxErrorBody bounds how much of an error's body is read, in bytes.
const maxErrorBody = 64 << 10

// A StatusError is the server's answer that it did not do what was asked.
type StatusError struct {
	Code    int    // HTTP status
	Message string // the server's own words, or the status text if it gave none
	// RetryAfter is how long the server asks to wait; 0 if it does not say.
	RetryAfter time.Duration
}

// Error gives the server's words and the status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s (HTTP %d)", e.Message, e.Code)
}

// Temporary reports whether the same request may succeed later: 429 and all of 5xx but
// those that say that the server does not know how.
func (e *StatusError) Temporary() bool {
	switch e.Code {
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return e.Code == http.StatusTooManyRequests || e.Code >= 500
}

// A StreamError is an error that the server met after it had begun to answer: what was
// received until then is right but not all.
type StreamError struct {
	Message string
}

// Error gives the server's words.
func (e *StreamError) Error() string { return "the answer is incomplete: " + e.Message }

// newStatusError makes the error of an answer that is not a success.
func newStatusError(code int, header http.Header, body []byte) *StatusError {
	e := &StatusError{Code: code, RetryAfter: retryAfter(header.Get("Retry-After"), time.Now())}
	e.Message = errorMessage(body)
	if e.Message == "" {
		e.Message = strings.ToLower(http.StatusText(code))
	}
	return e
}

// errorMessage finds the words in an error's body: of JSON the fields error or message,
// else the text as it is.
func errorMessage(body []byte) string {
	var object struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
	}
	if json.Unmarshal(body, &object) == nil {
		var text string
		if json.Unmarshal(object.Error, &text) == nil && text != "" {
			return text
		}
		var nested struct {
			Message string `json:"message"`
			Reason  string `json:"reason"`
		}
		if json.Unmarshal(object.Error, &nested) == nil && nested.Message+nested.Reason != "" {
			return nested.Message + nested.Reason
		}
		if object.Message != "" {
			return object.Message
		}
	}
	if !utf8.Valid(body) {
		return ""
	}
	return strings.TrimSpace(string(body))
}

// retryAfter reads a Retry-After header: seconds or a date (RFC 9110, 10.2.3).
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if t, err := http.ParseTime(header); err == nil {
		return max(t.Sub(now), 0)
	}
	return 0
}

// temporary reports whether trying again may help, and how long the server asks to wait.
func temporary(err error) (wait time.Duration, ok bool) {
	var status *StatusError
	if errors.As(err, &status) {
		return status.RetryAfter, status.Temporary()
	}
	return 0, Unreachable(err)
}

// Unreachable reports whether an error means that the server gave no answer, or not all
// of it.
func Unreachable(err error) bool {
	var lost *connectionError
	return errors.As(err, &lost)
}

// A connectionError is a request that got no answer, or not all of it.
type connectionError struct {
	err error
}

func (e *connectionError) Error() string { return e.err.Error() }
func (e *connectionError) Unwrap() error { return e.err }
