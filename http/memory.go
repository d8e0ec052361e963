package http

import (
	"context"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

const (
	// firstBuffer is the size of a new buffer. It grows as bytes arrive: what a client
	// announces is not allocated before it is sent.
	firstBuffer = 64 << 10
	// keptBuffer is the largest buffer that is kept for the next request.
	keptBuffer = 8 << 20
	// chargeStep is the least that is taken from the budget at a time for many small things.
	chargeStep = 256 << 10
)

// memory is the budget of bytes that requests in flight may hold together, and the
// buffers and decoders that they hand on to each other.
type memory struct {
	limit int64
	wait  time.Duration // until a request that gets no memory is refused
	sem   *semaphore.Weighted
	gauge prometheus.Gauge

	buffers  sync.Pool // *buffer
	builders sync.Pool // *builder
	gzips    sync.Pool // *gzip.Reader
	zstds    sync.Pool // *zstd.Decoder
}

func newMemory(limit int64, wait time.Duration, gauge prometheus.Gauge) *memory {
	return &memory{limit: limit, wait: wait, sem: semaphore.NewWeighted(limit), gauge: gauge}
}

// A buffer is a slice that goes from request to request.
type buffer struct{ b []byte }

// take returns an empty buffer.
func (m *memory) take() *buffer {
	if buf, ok := m.buffers.Get().(*buffer); ok {
		return buf
	}
	return &buffer{}
}

// put hands a buffer that nobody reads any more on to other requests.
func (m *memory) put(buf *buffer) {
	if cap(buf.b) <= keptBuffer {
		buf.b = buf.b[:0]
		m.buffers.Put(buf)
	}
}

// A lease is one request's share of the memory. It is used by one goroutine.
type lease struct {
	memory  *memory
	ctx     context.Context // the request's: its end ends the waiting for memory
	held    int64           // taken from the budget
	charged int64           // of held: in use
	buffers []*buffer
}

// lease begins a share. Release it.
func (m *memory) lease(ctx context.Context) *lease { return &lease{memory: m, ctx: ctx} }

// charge takes n bytes from the budget, waiting for other requests if need be.
func (l *lease) charge(n int64) error {
	l.charged += n
	if l.charged <= l.held {
		return nil
	}
	more := max(l.charged-l.held, min(chargeStep, l.memory.limit-l.held))
	if l.held+more > l.memory.limit {
		return tooLarge("the request needs more than the %d bytes of memory that all requests may use: send less at a time", l.memory.limit)
	}
	if !l.memory.sem.TryAcquire(more) {
		ctx, cancel := context.WithTimeout(l.ctx, l.memory.wait)
		err := l.memory.sem.Acquire(ctx, more)
		cancel()
		if err != nil && l.ctx.Err() == nil {
			return unavailable("too much is being received at the moment (limit of %d bytes in flight): try again", l.memory.limit)
		}
		if err != nil {
			return err
		}
	}
	l.held += more
	l.memory.gauge.Add(float64(more))
	return nil
}

// buffer returns an empty buffer, for about size bytes if they are known (else -1).
func (l *lease) buffer(size int64) (*buffer, error) {
	buf := l.memory.take()
	l.buffers = append(l.buffers, buf)
	if cap(buf.b) == 0 {
		first := int64(firstBuffer)
		if size >= 0 {
			first = min(first, size+1) // One more, to see the end without growing.
		}
		buf.b = make([]byte, 0, first)
	}
	return buf, l.charge(int64(cap(buf.b)))
}

// exactly grows an empty buffer to a length that is known to be needed, and was bounded.
func (l *lease) exactly(buf *buffer, size int) error {
	if cap(buf.b) < size {
		if err := l.charge(int64(size - cap(buf.b))); err != nil {
			return err
		}
		buf.b = make([]byte, 0, size)
	}
	buf.b = buf.b[:size]
	return nil
}

// fill appends what r yields to buf until its end, and reports whether it is at most
// limit bytes; more than that is not read. size is how many there should be, or -1.
func (l *lease) fill(buf *buffer, r io.Reader, size, limit int64) (within bool, err error) {
	for {
		if len(buf.b) == cap(buf.b) {
			want := min(2*int64(cap(buf.b))+512, limit+1)
			if size >= int64(len(buf.b)) {
				want = min(want, size+1)
			}
			want = max(want, int64(len(buf.b))+1)
			if err := l.charge(want - int64(cap(buf.b))); err != nil {
				return true, err
			}
			grown := make([]byte, len(buf.b), want)
			copy(grown, buf.b)
			buf.b = grown
		}
		n, err := r.Read(buf.b[len(buf.b):cap(buf.b)])
		buf.b = buf.b[:len(buf.b)+n]
		switch {
		case int64(len(buf.b)) > limit:
			return false, nil
		case err == io.EOF:
			return true, nil
		case err != nil:
			return true, err
		}
	}
}

// release gives the share back. The buffers go to other requests only if reuse is set:
// after a failure somebody might still read them.
func (l *lease) release(reuse bool) {
	for _, buf := range l.buffers {
		if reuse {
			l.memory.put(buf)
		}
	}
	l.buffers = nil
	if l.held > 0 {
		l.memory.sem.Release(l.held)
		l.memory.gauge.Sub(float64(l.held))
	}
	l.held, l.charged = 0, 0
}

// gzipReader returns a reader of a gzip body. Hand it back to memory.gzips.
func (m *memory) gzipReader(r io.Reader) (*gzip.Reader, error) {
	if z, ok := m.gzips.Get().(*gzip.Reader); ok {
		return z, z.Reset(r)
	}
	return gzip.NewReader(r)
}

// maxWindow is the zstd window, and so the decoder's memory, that is accepted. RFC 8878
// asks for at least this much; zstd needs no more up to level 19.
const maxWindow = 8 << 20

// zstdReader returns a reader of a zstd body. Hand it back to memory.zstds.
func (m *memory) zstdReader(r io.Reader) (*zstd.Decoder, error) {
	if z, ok := m.zstds.Get().(*zstd.Decoder); ok {
		return z, z.Reset(r)
	}
	// Without concurrency the decoder has no goroutines, and needs no Close.
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}
