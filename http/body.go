package http

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// readBody receives the body of a push as it was sent, at most MaxBody bytes of it.
func (s *Server) readBody(r *http.Request, l *lease) (*buffer, error) {
	limit := s.options.Ingest.MaxBody
	if r.ContentLength > limit {
		return nil, tooLarge("the body is %d bytes, the limit is %d: send less at a time", r.ContentLength, limit)
	}
	buf, err := l.buffer(r.ContentLength)
	if err != nil {
		return nil, err
	}
	within, err := l.fill(buf, r.Body, r.ContentLength, limit)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		// Not 408: senders drop what is answered by a 4xx, and a slow network is no
		// fault of the lines.
		return nil, unavailable("the body came too slowly: %d bytes in %s", len(buf.b), s.options.Timeouts.Body)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, badRequest("the body ended after %d bytes, %d were announced", len(buf.b), r.ContentLength)
	case err != nil && r.Context().Err() == nil && !isStatus(err):
		return nil, badRequest("cannot read the body after %d bytes: %v", len(buf.b), err)
	case err != nil:
		return nil, err
	case !within:
		return nil, tooLarge("the body is larger than the limit of %d bytes: send less at a time", limit)
	}
	return buf, nil
}

func isStatus(err error) bool {
	var status *statusError
	return errors.As(err, &status)
}

// contentEncoding returns the one encoding of a body in lower case, "" for none.
// Encodings in encodings are refused: nobody needs them but decompression bombs.
func contentEncoding(h http.Header) (string, error) {
	var found []string
	for _, value := range h.Values("Content-Encoding") {
		for part := range strings.SplitSeq(value, ",") {
			if part = strings.ToLower(strings.TrimSpace(part)); part != "" && part != "identity" {
				found = append(found, part)
			}
		}
	}
	if len(found) > 1 {
		return "", unsupported("Content-Encoding", strings.Join(found, ", "), "one of gzip, zstd, deflate")
	}
	if len(found) == 0 {
		return "", nil
	}
	if found[0] == "x-gzip" {
		return "gzip", nil
	}
	return found[0], nil
}

func unsupported(what, value, supported string) error {
	return &statusError{code: http.StatusUnsupportedMediaType, text: fmt.Sprintf("%s %q is not supported: send %s", what, value, supported)}
}

// decompress returns the decoded body, at most MaxDecoded bytes of it.
func (s *Server) decompress(l *lease, body *buffer, encoding string) (*buffer, error) {
	m := l.memory
	source := bytes.NewReader(body.b)
	var decoder io.Reader
	var err error
	switch encoding {
	case "":
		return body, nil
	case "gzip":
		z, failed := m.gzipReader(source)
		if failed == nil {
			defer m.gzips.Put(z)
		}
		decoder, err = z, failed
	case "zstd":
		if err := l.charge(maxWindow); err != nil {
			return nil, err
		}
		defer func() { l.charged -= maxWindow }()
		z, failed := m.zstdReader(source)
		if failed == nil {
			defer func() {
				if z.Reset(nil) == nil { // Lets go of the body.
					m.zstds.Put(z)
				}
			}()
		}
		decoder, err = z, failed
	case "deflate":
		decoder, err = deflateReader(source)
	default:
		return nil, unsupported("Content-Encoding", encoding, "gzip, zstd or deflate, or none")
	}
	if err != nil {
		return nil, badRequest("the body is not %s: %v", encoding, err)
	}
	out, err := l.buffer(-1)
	if err != nil {
		return nil, err
	}
	within, err := l.fill(out, decoder, -1, s.options.Ingest.MaxDecoded)
	switch {
	case errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		// A frame in one segment has its content for a window.
		return nil, badRequest("the zstd window is larger than the limit of %d bytes: compress with level 19 or less and without --long", maxWindow)
	case err != nil && !isStatus(err) && l.ctx.Err() == nil:
		return nil, badRequest("the %s body is damaged after %d decoded bytes: %v", encoding, len(out.b), err)
	case err != nil:
		return nil, err
	case !within:
		return nil, tooLarge("the decompressed body is larger than the limit of %d bytes: send less at a time", s.options.Ingest.MaxDecoded)
	}
	return out, nil
}

// deflateReader reads what RFC 9110 calls deflate, the zlib format, and what some send
// under that name, raw deflate.
func deflateReader(source *bytes.Reader) (io.Reader, error) {
	var head [2]byte
	if n, _ := source.ReadAt(head[:], 0); n == 2 && head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(source)
	}
	return flate.NewReader(source), nil
}

// mediaType returns the media type of a Content-Type header in lower case, without its
// parameters, however badly they are written.
func mediaType(h http.Header) string {
	value := h.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(value); err == nil {
		return t
	}
	value, _, _ = strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(value))
}
