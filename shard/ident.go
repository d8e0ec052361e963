package shard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// Ident says whose replica of which log a folder holds. It is written once.
type Ident struct {
	ClusterID string `json:"cluster_id"`
	Shard     uint32 `json:"shard"`
	LogID     uint64 `json:"log_id"`
	Node      string `json:"node"`    // the node's name when the replica was made; for people
	Replica   string `json:"replica"` // the node folder's uuid and the replica's incarnation
	Format    int    `json:"format"`
}

// format is the version of the layout of a shard's folder.
const format = 1

const identMagic = "LCIDENT\x00"

const (
	identName = "IDENT"
	identCopy = "IDENT.copy"
)

// writeIdent writes both copies, IDENT last: where it is, the rest of a new replica is.
func writeIdent(fsys vfs.FS, dir string, id Ident) error {
	id.Format = format
	payload, err := json.Marshal(id)
	if err != nil {
		return err
	}
	b := encodeEnvelope(identMagic, payload)
	if err := vfs.WriteFile(fsys, dir+"/"+identCopy, b); err != nil {
		return err
	}
	return vfs.WriteFile(fsys, dir+"/"+identName, b)
}

// readIdent reads IDENT, and its copy to replace either that is damaged. If IDENT is
// not there the error is fs.ErrNotExist. What was replaced is returned as damage.
func readIdent(fsys vfs.FS, dir string) (id Ident, damage, err error) {
	id, err = readIdentFile(fsys, dir+"/"+identName)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil, err
	}
	second, serr := readIdentFile(fsys, dir+"/"+identCopy)
	switch {
	case err == nil && serr == nil:
		return id, nil, nil
	case err == nil && !errors.Is(serr, segment.ErrCorrupt) && !errors.Is(serr, fs.ErrNotExist):
		return id, nil, serr
	case err == nil:
		damage = serr
	case errors.Is(err, segment.ErrCorrupt) && serr == nil:
		id, damage = second, err
	default:
		return id, nil, err
	}
	return id, damage, writeIdent(fsys, dir, id)
}

func readIdentFile(fsys vfs.FS, path string) (Ident, error) {
	var id Ident
	payload, err := readEnvelope(fsys, path, identMagic, 64<<10)
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(payload, &id); err != nil {
		return id, &segment.CorruptError{Path: path, What: "ident", Err: err}
	}
	if id.Format > format {
		return id, fmt.Errorf("%q: %w %d of a shard's folder: use a later release", path, segment.ErrVersion, id.Format)
	}
	return id, nil
}

// encodeEnvelope puts a payload behind a magic word, its length and checksum.
func encodeEnvelope(magic string, payload []byte) []byte {
	b := append([]byte(magic), make([]byte, 8)...)
	putU32(b[8:], uint32(len(payload)))
	b = append(b, payload...)
	putU32(b[12:], segment.Checksum(b[16:]))
	return b
}

func readEnvelope(fsys vfs.FS, path, magic string, limit int64) ([]byte, error) {
	b, err := vfs.ReadFile(fsys, path, limit)
	if errors.Is(err, vfs.ErrTooLarge) {
		return nil, &segment.CorruptError{Path: path, What: "file", Err: err}
	}
	if err != nil {
		return nil, err
	}
	if len(b) < 16 || string(b[:8]) != magic {
		return nil, &segment.CorruptError{Path: path, What: "file", Err: errors.New("no such file begins like this")}
	}
	if uint64(getU32(b[8:])) != uint64(len(b)-16) || segment.Checksum(b[16:]) != getU32(b[12:]) {
		return nil, &segment.CorruptError{Path: path, What: "file", Err: errors.New("length or checksum differ")}
	}
	return b[16:], nil
}
