package segment

import (
	"encoding/binary"
	"fmt"
)

// Version of the file format: a reader refuses a file of a later major version and of
// required feature bits that it does not know.
const (
	formatMajor = 1
	formatMinor = 0

	requiredFolds = 1 << 0        // DICT, and templates in COLUMNS that refer to it
	requiredKnown = requiredFolds // required feature bits that this version reads

	optionalFilters = 1 // optional feature bit: there is FILTERS
)

const (
	fileMagic        = "LCSEG\r\n\x1a"
	fileMagicReverse = "\x1a\n\rGESCL"

	fileHeaderSize  = 64
	chunkHeaderSize = 16
	trailerSize     = 256
	leafExtent      = 256 << 10 // bytes of the file under one leaf hash
	leafSize        = 32

	// maxFile bounds every position in a segment file.
	maxFile = 64 << 30
)

// Limits of blocks and segments.
const (
	MaxBlockRows = 65536   // rows in a block
	MaxBlockRaw  = 8 << 20 // line bytes that a block is cut at
	MaxBlocks    = 1024    // blocks in a file

	maxChunk = 2 * MaxPayload // bytes of a chunk, stored or raw
)

// ChunkKind says what a chunk holds. The numbers are part of the format; those of
// encodings that this version does not write are reserved.
type ChunkKind uint8

// The chunks of a block.
const (
	ChunkTimestamps  ChunkKind = 1  // TS: timestamps of all rows
	ChunkTemplateIDs ChunkKind = 2  // TID: template of each row
	ChunkNumbers     ChunkKind = 3  // NUM: packed stream of numeric columns
	ChunkIDs         ChunkKind = 4  // ID: packed stream of dictionary ids
	ChunkStrings     ChunkKind = 5  // STR: packed stream of strings
	ChunkLengths     ChunkKind = 6  // LEN, reserved
	ChunkBinary      ChunkKind = 7  // BIN: packed stream of bits, and of bytes that do not compress
	ChunkExceptions  ChunkKind = 8  // WIDTH/EXC, reserved
	ChunkFallback    ChunkKind = 9  // FALLBACK: whole lines of rows without a template
	ChunkMetadata    ChunkKind = 10 // META: structured metadata
	ChunkOrder       ChunkKind = 11 // ORDER: how the rows stand in offset order
	ChunkColumns     ChunkKind = 12 // COLUMNS: which template has which values where
)

// The chunks of a whole segment.
const (
	ChunkStreams           ChunkKind = 32 // STREAMS: the streams by reference
	ChunkTemplates         ChunkKind = 33 // TEMPLATES: what lines have in common
	ChunkMetadataTemplates ChunkKind = 34 // METATEMPLATES, reserved
	ChunkDictionary        ChunkKind = 35 // DICT, reserved
	ChunkFilters           ChunkKind = 36 // FILTERS: what no value is, and parts of the filter of values
	ChunkIndex             ChunkKind = 37 // INDEX: the directory of the blocks
	ChunkOpenBlock         ChunkKind = 38 // only in open-N.aux: one block's directory and additions
)

var chunkNames = map[ChunkKind]string{
	ChunkTimestamps: "TS", ChunkTemplateIDs: "TID", ChunkNumbers: "NUM", ChunkIDs: "ID", ChunkStrings: "STR", ChunkLengths: "LEN",
	ChunkBinary: "BIN", ChunkExceptions: "EXC", ChunkFallback: "FALLBACK", ChunkMetadata: "META", ChunkOrder: "ORDER", ChunkColumns: "COLUMNS",
	ChunkStreams: "STREAMS", ChunkTemplates: "TEMPLATES", ChunkMetadataTemplates: "METATEMPLATES", ChunkDictionary: "DICT",
	ChunkFilters: "FILTERS", ChunkIndex: "INDEX", ChunkOpenBlock: "OPENBLOCK",
}

func (k ChunkKind) String() string {
	if s, ok := chunkNames[k]; ok {
		return s
	}
	return fmt.Sprintf("KIND(%d)", uint8(k))
}

// fileHeader is the first 64 bytes of a segment file.
type fileHeader struct {
	Major, Minor       uint16 // as read; what is written is always today's
	Required, Optional uint32
	UUID               [16]byte
	FirstOffset        uint64
	Entries            uint64
}

func (h *fileHeader) encode() []byte {
	b := make([]byte, fileHeaderSize)
	le := binary.LittleEndian
	copy(b, fileMagic)
	le.PutUint16(b[8:], formatMajor)
	le.PutUint16(b[10:], formatMinor)
	le.PutUint32(b[12:], h.Required)
	le.PutUint32(b[16:], h.Optional)
	copy(b[24:], h.UUID[:])
	le.PutUint64(b[40:], h.FirstOffset)
	le.PutUint64(b[48:], h.Entries)
	le.PutUint32(b[60:], Checksum(b[:60]))
	return b
}

func parseFileHeader(b []byte) (fileHeader, error) {
	var h fileHeader
	le := binary.LittleEndian
	if len(b) < fileHeaderSize || string(b[:8]) != fileMagic {
		return h, corrupt("segment header", "no segment file begins like this")
	}
	if sum := Checksum(b[:60]); sum != le.Uint32(b[60:]) {
		return h, corrupt("segment header", "checksum %#08x, want %#08x", sum, le.Uint32(b[60:]))
	}
	h = fileHeader{Major: le.Uint16(b[8:]), Minor: le.Uint16(b[10:]), Required: le.Uint32(b[12:]), Optional: le.Uint32(b[16:]),
		FirstOffset: le.Uint64(b[40:]), Entries: le.Uint64(b[48:])}
	if h.Major != formatMajor {
		return h, fmt.Errorf("%w %d of a segment file: this release reads version %d", ErrVersion, h.Major, formatMajor)
	}
	copy(h.UUID[:], b[24:])
	if unknown := h.Required &^ requiredKnown; unknown != 0 {
		return h, fmt.Errorf("%w: feature bits %#x of a segment file: use a later release", ErrVersion, unknown)
	}
	return h, nil
}

// Extent is a part of a file.
type Extent struct {
	Offset uint64
	Length uint32
}

// The extents that the trailer names.
const (
	extentIndex = iota
	extentLeaves
	extentStreams
	extentOrder // zero: ORDER is kept per block
	extentTemplates
	extentDictionary
	extentFilters
	extentCount
)

// trailer is the last 256 bytes of a segment file.
type trailer struct {
	Extents                  [extentCount]Extent
	Rows, RawBytes           uint64
	MinTimestamp             int64
	MaxTimestamp             int64
	Digest                   uint64 // Σ h·(offset+1) over the entries
	FirstIndex, LastIndex    uint64 // of the records that the file stands for
	FirstOffset, EndOffset   uint64 // [first, end), gaps included
	LogID                    uint64
	Blocks                   uint32
	Chain                    Chain // of the record LastIndex
	Root                     Root
	versionMajor, versionMin uint16
}

// Root is SHA-256 over a file's leaf hashes and its trailer: it stands for every byte.
type Root [32]byte

func (r Root) String() string { return fmt.Sprintf("%x", r[:]) }

// trailerRoot is where the root stands in the trailer; the root covers what is before it.
const trailerRoot = 212

func (t *trailer) encode() []byte {
	b := make([]byte, trailerSize)
	le := binary.LittleEndian
	for i, e := range t.Extents {
		le.PutUint64(b[12*i:], e.Offset)
		le.PutUint32(b[12*i+8:], e.Length)
	}
	for i, v := range []uint64{t.Rows, t.RawBytes, uint64(t.MinTimestamp), uint64(t.MaxTimestamp), t.Digest,
		t.FirstIndex, t.LastIndex, t.FirstOffset, t.EndOffset, t.LogID} {
		le.PutUint64(b[88+8*i:], v)
	}
	le.PutUint16(b[168:], formatMajor)
	le.PutUint16(b[170:], formatMinor)
	le.PutUint32(b[172:], t.Blocks)
	copy(b[176:], t.Chain[:])
	copy(b[trailerRoot:], t.Root[:])
	le.PutUint32(b[244:], Checksum(b[:244]))
	copy(b[248:], fileMagicReverse)
	return b
}

func parseTrailer(b []byte) (trailer, error) {
	var t trailer
	le := binary.LittleEndian
	if len(b) != trailerSize || string(b[248:]) != fileMagicReverse {
		return t, corrupt("segment trailer", "no segment file ends like this: it may be cut short")
	}
	if sum := Checksum(b[:244]); sum != le.Uint32(b[244:]) {
		return t, corrupt("segment trailer", "checksum %#08x, want %#08x", sum, le.Uint32(b[244:]))
	}
	for i := range t.Extents {
		t.Extents[i] = Extent{le.Uint64(b[12*i:]), le.Uint32(b[12*i+8:])}
	}
	u := func(i int) uint64 { return le.Uint64(b[88+8*i:]) }
	t.Rows, t.RawBytes, t.MinTimestamp, t.MaxTimestamp, t.Digest = u(0), u(1), int64(u(2)), int64(u(3)), u(4)
	t.FirstIndex, t.LastIndex, t.FirstOffset, t.EndOffset, t.LogID = u(5), u(6), u(7), u(8), u(9)
	t.versionMajor, t.versionMin, t.Blocks = le.Uint16(b[168:]), le.Uint16(b[170:]), le.Uint32(b[172:])
	copy(t.Chain[:], b[176:])
	copy(t.Root[:], b[trailerRoot:])
	if t.versionMajor != formatMajor {
		return t, fmt.Errorf("%w %d of a segment file: this release reads version %d", ErrVersion, t.versionMajor, formatMajor)
	}
	if t.Blocks > MaxBlocks || t.Rows > MaxBlocks*MaxBlockRows || t.EndOffset < t.FirstOffset || t.LastIndex < t.FirstIndex || t.MaxTimestamp < t.MinTimestamp {
		return t, corrupt("segment trailer", "counts out of bounds: %d blocks, %d rows", t.Blocks, t.Rows)
	}
	return t, nil
}
