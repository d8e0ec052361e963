package client

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func contains(text, part string) bool { return strings.Contains(text, part) }

// nasty holds every byte, and lines that text tools like to change.
var nasty = func() []byte {
	b := []byte("a\r\n\r\n\n \nx\x00y\n\xff\xfe\n\xe2\x82\n")
	for i := range 256 {
		b = append(b, byte(i))
	}
	return append(b, "no end"...)
}()

func TestIngest(t *testing.T) {
	f := func(o Options, b Batch, wantQuery, wantType string) {
		t.Helper()
		c := newTest(t, o, func(w http.ResponseWriter, r *http.Request) {
			body := io.Reader(r.Body)
			if r.Header.Get("Content-Encoding") == "gzip" {
				var err error
				if body, err = gzip.NewReader(body); err != nil {
					t.Error(err)
					return
				}
			} else if o.Compress {
				t.Error("sent without compression")
			}
			got, err := io.ReadAll(body)
			if err != nil || !bytes.Equal(got, b.Body) {
				t.Errorf("body %q, %v; want %q", got, err, b.Body)
			}
			if r.Method != http.MethodPost || r.URL.Path != "/ingest" || r.URL.RawQuery != wantQuery {
				t.Errorf("%s %s, want POST /ingest?%s", r.Method, r.URL, wantQuery)
			}
			if got := r.Header.Get("Content-Type"); got != wantType {
				t.Errorf("type %s, want %s", got, wantType)
			}
			if key := r.Header.Get("Idempotency-Key"); key == "" || b.Key != "" && key != b.Key {
				t.Errorf("key %q, want %q", key, b.Key)
			}
			fmt.Fprint(w, `{"accepted":3,"rejected":0,"duplicate":true}`)
		})
		r, err := c.Ingest(t.Context(), b)
		if err != nil {
			t.Error(err)
			return
		}
		if r.Accepted != 3 || r.Rejected != 0 || !r.Duplicate {
			t.Errorf("result %+v", r)
		}
	}
	f(Options{}, Batch{Labels: map[string]string{"b": "x y", "a": "&="}, Body: nasty}, "a=%26%3D&b=x+y", "text/plain")
	f(Options{Compress: true}, Batch{Body: nasty, Key: "k-1"}, "", "text/plain")
	f(Options{}, Batch{
		Body: []byte("{}\n"), Format: NDJSON, Fields: Fields{Times: []string{"t"}, Messages: []string{"m", "n"}, Labels: []string{"l"}},
	}, "_labels=l&_msg=m%2Cn&_time=t", "application/x-ndjson")
}

// TestIngestRefused: a 400 with counts is a result, one without is an error, and neither
// is tried again (K2).
func TestIngestRefused(t *testing.T) {
	f := func(code int, body string, check func(*Result, error)) {
		t.Helper()
		tries := 0
		c := newTest(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
			tries++
			w.WriteHeader(code)
			fmt.Fprint(w, body)
		})
		check(c.Ingest(t.Context(), Batch{Body: []byte("x")}))
		if tries != 1 {
			t.Errorf("%d attempts, want 1", tries)
		}
	}
	f(400, `{"accepted":1,"rejected":102,"errors":[{"line":2,"reason":"too long"}],"errors_omitted":101}`, func(r *Result, err error) {
		if err != nil || r.Accepted != 1 || r.Rejected != 102 || r.Omitted != 101 || !slices.Equal(r.Errors, []LineError{{2, "too long"}}) {
			t.Errorf("%+v, %v", r, err)
		}
	})
	wantStatus := func(code int, message string) func(*Result, error) {
		return func(_ *Result, err error) {
			t.Helper()
			var status *StatusError
			if !errors.As(err, &status) || status.Code != code || status.Message != message {
				t.Errorf("error %v, want %d with %q", err, code, message)
			}
		}
	}
	f(400, `{"accepted":0,"rejected":0,"duplicate":false,"error":"unknown parameter"}`, wantStatus(400, "unknown parameter"))
	f(413, `{"accepted":0,"rejected":0,"error":"send less"}`, wantStatus(413, "send less"))
	f(404, "404 page not found\n", wantStatus(404, "404 page not found"))
	f(401, "", wantStatus(401, "unauthorized"))
	f(501, "no", wantStatus(501, "no"))
	f(200, "<html>", func(_ *Result, err error) {
		if err == nil {
			t.Error("no error for an answer that is not logcluster's")
		}
	})
}

// attempt is what a fake server saw.
type attempt struct {
	at   time.Duration
	key  string
	body string
}

// roundTrip makes a function an http.RoundTripper.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// fakeServer answers the k-th request by the k-th answer, and all further ones by the last.
func fakeServer(attempts *[]attempt, answers ...func() (*http.Response, error)) *http.Client {
	start := time.Now()
	return &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		*attempts = append(*attempts, attempt{time.Since(start), r.Header.Get("Idempotency-Key"), string(body)})
		return answers[min(len(*attempts), len(answers))-1]()
	})}
}

func answerWith(code int, retryAfter, body string) func() (*http.Response, error) {
	return func() (*http.Response, error) {
		h := http.Header{}
		if retryAfter != "" {
			h.Set("Retry-After", retryAfter)
		}
		return &http.Response{StatusCode: code, Header: h, Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

func refuseConnection() (*http.Response, error) { return nil, errors.New("connection refused") }

// cutAnswer is an answer that ends too early.
func cutAnswer() (*http.Response, error) {
	body := io.MultiReader(strings.NewReader(`{"accepted":1`), readError{io.ErrUnexpectedEOF})
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(body)}, nil
}

type readError struct{ err error }

func (r readError) Read([]byte) (int, error) { return 0, r.err }

// TestK1RetriesAreAlike: every kind of passing failure is tried again with the same key
// and bytes, and not before the server's Retry-After.
func TestK1RetriesAreAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []attempt
		var notified int
		date := time.Now().Add(12 * time.Second).UTC().Format(http.TimeFormat)
		c, err := New(Options{
			Compress: true,
			Retry:    Retry{Notify: func(error, time.Duration) { notified++ }},
			HTTP: fakeServer(&seen,
				answerWith(503, "7", `{"accepted":0,"rejected":0,"error":"busy"}`),
				refuseConnection,
				answerWith(429, date, ""),
				answerWith(500, "", "oops"),
				cutAnswer,
				answerWith(502, "", ""),
				answerWith(200, "", `{"accepted":1}`),
			)})
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Ingest(t.Context(), Batch{Body: nasty})
		if err != nil || r.Accepted != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
		if len(seen) != 7 || notified != 6 {
			t.Fatalf("%d attempts, %d notes; want 7, 6", len(seen), notified)
		}
		for i, a := range seen {
			if a.key == "" || a.key != seen[0].key || a.body != seen[0].body {
				t.Errorf("attempt %d differs from the first", i+1)
			}
		}
		if seen[1].at < 7*time.Second {
			t.Errorf("second attempt after %s, but Retry-After was 7 s", seen[1].at)
		}
		if seen[3].at < 12*time.Second {
			t.Errorf("fourth attempt after %s, but Retry-After was 12 s after the start", seen[3].at)
		}
	})
}

// TestRetryBounds: waits grow, but neither they nor all of them together without bound.
func TestRetryBounds(t *testing.T) {
	f := func(retry Retry, retryAfter string, least, most int) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var seen []attempt
			c, err := New(Options{Retry: retry, HTTP: fakeServer(&seen, answerWith(503, retryAfter, "busy"))})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err = c.Ingest(t.Context(), Batch{Body: []byte("x")})
			var status *StatusError
			if !errors.As(err, &status) || status.Code != 503 {
				t.Errorf("error %v, want the 503", err)
			}
			if n := len(seen); n < least || n > most {
				t.Errorf("%d attempts, want %d to %d", n, least, most)
			}
			if d := time.Since(start); d > max(retry.withDefaults().For, 0) {
				t.Errorf("took %s", d)
			}
		})
	}
	f(Retry{For: -1}, "", 1, 1)
	f(Retry{For: time.Minute, Min: time.Second, Max: time.Second}, "", 60, 120)
	f(Retry{For: time.Minute, Max: 10 * time.Second}, "3600", 7, 7) // A wait is cut to Max.
	f(Retry{}, "", 10, 20)
	f(Retry{For: time.Second, Max: 5 * time.Second}, "5", 1, 1)
}

// TestIngestStops: a context ends a wait and a hung attempt; a hung attempt alone ends by
// the timeout and is tried again.
func TestIngestStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		hang := roundTrip(func(r *http.Request) (*http.Response, error) {
			tries++
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		c, err := New(Options{Timeout: 10 * time.Second, HTTP: &http.Client{Transport: hang}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		_, err = c.Ingest(ctx, Batch{Body: []byte("x")})
		if !errors.Is(err, context.DeadlineExceeded) || tries != 3 {
			t.Errorf("%d attempts, error %v", tries, err)
		}
		c.options.Retry.For = -1
		if _, err = c.Ingest(t.Context(), Batch{Body: []byte("x")}); !Unreachable(err) || !contains(err.Error(), "no answer within 10s") {
			t.Errorf("error %v, want one that names the time", err)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	f := func(header string, want time.Duration) {
		t.Helper()
		if got := retryAfter(header, now); got != want {
			t.Errorf("Retry-After %q is %s, want %s", header, got, want)
		}
	}
	f("", 0)
	f("5", 5*time.Second)
	f("-5", 0)
	f("99999999999999999999", 0)
	f("Fri, 02 Jan 2026 03:04:15 GMT", 10*time.Second)
	f("Fri, 02 Jan 2026 03:04:00 GMT", 0)
	f("soon", 0)
}
