package http

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/semaphore"
)

// A Server listens and answers. It is safe for concurrent use.
type Server struct {
	options Options
	log     *zap.Logger
	metrics *metrics
	memory  *memory
	streams *streamCache
	queries *semaphore.Weighted
	routes  *router
	node    atomic.Pointer[Node]

	listener net.Listener
	server   *http.Server
	cancel   context.CancelCauseFunc // ends the contexts of all requests
	origins  *http.CrossOriginProtection

	// requests are those that handlers work on. Close waits for them.
	mu       sync.Mutex // guards what follows
	running  int
	closing  bool
	finished chan struct{} // closed when closing and running is 0

	closeOnce sync.Once
	closeErr  error
	done      chan struct{} // closed when nothing is accepted any more
	err       error         // why; set before done is closed
}

// Open listens, and answers from then on: 503 where a node is needed and there is none
// yet. It ends by Close; ctx bounds only the opening.
func Open(ctx context.Context, o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	o = o.withDefaults()
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("http: register metrics: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("http: listen on %s: %w", o.Listen, err)
	}
	s := newServer(o, m)
	s.listener = listener
	base, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.server = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: o.Timeouts.Header,
		IdleTimeout:       o.Timeouts.Idle,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          stdLog(o.Logger),
		BaseContext:       func(net.Listener) context.Context { return base },
	}
	go func() { // Ends by server.Close or when the listener dies; Close joins it by done.
		err := s.server.Serve(listener)
		if !errors.Is(err, http.ErrServerClosed) {
			s.err = fmt.Errorf("http: accept connections on %s: %w", listener.Addr(), err)
		}
		close(s.done)
	}()
	return s, nil
}

// newServer makes all of a server but the network.
func newServer(o Options, m *metrics) *Server {
	s := &Server{
		options:  o,
		log:      o.Logger,
		metrics:  m,
		memory:   newMemory(o.Ingest.MaxInFlight, o.Timeouts.Queue, m.inFlight),
		queries:  semaphore.NewWeighted(int64(o.Query.Concurrent)),
		origins:  http.NewCrossOriginProtection(),
		finished: make(chan struct{}),
		done:     make(chan struct{}),
	}
	s.streams = newStreamCache(&s.options.Ingest)
	s.routes = newRouter(s)
	s.SetNode(o.Node)
	return s
}

// stdLog is where net/http tells of broken connections: nothing that an operator must see.
func stdLog(logger *zap.Logger) *log.Logger {
	std, err := zap.NewStdLogAt(logger, zapcore.DebugLevel)
	if err != nil { // There is no such level: cannot be.
		return nil
	}
	return std
}

// SetNode puts a node behind the server, once it can be asked, or takes it away if n is
// empty. Requests that run keep the one that they began with.
func (s *Server) SetNode(n Node) { s.node.Store(&n) }

// Addr is the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Done is closed when the server accepts no connections any more: after Close, or because
// of Err.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err returns why the server ended by itself, or nil. It is to be called after Done.
func (s *Server) Err() error { return s.err }

// Close ends the server. It may be called more than once. In this order:
//
//  1. /ready answers 503 and no new connection is accepted.
//  2. Requests that are being answered have Timeouts.Drain to end.
//  3. The contexts of the rest are cancelled; they have a second to say so.
//  4. Their connections are closed. Close waits for their handlers, for Timeouts.Drain at
//     most, and names in its error how many did not return.
func (s *Server) Close() error {
	s.closeOnce.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Server) close() error {
	s.mu.Lock()
	s.closing = true
	if s.running == 0 {
		close(s.finished)
	}
	s.mu.Unlock()
	drain := s.options.Timeouts.Drain
	err := s.shutdown(drain)
	s.cancel(errShutdown)
	if err != nil {
		err = s.shutdown(min(drain, time.Second))
	}
	if err != nil {
		err = s.server.Close()
	}
	<-s.done
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case <-s.finished:
		return err
	case <-timer.C:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(err, fmt.Errorf("http: %d requests did not end in time", s.running))
}

// shutdown accepts no more connections and waits for the requests, for a time.
func (s *Server) shutdown(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return s.server.Shutdown(ctx)
}

// enter counts a request in, unless the server is closed already.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing && s.running == 0 {
		return false
	}
	s.running++
	return true
}

// leave counts a request out.
func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running--; s.running == 0 && s.closing {
		close(s.finished)
	}
}

// ready returns why the server cannot be used at the moment, or nil.
func (s *Server) ready() error {
	s.mu.Lock()
	closing := s.closing
	s.mu.Unlock()
	if closing {
		return errShutdown
	}
	n := s.node.Load()
	if !n.ready() {
		return unavailable("the node is starting")
	}
	if err := n.Admin.Ready(); err != nil {
		return unavailable("%v", err)
	}
	return nil
}
