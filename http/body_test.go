package http

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/logcluster/logcluster/segment"
)

// packed compresses a body.
func packed(t testing.TB, encoding string, body []byte) string {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch encoding {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		w, err = zstd.NewWriter(&out)
	case "zlib":
		w = zlib.NewWriter(&out)
	case "flate":
		w, err = flate.NewWriter(&out, 6)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestEncodings(t *testing.T) {
	body := []byte("one\ntwo\n" + strings.Repeat("x", 200_000))
	push := `{"streams":[{"stream":{"a":"b"},"values":[["1","one"]]}]}`
	f := newFixture(t)
	check := func(compressor, encoding string) {
		t.Helper()
		f.node.entries = nil
		f.want(f.do("POST", "/ingest", packed(t, compressor, body), "Content-Encoding: "+encoding), 200)
		f.stored("one", "two", strings.Repeat("x", 200_000))
		f.node.keys, f.node.entries = map[segment.Key]bool{}, nil
		f.want(f.do("POST", pushPath, packed(t, compressor, []byte(push)), jsonType, "Content-Encoding: "+encoding), 204)
		f.stored("one")
	}
	for range 2 { // The second time with used decoders.
		check("gzip", "gzip")
		check("gzip", "GZIP")
		check("gzip", "x-gzip, identity")
		check("zstd", "zstd")
		check("zlib", "deflate")
		check("flate", "deflate")
	}
	bad := func(body string, code int, text string, headers ...string) {
		t.Helper()
		f := newFixture(t)
		f.want(f.do("POST", "/ingest", body, headers...), code, text)
		f.stored()
	}
	whole := packed(t, "gzip", body)
	bad(whole[:len(whole)/2], 400, "the gzip body is damaged", "Content-Encoding: gzip")
	bad(whole+"x", 400, "the gzip body is damaged", "Content-Encoding: gzip")
	bad("not gzip", 400, "the body is not gzip", "Content-Encoding: gzip")
	bad("", 400, "the body is not gzip", "Content-Encoding: gzip")
	whole = packed(t, "zstd", body)
	bad(whole[:len(whole)/2], 400, "the zstd body is damaged", "Content-Encoding: zstd")
	bad("not zstd", 400, "the zstd body is damaged", "Content-Encoding: zstd")
	bad("not deflate", 400, "the deflate body is damaged", "Content-Encoding: deflate")
	bad("x", 415, "gzip, zstd or deflate", "Content-Encoding: br")
	bad("x", 415, "gzip, zstd or deflate", "Content-Encoding: snappy")
	bad("x", 415, "one of gzip", "Content-Encoding: gzip, gzip")
	bad("x", 415, "one of gzip", "Content-Encoding: gzip", "Content-Encoding: zstd")
	// An encoding within the encoding is data.
	f = newFixture(t)
	f.want(f.do("POST", "/ingest", packed(t, "gzip", []byte(packed(t, "gzip", []byte("x")))), "Content-Encoding: gzip"), 200)
}

// Bombs are refused before they take memory.
func TestW4Bombs(t *testing.T) {
	const limit = 4 << 20
	zeros := make([]byte, 64<<20)
	bombs := map[string]string{}
	for _, encoding := range []string{"gzip", "zstd", "zlib"} {
		bombs[encoding] = packed(t, encoding, zeros)
	}
	// A zstd frame whose header asks for a window of 2 GiB, and one that has no window
	// and promises 2⁶³ bytes.
	window := "\x28\xb5\x2f\xfd\x00" + string([]byte{21 << 3}) + "\x01\x00\x00"
	single := "\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\x01\x00\x00"
	f := newFixture(t, func(o *Options) { o.Ingest.MaxDecoded, o.Ingest.MaxBody = limit, 1<<20 })
	check := func(body string, code int, text string, headers ...string) {
		t.Helper()
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f.want(f.do("POST", "/ingest", body, headers...), code, text)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 24<<20 {
			t.Errorf("%v: allocated %d bytes for a limit of %d", headers, took, limit)
		}
	}
	check(bombs["gzip"], 413, "larger than the limit of 4194304", "Content-Encoding: gzip")
	check(bombs["zstd"], 413, "larger than the limit of 4194304", "Content-Encoding: zstd")
	check(bombs["zlib"], 413, "larger than the limit of 4194304", "Content-Encoding: deflate")
	check(window, 400, "the zstd window is larger than the limit", "Content-Encoding: zstd")
	check(single, 400, "the zstd window is larger than the limit", "Content-Encoding: zstd")
	check(strings.Repeat("x", 1<<20+1), 413, "1048577 bytes, the limit is 1048576")
	f.stored()
	check(strings.Repeat("x", 1<<20-1)+"\n", 200, `"accepted":1`)
	check(packed(t, "gzip", []byte(strings.Repeat(strings.Repeat("x", 1<<20-1)+"\n", 4))), 200, `"accepted":4`, "Content-Encoding: gzip")
}

// The limit of a body holds, to the byte, also if its length is not announced.
func TestW4UnknownLength(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Ingest.MaxBody, o.Ingest.MaxDecoded = 100_000, 100_000 })
	check := func(n, code int) {
		t.Helper()
		for _, length := range []int64{-1, int64(n)} {
			r := request("POST", "/ingest")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", n))), length
			w := recorder()
			f.ServeHTTP(w, r)
			f.want(w, code)
		}
		f.want(f.do("POST", "/ingest", packed(t, "gzip", []byte(strings.Repeat("x", n))), "Content-Encoding: gzip"), code)
	}
	check(99_999, 200)
	check(100_000, 200)
	check(100_001, 413)
	check(1_000_000, 413)
}

// What is in flight is bounded, waits, and is given back whatever happens.
func TestW4InFlight(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Ingest.MaxInFlight = 1 << 20
		o.Timeouts.Queue = 50 * time.Millisecond
	})
	// Too big for the whole budget: to wait would be of no use.
	f.want(f.do("POST", "/ingest", strings.Repeat("x", 2<<20)), 413, "1048576 bytes of memory")
	f.want(f.do("POST", "/ingest", "x", "Content-Encoding: zstd"), 413, "1048576 bytes of memory") // The decoder's window.

	enter, leave := make(chan struct{}), make(chan struct{})
	f.node.onAppend = func(context.Context) error {
		enter <- struct{}{}
		<-leave
		return nil
	}
	var wg sync.WaitGroup
	body := strings.Repeat("x", 600<<10)
	wg.Go(func() { f.want(f.do("POST", "/ingest", body), 200) })
	<-enter
	w := f.do("POST", "/ingest", body)
	f.want(w, 503, "too much is being received")
	if got := w.Header().Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After: %q", got)
	}
	leave <- struct{}{}
	wg.Wait()
	wg.Go(func() { f.want(f.do("POST", "/ingest", body), 200) })
	<-enter
	leave <- struct{}{}
	wg.Wait()
	f.node.onAppend = nil
	for _, body := range []string{"", "x", "{", "\x00\x01"} {
		for _, headers := range [][]string{nil, {ndjson}, {"Content-Encoding: gzip"}, {"Content-Encoding: deflate"}} {
			f.do("POST", "/ingest", body, headers...)
			f.do("POST", pushPath, body, headers...)
		}
	}
	if !f.memory.sem.TryAcquire(1 << 20) {
		t.Error("memory was not given back")
	}
}

// The memory of many tiny entries counts, not only that of the body.
func TestW4TinyEntries(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Ingest.MaxInFlight = 4 << 20 })
	f.want(f.do("POST", "/ingest", strings.Repeat("\n", 10_000)), 200)
	f.want(f.do("POST", "/ingest", strings.Repeat("\n", 200_000)), 413, "bytes of memory")
	f.want(f.do("POST", "/ingest", strings.Repeat("{}\n", 200_000), ndjson), 413, "bytes of memory")
	f.want(f.do("POST", pushPath, snap(protoStream(`{a="b"}`, make([][]byte, 200_000)...))), 413, "bytes of memory")
	var objects strings.Builder
	for i := range 40_000 {
		objects.WriteString(`{"_msg":"","k":"`)
		objects.WriteString(time.Duration(i).String())
		objects.WriteString("\"}\n")
	}
	f.want(f.do("POST", "/ingest", objects.String(), ndjson), 413, "bytes of memory")
	f.want(f.do("POST", "/ingest?_labels=k", objects.String(), ndjson), 413, "bytes of memory")
}

func TestOverloadIs503(t *testing.T) {
	check := func(err error, code int, retry, text string) {
		t.Helper()
		f := newFixture(t)
		f.node.appendErr = err
		for _, w := range []struct{ path, body string }{{"/ingest", "x"}, {pushPath, snap(protoStream(`{a="b"}`, protoEntry(1, 2, "x")))}} {
			answer := f.do("POST", w.path, w.body)
			f.want(answer, code, text)
			if got := answer.Header().Get("Retry-After"); got != retry {
				t.Errorf("%v: Retry-After %q, want %q", err, got, retry)
			}
		}
		if logged := f.logs.FilterMessage("request failed").Len(); (logged > 0) != (code == 500) {
			t.Errorf("%v: %d lines logged", err, logged)
		}
	}
	check(retryError{2500 * time.Millisecond}, 503, "3", "shard 3 has no owner")
	check(retryError{}, 503, "1", "shard 3 has no owner")
	check(context.DeadlineExceeded, 503, "1", "not done in time")
	check(errBroken, 500, "", "block 7")

	f := newFixture(t, func(o *Options) { o.Timeouts.Append = time.Millisecond })
	f.node.onAppend = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	f.want(f.do("POST", "/ingest", "x"), 503, "not done in time")
}
