package cli

import (
	"errors"
	"io"
)

// pieceBytes is how much of an input is read at a time.
const pieceBytes = 256 << 10

// A piece is what one read of an input gave.
type piece struct {
	data []byte // valid until the next piece is received
	err  error  // io.EOF at the end
}

// A feed reads an input ahead of its user, who can wait for the next piece and for other
// things at once.
type feed struct {
	pieces chan piece    // closed after a piece with an error
	stop   chan struct{} // closed by close
	done   chan struct{} // closed when the goroutine ended
}

func startFeed(r io.Reader) *feed {
	f := &feed{pieces: make(chan piece), stop: make(chan struct{}), done: make(chan struct{})}
	go f.run(r)
	return f
}

func (f *feed) run(r io.Reader) {
	defer close(f.done)
	defer close(f.pieces)
	// Two buffers: when the second is received, its user is done with the first.
	buffers := [2][]byte{make([]byte, pieceBytes), make([]byte, pieceBytes)}
	for i := 0; ; i ^= 1 {
		n, err := r.Read(buffers[i])
		if n == 0 && err == nil {
			continue
		}
		select {
		case f.pieces <- piece{buffers[i][:n], err}:
		case <-f.stop:
			return
		}
		if err != nil {
			return
		}
	}
}

// close makes the goroutine end once the read it is in returns. If c is not nil it is
// closed, which ends that read, and the end of the goroutine is waited for.
func (f *feed) close(c io.Closer) error {
	close(f.stop)
	if c == nil {
		return nil
	}
	err := c.Close()
	<-f.done
	return err
}

// readError is the error of a piece, none at the end of the input.
func (p *piece) readError() error {
	if errors.Is(p.err, io.EOF) {
		return nil
	}
	return p.err
}
