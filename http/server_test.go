package http

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// dial opens a connection and sends what is given.
func dial(t *testing.T, f *fixture, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", f.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// answer reads the answer of a connection, or returns the error in its place.
func answer(t *testing.T, c net.Conn) (code int, body string, err error) {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return r.StatusCode, string(b), err
}

func TestServer(t *testing.T) {
	f, url := newNetwork(t)
	r, _ := http.NewRequest("POST", url+"/ingest?app=web", strings.NewReader("one\ntwo\n"))
	got, body := fetch(t, client(t), r)
	if got.StatusCode != 200 || !strings.Contains(body, `"accepted":2`) || got.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("status %d, body %s, header %v", got.StatusCode, body, got.Header)
	}
	f.stored("one", "two")
	select {
	case <-f.Done():
		t.Error("done")
	default:
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	<-f.Done()
	if err := errors.Join(f.Err(), f.Close()); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", f.Addr().String()); err == nil {
		t.Error("still listens")
	}
	f.want(f.do("POST", "/ingest", "x"), 503, "shutting down")
}

func TestServerDies(t *testing.T) {
	f, _ := newNetwork(t)
	f.listener.Close()
	<-f.Done()
	if f.Err() == nil {
		t.Error("no error")
	}
}

// A connection is used again after every kind of answer.
func TestKeepAlive(t *testing.T) {
	f, _ := newNetwork(t)
	c := dial(t, f, "")
	reader := bufio.NewReader(c)
	for i, request := range []string{
		"POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none",
		"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /ingest?_bad=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nbad",
		"POST /ingest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
		"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nbad",
		"GET /query?query=%7Bsource=%22ingest%22%7D HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
	f.stored("one", "two")
}

func TestCloseDrains(t *testing.T) {
	f, url := newNetwork(t)
	enter, leave := make(chan struct{}), make(chan struct{})
	f.node.onAppend = func(context.Context) error {
		close(enter)
		<-leave
		return nil
	}
	var wg sync.WaitGroup
	c := client(t)
	wg.Go(func() {
		r, _ := http.NewRequest("POST", url+"/ingest", strings.NewReader("x"))
		if got, body := fetch(t, c, r); got.StatusCode != 200 {
			t.Errorf("status %d: %s", got.StatusCode, body)
		}
	})
	<-enter
	wg.Go(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	<-f.Done()
	f.want(f.do("GET", "/ready", ""), 503, "shutting down")
	close(leave)
	wg.Wait()
	f.stored("x")
}

// What does not end in time is ended, and told to try elsewhere.
func TestCloseEnds(t *testing.T) {
	f, _ := newNetwork(t, func(o *Options) { o.Timeouts.Drain = 50 * time.Millisecond })
	enter := make(chan struct{})
	f.node.onAppend = func(ctx context.Context) error {
		enter <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
	c := dial(t, f, "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none")
	<-enter
	closed := make(chan error)
	go func() { closed <- f.Close() }()
	if code, body, err := answer(t, c); err != nil || code != 503 || !strings.Contains(body, "shutting down") {
		t.Errorf("status %d, body %s, error %v", code, body, err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// A handler that does not return is named.
func TestCloseGivesUp(t *testing.T) {
	f := newFixture(t)
	s, err := Open(t.Context(), Options{Listen: "127.0.0.1:0", Node: f.plugged(), Timeouts: Timeouts{Drain: 20 * time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	f.Server = s
	enter, leave := make(chan struct{}), make(chan struct{})
	f.node.onAppend = func(context.Context) error {
		close(enter)
		<-leave
		return nil
	}
	dial(t, f, "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none")
	<-enter
	if err := s.Close(); err == nil || !strings.Contains(err.Error(), "1 requests did not end") {
		t.Errorf("error %v", err)
	}
	close(leave)
	<-s.finished
}

func TestPanic(t *testing.T) {
	f, url := newNetwork(t)
	f.node.onAppend = func(context.Context) error { panic("oops") }
	r, _ := http.NewRequest("POST", url+"/ingest", strings.NewReader("x"))
	if got, body := fetch(t, client(t), r); got.StatusCode != 500 || strings.Contains(body, "oops") {
		t.Errorf("status %d: %s", got.StatusCode, body)
	}
	if n := f.logs.FilterMessage("panic in a request").Len(); n != 1 || f.logs.FilterMessage("request failed").Len() != 0 {
		t.Errorf("logged %v", f.logs.All())
	}
	f.node.onAppend = nil
	r, _ = http.NewRequest("POST", url+"/ingest", strings.NewReader("x"))
	if got, _ := fetch(t, client(t), r); got.StatusCode != 200 {
		t.Errorf("status %d after a panic", got.StatusCode)
	}
	// In the middle of an answer.
	f.put(baseTime, "one", `{a="b"}`)
	f.node.onNext = func(i int) {
		if i == 1 {
			panic("oops")
		}
	}
	got, err := client(t).Get(url + "/query?query=" + escape(`{a="b"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if body, err := io.ReadAll(got.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the answer %q ended with %v", body, err)
	}
}

func TestSlowClients(t *testing.T) {
	f, _ := newNetwork(t, func(o *Options) {
		o.Timeouts.Header = 100 * time.Millisecond
		o.Timeouts.Body = 100 * time.Millisecond
	})
	// A header that does not end.
	if code, _, err := answer(t, dial(t, f, "POST /ingest HTTP/1.1\r\nHost: x\r\n")); err == nil && code != 400 && code != 408 {
		t.Errorf("status %d", code)
	}
	slow := func(request string) {
		t.Helper()
		code, body, err := answer(t, dial(t, f, request))
		if err != nil || code != 503 || !strings.Contains(body, "the body came too slowly") {
			t.Errorf("status %d, body %s, error %v", code, body, err)
		}
	}
	slow("POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")                               // A lie.
	slow("POST /ingest HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")              // Without end.
	slow("POST /loki/api/v1/push HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n" + string(snap())) // Nothing of it is allocated.
	// Form bodies too.
	code, _, err := answer(t, dial(t, f, "POST /query HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"))
	if err != nil || code/100 == 2 {
		t.Errorf("status %d, error %v", code, err)
	}
	f.stored()
}

// A body that keeps coming may take longer than the timeout.
func TestSteadyBody(t *testing.T) {
	f, url := newNetwork(t, func(o *Options) {
		o.Timeouts.Body = 200 * time.Millisecond
		o.Timeouts.BodyRate = 256 << 10
	})
	r, w := io.Pipe()
	go func() {
		line := strings.Repeat("x", 64<<10-1) + "\n"
		for range 16 {
			_, _ = io.WriteString(w, line)
			time.Sleep(25 * time.Millisecond)
		}
		w.Close()
	}()
	request, _ := http.NewRequest("POST", url+"/ingest", r)
	if got, body := fetch(t, client(t), request); got.StatusCode != 200 || !strings.Contains(body, `"accepted":16`) {
		t.Errorf("status %d: %s", got.StatusCode, body)
	}
	if n := len(f.lines()); n != 16 {
		t.Errorf("%d lines", n)
	}
}

func TestBodyEndsEarly(t *testing.T) {
	f, _ := newNetwork(t)
	c := dial(t, f, "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if code, body, err := answer(t, c); err == nil && (code != 400 || !strings.Contains(body, "after 3 bytes, 10 were announced")) {
		t.Errorf("status %d: %s", code, body)
	}
	f.stored()
	for _, e := range f.logs.All() {
		if e.Level > -1 {
			t.Errorf("logged %s at %s", e.Message, e.Level)
		}
	}
}

// The context of a request ends when its client hangs up, also after the deadline of
// its body.
func TestHangUpEndsAppend(t *testing.T) {
	f, _ := newNetwork(t, func(o *Options) { o.Timeouts.Body = 50 * time.Millisecond })
	ended := make(chan error)
	started := make(chan struct{})
	f.node.onAppend = func(ctx context.Context) error {
		close(started)
		select {
		case <-ctx.Done():
			ended <- errors.New("ended before the client hung up")
		case <-time.After(150 * time.Millisecond):
		}
		<-ctx.Done()
		ended <- nil
		return ctx.Err()
	}
	c := dial(t, f, "POST /ingest HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
	<-started
	time.Sleep(200 * time.Millisecond)
	c.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestHeaderLimit(t *testing.T) {
	f, _ := newNetwork(t)
	code, _, err := answer(t, dial(t, f, fmt.Sprintf("GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 100<<10))))
	if err == nil && code != 431 {
		t.Errorf("status %d", code)
	}
}
