package http

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

func TestAdmin(t *testing.T) {
	f := newFixture(t)
	f.is(f.do("POST", "/admin/seal", ""), 200, `{"shards":2,"segments":2,"entries":10,"raw_bytes":100,"file_bytes":30}`+"\n")
	if f.node.sealed != 1 {
		t.Error("not sealed")
	}
	f.want(f.do("GET", "/admin/seal", ""), 405)
	f.is(f.do("GET", "/status", ""), 200, `{"name":"a","version":"1","cluster":"c1","ready":true,"uptime_seconds":1.5,"disk":{"free_bytes":1,"total_bytes":2},`+
		`"shards":[{"shard":3,"health":"ok","owner":"a","epoch":4,"replicas":["a"],"first_index":0,"last_index":0,"commit":0,"next_offset":0,"tail_bytes":0,"open_blocks":0,"sealed_segments":0,"sealed_bytes":0,"raw_bytes":0}]}`+"\n")
	f.is(f.do("GET", "/ready", ""), 200, "ready\n")
	f.is(f.do("GET", "/livez", ""), 200, "ok\n")
	f.want(f.do("HEAD", "/ready", ""), 200)
	f.want(f.do("GET", lokiPrefix+"/status/buildinfo", ""), 200, `"version":"3.5.0"`, `"revision":"abc"`, "goVersion")
	f.want(f.do("GET", "/", ""), 200, "curl", "/ingest?app=web", "/query", "/loki/api/v1/push", "http://example.com/", "logcluster 0.1")
	f.want(f.do("HEAD", "/", ""), 200)
}

func TestIndexHost(t *testing.T) {
	f := newFixture(t)
	check := func(host, shown string) {
		t.Helper()
		w := recorder()
		r := request("GET", "/")
		r.Host = host
		f.ServeHTTP(w, r)
		f.want(w, 200, "http://"+shown+"/query")
	}
	check("node-1.example:3100", "node-1.example:3100")
	check("[::1]:3100", "[::1]:3100")
	check("a'; rm -rf ~; echo '", "localhost:3100")
	check("", "localhost:3100")
}

// Without a node, everything that needs one says so, and the rest works.
func TestNotReady(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Node = Node{} })
	for _, r := range f.table() {
		if !r.node {
			continue
		}
		w := f.do(r.methods[0], strings.Replace(r.name, "{name}", "app", 1), "")
		f.want(w, 503, "the node is starting")
		if w.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: no Retry-After", r.name)
		}
	}
	f.want(f.do("GET", "/ready", ""), 503, "the node is starting")
	f.want(f.do("GET", "/livez", ""), 200)
	f.want(f.do("GET", "/metrics", ""), 200)
	f.want(f.do("GET", "/log_level", ""), 200)
	f.want(f.do("GET", "/", ""), 200)
	f.SetNode(f.plugged())
	f.want(f.do("GET", "/ready", ""), 200)
	f.want(f.do("POST", "/ingest", "x"), 200)
	f.node.notReady = errors.New("shard 3 is being recovered")
	w := f.do("GET", "/ready", "")
	f.want(w, 503, "shard 3 is being recovered")
	if w.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	f.SetNode(Node{})
	f.want(f.do("POST", "/ingest", "x"), 503)
}

func TestLogLevel(t *testing.T) {
	level := zap.NewAtomicLevelAt(zapcore.InfoLevel)
	f := newFixture(t, func(o *Options) { o.Level = level })
	f.is(f.do("GET", "/log_level", ""), 200, `{"level":"info"}`+"\n")
	set := func(method, target, body, want string, headers ...string) {
		t.Helper()
		level.SetLevel(zapcore.InfoLevel)
		f.is(f.do(method, target, body, headers...), 200, `{"level":"`+want+`"}`+"\n")
		if got := level.Level().String(); got != want {
			t.Errorf("level %s, want %s", got, want)
		}
	}
	set("PUT", "/log_level", `{"level":"debug"}`, "debug")
	set("PUT", "/log_level", `{"level":"debug"}`, "debug", formType)
	set("POST", "/log_level", "warn\n", "warn", formType)
	set("PUT", "/log_level", "ERROR", "error")
	set("POST", "/log_level", "log_level=fatal", "fatal", formType)
	set("PUT", "/log_level?log_level=debug", "", "debug")
	set("PUT", "/log_level?log_level=info", "", "info")
	bad := func(target, body string, code int) {
		t.Helper()
		level.SetLevel(zapcore.InfoLevel)
		f.want(f.do("PUT", target, body), code)
		if level.Level() != zapcore.InfoLevel {
			t.Error("the level changed")
		}
	}
	bad("/log_level", "", 400)
	bad("/log_level", "panic", 400)
	bad("/log_level", "dpanic", 400)
	bad("/log_level", `{"level":1}`, 400)
	bad("/log_level", `{`, 400)
	bad("/log_level?log_level=x", "debug", 400)
	bad("/log_level", strings.Repeat("x", 10_000), 413)
	f.want(f.do("PUT", "/log_level", "loud"), 400, `unknown level "loud": the levels are debug, info, warn, error and fatal`)
	f.want(f.do("DELETE", "/log_level", ""), 405)
}

func TestUnknownPaths(t *testing.T) {
	f := newFixture(t)
	check := func(path string, texts ...string) {
		t.Helper()
		f.want(f.do("GET", path, ""), 404, append(texts, "there is no", "GET / lists what there is")...)
	}
	check("/injest", "did you mean /ingest?")
	check("/api/v1/push", "did you mean /loki/api/v1/push?")
	check("/query_range", "/loki/api/v1/query_range")
	check("/loki/api/v1/lables", " or /loki/api/v1/labels")
	check("/readyz", "/ready")
	check("/metric", "/metrics")
	check("/loki/api/v1/label/a/b/values")
	check("/loki/api/v1/label//values")
	check("/../etc/passwd")
	check("/%2e%2e/%2e%2e/etc/passwd")
	check("//ingest", "/ingest")
	check("/"+strings.Repeat("x", 10_000), "…")
	check("/a\x00b%00\u202e"[:2])
	w := f.do("GET", "/%00%1b[31m", "")
	f.want(w, 404, `"/\x00\x1b[31m"`)
	f.want(f.do("GET", "/loki/api/v1/tail", ""), 404)
}

func TestMethods(t *testing.T) {
	f := newFixture(t)
	check := func(method, path, allow string) {
		t.Helper()
		w := f.do(method, path, "")
		f.want(w, 405, path)
		if got := w.Header().Get("Allow"); got != allow {
			t.Errorf("%s %s: Allow %q, want %q", method, path, got, allow)
		}
	}
	check("GET", "/ingest", "POST")
	check("HEAD", "/query", "GET, POST")
	check("PUT", "/loki/api/v1/push", "POST")
	check("DELETE", "/query", "GET, POST")
	check("OPTIONS", "/ready", "GET")
	check("PATCH", "/log_level", "GET, PUT, POST")
	check("POST", "/", "GET")
}

// Every route is described on the page that teaches them.
func TestRoutesAreNamed(t *testing.T) {
	f := newFixture(t)
	page := f.do("GET", "/", "").Body.String()
	for _, r := range f.table() {
		if !strings.HasPrefix(r.name, lokiPrefix) && !strings.Contains(page, r.name) {
			t.Errorf("%s is not on the page", r.name)
		}
	}
}

func TestCrossOrigin(t *testing.T) {
	f := newFixture(t)
	f.want(f.do("POST", "/admin/seal", "", "Sec-Fetch-Site: cross-site"), 403, "another origin")
	f.want(f.do("POST", "/ingest", "x", "Origin: http://evil.example"), 403, "another origin")
	f.want(f.do("PUT", "/log_level", "debug", "Origin: null"), 403, "another origin")
	f.want(f.do("POST", "/ingest", "x", "Origin: http://example.com"), 200)
	f.want(f.do("POST", "/ingest", "x", "Sec-Fetch-Site: same-origin"), 200)
	f.stored("x", "x")
}

func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	f := newFixture(t, func(o *Options) { o.Registerer, o.Gatherer, o.Ingest.MaxLine = reg, reg, 5 })
	f.do("POST", "/ingest", "one\ntwo\ntoo long\n")
	f.do("POST", "/ingest", "{}\n{", ndjson)
	f.do("POST", pushPath, snap(protoStream(`{a="b"}`, protoEntry(1, 2, "abc")), protoStream(`{`, protoEntry(1, 2, "x"), protoEntry(1, 2, "longer than five"))))
	f.do("GET", "/nowhere", "")
	f.do("GET", "/ready", "")
	check := func(name, want string) {
		t.Helper()
		var got strings.Builder
		for line := range strings.Lines(f.do("GET", "/metrics", "").Body.String()) {
			if strings.HasPrefix(line, name) {
				got.WriteString(line)
			}
		}
		if got.String() != want {
			t.Errorf("got %s want %s", got.String(), want)
		}
	}
	check("logcluster_http_requests_total", `logcluster_http_requests_total{code="200",route="/ready"} 1
logcluster_http_requests_total{code="400",route="/ingest"} 2
logcluster_http_requests_total{code="400",route="/loki/api/v1/push"} 1
logcluster_http_requests_total{code="404",route="unknown"} 1
`)
	check("logcluster_ingest_lines_total", `logcluster_ingest_lines_total{protocol="loki_protobuf"} 1
logcluster_ingest_lines_total{protocol="ndjson"} 1
logcluster_ingest_lines_total{protocol="text"} 2
`)
	check("logcluster_ingest_bytes_total", `logcluster_ingest_bytes_total{protocol="loki_protobuf"} 3
logcluster_ingest_bytes_total{protocol="ndjson"} 2
logcluster_ingest_bytes_total{protocol="text"} 6
`)
	check("logcluster_rejected_lines_total", `logcluster_rejected_lines_total{reason="bad_labels"} 2
logcluster_rejected_lines_total{reason="bad_metadata"} 0
logcluster_rejected_lines_total{reason="bad_syntax"} 1
logcluster_rejected_lines_total{reason="bad_time"} 0
logcluster_rejected_lines_total{reason="line_too_long"} 1
logcluster_rejected_lines_total{reason="too_far_in_future"} 0
logcluster_rejected_lines_total{reason="too_many_streams"} 0
logcluster_rejected_lines_total{reason="too_old"} 0
`)
	check("logcluster_ingest_in_flight_bytes", "logcluster_ingest_in_flight_bytes 0\n")
	f.want(f.do("GET", "/metrics", ""), 200, `logcluster_http_request_duration_seconds_count{route="/ingest"} 2`)
	if _, err := newMetrics(reg); err == nil {
		t.Error("registered twice")
	}
}

func TestOptions(t *testing.T) {
	o := Options{Retention: -1, Query: QueryLimits{Concurrent: -2}, Timeouts: Timeouts{Drain: -time.Second}}
	_, err := Open(t.Context(), o)
	if err == nil {
		t.Fatal("opened")
	}
	for _, text := range []string{"retention is -1", "query.concurrent is -2", "timeouts.drain"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v lacks %q", err, text)
		}
	}
	if _, err := Open(t.Context(), Options{Listen: "nonsense"}); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("error %v", err)
	}
}

// bare is an Admin that has nothing to tell.
type bare struct{ *fakeNode }

func (bare) Status(context.Context) (Status, error) { return Status{}, nil }

// Lists are never null.
func TestStatusWithoutShards(t *testing.T) {
	f := newFixture(t)
	n := f.plugged()
	n.Admin = bare{f.node}
	f.SetNode(n)
	f.want(f.do("GET", "/status", ""), 200, `"shards":[]`)
}
