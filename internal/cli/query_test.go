package cli

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// serve starts a server with one handler for the test.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// hostile is a line that takes over a terminal which gets it as it is.
const hostile = "\x1b[31mred\x07 \u202eback\u009b2J tab\t \\ é 日本"

const answer = `{"time":"2026-01-02T03:04:05.000000006Z","labels":{"b":"x\u001b","a":"1"},"line":"\u001b[31mred\u0007 \u202eback\u009b2J tab\t \\ é 日本"}
{"time":"2026-01-02T03:04:05Z","labels":{"a":"1"},"line_base64":"/wB4Cg==","metadata":{"id":"7"}}
{"time":"2026-01-02T03:04:06.5Z","labels":{},"line":""}
`

func TestQueryOutput(t *testing.T) {
	f := func(terminal bool, env string, flags []string, want string) {
		t.Helper()
		var accept string
		u := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if accept = r.Header.Get("Accept"); accept == "text/plain" {
				io.WriteString(w, hostile+"\n\xff\x00x\n\n\n")
				return
			}
			io.WriteString(w, answer)
		})
		p := testProgram()
		p.env = parseEnvironment([]string{env})
		p.terminal = func(stream any) bool { return terminal && stream == p.stdout }
		r := p.invoke(t, append([]string{"query", "{}", "--url", u}, flags...)...)
		if r.code != 0 || r.stdout != want || r.stderr != "" {
			t.Errorf("terminal %t, %s, %q: exit %d, %s\n%q, want\n%q", terminal, env, flags, r.code, r.stderr, r.stdout, want)
		}
	}
	piped := `2026-01-02T03:04:05.000000006Z {a="1", b="x\x1b"} ` + hostile + "\n" +
		`2026-01-02T03:04:05.000000000Z {a="1" | id="7"} ` + "\xff\x00x\n\n" +
		"2026-01-02T03:04:06.500000000Z {} \n"
	escaped := `2026-01-02T03:04:05.000000006Z {a="1", b="x\x1b"} \x1b[31mred\x07 \u202eback\u009b2J tab` + "\t" + ` \ é 日本` + "\n" +
		`2026-01-02T03:04:05.000000000Z {a="1" | id="7"} \xff\x00x\n` + "\n" +
		"2026-01-02T03:04:06.500000000Z {} \n"
	f(false, "", nil, piped)
	f(true, "NO_COLOR=1", nil, escaped)
	f(true, "TERM=dumb", nil, escaped)
	coloured := strings.NewReplacer("2026", "\x1b[2m2026", "Z {", "Z\x1b[0m \x1b[36m{", "} ", "}\x1b[0m ").Replace(escaped)
	f(true, "TERM=xterm", nil, coloured)
	for _, terminal := range []bool{false, true} {
		f(terminal, "", []string{"--output", "jsonl"}, answer)
		f(terminal, "", []string{"-o", "raw"}, hostile+"\n\xff\x00x\n\n\n")
	}
}

func TestQueryMetrics(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"labels":{"a":"1"},"time":"2026-01-02T03:04:05Z","value":1234567.5}
{"labels":{},"values":[["2026-01-02T03:04:05Z",2],["2026-01-02T03:05:05Z","NaN"]]}
{"labels":{"b":"2"},"values":[]}
`)
	})
	r := testProgram().invoke(t, "query", "x", "--url", u)
	want := `2026-01-02T03:04:05.000000000Z {a="1"} 1234567.5
2026-01-02T03:04:05.000000000Z {} 2
2026-01-02T03:05:05.000000000Z {} NaN
`
	if r.code != 0 || r.stdout != want {
		t.Errorf("exit %d, %s%s, want\n%s", r.code, r.stderr, r.stdout, want)
	}
}

func TestQueryParameters(t *testing.T) {
	f := func(want map[string]string, env []string, flags ...string) {
		t.Helper()
		var got url.Values
		u := serve(t, func(_ http.ResponseWriter, r *http.Request) {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			got = r.Form
		})
		p := testProgram()
		p.env = parseEnvironment(env)
		r := p.invoke(t, append([]string{"query", "--url", u, "--", "{}"}, flags...)...)
		if len(flags) > 0 {
			r = p.invoke(t, append([]string{"query", "{}", "--url", u}, flags...)...)
		}
		if r.code != 0 {
			t.Errorf("%q: exit %d, %s", flags, r.code, r.stderr)
			return
		}
		for _, name := range []string{"query", "start", "end", "since", "limit", "direction", "step", "strict"} {
			if got.Get(name) != want[name] {
				t.Errorf("%q, %q: %s is %q, want %q", env, flags, name, got.Get(name), want[name])
			}
		}
	}
	with := func(pairs ...string) map[string]string {
		m := map[string]string{"query": "{}", "limit": "0", "direction": "backward"}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	f(with(), nil)
	f(with("since", "36h0m0s", "limit", "7", "direction", "forward", "step", "1m0s", "strict", "true"), nil,
		"--since", "1d12h", "-n", "7", "--forward", "--step", "1m", "--strict")
	f(with("start", "2026-01-02T03:04:05Z", "end", "2026-01-02T03:04:06.5Z"), nil, "--from", "2026-01-02T03:04:05Z", "--to", "1767323046.5")
	f(with("start", "2026-01-02T03:04:05Z"), []string{"LOGCLUSTER_SINCE=5m"}, "--from", "2026-01-02T03:04:05Z")
	f(with("since", "5m0s"), []string{"LOGCLUSTER_FROM=2026-01-02T03:04:05Z"}, "--since", "5m")
}

// TestU3PartsAreNotPassedOffAsAll: what ends an answer early is told, and the exit code is 1.
func TestU3PartsAreNotPassedOffAsAll(t *testing.T) {
	f := func(output, want string, handler http.HandlerFunc) {
		t.Helper()
		r := testProgram().invoke(t, "query", "{}", "--url", serve(t, handler), "--output", output)
		if r.code != 1 || !strings.Contains(r.stderr, want) || !strings.Contains(r.stdout, "first") {
			t.Errorf("%s: exit %d, %q, %q; want %q", output, r.code, r.stdout, r.stderr, want)
		}
	}
	begin := func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/plain" {
			io.WriteString(w, "first\n")
		} else {
			io.WriteString(w, `{"time":"2026-01-02T03:04:05Z","labels":{},"line":"first"}`+"\n")
		}
		http.NewResponseController(w).Flush()
	}
	abort := func(w http.ResponseWriter, r *http.Request) {
		begin(w, r)
		panic(http.ErrAbortHandler)
	}
	for _, output := range []string{"raw", "jsonl", "default"} {
		f(output, "cut the answer off", abort)
	}
	object := func(w http.ResponseWriter, r *http.Request) {
		begin(w, r)
		io.WriteString(w, `{"error":"disk is gone"}`+"\n")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	f("jsonl", "the answer is incomplete: disk is gone", object)
	f("default", "the answer is incomplete: disk is gone", object)
	f("raw", "the answer is incomplete: disk is gone", func(w http.ResponseWriter, r *http.Request) {
		begin(w, r)
		w.Header().Set(http.TrailerPrefix+"Logcluster-Error", "disk is gone")
	})
	f("default", "not understood in the answer", func(w http.ResponseWriter, r *http.Request) {
		begin(w, r)
		io.WriteString(w, `{"time":5}`+"\n")
	})
}

func TestQueryWarnings(t *testing.T) {
	u := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == "text/plain" {
			w.Header().Set(http.TrailerPrefix+"Logcluster-Warnings", "shard 3 is away")
			return
		}
		io.WriteString(w, `{"warnings":["shard 3 is away","x\u001b[2J"]}`+"\n")
	})
	for output, want := range map[string]string{
		"raw":     "warning: shard 3 is away\n",
		"default": "warning: shard 3 is away\nwarning: x\\x1b[2J\n",
		"jsonl":   "warning: shard 3 is away\nwarning: x\\x1b[2J\n",
	} {
		if r := testProgram().invoke(t, "query", "{}", "--url", u, "-o", output); r.code != 0 || r.stderr != want || r.stdout != "" {
			t.Errorf("%s: exit %d, %q, %q; want %q", output, r.code, r.stdout, r.stderr, want)
		}
	}
}

func TestQueryErrors(t *testing.T) {
	f := func(query string, code int, message, want string) {
		t.Helper()
		u := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, message, code) })
		r := testProgram().invoke(t, "query", query, "--url", u)
		if r.code != 1 || r.stderr != "logcluster: "+want || r.stdout != "" {
			t.Errorf("exit %d, %q,\n%s, want\n%s", r.code, r.stdout, r.stderr, want)
		}
	}
	f("{é=}", 400, "parse error at line 1, col 4: no value", "parse error at line 1, col 4: no value (HTTP 400)\n    {é=}\n       ^\n")
	f("{a=\"b\"}\n\t|= x", 400, "parse error at line 2, col 5: no", "parse error at line 2, col 5: no (HTTP 400)\n    \t|= x\n    \t   ^\n")
	f("{}", 400, "parse error at line 9, col 1: no", "parse error at line 9, col 1: no (HTTP 400)\n")
	f("{}", 400, "parse error at line 1, col 4: no", "parse error at line 1, col 4: no (HTTP 400)\n")
	f("{}", 503, "starting", "starting (HTTP 503)\n")
	p := testProgram()
	r := p.invoke(t, "query", "{}", "--url", "127.0.0.1:1")
	if r.code != 1 || !strings.Contains(r.stderr, "http://127.0.0.1:1: ") || !strings.Contains(r.stderr, "Is a node running there?") || strings.Contains(r.stderr, "query=") {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}

// fullDisk is an output that fails after some bytes.
type fullDisk struct {
	room int
	err  error
}

func (d *fullDisk) Write(p []byte) (int, error) {
	if d.room -= len(p); d.room < 0 {
		return 0, d.err
	}
	return len(p), nil
}

// TestU4ClosedPipe: a reader that has enough ends query, and with it the node's search,
// without a word; any other failure to write is told.
func TestU4ClosedPipe(t *testing.T) {
	f := func(output string, fail error, want int) {
		t.Helper()
		ended := make(chan struct{})
		u := serve(t, func(w http.ResponseWriter, r *http.Request) {
			defer close(ended)
			for r.Context().Err() == nil {
				line := `{"time":"2026-01-02T03:04:05Z","labels":{},"line":"x"}` + "\n"
				if _, err := io.WriteString(w, line); err != nil {
					return
				}
			}
		})
		p := testProgram()
		var stderr strings.Builder
		p.stdout, p.stderr = &fullDisk{100_000, fail}, &stderr
		if code := p.run(t.Context(), []string{"query", "{}", "--url", u, "--output", output}); code != want || (want == 0) != (stderr.Len() == 0) {
			t.Errorf("%s, %v: exit %d, %q", output, fail, code, stderr.String())
		}
		<-ended
	}
	for _, output := range []string{"raw", "jsonl", "default"} {
		f(output, &os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}, 0)
		f(output, io.ErrClosedPipe, 0)
		f(output, syscall.ENOSPC, 1)
	}
	p := testProgram()
	p.stdout, p.stderr = &fullDisk{0, syscall.EPIPE}, io.Discard
	for _, args := range [][]string{{"--help"}, {"version"}, {"version", "-o", "json"}} {
		if code := p.run(t.Context(), args); code != 0 {
			t.Errorf("%q: exit %d", args, code)
		}
	}
}

// TestQueryIsLive: rows are shown as they arrive.
func TestQueryIsLive(t *testing.T) {
	for _, output := range []string{"raw", "jsonl", "default"} {
		more := make(chan struct{})
		u := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, `{"time":"2026-01-02T03:04:05Z","labels":{},"line":"x"}`+"\n")
			http.NewResponseController(w).Flush()
			<-more
		})
		p := testProgram()
		in, out := io.Pipe()
		p.stdout, p.stderr = out, io.Discard
		done := make(chan int)
		go func() {
			defer out.Close()
			done <- p.run(t.Context(), []string{"query", "{}", "--url", u, "--output", output})
		}()
		buffer := make([]byte, 1000)
		n, err := in.Read(buffer)
		if err != nil || !strings.HasSuffix(string(buffer[:n]), "\n") {
			t.Errorf("%s: read %q, %v before the end", output, buffer[:n], err)
		}
		close(more)
		if code := <-done; code != 0 {
			t.Errorf("%s: exit %d", output, code)
		}
	}
}

func TestQueryInterrupted(t *testing.T) {
	ctx, stop := contextWithCancel(t)
	u := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		stop()
		<-r.Context().Done()
	})
	p := testProgram()
	var stderr strings.Builder
	p.stdout, p.stderr = io.Discard, &stderr
	if code := p.run(ctx, []string{"query", "{}", "--url", u}); code != 1 || stderr.Len() > 0 {
		t.Errorf("exit %d, %q", code, stderr.String())
	}
}

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("", 3600)
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, zone)
	f := func(text, want string) {
		t.Helper()
		got, err := parseTime(text, now)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("parseTime(%q) is %s, %v; want %s", text, got.UTC().Format(time.RFC3339Nano), err, want)
		}
	}
	f("2026-01-02T03:04:05.000000006+02:00", "2026-01-02T01:04:05.000000006Z")
	f("2026-01-02T03:04:05", "2026-01-02T02:04:05Z")
	f("2026-01-02 03:04:05.5", "2026-01-02T02:04:05.5Z")
	f("2026-01-02 03:04", "2026-01-02T02:04:00Z")
	f("2026-01-02", "2026-01-01T23:00:00Z")
	f("0", "1970-01-01T00:00:00Z")
	f("1767323045", "2026-01-02T03:04:05Z")
	f("1767323045.5", "2026-01-02T03:04:05.5Z")
	f("1767323045123", "2026-01-02T03:04:05.123Z")
	f("1767323045123456", "2026-01-02T03:04:05.123456Z")
	f("1767323045123456789", "2026-01-02T03:04:05.123456789Z")
	f("now", "2026-01-31T11:00:00Z")
	f("2h", "2026-01-31T09:00:00Z")
	f("-2h", "2026-01-31T09:00:00Z")
	f("now-1d", "2026-01-30T11:00:00Z")
	bad := func(text string) {
		t.Helper()
		if got, err := parseTime(text, now); err == nil {
			t.Errorf("parseTime(%q) is %s, want an error", text, got)
		}
	}
	for _, text := range []string{"", "-", "now-", "now2h", "--2h", "yesterday", "1.2.3", "1.", ".5", "2026-13-01", "99999999999999999999", "99999999999", "3000-01-01", "-5", "1e9"} {
		bad(text)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add([]byte(hostile))
	f.Add([]byte("\xff\xc2\x9b\x7f\u2028\U000e0001"))
	f.Fuzz(func(t *testing.T, line []byte) {
		got := string(appendEscaped(nil, line))
		for _, c := range got {
			if c != '\t' && (c < ' ' || c >= 0x7f && c < 0xa0 || c == 0x202e) {
				t.Fatalf("%q has %q", got, c)
			}
		}
		if !strings.Contains(string(line), "\ufffd") && strings.Contains(got, "\ufffd") {
			t.Fatalf("%q is not UTF-8", got)
		}
	})
}
