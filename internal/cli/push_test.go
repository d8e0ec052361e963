package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// request is what a fake node received on /ingest.
type request struct {
	query  url.Values
	header http.Header
	body   string
}

// fakeNode takes batches as a node does, with a limit on the length of lines.
type fakeNode struct {
	*httptest.Server
	maxLine int
	// busy is how many times each batch is refused with 503 before it is taken.
	busy int
	// answer, if not nil, answers instead.
	answer http.HandlerFunc

	mu       sync.Mutex
	requests []request // taken
	refused  []request // as busy
	received chan struct{}
}

func newFakeNode(t *testing.T) *fakeNode {
	n := &fakeNode{maxLine: 1 << 20, received: make(chan struct{}, 1000)}
	n.Server = httptest.NewServer(http.HandlerFunc(n.serve))
	t.Cleanup(n.Close)
	return n
}

func (n *fakeNode) serve(w http.ResponseWriter, r *http.Request) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answer != nil {
		n.answer(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q := request{r.URL.Query(), r.Header, string(body)}
	if len(n.refused) < n.busy*(len(n.requests)+1) {
		n.refused = append(n.refused, q)
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	}
	n.requests = append(n.requests, q)
	type lineError struct {
		Line   int    `json:"line"`
		Reason string `json:"reason"`
	}
	var answer struct {
		Accepted int         `json:"accepted"`
		Rejected int         `json:"rejected"`
		Errors   []lineError `json:"errors"`
		Omitted  int         `json:"errors_omitted"`
	}
	number := 0
	for line := range strings.Lines(q.body) {
		number++
		switch {
		case len(strings.TrimSuffix(line, "\n")) <= n.maxLine:
			answer.Accepted++
			continue
		case len(answer.Errors) < 2:
			answer.Errors = append(answer.Errors, lineError{number, "too long"})
		default:
			answer.Omitted++
		}
		answer.Rejected++
	}
	if answer.Rejected > 0 {
		w.WriteHeader(http.StatusBadRequest)
	}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		panic(err)
	}
	select {
	case n.received <- struct{}{}:
	default: // Nobody counts that many.
	}
}

// text is all that was received, put together.
func (n *fakeNode) text() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var b strings.Builder
	for _, r := range n.requests {
		b.WriteString(r.body)
	}
	return b.String()
}

// nasty holds every byte, and lines that text tools like to change.
var nasty = func() string {
	b := []byte("a\r\n\r\n\n \nx\x00y\n\xff\xfe\n\xe2\x82\n")
	for i := range 256 {
		b = append(b, byte(i))
	}
	return string(b)
}()

func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestU2PushIsByteExact sends contents from a file and from standard input, cut in
// different ways, and compares what arrives.
func TestU2PushIsByteExact(t *testing.T) {
	f := func(content string, flags ...string) {
		t.Helper()
		for _, fromFile := range []bool{true, false} {
			n, p := newFakeNode(t), testProgram()
			args := append([]string{"push", "--url", n.URL}, flags...)
			if fromFile {
				args = append(args, writeFile(t, "x.log", content))
			} else {
				p.stdin = strings.NewReader(content)
			}
			r := p.invoke(t, args...)
			if r.code != 0 || n.text() != content {
				t.Errorf("push %q of %d bytes (file: %t) is exit %d, %s; arrived %d bytes", flags, len(content), fromFile, r.code, r.stderr, len(n.text()))
			}
			for i, q := range n.requests {
				if !strings.HasSuffix(q.body, "\n") && i < len(n.requests)-1 || q.body == "" {
					t.Errorf("request %d ends within a line", i)
				}
			}
		}
	}
	million := strings.Repeat("y", 1<<20)
	for _, content := range []string{"", "\n", "\n\n", "x", "x\n", "\r\n", nasty, nasty + "\n", nasty + "\nno end", million, million + "\n" + million, strings.Repeat("line\n", 300)} {
		f(content)
		f(content, "--batch-lines", "1")
		f(content, "--batch-lines", "2")
		f(content, "--batch-bytes", "3")
		f(content, "--batch-bytes", "64KiB")
	}
}

func TestPushRequest(t *testing.T) {
	f := func(content string, args []string, wantQuery, wantType string) {
		t.Helper()
		n, p := newFakeNode(t), testProgram()
		p.stdin = strings.NewReader(content)
		t.Chdir(t.TempDir())
		for _, name := range []string{"a.log", "b.ndjson", "C.JSONL"} {
			if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r := p.invoke(t, append([]string{"push", "--url", n.URL}, args...)...)
		if r.code != 0 || len(n.requests) != 1 {
			t.Errorf("exit %d, %d requests: %s", r.code, len(n.requests), r.stderr)
			return
		}
		q := n.requests[0]
		if got := q.query.Encode(); got != wantQuery {
			t.Errorf("query %s, want %s", got, wantQuery)
		}
		if got := q.header.Get("Content-Type"); got != wantType {
			t.Errorf("type %s, want %s", got, wantType)
		}
		if got := q.header.Get("X-Scope-OrgID"); got != "default" {
			t.Errorf("tenant %s", got)
		}
		if got := q.header.Get("Content-Encoding"); got != "" {
			t.Errorf("encoded as %s for a node on this machine", got)
		}
	}
	const text, ndjson = "text/plain", "application/x-ndjson"
	f("x", nil, "source=stdin", text)
	f("x", []string{"-"}, "source=stdin", text)
	f("x", []string{"a.log"}, "source=a.log", text)
	f("x", []string{"./a.log", "-q"}, "source=a.log", text)
	f("x", []string{"a.log", "--label", "app=a,b=c", "-l", "env=x y"}, "app=a%2Cb%3Dc&env=x+y", text)
	f("{}\n", []string{"b.ndjson"}, "source=b.ndjson", ndjson)
	f("{}\n\n", []string{"C.JSONL", "-l", "a=b"}, "a=b", ndjson)
	f("{}", []string{"b.ndjson", "--format", "text"}, "source=b.ndjson", text)
	f("{}", []string{"a.log", "--format", "ndjson", "--time-fields", "t", "--message-fields=m,n", "--label-fields", "x", "--label-fields", "y"},
		"_labels=x%2Cy&_msg=m%2Cn&_time=t&source=a.log", ndjson)
}

// TestPushRetries: a batch is sent again under its key; each batch has a key of its own.
func TestPushRetries(t *testing.T) {
	n, p := newFakeNode(t), testProgram()
	n.busy = 2
	p.stdin = strings.NewReader("a\nb\nc\n")
	r := p.invoke(t, "push", "--url", n.URL, "--batch-lines", "1")
	if r.code != 0 || n.text() != "a\nb\nc\n" || len(n.refused) != 6 {
		t.Fatalf("exit %d: %s; arrived %q after %d refusals", r.code, r.stderr, n.text(), len(n.refused))
	}
	keys := map[string]bool{}
	for i, q := range n.requests {
		key := q.header.Get("Idempotency-Key")
		if key == "" || keys[key] {
			t.Errorf("batch %d has the key %q, which is none or not its own", i, key)
		}
		keys[key] = true
		for _, again := range n.refused[2*i : 2*i+2] {
			if again.header.Get("Idempotency-Key") != key || again.body != q.body {
				t.Errorf("batch %d was not the same at all attempts", i)
			}
		}
	}
	if got := strings.Count(r.stderr, "waiting for the node: busy (HTTP 503)\n"); got != 3 {
		t.Errorf("told %d times to be waiting, want once a batch:\n%s", got, r.stderr)
	}
}

// TestPushRefused: lines that the node or push itself refuses are named as they are
// numbered in their file, and the others are stored.
func TestPushRefused(t *testing.T) {
	n, p := newFakeNode(t), testProgram()
	n.maxLine = 3
	dir := t.TempDir()
	t.Chdir(dir)
	huge := strings.Repeat("z", longestLine+1)
	files := map[string]string{
		"a.log": "1\n2\n3toolong\n4\n5\n6toolong\n",
		"b.log": "1toolong\n2toolong\n3toolong\n4toolong\n5",
		"c.log": "1\n" + huge + "\n3\n" + huge + "x\n5toolong\n6\n" + huge,
		"d.log": "ok",
	}
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := p.invoke(t, "push", "--url", n.URL, "--batch-lines", "5", "a.log", "absent.log", "b.log", ".", "c.log", "d.log", "--quiet")
	want := `a.log:3: too long
a.log:6: too long
open absent.log: no such file or directory
b.log:1: too long
b.log:2: too long
b.log: 2 more of the lines 1 to 5 are refused
.: read up to line 0: read .: is a directory
c.log:2: longer than 16 MiB, which no node takes
c.log:4: longer than 16 MiB, which no node takes
c.log:7: longer than 16 MiB, which no node takes
c.log:5: too long
`
	// The last line of c.log is found to be too long before the batch with line 5 is sent.
	gotLines, wantLines := strings.Split(r.stderr, "\n"), strings.Split(want, "\n")
	if r.code != 1 || !reflect.DeepEqual(sorted(gotLines), sorted(wantLines)) {
		t.Errorf("exit %d, told:\n%swant:\n%s", r.code, r.stderr, want)
	}
	if strings.Contains(n.text(), "zzz") || !strings.HasSuffix(n.text(), "ok") {
		t.Error("a line of over 16 MiB was sent, or the last file was not")
	}
}

func sorted(lines []string) map[string]int {
	m := map[string]int{}
	for _, l := range lines {
		m[l]++
	}
	return m
}

// TestPushFails: what ends it all names the lines in doubt.
func TestPushFails(t *testing.T) {
	f := func(code int, want string) {
		t.Helper()
		n, p := newFakeNode(t), testProgram()
		path := writeFile(t, "x.log", "1\n2\n3\n4\n5\n")
		n.answer = func(w http.ResponseWriter, _ *http.Request) {
			n.requests = append(n.requests, request{})
			if len(n.requests) == 2 {
				http.Error(w, "no more", code)
				return
			}
			fmt.Fprint(w, `{"accepted":2}`)
		}
		r := p.invoke(t, "push", "--url", n.URL, "--batch-lines", "2", "--retry-for", "0", path, "other.log")
		if r.code != 1 || !strings.Contains(r.stderr, want) || strings.Contains(r.stderr, "other.log") || len(n.requests) != 2 {
			t.Errorf("exit %d after %d requests: %s\nwant %q", r.code, len(n.requests), r.stderr, want)
		}
		if !strings.Contains(r.stderr, "x.log: lines 3 to 4: no more (HTTP") || !strings.Contains(r.stderr, "stored 2 lines (sent 4 B) in ") {
			t.Errorf("told: %s", r.stderr)
		}
	}
	f(503, "it is not known which are stored")
	f(403, "none is stored")
	// Nobody listens.
	p, n := testProgram(), newFakeNode(t)
	n.Close()
	p.stdin = strings.NewReader("x")
	r := p.invoke(t, "push", "--url", n.URL, "--retry-for", "0")
	if r.code != 1 || !strings.Contains(r.stderr, "Is a node running there?") {
		t.Errorf("exit %d: %s", r.code, r.stderr)
	}
}

// TestPushIsLive: whole lines are sent while the input is still open, and the part of a
// line waits for its rest.
func TestPushIsLive(t *testing.T) {
	n, p := newFakeNode(t), testProgram()
	in, out := io.Pipe()
	p.stdin = in
	done := make(chan result)
	go func() { done <- p.invoke(t, "push", "--url", n.URL) }()
	for _, part := range []string{"one\ntw", "o\nthr"} {
		if _, err := io.WriteString(out, part); err != nil {
			t.Fatal(err)
		}
		<-n.received
	}
	if got := n.text(); got != "one\ntwo\n" {
		t.Errorf("arrived %q before the end", got)
	}
	out.Close()
	if r := <-done; r.code != 0 || n.text() != "one\ntwo\nthr" {
		t.Errorf("exit %d: %s; arrived %q", r.code, r.stderr, n.text())
	}
}

// TestPushInterrupted: an end of the context ends push in a read and in a send.
func TestPushInterrupted(t *testing.T) {
	f := func(want string, prepare func(n *fakeNode, in *io.PipeWriter, stop func())) {
		t.Helper()
		n, p := newFakeNode(t), testProgram()
		in, out := io.Pipe()
		defer in.Close()
		p.stdin = in
		var stderr bytes.Buffer
		p.stdout, p.stderr = io.Discard, &stderr
		ctx, cancel := contextWithCancel(t)
		done := make(chan int)
		go func() { done <- p.run(ctx, []string{"push", "--url", n.URL, "--batch-lines", "1"}) }()
		prepare(n, out, cancel)
		if code := <-done; code != 1 || !strings.Contains(stderr.String(), want) {
			t.Errorf("exit %d: %s, want %q", code, stderr.String(), want)
		}
	}
	f("interrupted: stdin is stored up to line 1", func(n *fakeNode, in *io.PipeWriter, stop func()) {
		// The second of these is read once the first is taken, which is after the line is sent.
		for _, part := range []string{"1\n", "x", "y"} {
			io.WriteString(in, part)
		}
		stop()
	})
	f("stdin: lines 1 to 1: interrupted", func(n *fakeNode, in *io.PipeWriter, stop func()) {
		n.mu.Lock()
		n.answer = func(_ http.ResponseWriter, r *http.Request) {
			// The body is read, so that the server sees the client hang up.
			_, _ = io.Copy(io.Discard, r.Body)
			stop()
			<-r.Context().Done()
		}
		n.mu.Unlock()
		io.WriteString(in, "1\n")
	})
}

// TestPushProgress: a bar is drawn on a terminal, for files alone, and not when quiet.
func TestPushProgress(t *testing.T) {
	f := func(terminal bool, want bool, flags ...string) {
		t.Helper()
		n, p := newFakeNode(t), testProgram()
		p.terminal = func(stream any) bool { return terminal && stream == p.stderr }
		p.stdin = strings.NewReader("x\n")
		r := p.invoke(t, append([]string{"push", "--url", n.URL}, flags...)...)
		if r.code != 0 || strings.Contains(r.stderr, "%") != want || r.stdout != "" {
			t.Errorf("terminal %t, %q: exit %d, %q", terminal, flags, r.code, r.stderr)
		}
	}
	path := writeFile(t, "x.log", strings.Repeat("x\n", 100_000))
	f(true, true, path)
	f(false, false, path)
	f(true, false, path, "--quiet")
	f(true, false)
	f(true, false, path, "-")
}

// TestPushTold: what a node says reaches a terminal without its control sequences.
func TestPushTold(t *testing.T) {
	n, p := newFakeNode(t), testProgram()
	n.answer = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"accepted":0,"rejected":1,"errors":[{"line":1,"reason":"\u001b[2Jx"}]}`)
	}
	p.stdin = strings.NewReader("x\n")
	if r := p.invoke(t, "push", "--url", n.URL, "-q"); r.stderr != "stdin:1: \\x1b[2Jx\n" {
		t.Errorf("told %q", r.stderr)
	}
}

// TestFeedEnds: a feed whose reader is closed in the middle of a read ends.
func TestFeedEnds(t *testing.T) {
	in, out := io.Pipe()
	f := startFeed(in)
	go io.WriteString(out, "x")
	if p := <-f.pieces; string(p.data) != "x" {
		t.Errorf("piece %q, %v", p.data, p.err)
	}
	if err := f.close(in); err != nil {
		t.Error(err)
	}
	select {
	case <-f.done:
	case <-time.After(10 * time.Second):
		t.Error("it still runs")
	}
}
