package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The test binary is logcluster itself when this is set: tests run real processes.
const runMain = "LOGCLUSTER_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		os.Unsetenv(runMain)
		main()
		return
	}
	os.Exit(m.Run())
}

func logclusterCommand(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, os.Args[0], args...)
	c.Env = append(os.Environ(), runMain+"=1")
	return c
}

// A process is one running node.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	url     string
	log     *bytes.Buffer
	drained chan struct{}
}

// startNode starts a node on free ports and waits until it is ready.
func startNode(t *testing.T, data string, flags ...string) *process {
	t.Helper()
	p := &process{t: t, log: &bytes.Buffer{}, drained: make(chan struct{})}
	args := append([]string{"start", "--data", data, "--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0",
		"--name", "test", "--log-level", "warn"}, flags...)
	p.cmd = logclusterCommand(context.Background(), args...)
	p.cmd.Stderr = p.log
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.kill() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), "search: curl -G "); ok {
			p.url, _, _ = strings.Cut(after, "/query")
			break
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, out)
		close(p.drained)
	}()
	if p.url == "" {
		p.kill()
		t.Fatalf("the node did not start:\n%s", p.log)
	}
	return p
}

// kill ends the process as a power button would end it, but for the page cache.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Signal(syscall.SIGKILL)
		<-p.drained
		_ = p.cmd.Wait()
	}
}

// stop ends the process in good order.
func (p *process) stop() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	<-p.drained
	if err := p.cmd.Wait(); err != nil {
		p.t.Fatalf("after SIGTERM: %v\n%s", err, p.log)
	}
}

// logcluster runs a command and returns what it printed; it must succeed.
func logcluster(t *testing.T, stdin io.Reader, args ...string) []byte {
	t.Helper()
	c := logclusterCommand(t.Context(), args...)
	var stderr bytes.Buffer
	c.Stdin, c.Stderr = stdin, &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("logcluster %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

// TestByteForByte: what is pushed comes back as it was, from the tail, from a sealed
// file, and after a restart.
func TestByteForByte(t *testing.T) {
	data := t.TempDir()
	p := startNode(t, data)
	files, err := filepath.Glob("testdata/logs/*.log")
	if err != nil || len(files) < 2 {
		t.Fatalf("testdata/logs: %v %v", files, err)
	}
	for _, f := range files {
		logcluster(t, nil, "push", "--url", p.url, "--quiet", "--label", "file="+filepath.Base(f), f)
	}
	check := func(when string) {
		t.Helper()
		for _, f := range files {
			want, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasSuffix(want, []byte("\n")) {
				want = append(want, '\n') // each line is printed with one
			}
			got := logcluster(t, nil, "query", "--url", p.url, "--output", "raw", "--forward", fmt.Sprintf("{file=%q}", filepath.Base(f)))
			if !bytes.Equal(got, want) {
				t.Fatalf("%s: %s came back as %d bytes, want %d", when, f, len(got), len(want))
			}
		}
	}
	check("from the tail")
	response, err := http.Post(p.url+"/admin/seal", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	var sealed struct{ Segments int }
	err = json.NewDecoder(response.Body).Decode(&sealed)
	response.Body.Close()
	if err != nil || sealed.Segments == 0 {
		t.Fatalf("seal: %+v, %v", sealed, err)
	}
	check("from sealed files")
	p.stop()
	p = startNode(t, data)
	check("after a restart")

	segments, err := filepath.Glob(filepath.Join(data, "shards", "*", "seg-*"))
	if err != nil || len(segments) != sealed.Segments {
		t.Fatalf("%d segment files, want %d: %v", len(segments), sealed.Segments, err)
	}
	for _, s := range segments {
		logcluster(t, nil, "segment", "verify", s)
	}
}

// TestS2KillLoop: a node is killed again and again under load. What was acknowledged is
// there, once; what was not is there once or not at all.
func TestS2KillLoop(t *testing.T) {
	data := t.TempDir()
	var url atomic.Pointer[string]
	p := startNode(t, data, "--shards", "4")
	url.Store(&p.url)

	const writers = 4
	acked := make([]int, writers) // numbers below are acknowledged
	var tried [writers]int
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			client := &http.Client{Timeout: 20 * time.Second}
			for n := 0; ; n++ {
				body := ""
				for i := range 20 {
					body += fmt.Sprintf("writer %d line %d\n", w, n*20+i)
				}
				tried[w] = n + 1
				for {
					select {
					case <-stop:
						return
					default:
					}
					request, err := http.NewRequest("POST", fmt.Sprintf("%s/ingest?writer=w%d", *url.Load(), w), strings.NewReader(body))
					if err != nil {
						t.Error(err)
						return
					}
					// The same request again and again, until it is answered.
					request.Header.Set("Idempotency-Key", fmt.Sprintf("%d-%d", w, n))
					response, err := client.Do(request)
					if err == nil {
						_, _ = io.Copy(io.Discard, response.Body)
						response.Body.Close()
						if response.StatusCode == 200 {
							acked[w] = n + 1
							break
						}
						if response.StatusCode/100 == 4 {
							t.Errorf("status %d for a good request", response.StatusCode)
							return
						}
					}
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(400 * time.Millisecond)
		p.kill()
		p = startNode(t, data)
		url.Store(&p.url)
	}
	time.Sleep(200 * time.Millisecond)
	p.kill()
	close(stop)
	wg.Wait()

	p = startNode(t, data)
	total := 0
	for w := range writers {
		out := logcluster(t, nil, "query", "--url", p.url, "--output", "raw", fmt.Sprintf("{writer=\"w%d\"}", w))
		count := map[string]int{}
		for _, l := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			count[l]++
		}
		for n := range tried[w] {
			present := count[fmt.Sprintf("writer %d line %d", w, n*20)]
			for i := range 20 {
				line := fmt.Sprintf("writer %d line %d", w, n*20+i)
				if c := count[line]; c > 1 || c != present || n < acked[w] && c != 1 {
					t.Fatalf("%q is there %d times; request %d of %d acknowledged", line, c, n, acked[w])
				}
				delete(count, line)
			}
		}
		delete(count, "")
		if len(count) > 0 {
			t.Fatalf("lines that nobody sent: %v", count)
		}
		total += acked[w]
	}
	if total < writers*3 {
		t.Fatalf("only %d requests were acknowledged: the test shows nothing", total)
	}
	var status struct {
		Shards []struct {
			Health string
			Damage []string
		}
	}
	if err := json.Unmarshal(logcluster(t, nil, "status", "--url", p.url, "--output", "json"), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Shards) != 4 {
		t.Fatalf("%d shards, want 4", len(status.Shards))
	}
	for _, s := range status.Shards {
		if s.Health != "ok" || len(s.Damage) > 0 {
			t.Errorf("after kills without damage: %+v", s)
		}
	}
}

// TestRefusedStarts: what cannot be right is refused, with what to do about it.
func TestRefusedStarts(t *testing.T) {
	data := t.TempDir()
	p := startNode(t, data, "--shards", "2")
	refused := func(want string, flags ...string) {
		t.Helper()
		args := append([]string{"start", "--listen", "127.0.0.1:0", "--etcd-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--name", "test"}, flags...)
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		out, err := logclusterCommand(ctx, args...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("start %s: %v; want a refusal with %q, got\n%s", strings.Join(flags, " "), err, want, out)
		}
	}
	refused("data folder is in use", "--data", data)
	refused("address already in use", "--data", t.TempDir(), "--listen", strings.TrimPrefix(p.url, "http://"))
	refused("--peers", "--data", t.TempDir(), "--peers", "a,b,c")
	refused("did you mean", "--data", t.TempDir(), "--shrads", "3")
	p.stop()
	refused("--shards 2", "--data", data, "--shards", "3")
	refused("data folder", "--data", data, "--name", "other")
	if err := os.RemoveAll(filepath.Join(data, "etcd")); err != nil {
		t.Fatal(err)
	}
	refused("etcd folder", "--data", data)
}

// TestLostShard: a shard's folder that is gone is said to be lost; the others go on.
func TestLostShard(t *testing.T) {
	data := t.TempDir()
	p := startNode(t, data, "--shards", "2")
	for i := range 20 {
		logcluster(t, strings.NewReader("a line\n"), "push", "--url", p.url, "--quiet", "--label", fmt.Sprintf("n=%d", i))
		if i == 3 {
			break
		}
	}
	p.stop()
	if err := os.RemoveAll(filepath.Join(data, "shards", "1")); err != nil {
		t.Fatal(err)
	}
	p = startNode(t, data)
	response, err := http.Get(p.url + "/query?query=" + url.QueryEscape(`{n=~".+"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(body), "shard 1") {
		t.Errorf("the answer does not say that a shard is missing: %s", body)
	}
}
