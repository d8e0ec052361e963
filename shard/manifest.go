package shard

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// manifest is the durable snapshot of a shard: STATE, which all replicas share, and
// LOCAL, which is this replica's. It is written before anything is done that relies on
// it: before the first record goes into a new tail file, and before a file is removed.
//
// There are two copies, written one after the other: damage to one of them is repaired
// from the other. No step that relies on a manifest is taken before both are written,
// so the older of two that differ is as good.
type manifest struct {
	Sequence uint64
	State    state
	Tails    []manifestTail
	Damages  []Damage
}

// manifestTail names a tail file, and repeats what its header says.
type manifestTail struct {
	Number uint64
	First  position
}

const manifestTailSize = 8 + 3*8 + 16 + 1

// A Damage is a part of a tail file that cannot be read, and what it held.
type Damage struct {
	File     uint64 // number of the tail file
	Position int64  // of the first bad byte
	Loss
}

const (
	manifestMagic = "LCMANIF\x01"
	manifestLimit = 64 << 20
	manifestName  = "MANIFEST"
	manifestCopy  = "MANIFEST.copy"
)

func (m *manifest) encode() []byte {
	var st encoder
	m.State.encode(&st)
	e := encoder{}
	e.u64(m.Sequence)
	e.u32(uint32(len(st.b)))
	e.raw(st.b)
	e.u32(uint32(len(m.Tails)))
	for _, t := range m.Tails {
		e.u64(t.Number)
		t.First.encode(&e)
	}
	e.u32(uint32(len(m.Damages)))
	for i := range m.Damages {
		e.u64(m.Damages[i].File)
		e.u64(uint64(m.Damages[i].Position))
		m.Damages[i].Loss.encode(&e)
	}
	return encodeEnvelope(manifestMagic, e.b)
}

func (m *manifest) decode(payload []byte) error {
	d := decoder{b: payload}
	m.Sequence = d.u64()
	st := decoder{b: d.take(d.count(1))}
	if err := m.State.decode(&st); err != nil {
		return fmt.Errorf("STATE: %w", err)
	}
	for range d.count(manifestTailSize) {
		t := manifestTail{Number: d.u64()}
		t.First.decode(&d)
		m.Tails = append(m.Tails, t)
	}
	for range d.count(16 + lossSize) {
		dam := Damage{File: d.u64(), Position: int64(d.u64())}
		dam.Loss.decode(&d)
		m.Damages = append(m.Damages, dam)
	}
	if d.err == nil && len(d.b) != 0 {
		d.err = fmt.Errorf("%d bytes too many", len(d.b))
	}
	if d.err == nil && len(m.Tails) == 0 {
		return errors.New("LOCAL: no tail file")
	}
	for i := 1; i < len(m.Tails); i++ {
		if m.Tails[i].Number <= m.Tails[i-1].Number {
			return errors.New("LOCAL: tail files out of order")
		}
	}
	return d.err
}

// writeManifest replaces both copies.
func writeManifest(fsys vfs.FS, dir string, m *manifest) error {
	return writeManifestBytes(fsys, dir, m.encode())
}

func writeManifestBytes(fsys vfs.FS, dir string, b []byte) error {
	if err := vfs.WriteFile(fsys, dir+"/"+manifestName, b); err != nil {
		return err
	}
	return vfs.WriteFile(fsys, dir+"/"+manifestCopy, b)
}

// readManifest returns the newer of the copies that are whole, and whether they are the
// same. The error of a copy that is damaged is returned beside it.
func readManifest(fsys vfs.FS, dir string) (m *manifest, same bool, damage, err error) {
	var faults []error
	same = true
	for _, name := range []string{manifestName, manifestCopy} {
		path := dir + "/" + name
		payload, err := readEnvelope(fsys, path, manifestMagic, manifestLimit)
		if err == nil {
			n := &manifest{}
			if err = n.decode(payload); err == nil {
				same = same && (m == nil || n.Sequence == m.Sequence)
				if m == nil || n.Sequence > m.Sequence {
					m = n
				}
				continue
			}
			err = &segment.CorruptError{Path: path, What: "manifest", Err: err}
		}
		if !errors.Is(err, segment.ErrCorrupt) && !errors.Is(err, fs.ErrNotExist) {
			return nil, false, nil, err
		}
		same = false
		faults = append(faults, err)
	}
	if m == nil {
		return nil, false, nil, errors.Join(faults...)
	}
	return m, same, errors.Join(faults...), nil
}
