package segment

import (
	"sync"

	"github.com/klauspost/compress/zstd"
)

// Encoders and decoders are costly to make and are for one use at a time.
var zstdDecoders, zstdEncoders sync.Pool

func getZstdDecoder() (*zstd.Decoder, error) {
	if d, ok := zstdDecoders.Get().(*zstd.Decoder); ok {
		return d, nil
	}
	// Our chunks have checksums of their own; the frames carry none.
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.IgnoreChecksum(true),
		zstd.WithDecoderMaxMemory(2*MaxPayload), zstd.WithDecoderMaxWindow(2*MaxPayload), zstd.WithDecoderLowmem(true))
}

func getZstdEncoder() (*zstd.Encoder, error) {
	if e, ok := zstdEncoders.Get().(*zstd.Encoder); ok {
		return e, nil
	}
	return zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithWindowSize(1<<20),
		zstd.WithAllLitEntropyCompression(true), zstd.WithLowerEncoderMem(true))
}

// compress appends b to dst, as zstd if that saves at least 6 %.
func compress(dst, b []byte) ([]byte, Codec, error) {
	if len(b) < 64 {
		return append(dst, b...), CodecNone, nil
	}
	e, err := getZstdEncoder()
	if err != nil {
		return nil, 0, err
	}
	defer zstdEncoders.Put(e)
	n := len(dst)
	dst = e.EncodeAll(b, dst)
	if len(dst)-n > len(b)-len(b)/16 {
		return append(dst[:n], b...), CodecNone, nil
	}
	return dst, CodecZstd, nil
}
