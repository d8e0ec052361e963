package http

import (
	"net/http"
	"sync"
	"time"
)

const (
	// streamBuffer is how much of an answer is gathered before it is sent.
	streamBuffer = 64 << 10
	// streamDelay is how long a line waits for others at most.
	streamDelay = 100 * time.Millisecond
)

// A streamWriter sends lines as they come: when enough are there, or when the first of
// them has waited long enough, also while the next one is being searched for.
type streamWriter struct {
	to       http.ResponseWriter
	control  *http.ResponseController
	progress func() // called whenever the client has taken something
	timer    *time.Timer

	mu      sync.Mutex // guards what follows, and to
	buf     []byte
	waiting bool // the timer runs
	closed  bool // nothing may be written to to any more
	err     error
}

func newStreamWriter(to http.ResponseWriter, progress func()) *streamWriter {
	w := &streamWriter{to: to, control: http.NewResponseController(to), progress: progress, buf: make([]byte, 0, streamBuffer+4<<10)}
	w.timer = time.AfterFunc(time.Hour, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.waiting = false
		if !w.closed {
			w.flush()
		}
	})
	w.timer.Stop()
	return w
}

// line writes a line and its end.
func (w *streamWriter) line(text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil || w.closed {
		return
	}
	w.buf = append(append(w.buf, text...), '\n')
	switch {
	case len(w.buf) >= streamBuffer:
		w.flush()
	case !w.waiting:
		w.waiting = true
		w.timer.Reset(streamDelay)
	}
}

// flush sends what is gathered. It needs mu.
func (w *streamWriter) flush() {
	if w.err != nil || len(w.buf) == 0 {
		return
	}
	if _, w.err = w.to.Write(w.buf); w.err == nil {
		w.err = w.control.Flush()
	}
	if w.err == nil {
		w.progress()
	}
	if cap(w.buf) > 4*streamBuffer {
		w.buf = make([]byte, 0, streamBuffer) // After a very long line.
	}
	w.buf = w.buf[:0]
}

// failed returns the error of an earlier write: the client is gone.
func (w *streamWriter) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// close sends the rest and ends the writing. It may be called twice.
func (w *streamWriter) close() error {
	w.timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.flush()
		w.closed = true
	}
	return w.err
}
