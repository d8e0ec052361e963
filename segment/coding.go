package segment

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// reader decodes variable-length fields, each bounded by its caller. After the first
// fault it yields zeros and keeps the error.
type reader struct {
	b   []byte
	err error
}

var (
	errShort = errors.New("ends too early")
	// errOverlong: a number has one encoding, so that equal things have equal bytes.
	errOverlong = errors.New("a number is not in its shortest form")
)

func (r *reader) uvarint(limit uint64) uint64 {
	if len(r.b) > 0 && r.b[0] < 0x80 && r.err == nil { // by far the most common
		v := uint64(r.b[0])
		if v <= limit {
			r.b = r.b[1:]
			return v
		}
	}
	v, n := binary.Uvarint(r.b)
	switch {
	case r.err != nil:
		return 0
	case n <= 0:
		r.err = errShort
		return 0
	case v > limit:
		r.err = fmt.Errorf("number %d above its limit %d", v, limit)
		return 0
	case n > 1 && r.b[n-1] == 0:
		r.err = errOverlong
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	switch {
	case r.err != nil:
		return 0
	case n <= 0:
		r.err = errShort
		return 0
	case n > 1 && r.b[n-1] == 0:
		r.err = errOverlong
		return 0
	}
	r.b = r.b[n:]
	return v
}

// bytes reads a length of at most limit and as many bytes, which alias the input.
func (r *reader) bytes(limit uint64) []byte {
	n := r.uvarint(limit)
	return r.take(n)
}

// text reads a length and as many bytes as a part of s, which is the text of all that
// the reader began with.
func (r *reader) text(s string) string {
	n := uint64(len(r.bytes(uint64(len(r.b)))))
	if r.err != nil {
		return ""
	}
	end := uint64(len(s) - len(r.b))
	return s[end-n : end]
}

func (r *reader) take(n uint64) []byte {
	if r.err != nil {
		return nil
	}
	if n > uint64(len(r.b)) {
		r.err = errShort
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) u64() uint64 {
	b := r.take(8)
	if r.err != nil {
		return 0
	}
	return binary.LittleEndian.Uint64(b)
}

// done reports a fault, or bytes that were left over.
func (r *reader) done() error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	return r.err
}

// fault is the error so far, for messages: never nil.
func (r *reader) fault() error {
	if r.err == nil {
		return errors.New("counts differ")
	}
	return r.err
}

// decompress returns rawLen bytes, in dst if they fit there. rawLen is trusted to be
// bounded by the caller.
func decompress(dst []byte, codec Codec, b []byte, rawLen int) ([]byte, error) {
	switch codec {
	case CodecNone:
		if len(b) != rawLen {
			return nil, corrupt("plain data", "%d bytes, want %d", len(b), rawLen)
		}
		return b, nil
	case CodecS2:
		if n, err := s2.DecodedLen(b); err != nil || n != rawLen {
			return nil, corrupt("s2 data", "decoded length %d, want %d", n, rawLen)
		}
		if cap(dst) < rawLen {
			dst = make([]byte, rawLen)
		}
		out, err := s2.Decode(dst[:rawLen], b)
		if err != nil {
			return nil, &CorruptError{What: "s2 data", Err: err}
		}
		return out, nil
	case CodecZstd:
		d, err := getZstdDecoder()
		if err != nil {
			return nil, err
		}
		defer zstdDecoders.Put(d)
		if cap(dst) < rawLen {
			dst = make([]byte, 0, rawLen)
		}
		// The frame states its size; one that lies would grow the output beyond rawLen.
		var h zstd.Header
		if err := h.Decode(b); err != nil || !h.HasFCS || h.FrameContentSize != uint64(rawLen) {
			return nil, corrupt("zstd data", "frame states %d bytes, want %d", h.FrameContentSize, rawLen)
		}
		out, err := d.DecodeAll(b, dst[:0])
		if err != nil || len(out) != rawLen {
			return nil, &CorruptError{What: "zstd data", Err: errors.Join(err, fmt.Errorf("%d bytes, want %d", len(out), rawLen))}
		}
		return out, nil
	}
	return nil, fmt.Errorf("%w: codec %d", ErrVersion, codec)
}
