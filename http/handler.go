package http

import (
	"errors"
	"io"
	"net/http"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// A handler answers a request, or returns an error that is answered for it. Node is nil
// for routes that need none. Once it has begun to answer, an error cuts the answer off.
type handler func(w http.ResponseWriter, r *http.Request, n *Node) error

// ServeHTTP answers a request: it finds its route, keeps time limits and counts, and
// turns errors and panics into answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	if !s.enter() {
		errShutdown.write(w)
		return
	}
	defer s.leave()
	control := http.NewResponseController(w)
	answer := &answerWriter{ResponseWriter: w, control: control, patience: s.options.Timeouts.Write}
	if r.Body != nil && r.Body != http.NoBody {
		body := &pacedBody{ReadCloser: r.Body, control: control, begin: begin, timeouts: &s.options.Timeouts}
		body.extend()
		r.Body = body
		defer body.finish()
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	route, err := s.routes.find(r)
	aborted := true
	defer func() {
		s.metrics.answered(route.name, answer.status(), aborted, time.Since(begin))
	}()
	if err == nil {
		err = s.call(route, answer, r)
	}
	if err != nil {
		status := classify(r.Context(), err, route.deadline)
		if !answer.lost {
			s.failed(r, status)
		}
		if answer.code != 0 {
			panic(http.ErrAbortHandler) // Half an answer must not look like a whole one.
		}
		status.write(answer)
	}
	aborted = false
}

// call runs the route's handler. A panic becomes an error.
func (s *Server) call(route *route, w *answerWriter, r *http.Request) (err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case http.ErrAbortHandler:
			panic(p)
		default:
			s.metrics.panics.Inc()
			s.log.Error("panic in a request", zap.String("route", route.name), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
			err = &statusError{code: http.StatusInternalServerError, text: "internal error: the node's log tells more", logged: true}
		}
	}()
	if err := s.origins.Check(r); err != nil {
		return &statusError{code: http.StatusForbidden, text: "refused: a web page of another origin sent this request"}
	}
	if !route.node {
		return route.handle(w, r, nil)
	}
	n := s.node.Load()
	if !n.ready() {
		return s.ready()
	}
	return route.handle(w, r, n)
}

// failed logs what an operator should know: failures of the node, not those of clients
// nor overload, which metrics count.
func (s *Server) failed(r *http.Request, status *statusError) {
	if status.code == http.StatusInternalServerError && !status.logged {
		s.log.Error("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Error(status))
		return
	}
	s.log.Debug("request refused", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Int("status", status.code), zap.Error(status))
}

// An answerWriter remembers the status, and gives a client that does not take its bytes
// only so much patience.
type answerWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
	code     int       // 0: nothing is written
	lost     bool      // the client does not take what is written
	extended time.Time // when the deadline was last moved
}

func (w *answerWriter) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

func (w *answerWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
		w.extend()
		w.ResponseWriter.WriteHeader(code)
	}
}

// Write sends p in pieces, each of which the client may take its time for.
func (w *answerWriter) Write(p []byte) (n int, err error) {
	if w.code == 0 {
		w.WriteHeader(http.StatusOK)
	}
	const piece = 64 << 10
	for first := true; first || n < len(p) && err == nil; first = false {
		w.extend()
		var wrote int
		wrote, err = w.ResponseWriter.Write(p[n:min(n+piece, len(p))])
		n += wrote
	}
	w.lost = w.lost || err != nil
	return n, err
}

// FlushError sends what is buffered.
func (w *answerWriter) FlushError() error {
	w.extend()
	err := w.control.Flush()
	w.lost = w.lost || err != nil && !errors.Is(err, http.ErrNotSupported)
	return err
}

// extend moves the deadline, if it was not moved just now.
func (w *answerWriter) extend() {
	if now := time.Now(); now.Sub(w.extended) > min(500*time.Millisecond, w.patience/4) {
		w.extended = now
		_ = w.control.SetWriteDeadline(now.Add(w.patience)) // A recorder has no deadlines.
	}
}

// A pacedBody is a request's body that must arrive at a minimum rate.
type pacedBody struct {
	io.ReadCloser
	control  *http.ResponseController
	timeouts *Timeouts
	begin    time.Time
	received int64
	extended int64 // received when the deadline was last moved
	ended    bool
	failed   bool
}

func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.received += int64(n)
	switch {
	case errors.Is(err, io.EOF):
		// From here on net/http watches the connection for the client's hanging up, and
		// has taken the deadline away for that.
		b.ended = true
	case err != nil:
		b.failed = true
	case b.received-b.extended >= 256<<10:
		b.extend()
	}
	return n, err
}

// extend moves the deadline on by what the received bytes earn.
func (b *pacedBody) extend() {
	b.extended = b.received
	earned := time.Duration(float64(b.received) / float64(b.timeouts.BodyRate) * float64(time.Second))
	_ = b.control.SetReadDeadline(b.begin.Add(b.timeouts.Body + earned)) // A recorder has no deadlines.
}

// finish bounds what net/http does with a body that was not read: it reads some of it, to
// be able to use the connection again.
func (b *pacedBody) finish() {
	switch now := time.Now(); {
	case b.failed:
		_ = b.control.SetReadDeadline(now)
	case !b.ended:
		_ = b.control.SetReadDeadline(now.Add(time.Second))
	}
}
