package http

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/logcluster/logcluster/segment"
)

const plainText = "Accept: text/plain"

func TestQueryEntries(t *testing.T) {
	f := filled(t)
	all := "/query?query=" + escape(`{app=~".+"}`)
	w := f.do("GET", all+"&direction=forward", "")
	f.is(w, 200, `{"time":"2023-11-14T22:13:20Z","labels":{"app":"web","host":"a"},"line":"one"}
{"time":"2023-11-14T22:13:20.000000001Z","labels":{"app":"web","host":"a"},"line":"two \"quoted\"\n\u0000\u001b`+"\u202e"+`<&>"}
{"time":"2023-11-14T22:13:20.000000001Z","labels":{"app":"web","host":"b"},"line":"three","metadata":{"host":"x","trace":"t1"}}
{"time":"2023-11-14T22:13:21Z","labels":{"app":"db"},"line_base64":"Zm91cv/+","metadata":{"trace":"t1"}}
{"time":"2023-11-14T22:13:22Z","labels":{"app":"web","host":"a"},"line":"five"}
`)
	if got := w.Header().Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type %q", got)
	}
	w = f.do("GET", all, "", plainText)
	f.is(w, 200, "five\nfour\xff\xfe\nthree\ntwo \"quoted\"\n\x00\x1b\u202e<&>\none\n")
	if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	f.is(f.do("GET", all+"&limit=2", "", plainText), 200, "five\nfour\xff\xfe\n")
	f.is(f.do("GET", all+"&limit=0&start=1700000001", "", plainText), 200, "five\nfour\xff\xfe\n")
	f.is(f.do("GET", all+"&start=1700000001&end=1700000002", "", plainText), 200, "four\xff\xfe\n")
	f.is(f.do("GET", all+"&end=1700000001&since=1s&direction=forward", "", "Accept: application/json, text/plain;q=0"), 200, f.do("GET", all+"&end=1700000001&direction=forward", "").Body.String())
	f.is(f.do("GET", "/query?q="+escape(`{app="none"}`), ""), 200, "")
	f.is(f.do("GET", "/query?q="+escape(`{app="none"}`), "", plainText), 200, "")
	// The query as a body, as a form, and as curl -d sends it.
	for _, contentType := range []string{formType, "Content-Type: text/plain", ""} {
		f.is(f.do("POST", "/query", `{app="db"}`, contentType, plainText), 200, "four\xff\xfe\n")
		f.is(f.do("POST", "/query?limit=1", `{app="web"} |= "i" != "%"`, contentType, plainText), 200, "five\n")
	}
	f.is(f.do("POST", "/query", "limit=1&query="+escape(`{app="web"}`), formType, plainText), 200, "five\n")
	f.want(f.do("GET", all, "", "X-Scope-OrgID: other"), 200)
}

// By default everything is found, also what is a little ahead of this clock.
func TestQueryDefaultRange(t *testing.T) {
	f := newFixture(t)
	f.put(0, "1970", `{a="b"}`)
	f.put(time.Now().UnixNano()+int64(9*time.Minute), "ahead", `{a="b"}`)
	f.is(f.do("GET", "/query?query="+escape(`{a="b"}`), "", plainText), 200, "ahead\n1970\n")
	f.is(f.do("GET", "/query?since=1h&query="+escape(`{a="b"}`), "", plainText), 200, "ahead\n")
	f.is(f.do("GET", "/query?end=1&query="+escape(`{a="b"}`), "", plainText), 200, "1970\n")
}

func TestQueryMetrics(t *testing.T) {
	f := filled(t)
	metric := escape(`sum by (app) (count_over_time({app=~".+"}[1s]))`)
	for _, at := range []string{"&time=1700000001", "&end=1700000001", "&end=1700000001&start=5", "&time=1700000001.0&since=5m"} {
		f.is(f.do("GET", "/query?query="+metric+at, ""), 200, `{"labels":{"app":"db"},"time":"2023-11-14T22:13:21Z","value":1}
{"labels":{"app":"web"},"time":"2023-11-14T22:13:21Z","value":2}
`)
		f.is(f.do("GET", "/query?query="+metric+at, "", plainText), 200, `{app="db"} 1`+"\n"+`{app="web"} 2`+"\n")
	}
	span := "&start=1700000000&end=1700000002&step=1s"
	f.is(f.do("GET", "/query?query="+metric+span, ""), 200, `{"labels":{"app":"db"},"values":[["2023-11-14T22:13:21Z",1]]}
{"labels":{"app":"web"},"values":[["2023-11-14T22:13:20Z",1],["2023-11-14T22:13:21Z",2],["2023-11-14T22:13:22Z",1]]}
`)
	f.is(f.do("GET", "/query?query="+metric+span, "", plainText), 200, `2023-11-14T22:13:21Z {app="db"} 1
2023-11-14T22:13:20Z {app="web"} 1
2023-11-14T22:13:21Z {app="web"} 2
2023-11-14T22:13:22Z {app="web"} 1
`)
	f.is(f.do("GET", "/query?time=1&query="+escape("0.25"), ""), 200, `{"labels":{},"time":"1970-01-01T00:00:01Z","value":0.25}`+"\n")
	f.is(f.do("GET", "/query?time=1&query="+escape("0/0"), ""), 200, `{"labels":{},"time":"1970-01-01T00:00:01Z","value":"NaN"}`+"\n")
	f.is(f.do("GET", "/query?time=1&query="+escape("-1/0"), ""), 200, `{"labels":{},"time":"1970-01-01T00:00:01Z","value":"-Inf"}`+"\n")
	f.is(f.do("GET", "/query?time=1&query="+escape("vector(2)"), "", plainText), 200, "{} 2\n")
}

func TestQueryBad(t *testing.T) {
	f := filled(t)
	query := "query=" + escape(`{app="web"}`)
	metric := "query=" + escape(`rate({app="web"}[1m])`)
	check := func(parameters string, texts ...string) {
		t.Helper()
		f.want(f.do("GET", "/query?"+parameters, ""), 400, texts...)
	}
	check("", "the query is missing")
	check("query=", "the query is missing")
	check("query=+", "the query is missing")
	check("query="+escape(`{app="web"`), "parse error")
	check("query={}", "at least one")
	check(query+"&"+query, "2 times")
	check(query+"&q=x", "same parameter")
	check(query+"&from=1", `unknown parameter "from"`, "start")
	for _, limit := range []string{"-1", "x", "9223372036854775808", "9223372036854775807"} {
		check(query+"&limit="+limit, "limit")
	}
	check(query+"&direction=x", "forward or backward")
	check(query+"&start=2&end=1", "after its start")
	check(query+"&start=1&end=1", "after its start")
	check(query+"&start=1&since=1h", "exclude each other")
	check(query+"&start=x", "is no time")
	check(query+"&end=x", "is no time")
	check(query+"&since=x", "since")
	check(query+"&step=1s", "this is a log query")
	check(query+"&time=1", "time is for metric queries")
	check(query+"&strict=maybe", "true or false")
	check(metric+"&time=1&step=1", "without a step")
	check(metric+"&step=0", "zero or negative")
	check(metric+"&step=1ns&since=1h", "exceeded maximum resolution")
	check(metric+"&time=x", "is no time")
	f.want(f.do("POST", "/query", strings.Repeat("x", 2<<20)), 413, "1048576")
	f.want(f.do("POST", "/query", "%zz", formType), 400, "parse error")
}

func TestQ1Damage(t *testing.T) {
	f := filled(t)
	f.node.damage = []error{errBroken}
	target := "/query?query=" + escape(`{app="db"}`)
	f.want(f.do("GET", target, ""), 200, "line_base64", `}`+"\n"+`{"warnings":["block 7 of segment x is damaged"]}`+"\n")
	f.want(f.do("GET", "/query?time=1700000003&query="+escape(`count_over_time({app="db"}[1h])`), ""), 200, `"value":1}`+"\n"+`{"warnings":["block 7 of segment x is damaged"]}`+"\n")
	f.want(f.do("GET", "/query?query="+escape(`{app="none"}`), ""), 200, `{"warnings":["block 7 of segment x is damaged"]}`+"\n")
	f.want(f.do("GET", target+"&strict=true", ""), 500, "block 7")
	// An error before the first entry has a status of its own.
	f.node.damage, f.node.endWith = nil, retryError{time.Second}
	f.want(f.do("GET", "/query?query="+escape(`{app="none"}`), ""), 503, "no owner")
}

// An error in the middle of an answer does not look like its end.
func TestQ1ErrorInTheMiddle(t *testing.T) {
	f, url := newNetwork(t)
	f.put(baseTime, "one", `{a="b"}`)
	f.node.endWith = errBroken
	get := func(accept string) string {
		t.Helper()
		r, _ := http.NewRequest("GET", url+"/query?query="+escape(`{a="b"}`), nil)
		r.Header.Set("Accept", accept)
		answer, err := client(t).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the answer ended with %v", accept, err)
		}
		return string(body)
	}
	if got := get("*/*"); !strings.HasSuffix(got, `"line":"one"}`+"\n"+`{"error":"block 7 of segment x is damaged"}`+"\n") {
		t.Errorf("answer %q", got)
	}
	if got := get("text/plain"); got != "one\n" {
		t.Errorf("answer %q", got)
	}
	if n := f.logs.FilterMessage("request failed").Len(); n != 2 {
		t.Errorf("%d lines logged", n)
	}
}

func TestQueryTrailer(t *testing.T) {
	f, url := newNetwork(t)
	f.put(baseTime, "one", `{a="b"}`)
	f.node.damage = []error{errors.New("bad\r\nHeader: x €"), errBroken}
	r, _ := http.NewRequest("GET", url+"/query?query="+escape(`{a="b"}`), nil)
	r.Header.Set("Accept", "text/plain")
	answer, body := fetch(t, client(t), r)
	if got := answer.Trailer.Get("Logcluster-Warnings"); body != "one\n" || got != "bad??Header: x ?; block 7 of segment x is damaged" {
		t.Errorf("body %q, trailer %q", body, got)
	}
}

// Lines are sent while the next one is searched for.
func TestQueryStreams(t *testing.T) {
	f, url := newNetwork(t)
	f.put(baseTime, "one", `{a="b"}`)
	f.put(baseTime+1, "two", `{a="b"}`)
	search := make(chan struct{})
	f.node.onNext = func(i int) {
		if i == 1 {
			<-search
		}
	}
	answer, err := client(t).Get(url + "/query?direction=forward&query=" + escape(`{a="b"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewReader(answer.Body)
	if first, err := lines.ReadString('\n'); err != nil || !strings.Contains(first, "one") {
		t.Errorf("first line %q: %v", first, err)
	}
	close(search)
	if next, err := io.ReadAll(lines); err != nil || !strings.Contains(string(next), "two") {
		t.Errorf("second line %q: %v", next, err)
	}
}

// A query may take longer than its timeout as long as it answers.
func TestQueryProgress(t *testing.T) {
	f, url := newNetwork(t, func(o *Options) { o.Timeouts.Query = 300 * time.Millisecond })
	for i := range 10 {
		f.put(baseTime+int64(i), "line", `{a="b"}`)
	}
	f.node.onNext = func(int) { time.Sleep(50 * time.Millisecond) }
	r, _ := http.NewRequest("GET", url+"/query?query="+escape(`{a="b"}`), nil)
	if _, body := fetch(t, client(t), r); strings.Count(body, "\n") != 10 {
		t.Errorf("answer %q", body)
	}
}

// endless yields the same entry for ever, and counts.
type endless struct {
	ctx    context.Context
	entry  segment.Entry
	n      int
	closed chan struct{}
}

func (it *endless) Next() bool         { it.n++; return it.ctx.Err() == nil }
func (it *endless) At() *segment.Entry { return &it.entry }
func (it *endless) Err() error         { return it.ctx.Err() }
func (it *endless) Close() error {
	select {
	case <-it.closed:
	default:
		close(it.closed)
	}
	return nil
}

// A query without an end takes constant memory, and ends when the client hangs up.
func TestQ2Endless(t *testing.T) {
	it := &endless{
		entry:  segment.Entry{Stream: segment.NewStream("default", segment.Labels{{Name: "a", Value: "b"}}), Line: []byte(strings.Repeat("x", 1000))},
		closed: make(chan struct{}),
	}
	f, url := newNetwork(t)
	f.node.iterator = func(ctx context.Context) segment.Iterator { it.ctx = ctx; return it }
	answer, err := client(t).Get(url + "/query?query=" + escape(`{a="b"}`))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const size = 32 << 20
	if _, err := io.CopyN(io.Discard, answer.Body, size); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > size/8 {
		t.Errorf("allocated %d bytes to send %d", took, size)
	}
	answer.Body.Close()
	<-it.closed
	for _, e := range f.logs.All() {
		if e.Level > -1 {
			t.Errorf("logged %s at %s", e.Message, e.Level)
		}
	}
}

// A client that takes nothing is given up.
func TestQuerySlowReader(t *testing.T) {
	it := &endless{
		entry:  segment.Entry{Stream: segment.NewStream("default", segment.Labels{{Name: "a", Value: "b"}}), Line: []byte(strings.Repeat("x", 1000))},
		closed: make(chan struct{}),
	}
	f, url := newNetwork(t, func(o *Options) { o.Timeouts.Write = 50 * time.Millisecond })
	f.node.iterator = func(ctx context.Context) segment.Iterator { it.ctx = ctx; return it }
	answer, err := client(t).Get(url + "/query?query=" + escape(`{a="b"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	<-it.closed
}

// What is sent in can be asked for, byte for byte.
func TestRoundTrip(t *testing.T) {
	f := newFixture(t)
	var lines []string
	for c := range 256 {
		if c != '\n' {
			lines = append(lines, fmt.Sprintf("byte %s and %s", []byte{byte(c)}, []byte{byte(c), byte(c)}))
		}
	}
	f.want(f.do("POST", "/ingest?app=web", strings.Join(lines, "\n")), 200)
	f.is(f.do("GET", "/query?direction=forward&query="+escape(`{app="web"}`), "", plainText), 200, strings.Join(lines, "\n")+"\n")
	scanner := bufio.NewScanner(f.do("GET", "/query?direction=forward&query="+escape(`{app="web"}`), "").Body)
	for i := 0; scanner.Scan(); i++ {
		var entry struct {
			Line   string `json:"line"`
			Base64 []byte `json:"line_base64"`
		}
		if err := json.Unmarshal(scanner.Bytes(), &entry); err != nil {
			t.Fatal(err)
		}
		if got := entry.Line + string(entry.Base64); got != lines[i] {
			t.Errorf("line %d: %q, want %q", i, got, lines[i])
		}
	}
}
