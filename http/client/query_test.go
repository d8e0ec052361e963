package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestQueryParameters(t *testing.T) {
	f := func(q Query, want string) {
		t.Helper()
		c := newTest(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			if got := r.Form.Encode(); r.URL.Path != "/query" || got != want {
				t.Errorf("%s with %s\nwant %s", r.URL, got, want)
			}
			if got := r.Header.Get("Accept"); got != "application/x-ndjson" {
				t.Errorf("Accept: %s", got)
			}
		})
		rows, err := c.Query(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if rows.Next() || rows.Err() != nil {
			t.Errorf("a row or an error (%v) in an empty answer", rows.Err())
		}
		if err := rows.Close(); err != nil {
			t.Error(err)
		}
	}
	f(Query{Text: `{a="b"}`}, "direction=backward&limit=0&query=%7Ba%3D%22b%22%7D")
	f(Query{
		Text: "q", Start: time.Unix(0, 1_700_000_000_123_456_789), End: time.Unix(1_700_000_001, 0), Since: time.Hour,
		Limit: 5, Forward: true, Step: 90 * time.Second, Strict: true,
	}, "direction=forward&end=2023-11-14T22%3A13%3A21Z&limit=5&query=q&since=1h0m0s&start=2023-11-14T22%3A13%3A20.123456789Z&step=1m30s&strict=true")
}

func TestRows(t *testing.T) {
	long := strings.Repeat("x", 200_000) // Longer than the buffer.
	body := `{"time":"2026-01-02T03:04:05.000000006Z","labels":{"a":"b"},"line":"l\u0000\n","metadata":{"m":"n"}}
{"time":"2026-01-02T03:04:05Z","labels":{},"line_base64":"//4="}

{"time":"2026-01-02T03:04:05Z","labels":{},"line":"` + long + `"}
{"labels":{"a":"b"},"time":"2026-01-02T03:04:05Z","value":1.5}
{"labels":{},"values":[["2026-01-02T03:04:05Z",1],["2026-01-02T03:05:05Z","NaN"],["2026-01-02T03:06:05Z","+Inf"]]}
{"warnings":["shard 3 is away","old"]}`
	c := newTest(t, Options{}, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) })
	rows, err := c.Query(t.Context(), Query{})
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	line := func(s string) *string { return &s }
	number := func(n Number) *Number { return &n }
	want := []*Row{
		{Time: at.Add(6), Labels: map[string]string{"a": "b"}, Line: line("l\x00\n"), Metadata: map[string]string{"m": "n"}},
		{Time: at, Labels: map[string]string{}, LineBase64: []byte{0xff, 0xfe}},
		{Time: at, Labels: map[string]string{}, Line: &long},
		{Time: at, Labels: map[string]string{"a": "b"}, Value: number(1.5)},
	}
	for i, w := range want {
		if !rows.Next() {
			t.Fatalf("no row %d: %v", i, rows.Err())
		}
		if got, err := rows.Row(); err != nil || !reflect.DeepEqual(got, w) {
			t.Errorf("row %d is %+v, %v", i, got, err)
		}
	}
	if !rows.Next() {
		t.Fatal("no series")
	}
	series, err := rows.Row()
	if err != nil || len(series.Values) != 3 || series.Values[0] != (Point{at, 1}) ||
		!math.IsNaN(float64(series.Values[1].Value)) || !math.IsInf(float64(series.Values[2].Value), 1) {
		t.Errorf("series %+v, %v", series, err)
	}
	if rows.Next() || rows.Err() != nil {
		t.Errorf("more rows, or error %v", rows.Err())
	}
	if w := rows.Warnings(); !reflect.DeepEqual(w, []string{"shard 3 is away", "old"}) {
		t.Errorf("warnings %q", w)
	}
}

// TestK3NothingIsPassedOffAsAll: each way for an answer to end early is an error, after
// the rows that came before.
func TestK3NothingIsPassedOffAsAll(t *testing.T) {
	row := `{"time":"2026-01-02T03:04:05Z","labels":{},"line":"x"}` + "\n"
	f := func(name string, stream bool, handler http.HandlerFunc) {
		t.Run(name, func(t *testing.T) {
			c := newTest(t, Options{}, handler)
			check := func(what string, got int, err error) {
				t.Helper()
				var ended *StreamError
				if got != 2 || err == nil || errors.As(err, &ended) != stream {
					t.Errorf("%s: %d rows, then %v; want 2 and an error of the stream: %t", what, got, err, stream)
				}
			}
			rows, err := c.Query(t.Context(), Query{})
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			n := 0
			for rows.Next() {
				n++
			}
			check("rows", n, rows.Err())
			if rows.Next() {
				t.Error("a row after the end")
			}
		})
	}
	two := func(w http.ResponseWriter) {
		io.WriteString(w, row+row)
		http.NewResponseController(w).Flush()
	}
	f("object", true, func(w http.ResponseWriter, _ *http.Request) {
		two(w)
		io.WriteString(w, `{"error":"disk \"a\" is gone"}`+"\n")
	})
	f("trailer", true, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Trailer", errorTrailer)
		two(w)
		w.Header().Set(errorTrailer, "disk is gone")
	})
	f("trailer that was not announced", true, func(w http.ResponseWriter, _ *http.Request) {
		two(w)
		w.Header().Set(http.TrailerPrefix+errorTrailer, "disk is gone")
	})
	f("abort", false, func(w http.ResponseWriter, _ *http.Request) {
		two(w)
		panic(http.ErrAbortHandler)
	})
	f("abort in a row", false, func(w http.ResponseWriter, _ *http.Request) {
		two(w)
		io.WriteString(w, row[:20])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// TestQueryLines: the same for raw lines, which pass through unchanged.
func TestQueryLines(t *testing.T) {
	f := func(end func(http.ResponseWriter), want string) {
		t.Helper()
		c := newTest(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Accept"); got != "text/plain" {
				t.Errorf("Accept: %s", got)
			}
			w.Header().Set("Trailer", errorTrailer+","+warningsTrailer)
			w.Write(nasty)
			http.NewResponseController(w).Flush()
			w.Header().Set(warningsTrailer, "shard 3 is away")
			end(w)
		})
		lines, err := c.QueryLines(t.Context(), Query{})
		if err != nil {
			t.Fatal(err)
		}
		defer lines.Close()
		got, err := io.ReadAll(lines)
		if string(got) != string(nasty) {
			t.Errorf("got %q", got)
		}
		if w := lines.Warnings(); err == nil && !reflect.DeepEqual(w, []string{"shard 3 is away"}) {
			t.Errorf("warnings %q", w)
		}
		if want == "" && err != nil || want != "" && (err == nil || !contains(err.Error(), want)) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	f(func(http.ResponseWriter) {}, "")
	f(func(w http.ResponseWriter) { w.Header().Set(errorTrailer, "disk is gone") }, "disk is gone")
	f(func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, "cut the answer off")
}

func TestQueryErrors(t *testing.T) {
	c := newTest(t, Options{}, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "parse error at line 1, col 2: no", http.StatusBadRequest)
	})
	_, err := c.Query(t.Context(), Query{Text: "x"})
	var status *StatusError
	if !errors.As(err, &status) || status.Code != 400 || status.Message != "parse error at line 1, col 2: no" {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	hung := newTest(t, Options{}, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "x")
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	lines, err := hung.QueryLines(ctx, Query{})
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	if _, err := io.ReadFull(lines, make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(lines); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that of the context", err)
	}
}

// TestK4RowsAreBounded: an answer that is one endless row ends in an error.
func TestK4RowsAreBounded(t *testing.T) {
	rows := newRows(io.NopCloser(endless{}))
	rows.limit = 1 << 20
	if rows.Next() || rows.Err() == nil || errors.Is(rows.Err(), io.EOF) {
		t.Errorf("error %v", rows.Err())
	}
	if cap(rows.long) > 3*rows.limit {
		t.Errorf("%d bytes kept", cap(rows.long))
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func FuzzRows(f *testing.F) {
	f.Add([]byte(`{"time":"2026-01-02T03:04:05Z","labels":{"a":"b"},"line":"x"}` + "\n"))
	f.Add([]byte(`{"labels":{},"values":[["2026-01-02T03:04:05Z",1]]}`))
	f.Add([]byte(`{"error":"x"}`))
	f.Add([]byte(`{"error":1}` + "\n" + `{"warnings":[1]}`))
	f.Add([]byte("\n\n{}\n[]\nnull\n\xff"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		rows := newRows(io.NopCloser(strings.NewReader(string(answer))))
		for rows.Next() {
			if len(rows.Bytes()) == 0 {
				t.Fatal("empty row")
			}
			if row, err := rows.Row(); (row == nil) == (err == nil) {
				t.Fatal("a row beside an error, or neither")
			}
		}
		_ = rows.Warnings()
	})
}
