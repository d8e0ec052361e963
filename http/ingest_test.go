package http

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/logcluster/logcluster/segment"
)

const ndjson = "Content-Type: application/x-ndjson"

func TestIngestText(t *testing.T) {
	check := func(body string, lines ...string) {
		t.Helper()
		f := newFixture(t)
		before := time.Now().UnixNano()
		f.is(f.do("POST", "/ingest?app=web&host=a", body), 200, fmt.Sprintf(`{"accepted":%d,"rejected":0,"duplicate":false}`+"\n", len(lines)))
		f.stored(lines...)
		first := f.entry(0)
		for i := range lines {
			if e := f.entry(i); e.Timestamp != first.Timestamp || e.Timestamp < before || e.Timestamp > time.Now().UnixNano() {
				t.Errorf("entry %d has time %d", i, e.Timestamp)
			}
		}
		if got := first.Stream.Labels.String(); got != `{app="web", host="a"}` || first.Stream.Tenant != "default" {
			t.Errorf("stream %s of %s", got, first.Stream.Tenant)
		}
	}
	check("hello", "hello")
	check("hello\n", "hello")
	check("a\nb", "a", "b")
	check("\n", "")
	check("a\n\n\nb\n", "a", "", "", "b")
	check("a\r\nb\r\n", "a\r", "b\r")
	check("nul \x00, not UTF-8 \xff\xfe, \x1b[31m and \u202e\n\x80", "nul \x00, not UTF-8 \xff\xfe, \x1b[31m and \u202e", "\x80")
	check("\xef\xbb\xbfa", "\xef\xbb\xbfa")
	check(`{"msg":"this is text"}`, `{"msg":"this is text"}`)
}

func TestIngestParameters(t *testing.T) {
	check := func(query, contentType, body, labels string) {
		t.Helper()
		f := newFixture(t)
		f.want(f.do("POST", "/ingest"+query, body, "Content-Type: "+contentType), 200)
		if got := f.entry(0).Stream.Labels.String(); got != labels {
			t.Errorf("%s: labels %s, want %s", query, got, labels)
		}
	}
	check("", "text/plain", "x", `{source="ingest"}`)
	check("", "application/x-www-form-urlencoded", "x", `{source="ingest"}`)
	check("", "application/json", `{"a":1}`, `{source="ingest"}`)
	check("?app=a%20b%22", "text/plain", "x", `{app="a b\""}`)
	check("?app=x&_format=ndjson&_labels=level", "text/plain", `{"level":"info"}`, `{app="x", level="info"}`)
	check("?_labels=level", ndjson[14:], `{"level":"info"}`, `{level="info"}`)
	check("?_labels=level", ndjson[14:], `{"levels":"info"}`, `{source="ingest"}`)
	check("?level=none&_labels=level", ndjson[14:], `{"level":"info"}`, `{level="info"}`)
	check("?level=none&_labels=level", ndjson[14:], `{"level":null}`, `{level="none"}`)
	check("?_labels=k8s.pod,9n,n", ndjson[14:], `{"k8s.pod":"p","9n":true,"n":1.50}`, `{_9n="true", k8s_pod="p", n="1.50"}`)
	check("?_labels=o", ndjson[14:], `{"o": {"a" : [1, 2]}}`, `{o="{\"a\":[1,2]}"}`)
	check("?_labels=e", ndjson[14:], `{"e":"a\"\u00e9\n"}`, `{e="a\"é\n"}`)

	bad := func(query string, texts ...string) {
		t.Helper()
		f := newFixture(t)
		w := f.do("POST", "/ingest"+query, "x")
		f.want(w, 400, append(texts, `"accepted":0`, `"error":`)...)
		f.stored()
	}
	bad("?app=a&app=b", `\"app\" is given 2 times`)
	bad("?app=", "no value")
	bad("?1a=x", "label name")
	bad("?a-b=x", "label name")
	bad("?=x", "label name")
	bad("?a=%ff", "not valid UTF-8")
	bad("?a=%zz", "cannot read the parameters")
	bad("?_foo=x", "unknown parameter", "_time, _msg, _labels and _format")
	bad("?_format=xml", "text, ndjson or json")
	bad("?a="+strings.Repeat("x", 4097), "4097 bytes, the limit is 4096")
	bad("?"+strings.Repeat("x", 1025)+"=x", "1025 bytes, the limit is 1024")
	many := make([]string, 65)
	for i := range many {
		many[i] = fmt.Sprintf("l%d=x", i)
	}
	bad("?"+strings.Join(many, "&"), "65 labels, the limit is 64")
	newFixture(t).want(newFixture(t).do("POST", "/ingest?nul=%00&nl=%0a&rtl=%e2%80%ae", "x"), 200)
}

func TestIngestTenant(t *testing.T) {
	f := newFixture(t)
	f.want(f.do("POST", "/ingest", "x", "X-Scope-OrgID: team-a_1.b"), 200)
	if got := f.entry(0).Stream.Tenant; got != "team-a_1.b" {
		t.Errorf("tenant %q", got)
	}
	bad := func(headers ...string) {
		t.Helper()
		f := newFixture(t)
		f.want(f.do("POST", "/ingest", "x", headers...), 400, "X-Scope-OrgID")
		f.want(f.do("POST", "/loki/api/v1/push", `{}`, append(headers, "Content-Type: application/json")...), 400, "X-Scope-OrgID")
		for _, path := range []string{"/query?query={a=%22b%22}", "/loki/api/v1/query_range?query={a=%22b%22}", "/loki/api/v1/labels", "/loki/api/v1/series", "/loki/api/v1/label/a/values"} {
			f.want(f.do("GET", path, "", headers...), 400, "X-Scope-OrgID")
		}
	}
	bad("X-Scope-OrgID: a|b")
	bad("X-Scope-OrgID: ")
	bad("X-Scope-OrgID: ../x")
	bad("X-Scope-OrgID: ..")
	bad("X-Scope-OrgID: аbc") // A Cyrillic a.
	bad("X-Scope-OrgID: " + strings.Repeat("a", 10_000))
	bad("X-Scope-OrgID: a", "X-Scope-OrgID: a")
}

func TestIngestObjects(t *testing.T) {
	const second = 1_700_000_000_000_000_000
	check := func(query, object string, ts int64, line, metadata string) {
		t.Helper()
		for _, contentType := range []string{ndjson, "Content-Type: application/json; charset=utf-8"} {
			f := newFixture(t)
			f.want(f.do("POST", "/ingest"+query, object, contentType), 200, `"accepted":1,"rejected":0`)
			e := f.entry(0)
			if ts != 0 && e.Timestamp != ts {
				t.Errorf("%s: time %d, want %d", object, e.Timestamp, ts)
			}
			if ts == 0 && time.Since(time.Unix(0, e.Timestamp)) > time.Minute {
				t.Errorf("%s: time %d, want now", object, e.Timestamp)
			}
			if string(e.Line) != line {
				t.Errorf("%s: line %q, want %q", object, e.Line, line)
			}
			if got := e.Metadata.String(); got != metadata {
				t.Errorf("%s: metadata %s, want %s", object, got, metadata)
			}
		}
	}
	check("", `{"msg":"hello","level":"info"}`, 0, "hello", `{level="info"}`)
	check("", `  {"msg":"hello"}  `+"\r", 0, "hello", `{}`)
	check("", `{"time":"2023-11-14T22:13:20Z","message":"m","msg":"n"}`, second, "m", `{msg="n"}`)
	check("", `{"_time":"2023-11-14T23:13:20.123456789+01:00","_msg":"m"}`, second+123456789, "m", `{}`)
	check("", `{"@timestamp":1700000000,"log":"m\n"}`, second, "m\n", `{}`)
	check("", `{"ts":1700000000.5,"line":"m"}`, second+500_000_000, "m", `{}`)
	check("", `{"ts":1700000000123,"line":"m"}`, second+123_000_000, "m", `{}`)
	check("", `{"ts":1700000000123456,"line":"m"}`, second+123_456_000, "m", `{}`)
	check("", `{"ts":1700000000123456789,"line":"m"}`, second+123_456_789, "m", `{}`)
	check("", `{"ts":"1700000000123456789","line":"m"}`, second+123_456_789, "m", `{}`)
	check("", `{"ts":1.7e9,"line":"m"}`, second, "m", `{}`)
	check("", `{"ts":"2023-11-14 22:13:20.5Z","line":"m"}`, second+500_000_000, "m", `{}`)
	check("", `{"time":null,"ts":1700000000,"line":"m"}`, second, "m", `{}`)
	check("", `{"ts":-1,"line":"m"}`, -1_000_000_000, "m", `{}`)
	check("?_time=when", `{"ts":1,"when":1700000000,"line":"m"}`, second, "m", `{ts="1"}`)
	check("?_time=a,b", `{"b":1700000000,"line":"m"}`, second, "m", `{}`)
	check("?_time=", `{"ts":1,"line":"m"}`, 0, "m", `{ts="1"}`)
	// Without a message the object is the line, byte for byte.
	check("", `{ "ts" : 1700000000, "a": [1, {"b": null}] }`, second, `{ "ts" : 1700000000, "a": [1, {"b": null}] }`, `{}`)
	check("?_msg=", `{"msg":"m\u0041"}`, 0, `{"msg":"m\u0041"}`, `{}`)
	check("?_msg=text", `{"msg":"m","text":"t"}`, 0, "t", `{msg="m"}`)
	check("", `{}`, 0, `{}`, `{}`)
	check("", `{"msg":null,"a":1}`, 0, `{"msg":null,"a":1}`, `{}`)
	check("", `{"msg":""}`, 0, ``, `{}`)
	check("", `{"msg":12.50}`, 0, `12.50`, `{}`)
	check("", `{"msg":{"a": 1}}`, 0, `{"a": 1}`, `{}`)
	// Metadata.
	check("", `{"msg":"m","n":-1.5e3,"t":true,"f":false,"z":null,"o":{"k" : [1, "a b"]},"e":"","s":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`, 0, "m",
		`{f="false", n="-1.5e3", o="{\"k\":[1,\"a b\"]}", s="\"\\/\b\f\n\r\té😀", t="true"}`)
	check("", `{"msg":"m","user.id":"1","k8s-pod":"2","9x":"3","\u0061\u0062":"4","ü":"5"}`, 0, "m", `{_9x="3", __="5", ab="4", k8s_pod="2", user_id="1"}`)
	// Of equal names the last counts.
	check("", `{"msg":"m","msg":"n","a":"1","a":"2","ts":1,"ts":1700000000}`, second, "n", `{a="2"}`)
	check("", `{"\u006dsg":"m"}`, 0, "m", `{}`)
	// Strings are not made valid, lone surrogates cannot be kept.
	check("", "{\"msg\":\"\xff\\ud800x\\udc00\"}", 0, "\xff\ufffdx\ufffd", `{}`)
	check("", `{"msg":"nul \u0000"}`, 0, "nul \x00", `{}`)
}

func TestIngestDocument(t *testing.T) {
	check := func(body string, code int, texts []string, lines ...string) {
		t.Helper()
		f := newFixture(t)
		f.want(f.do("POST", "/ingest", body, "Content-Type: application/json"), code, texts...)
		f.stored(lines...)
	}
	check(`[{"msg":"a"}, {"msg":"b"}]`, 200, nil, "a", "b")
	check("\xef\xbb\xbf[\n {\"msg\":\"a\"}\n]\n", 200, nil, "a")
	check("{\n  \"msg\": \"a\"\n}\n{\n  \"msg\": \"b\"\n}", 200, nil, "a", "b")
	check(`{"msg":"a"}{"msg":"b"} {"msg":"c"}`, 200, nil, "a", "b", "c")
	check("{\"msg\":\"a\"}\n{\"msg\":\"b\"}\n", 200, nil, "a", "b")
	check("{\n \"x\": 1\n}", 200, nil, "{\n \"x\": 1\n}")
	// A bad object takes none with it.
	check("{\"msg\":\"a\"}\n{\"msg\":b}\n{\"msg\":\"c\"}\n", 400, []string{`"accepted":2,"rejected":1`, `"line":2`}, "a", "c")
	check("{\n\"msg\": \"a\n}\n{\"msg\":\"c\"}\n", 400, []string{`"accepted":1,"rejected":1`, `"line":1`}, "c")
	check(`[{"msg":"a"}, 7, {"msg":"b"}]`, 400, []string{`"accepted":1,"rejected":1`, "element 2", "what follows was not read"}, "a")
	check(`[{"msg":"a"},{"msg":"b","ts":"x"},{"msg":"c"}]`, 400, []string{`"accepted":2,"rejected":1`, "element 2"}, "a", "c")
	check(`[{"msg":"a"}`, 400, []string{`"accepted":1,"rejected":1`}, "a")
	check(`[{"msg":"a"}] x`, 400, []string{`"accepted":1,"rejected":1`, "end of the body"}, "a")
	// Text is not read again and again.
	check("{\"msg\":\"a\"}"+strings.Repeat("\n{\"a\":", 300_000), 400, []string{`"accepted":1,"rejected":`, `"line":2,"reason":"JSON nested deeper`, "what follows was not read", `"rejected":12110,`}, "a")
	check(`[]`, 400, []string{"nothing to store"})
	check(`[`, 400, []string{`"rejected":1`})
	check(`[,]`, 400, []string{`"rejected":1`})
	check(`[{"msg":"a"},]`, 400, []string{`"accepted":1,"rejected":1`}, "a")
	check(`null`, 400, []string{`"rejected":1`})
	check(``, 400, []string{"nothing to store"})
	check(" \n ", 400, []string{"nothing to store"})
}

func TestIngestRefusals(t *testing.T) {
	small := func(o *Options) {
		o.Ingest.MaxLine = 10
		o.Ingest.MaxMetadata = 100
		o.Ingest.MaxMetadataPairs = 3
		o.Retention = time.Hour
	}
	now := time.Now()
	at := func(d time.Duration) string { return now.Add(d).UTC().Format(time.RFC3339Nano) }
	check := func(bad, why string) {
		t.Helper()
		f := newFixture(t, small)
		body := `{"msg":"good 1"}` + "\n" + bad + "\n\n" + `{"msg":"good 2"}`
		f.want(f.do("POST", "/ingest?_labels=l", body, ndjson), 400, `"accepted":2,"rejected":1`, `"line":2`, why)
		f.stored("good 1", "good 2")
	}
	check(`{"msg":"01234567890"}`, "11 bytes, the limit is 10")
	check(`{"no":"message"}`, "16 bytes, the limit is 10")
	check(`{"msg":"m","ts":"`+at(11*time.Minute)+`"}`, "ahead of this node's clock")
	check(`{"msg":"m","ts":"`+at(-61*time.Minute)+`"}`, "older than the retention of 1h0m0s")
	check(`{"msg":"m","ts":"yesterday"}`, `\"yesterday\"`)
	check(`{"msg":"m","ts":true}`, "a time is RFC 3339")
	check(`{"msg":"m","ts":[1700000000]}`, "a time is RFC 3339")
	check(`{"msg":"m","ts":1e400}`, "a time is RFC 3339")
	check(`{"msg":"m","ts":"9223372036854775808"}`, "a time is RFC 3339")
	check(`{"msg":"m","ts":9223372036854775807}`, "ahead")
	check(`{"msg":"m","ts":99999999999}`, "a time is RFC 3339")
	check(`{"msg":"m","ts":"9999-12-31T00:00:00Z"}`, "a time is RFC 3339")
	check(`{"msg":"m","ts":0}`, "older")
	check(`{"msg":"m","ts":-5}`, "older")
	check(`{"msg":"m","a":1,"b":2,"c":3,"d":4}`, "4 pairs of structured metadata, the limit is 3")
	check(`{"msg":"m","a":"`+strings.Repeat("x", 100)+`"}`, "101 bytes of structured metadata, the limit is 100")
	check(`{"msg":"m","":"x"}`, "empty name")
	check(`{"msg":"m","l":"`+strings.Repeat("x", 5000)+`"}`, "5000 bytes, the limit is 4096")
	check("{\"msg\":\"m\",\"l\":\"\xff\"}", "not valid UTF-8")
	check(`{"msg":"m"`, "the JSON ends where")
	check(`{"msg":"m"} x`, "end of the line")
	check(`{"msg":"m"}{"msg":"m"}`, "end of the line")
	check(`[{"msg":"m"}]`, "an object")
	check(`"m"`, "an object")
	check(`12`, "an object")
	check(`nope`, "an object")
	check(`{"msg":NaN}`, "a value")
	check(`{"msg":Infinity}`, "a value")
	check(`{"msg":01}`, "malformed number")
	check(`{"msg":1.}`, "malformed number")
	check(`{"msg":1e}`, "malformed number")
	check(`{"msg":-}`, "malformed number")
	check(`{"msg":'m'}`, "a value")
	check(`{msg:"m"}`, "a name in double quotes")
	check(`{"msg" "m"}`, "after a name")
	check(`{"msg":"m",}`, "after the comma")
	check("{\"msg\":\"a\tb\"}", "must be escaped")
	check(`{"msg":"\x41"}`, "malformed escape")
	check(`{"msg":"\u12g4"}`, "malformed escape")
	check(`{"msg":"\u12`, "malformed escape")
	check(`{"msg":"m`, "within a string")
	check(`{"msg":"m\`, "within a string")
	check(`{"a":`+strings.Repeat("[", 100_000)+`}`, "nested deeper than 100 levels")
	check(strings.Repeat(`{"a":`, 100_000), "nested deeper than 100 levels")
	fields := make([]string, 4097)
	for i := range fields {
		fields[i] = fmt.Sprintf(`"f%d":1`, i)
	}
	check(`{`+strings.Join(fields, ",")+`}`, "more than 4096 fields")

	// Plain text.
	f := newFixture(t, small)
	f.want(f.do("POST", "/ingest", "a\n0123456789\n01234567890\nb"), 400, `"accepted":3,"rejected":1`, `{"line":3,"reason":"the line has 11 bytes, the limit is 10"}`)
	f.stored("a", "0123456789", "b")
}

// Refused lines are rows of the batch, so that it is cut into parts as it would be if they
// were not refused.
func TestW5RefusedRowsStay(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Ingest.MaxLine = 3 })
	f.want(f.do("POST", "/ingest", "abc\nabcd\nab", "Idempotency-Key: k"), 400)
	rows := f.node.batches[0].Rows
	if len(rows) != 3 || rows[0].Refused || !rows[1].Refused || string(rows[1].Line) != "abcd" || rows[2].Refused {
		t.Errorf("rows %+v", rows)
	}
}

func TestIngestManyErrors(t *testing.T) {
	f := newFixture(t)
	w := f.do("POST", "/ingest", strings.Repeat("x\n", 250), ndjson)
	f.want(w, 400)
	var answer ingestAnswer
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatal(err)
	}
	if answer.Accepted != 0 || answer.Rejected != 250 || len(answer.Errors) != 100 || answer.Omitted != 150 || answer.Errors[99].Line != 100 {
		t.Errorf("answer %+v", answer)
	}
	if len(f.node.batches) != 0 {
		t.Error("appended an empty batch")
	}
	f.want(f.do("POST", "/ingest", ""), 400, "nothing to store")
}

func TestIngestLimits(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Ingest.MaxEntries = 300 })
	f.want(f.do("POST", "/ingest", strings.Repeat("\n", 300)), 200, `"accepted":300`)
	f.want(f.do("POST", "/ingest", strings.Repeat("\n", 301)), 413, "300 entries")

	f = newFixture(t, func(o *Options) { o.Ingest.MaxStreams = 2 })
	body := `{"l":"a"}` + "\n" + `{"l":"b"}` + "\n" + `{"l":"c"}` + "\n" + `{"l":"a"}`
	f.want(f.do("POST", "/ingest?_labels=l", body, ndjson), 400, `"accepted":3,"rejected":1`, "more than 2 streams")
	if got := f.node.batches[0]; len(got.Streams) != 2 || got.Rows[2].Stream != 0 || got.Rows[1].Stream != 1 {
		t.Errorf("batch %+v", got)
	}
}

func TestIdempotencyKey(t *testing.T) {
	f := newFixture(t)
	send := func(key, query, tenant, contentType, body string) segment.Key {
		t.Helper()
		headers := []string{"X-Scope-OrgID: " + tenant, "Content-Type: " + contentType}
		if key != "" {
			headers = append(headers, "Idempotency-Key: "+key)
		}
		f.want(f.do("POST", "/ingest"+query, body, headers...), 200)
		return f.node.batches[len(f.node.batches)-1].Key
	}
	if key := send("", "?a=b", "t", "text/plain", "x"); key != (segment.Key{}) {
		t.Error("a key without the header")
	}
	keys := []segment.Key{
		send("k", "?a=b", "t", "text/plain", "x"),
		send("k2", "?a=b", "t", "text/plain", "x"),
		send("k", "?a=c", "t", "text/plain", "x"),
		send("k", "?a=b", "u", "text/plain", "x"),
		send("k", "?a=b", "t", "application/json", "{}"),
	}
	for i, key := range keys {
		if key == (segment.Key{}) || slices.Index(keys, key) != i {
			t.Errorf("key %d is %x", i, key)
		}
	}
	if again := send("k", "?a=b", "t", "text/html", "other"); again != keys[0] {
		t.Error("the key depends on more than it should")
	}
	f.want(f.do("POST", "/ingest?a=b", "x", "X-Scope-OrgID: t", "Idempotency-Key: k"), 200, `{"accepted":1,"rejected":0,"duplicate":true}`)
	f.want(f.do("POST", "/ingest", "x", "Idempotency-Key: "), 400, "Idempotency-Key")
	f.want(f.do("POST", "/ingest", "x", "Idempotency-Key: a", "Idempotency-Key: b"), 400, "Idempotency-Key")
	f.want(f.do("POST", "/ingest", "x", "Idempotency-Key: "+strings.Repeat("k", 1025)), 400, "Idempotency-Key")
}
