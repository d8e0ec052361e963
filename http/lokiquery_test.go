package http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcluster/logcluster/segment"
)

const (
	second   = int64(time.Second)
	baseTime = 1_700_000_000 * second
	rangeURL = "/loki/api/v1/query_range"
	formType = "Content-Type: application/x-www-form-urlencoded"
)

// escape is a query as part of a URL.
func escape(query string) string { return url.QueryEscape(query) }

// filled is a fixture with some entries.
func filled(t testing.TB, change ...func(*Options)) *fixture {
	f := newFixture(t, change...)
	f.put(baseTime, "one", `{app="web", host="a"}`)
	f.put(baseTime+1, "two \"quoted\"\n\x00\x1b\u202e<&>", `{app="web", host="a"}`)
	f.put(baseTime+1, "three", `{app="web", host="b"}`, "host", "x", "trace", "t1")
	f.put(baseTime+second, "four\xff\xfe", `{app="db"}`, "trace", "t1")
	f.put(baseTime+2*second, "five", `{app="web", host="a"}`)
	return f
}

func TestLokiStreams(t *testing.T) {
	f := filled(t)
	const span = "&start=1700000000&end=1700000003"
	all := rangeURL + "?query=" + escape(`{app=~".+"}`) + span
	f.is(f.do("GET", all+"&direction=forward", ""), 200, `{"status":"success","data":{"resultType":"streams","result":[`+
		`{"stream":{"app":"db","trace":"t1"},"values":[["1700000001000000000","four`+"\uFFFD\uFFFD"+`"]]},`+
		`{"stream":{"app":"web","host":"a"},"values":[["1700000000000000000","one"],["1700000000000000001","two \"quoted\"\n\u0000\u001b`+"\u202e"+`<&>"],["1700000002000000000","five"]]},`+
		`{"stream":{"app":"web","host":"b","host_extracted":"x","trace":"t1"},"values":[["1700000000000000001","three"]]}],"stats":{}}}`+"\n")
	categorize := "X-Loki-Response-Encoding-Flags: categorize-labels"
	f.is(f.do("GET", all+"&direction=FORWARD&limit=4", "", categorize), 200, `{"status":"success","data":{"resultType":"streams","encodingFlags":["categorize-labels"],"result":[`+
		`{"stream":{"app":"db"},"values":[["1700000001000000000","four`+"\uFFFD\uFFFD"+`",{"structuredMetadata":{"trace":"t1"}}]]},`+
		`{"stream":{"app":"web","host":"a"},"values":[["1700000000000000000","one",{}],["1700000000000000001","two \"quoted\"\n\u0000\u001b`+"\u202e"+`<&>",{}]]},`+
		`{"stream":{"app":"web","host":"b"},"values":[["1700000000000000001","three",{"structuredMetadata":{"host":"x","trace":"t1"}}]]}],"stats":{}}}`+"\n")
	f.is(f.do("GET", rangeURL+"?query="+escape(`{host="a"}`)+span+"&limit=2", "", "X-Loki-Response-Encoding-Flags: x"), 200, `{"status":"success","data":{"resultType":"streams","result":[`+
		`{"stream":{"app":"web","host":"a"},"values":[["1700000002000000000","five"],["1700000000000000001","two \"quoted\"\n\u0000\u001b`+"\u202e"+`<&>"]]}],"stats":{}}}`+"\n")
	f.is(f.do("GET", rangeURL+"?query="+escape(`{app="none"}`)+span, ""), 200, `{"status":"success","data":{"resultType":"streams","result":[],"stats":{}}}`+"\n")
	// As a form, and over the URL's parameters.
	body := url.Values{"query": {`{app="db"}`}, "start": {"1700000000"}, "end": {"1700000003"}}.Encode()
	f.want(f.do("POST", rangeURL+"?query=bad", body, formType), 200, `"stream":{"app":"db","trace":"t1"}`)
	if got := f.do("GET", all, "").Header().Get("Content-Type"); got != "application/json; charset=UTF-8" {
		t.Errorf("Content-Type %q", got)
	}
	f.want(f.do("GET", all, "", "X-Scope-OrgID: other"), 200, `"result":[]`)
}

// Start is part of the range, the end is not, and all forms of a time are the same instant.
func TestLokiTimes(t *testing.T) {
	f := newFixture(t)
	f.put(baseTime-1, "before", `{a="b"}`)
	f.put(baseTime, "start", `{a="b"}`)
	f.put(baseTime+second/2-1, "last", `{a="b"}`)
	f.put(baseTime+second/2, "end", `{a="b"}`)
	for _, start := range []string{"1700000000", "1700000000.0", "1700000000000000000", "2023-11-14T22:13:20Z", "2023-11-14T23:13:20.000+01:00", "1.7e9.0", "1.70e9"} {
		for _, end := range []string{"1700000000.5", "1700000000500000000", "2023-11-14T22:13:20.5Z"} {
			w := f.do("GET", rangeURL+"?query="+escape(`{a="b"}`)+"&start="+escape(start)+"&end="+escape(end), "")
			if start == "1.7e9.0" {
				f.want(w, 400, "is no time")
				continue
			}
			f.want(w, 200, `[["1700000000499999999","last"],["1700000000000000000","start"]]`)
		}
	}
	// Eleven digits are nanoseconds.
	f.want(f.do("GET", rangeURL+"?query="+escape(`{a="b"}`)+"&start=0&end=17000000000", ""), 200, `"result":[]`)
	now := time.Now().UnixNano()
	f.put(now-7201*second, "two hours", `{c="d"}`)
	f.put(now-1800*second, "half an hour", `{c="d"}`)
	count := func(query string, n int) {
		t.Helper()
		w := f.do("GET", rangeURL+"?query="+escape(`{c="d"}`)+query, "")
		f.want(w, 200)
		if got := strings.Count(w.Body.String(), "hour"); got != n {
			t.Errorf("%s: %d entries, want %d", query, got, n)
		}
	}
	count("", 1)
	count("&since=3h", 2)
	count("&since=10m", 0)
	count("&start=0", 2)
	count(fmt.Sprintf("&end=%d", now-3600*second), 0)
	count(fmt.Sprintf("&end=%d&since=90m", now-3600*second), 1)
	count("&start=0001-01-01T00:00:00Z&end=9999-12-31T00:00:00Z", 2)
	count("&start=-9999999999999999999&end=9999999999", 2)
}

func TestLokiMetrics(t *testing.T) {
	f := filled(t)
	instant := "/loki/api/v1/query?query="
	f.is(f.do("GET", instant+escape(`sum by (app) (count_over_time({app=~".+"}[1h]))`)+"&time=1700000002", ""), 200,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{"app":"db"},"value":[1700000002,"1"]},{"metric":{"app":"web"},"value":[1700000002,"4"]}],"stats":{}}}`+"\n")
	f.is(f.do("GET", instant+escape(`sum(rate({app="web"}[1h]))`)+"&time=1700000002.5", ""), 200,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1700000002.500,"0.0011111111111111111"]}],"stats":{}}}`+"\n")
	// Grafana's check of a data source.
	f.is(f.do("GET", instant+escape(`vector(1)+vector(1)`)+"&time=4000000000&direction=backward", ""), 200,
		`{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[4000000000,"2"]}],"stats":{}}}`+"\n")
	f.is(f.do("GET", instant+escape(`1.5e21`)+"&time=4000000000", ""), 200,
		`{"status":"success","data":{"resultType":"scalar","result":[4000000000,"1500000000000000000000"],"stats":{}}}`+"\n")
	f.is(f.do("GET", instant+escape(`1/0`)+"&time=1", ""), 200, `{"status":"success","data":{"resultType":"scalar","result":[1,"+Inf"],"stats":{}}}`+"\n")
	f.is(f.do("POST", instant+escape(`0/0`)+"&time=1", ""), 200, `{"status":"success","data":{"resultType":"scalar","result":[1,"NaN"],"stats":{}}}`+"\n")
	query := rangeURL + "?query=" + escape(`sum by (app) (count_over_time({app=~".+"}[1s]))`) + "&start=1700000000&end=1700000002"
	for _, step := range []string{"1", "1.0", "1s", "1000ms", "0.5s", ""} {
		w := f.do("GET", query+"&step="+step, "")
		if step == "0.5s" {
			f.want(w, 200, `[1700000000.500,"3"]`)
			continue
		}
		f.is(w, 200, `{"status":"success","data":{"resultType":"matrix","result":[`+
			`{"metric":{"app":"db"},"values":[[1700000001,"1"]]},{"metric":{"app":"web"},"values":[[1700000000,"1"],[1700000001,"2"],[1700000002,"1"]]}],"stats":{}}}`+"\n")
	}
	f.is(f.do("GET", rangeURL+"?query="+escape(`sum(count_over_time({app="none"}[1s]))`)+"&start=1700000000&end=1700000002", "", "X-Loki-Response-Encoding-Flags: categorize-labels"), 200,
		`{"status":"success","data":{"resultType":"matrix","result":[],"stats":{}}}`+"\n")
}

func TestLokiLists(t *testing.T) {
	f := filled(t)
	const span = "start=1700000000&end=1700000003"
	for _, method := range []string{"GET", "POST"} {
		for _, path := range []string{"/labels", "/label", "/labels/"} {
			f.is(f.do(method, lokiPrefix+path+"?"+span, ""), 200, `{"status":"success","data":["app","host"]}`+"\n")
		}
		f.is(f.do(method, lokiPrefix+"/labels?"+span+"&query="+escape(`{app="db"}`), ""), 200, `{"status":"success","data":["app"]}`+"\n")
		f.is(f.do(method, lokiPrefix+"/labels?"+span+"&query={}", ""), 200, `{"status":"success","data":["app","host"]}`+"\n")
		f.is(f.do(method, lokiPrefix+"/labels", ""), 200, `{"status":"success"}`+"\n")
		f.is(f.do(method, lokiPrefix+"/label/host/values?"+span, ""), 200, `{"status":"success","data":["a","b"]}`+"\n")
		f.is(f.do(method, lokiPrefix+"/label/host/values?"+span+"&query="+escape(`{host!="a"}`), ""), 200, `{"status":"success","data":["b"]}`+"\n")
		f.is(f.do(method, lokiPrefix+"/label/unknown/values?"+span, ""), 200, `{"status":"success"}`+"\n")
		f.is(f.do(method, lokiPrefix+"/series?"+span+"&match="+escape(`{host="a"}`)+"&match[]="+escape(`{app="db"}`), ""), 200,
			`{"status":"success","data":[{"app":"db"},{"app":"web","host":"a"}]}`+"\n")
		for _, match := range []string{"", "&match={}", "&match[]=" + escape("{ }"), "&match={}&match=" + escape(`{host="a"}`)} {
			f.is(f.do(method, lokiPrefix+"/series?"+span+match, ""), 200, `{"status":"success","data":[{"app":"db"},{"app":"web","host":"a"},{"app":"web","host":"b"}]}`+"\n")
		}
		f.is(f.do(method, lokiPrefix+"/series", ""), 200, `{"status":"success","data":[]}`+"\n")
	}
	f.is(f.do("POST", lokiPrefix+"/labels", span, formType), 200, `{"status":"success","data":["app","host"]}`+"\n")
	f.want(f.do("GET", lokiPrefix+"/label/a-b/values", ""), 400, "no label name")
	f.want(f.do("GET", lokiPrefix+"/label/"+strings.Repeat("x", 10_000)+"-/values", ""), 400, "no label name")
	f.want(f.do("GET", lokiPrefix+"/series?match=bad", ""), 400, "parse error")
	f.want(f.do("GET", lokiPrefix+"/series?"+strings.Repeat("match=a&", 101), ""), 400, "100 selectors")
	f.node.damage = []error{errBroken}
	f.is(f.do("GET", lokiPrefix+"/labels?"+span, ""), 200, `{"status":"success","warnings":["block 7 of segment x is damaged"],"data":["app","host"]}`+"\n")
	f.is(f.do("GET", lokiPrefix+"/series?"+span, ""), 200, `{"status":"success","warnings":["block 7 of segment x is damaged"],"data":[{"app":"db"},{"app":"web","host":"a"},{"app":"web","host":"b"}]}`+"\n")
}

func TestLokiBadQueries(t *testing.T) {
	f := filled(t)
	query := "query=" + escape(`{app="web"}`)
	metric := "query=" + escape(`rate({app="web"}[1m])`)
	check := func(target string, texts ...string) {
		t.Helper()
		w := f.do("GET", lokiPrefix+target, "")
		f.want(w, 400, texts...)
		if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
			t.Errorf("Content-Type %q", got)
		}
		if w.Body.Len() > 2000 {
			t.Errorf("an answer of %d bytes", w.Body.Len())
		}
	}
	check("/query_range", "query is missing")
	check("/query_range?query=", "query is missing")
	check("/query_range?query={}", "at least one regexp or equality matcher that does not have an empty-compatible value")
	check("/query_range?query="+escape(`{app="web"`), "parse error")
	check("/query_range?query="+strings.Repeat("x", 1<<20), "")
	check("/query_range?query="+escape(strings.Repeat("(", 10_000)), "")
	check("/query_range?query="+escape(`{a=~"(x{1000}){1000}"}`), "")
	check("/query_range?query=%zz", "parameters of the URL")
	check("/query?"+query, "log queries are not supported as an instant query type")
	for _, limit := range []string{"0", "-1", "5001", "9223372036854775808", "-9223372036854775809", "x", "1.5"} {
		check("/query_range?"+query+"&limit="+limit, "limit")
		check("/query?"+metric+"&limit="+limit, "limit")
	}
	check("/query_range?"+query+"&direction=up", "direction")
	check("/query_range?"+query+"&start=2&end=1", "end timestamp must not be before or equal to start time")
	check("/query_range?"+query+"&start=1&end=1", "end timestamp must not be before or equal to start time")
	for _, value := range []string{"x", "NaN", "Inf", "1e", "0x10", "2026-13-01T00:00:00Z", "1_000", ".", "-", "."} {
		check("/query_range?"+query+"&start="+escape(value), "is no time")
		check("/query?"+metric+"&time="+escape(value), "is no time")
		check("/labels?end="+escape(value), "is no time")
	}
	for _, step := range []string{"0", "-1", "0s", "-5m"} {
		check("/query_range?"+metric+"&step="+step, "zero or negative query resolution step widths are not accepted")
	}
	check("/query_range?"+metric+"&step=x", "step")
	check("/query_range?"+metric+"&step=99999999999999", "too long")
	check("/query_range?"+metric+"&step=1ns", "exceeded maximum resolution of 11000 points")
	check("/query_range?"+metric+"&start=1700000000&end=1700011001&step=1", "exceeded maximum resolution of 11000 points")
	f.want(f.do("GET", lokiPrefix+"/query_range?"+metric+"&start=1700000000&end=1700011000&step=1", ""), 200)
	f.want(f.do("GET", lokiPrefix+"/query_range?"+metric+"&start=0&end=3155760000", ""), 200)
	check("/query_range?"+query+"&since=-1h", "must be positive")
	check("/query_range?"+query+"&since=x", "since")
	check("/query_range?"+query+"&interval=5s", "interval")
	check("/query_range?"+query+"&strict=x", "strict")
	f.want(f.do("GET", lokiPrefix+"/query_range?"+query+"&start=-9223372036854775808&end=9223372036854775807", ""), 200, "five")
	f.want(f.do("POST", lokiPrefix+"/query_range", strings.Repeat("x", 2<<20), formType), 413, "1048576")
}

func TestLokiAnswerIsBounded(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Query.MaxAnswer = 1000 })
	for i := range 10 {
		f.put(baseTime+int64(i), strings.Repeat("x", 150), `{a="b"}`)
	}
	target := rangeURL + "?query=" + escape(`{a="b"}`) + "&start=1700000000&end=1700000001"
	f.want(f.do("GET", target, ""), 400, "larger than the limit of 1000 bytes")
	f.want(f.do("GET", target+"&limit=5", ""), 200)
}

func TestQ1LokiDamage(t *testing.T) {
	f := filled(t)
	f.node.damage = []error{errBroken, errors.New("shard 2\nis gone")}
	target := lokiPrefix + "/query_range?query=" + escape(`{app="db"}`) + "&start=1700000000&end=1700000003"
	f.is(f.do("GET", target, ""), 200, `{"status":"success","warnings":["block 7 of segment x is damaged","shard 2\nis gone"],"data":{"resultType":"streams","result":[`+
		`{"stream":{"app":"db","trace":"t1"},"values":[["1700000001000000000","four`+"\uFFFD\uFFFD"+`"]]}],"stats":{}}}`+"\n")
	f.want(f.do("GET", target+"&strict=true", ""), 500, "block 7")
	f.node.damage = nil
	f.node.endWith = errBroken
	f.want(f.do("GET", target, ""), 500, "block 7")
	f.node.endWith = retryError{time.Second}
	if w := f.do("GET", target, ""); w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("status %d, header %v", w.Code, w.Header())
	}
}

func TestQueryTimeout(t *testing.T) {
	f := filled(t, func(o *Options) { o.Timeouts.Query = 20 * time.Millisecond })
	f.node.onNext = func(int) { time.Sleep(40 * time.Millisecond) }
	f.want(f.do("GET", rangeURL+"?query="+escape(`{app="web"}`)+"&start=0", ""), 504, "not done in time")
	f.want(f.do("GET", "/query?query="+escape(`{app="web"}`), ""), 504, "longer than the limit of 20ms")
}

func TestQueryConcurrency(t *testing.T) {
	f := filled(t, func(o *Options) {
		o.Query.Concurrent = 2
		o.Timeouts.Queue = 20 * time.Millisecond
	})
	enter, leave := make(chan struct{}, 2), make(chan struct{})
	f.node.onNext = func(i int) {
		if i == 0 {
			enter <- struct{}{}
			<-leave
		}
	}
	targets := []string{rangeURL + "?start=0&query=" + escape(`{app="web"}`), "/query?query=" + escape(`{app="web"}`)}
	var wg sync.WaitGroup
	for _, target := range targets {
		wg.Go(func() { f.want(f.do("GET", target, ""), 200, "five") })
		<-enter
	}
	for _, target := range append(targets, lokiPrefix+"/labels", lokiPrefix+"/series", lokiPrefix+"/query?query=1") {
		w := f.do("GET", target, "")
		f.want(w, 503, "2 queries are running")
		if w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", target)
		}
	}
	close(leave)
	wg.Wait()
	for _, target := range targets {
		f.want(f.do("GET", target, ""), 200, "five")
	}
}

// A client that hangs up is nothing to tell an operator of.
func TestQueryHangUp(t *testing.T) {
	f := filled(t)
	ctx, cancel := context.WithCancel(t.Context())
	f.node.onNext = func(int) { cancel() }
	r, err := http.NewRequestWithContext(ctx, "GET", rangeURL+"?start=0&query="+escape(`{app="web"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := recorder()
	f.ServeHTTP(w, r)
	if w.Code != statusClientClosed {
		t.Errorf("status %d", w.Code)
	}
	for _, e := range f.logs.All() {
		if e.Level > -1 {
			t.Errorf("logged %s at %s", e.Message, e.Level)
		}
	}
}

func TestAppendString(t *testing.T) {
	check := func(s string) {
		t.Helper()
		got := appendString(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Fatalf("%q: %s: %v", s, got, err)
		}
		want, _ := json.Marshal(s)
		var valid string
		_ = json.Unmarshal(want, &valid)
		if back != valid {
			t.Errorf("%q: %q, want %q", s, back, valid)
		}
		if bytes := appendString(nil, []byte(s)); string(bytes) != string(got) {
			t.Errorf("%q: bytes %s, string %s", s, bytes, got)
		}
	}
	for c := range 256 {
		check("a" + string([]byte{byte(c)}) + "b")
		check(string([]byte{byte(c)}))
	}
	check("é€😀\u2028\u202e\ufffd")
	check("\xe2\x82")
	check("\xed\xa0\x80")
	check("\xf4\x90\x80\x80")
	check("\xf0\x9f\x98x")
}

func TestAppendPoint(t *testing.T) {
	check := func(ns int64, value float64, want string) {
		t.Helper()
		if got := string(appendPoint(nil, ns, value)); got != want {
			t.Errorf("%d %g: %s, want %s", ns, value, got, want)
		}
	}
	check(0, 0, `[0,"0"]`)
	check(second, 1, `[1,"1"]`)
	check(second+1_000_000, 0.1, `[1.001,"0.1"]`)
	check(second+999_999_999, 1e-7, `[1.999,"0.0000001"]`)
	check(second/2, 1e21, `[0.500,"1000000000000000000000"]`)
	check(-second, -1.5, `[-1,"-1.5"]`)
	check(-1, math.Inf(-1), `[-0.001,"-Inf"]`)
	check(-1500_000_000, math.NaN(), `[-1.500,"NaN"]`)
	check(math.MaxInt64, math.MaxInt64, `[9223372036.854,"9223372036854776000"]`)
}

func TestMergeLabelsDoesNotShare(t *testing.T) {
	set := segment.NewLabels([]segment.Label{{Name: "a", Value: "1"}, {Name: "b", Value: "2"}})
	got := mergeLabels(set, segment.Labels{{Name: "a", Value: "x"}, {Name: "aa", Value: "y"}}, nil)
	if got.String() != `{a="1", a_extracted="x", aa="y", b="2"}` || set.String() != `{a="1", b="2"}` {
		t.Errorf("%s of %s", got, set)
	}
}

// Labels that a query's parsers found are labels of the stream, or beside the line.
func TestParsedLabels(t *testing.T) {
	stream := segment.NewStream("default", segment.LabelsFromMap(map[string]string{"app": "a"}))
	entry := func(ts int64, status string) *segment.Entry {
		return &segment.Entry{Timestamp: ts, Stream: stream, Line: []byte("x"), Metadata: segment.Labels{{Name: "trace", Value: "t"}}, Parsed: segment.Labels{{Name: "status", Value: status}}}
	}
	check := func(categorize bool, want string) {
		t.Helper()
		g := newLokiStreams(categorize, 1<<20, nil)
		for i, status := range []string{"200", "500", "200"} {
			if err := g.add(entry(int64(i), status)); err != nil {
				t.Fatal(err)
			}
		}
		if got := string(g.appendTo(nil)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	check(false, `[{"stream":{"app":"a","status":"200","trace":"t"},"values":[["0","x"],["2","x"]]},{"stream":{"app":"a","status":"500","trace":"t"},"values":[["1","x"]]}]`)
	check(true, `[{"stream":{"app":"a"},"values":[["0","x",{"structuredMetadata":{"trace":"t"},"parsed":{"status":"200"}}],["1","x",{"structuredMetadata":{"trace":"t"},"parsed":{"status":"500"}}],["2","x",{"structuredMetadata":{"trace":"t"},"parsed":{"status":"200"}}]]}]`)
}
