package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ChunkRef is where a chunk stands and what it must be.
type ChunkRef struct {
	Kind     ChunkKind
	Offset   uint64 // in the file, of the chunk's header
	Encoded  uint32 // payload bytes in the file
	Raw      uint32 // payload bytes once decompressed
	FirstRow uint32 // rows of the block that it covers: [FirstRow, FirstRow+Rows)
	Rows     uint32
}

// size is the bytes from the chunk's header to the next chunk's.
func (r *ChunkRef) size() uint64 { return padded(chunkHeaderSize + uint64(r.Encoded)) }

func padded(n uint64) uint64 { return (n + 7) &^ 7 }

// appendChunk compresses raw and appends it as a chunk with header and padding. dst
// must begin at a multiple of 8 in the file. It returns the reference with Offset
// relative to dst.
func appendChunk(dst []byte, kind ChunkKind, block uint16, raw []byte) ([]byte, ChunkRef, error) {
	at := len(dst)
	dst = append(dst, make([]byte, chunkHeaderSize)...)
	dst, codec, err := compress(dst, raw)
	if err != nil {
		return nil, ChunkRef{}, err
	}
	n := len(dst) - at - chunkHeaderSize
	le := binary.LittleEndian
	le.PutUint32(dst[at:], uint32(n))
	le.PutUint32(dst[at+4:], uint32(len(raw)))
	dst[at+8], dst[at+9] = byte(codec), byte(kind)
	le.PutUint16(dst[at+10:], block)
	le.PutUint32(dst[at+12:], chunkSum(dst[at:]))
	for len(dst)%8 != 0 {
		dst = append(dst, 0)
	}
	return dst, ChunkRef{Kind: kind, Offset: uint64(at), Encoded: uint32(n), Raw: uint32(len(raw))}, nil
}

// chunkSum is the checksum of the first 12 bytes of the header and the payload; b
// begins with the header and ends with the payload.
func chunkSum(b []byte) uint32 {
	return checksumUpdate(Checksum(b[:12]), b[chunkHeaderSize:])
}

type chunkHeader struct {
	encoded, raw uint32
	codec        Codec
	kind         ChunkKind
	block        uint16
	sum          uint32
}

func parseChunkHeader(b []byte) (chunkHeader, error) {
	le := binary.LittleEndian
	h := chunkHeader{le.Uint32(b), le.Uint32(b[4:]), Codec(b[8]), ChunkKind(b[9]), le.Uint16(b[10:]), le.Uint32(b[12:])}
	// An unknown codec would have come with a required feature bit.
	if h.encoded > maxChunk || h.raw > maxChunk || h.codec > CodecZstd {
		return h, corrupt("chunk header", "out of bounds: stored %d bytes, raw %d, codec %d", h.encoded, h.raw, h.codec)
	}
	return h, nil
}

// A chunkReader reads chunks of one file and checks them.
type chunkReader struct {
	r    io.ReaderAt
	path string
}

// header reads the header of the chunk that must stand at a position. Its checksum
// covers the payload too, which is not read.
func (c chunkReader) header(kind ChunkKind, at uint64) (chunkHeader, error) {
	var b [chunkHeaderSize]byte
	var h chunkHeader
	err := readFull(c.r, b[:], int64(at))
	if err == nil {
		h, err = parseChunkHeader(b[:])
	}
	if err == nil && h.kind != kind {
		err = errors.New("its header is not the one that the index names")
	}
	if err != nil {
		return h, c.damage(&ChunkRef{Kind: kind, Offset: at}, err)
	}
	return h, nil
}

// load reads a whole chunk and checks header, checksum and padding. The caller gives
// the buffer back.
func (c chunkReader) load(ref *ChunkRef, block uint16) (*[]byte, chunkHeader, error) {
	if ref.Encoded > maxChunk || ref.Raw > maxChunk {
		return nil, chunkHeader{}, c.damage(ref, corrupt("chunk reference", "lengths out of bounds"))
	}
	pooled := getBuffer(int(ref.size()))
	h, err := c.loadInto(*pooled, ref, block)
	if err != nil {
		putBuffer(pooled)
		return nil, h, c.damage(ref, err)
	}
	return pooled, h, nil
}

func (c chunkReader) loadInto(b []byte, ref *ChunkRef, block uint16) (chunkHeader, error) {
	if err := readFull(c.r, b, int64(ref.Offset)); err != nil {
		return chunkHeader{}, err
	}
	h, err := parseChunkHeader(b)
	if err != nil {
		return h, err
	}
	if h.encoded != ref.Encoded || h.raw != ref.Raw || h.kind != ref.Kind || h.block != block {
		return h, errors.New("its header is not the one that the index names")
	}
	end := chunkHeaderSize + int(ref.Encoded)
	if sum := chunkSum(b[:end]); sum != h.sum {
		return h, fmt.Errorf("checksum %#08x, want %#08x", sum, h.sum)
	}
	for _, p := range b[end:] {
		if p != 0 {
			return h, errors.New("padding is not zero")
		}
	}
	return h, nil
}

// read returns the decompressed payload of a chunk, in new memory.
func (c chunkReader) read(ref *ChunkRef, block uint16) ([]byte, error) {
	return c.readInto(nil, ref, block)
}

// readInto is read into the memory of dst, if that is enough.
func (c chunkReader) readInto(dst []byte, ref *ChunkRef, block uint16) ([]byte, error) {
	pooled, h, err := c.load(ref, block)
	if err != nil {
		return nil, err
	}
	defer putBuffer(pooled)
	payload := (*pooled)[chunkHeaderSize : chunkHeaderSize+int(h.encoded)]
	out, err := decompress(dst, h.codec, payload, int(h.raw))
	if err != nil {
		return nil, c.damage(ref, err)
	}
	if h.codec == CodecNone {
		out = append(dst[:0], out...) // the buffer is given back
	}
	return out, nil
}

// check is read without decompressing.
func (c chunkReader) check(ref *ChunkRef, block uint16) error {
	pooled, _, err := c.load(ref, block)
	if err != nil {
		return err
	}
	putBuffer(pooled)
	return nil
}

// damage wraps what a chunk's reading found.
func (c chunkReader) damage(ref *ChunkRef, err error) error {
	return damaged(c.path, int64(ref.Offset), ref.Kind.String()+" chunk", err)
}

// readFull is io.ReaderAt with a short read as an error.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	n, err := r.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
