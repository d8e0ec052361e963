package segment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// sealParts seals the log as several files, cut where cuts say: behind so many records.
func (l *testLog) sealParts(fsys vfs.FS, cuts []int, maxRecords int) []*Segment {
	l.t.Helper()
	var inputs []*Segment
	first, r := 0, SealRange{FirstIndex: 1}
	for i, cut := range append(cuts, len(l.records)) {
		last := &l.records[cut-1]
		r.LastIndex, r.EndOffset, r.Chain = last.Index, last.Offset+uint64(last.Count), last.Chain
		if i == len(cuts) {
			r.LastIndex, r.EndOffset, r.Chain = l.at.Index-1, l.at.Offset, l.at.Chain
		}
		o, err := CreateOpen(fsys, fmt.Sprint("open-", r.FirstIndex), l.at.LogID)
		if err != nil {
			l.t.Fatal(err)
		}
		l.encode(o, l.records[first:cut], maxRecords)
		sealed, err := o.Seal(r)
		if err == nil {
			err = errors.Join(o.Close(), RemoveOpen(fsys, o.path))
		}
		if err != nil {
			l.t.Fatal(err)
		}
		inputs = append(inputs, openSegment(l.t, fsys, sealed.FileName()))
		first, r.FirstIndex, r.FirstOffset = cut, r.LastIndex+1, r.EndOffset
	}
	return inputs
}

// rewriteAll makes one file of inputs.
func rewriteAll(fsys vfs.FS, inputs []*Segment) (Sealed, error) {
	o, err := CreateOpen(fsys, "merge-1", inputs[0].LogID)
	if err != nil {
		return Sealed{}, err
	}
	defer o.Close()
	w, err := NewRewriter(o, inputs)
	if err != nil {
		return Sealed{}, err
	}
	var e BlockEncoder
	for done := false; !done; {
		if done, err = w.Step(&e); err != nil {
			return Sealed{}, err
		}
	}
	return w.Seal()
}

// TestRewrite: a rewritten segment holds what its inputs held, at the same offsets, with
// the gaps, in fewer blocks.
func TestRewrite(t *testing.T) {
	joined := false
	for seed := range uint64(30) {
		rng := seeded(t, seed)
		g, l := newGenerator(rng), newTestLog(t)
		for range 2 + rng.IntN(8) {
			g.log(l, 1+rng.IntN(3), 1+rng.IntN(200))
			switch rng.IntN(3) {
			case 0:
				l.gap(1 + rng.Uint64N(1000))
			case 1:
				l.control()
			}
		}
		fsys := vfs.NewMem()
		var cuts []int
		for cut := 1; cut < len(l.records); cut += 1 + rng.IntN(3) {
			if l.records[cut-1].Type == RecordData {
				cuts = append(cuts, cut)
			}
		}
		// Every part needs an entry.
		kept := cuts[:0]
		first := 0
		for _, cut := range cuts {
			if hasData(l.records[first:cut]) && hasData(l.records[cut:]) {
				kept, first = append(kept, cut), cut
			}
		}
		inputs := l.sealParts(fsys, kept, 1+rng.IntN(3))
		sealed, err := rewriteAll(fsys, inputs)
		if err != nil {
			t.Fatal(err)
		}
		s := openSegment(t, fsys, sealed.FileName())
		if s.SealRange != l.sealRange() || s.Digest != l.digest() || s.Entries != uint64(len(l.entries)) {
			t.Fatalf("seed %d: %+v", seed, s.Sealed)
		}
		report, err := Verify(fsys, sealed.FileName())
		if err != nil || len(report.Faults) > 0 {
			t.Fatalf("seed %d: verify: %+v, %v", seed, report, err)
		}
		var got []Entry
		for _, tenant := range []string{"t", "other"} {
			q := everything()
			q.Tenant = tenant
			for _, u := range blockUnits(s.Blocks) {
				entries, err := u.Select(context.Background(), q)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, entries...)
			}
		}
		sameEntries(t, fmt.Sprint("seed ", seed), byOffset(got), l.entries)
		blocks := 0
		for _, in := range inputs {
			blocks += len(in.Blocks)
		}
		joined = joined || len(s.Blocks) < blocks
	}
	if !joined {
		t.Error("no blocks were joined")
	}
}

func hasData(records []testRecord) bool {
	for i := range records {
		if records[i].Type == RecordData {
			return true
		}
	}
	return false
}

// TestRewriteFillsBlocks: joined blocks stay in the format's bounds, and are as few as
// these allow.
func TestRewriteFillsBlocks(t *testing.T) {
	for _, c := range []struct {
		what               string
		parts, rows, bytes int
		want               int
	}{
		{"rows", 5, 30_000, 1, 3},                 // two fit into 65,536
		{"bytes", 5, 30, 100_000, 3},              // two of 3 MB fit into 8 MiB
		{"one row each", 100, 1, 10, 1},           // all fit
		{"larger than a block", 3, 1, 9 << 20, 3}, // each stands alone
	} {
		l := newTestLog(t)
		var cuts []int
		for i := range c.parts {
			b := &Batch{Streams: []*Stream{NewStream("t", LabelsFromMap(map[string]string{"part": fmt.Sprint(i % 3)}))}}
			for range c.rows {
				b.Rows = append(b.Rows, Row{Timestamp: int64(i), Line: bytes.Repeat([]byte{'a' + byte(i%26)}, c.bytes)})
			}
			if i > 0 {
				cuts = append(cuts, len(l.records))
			}
			l.append(b)
		}
		fsys := vfs.NewMem()
		sealed, err := rewriteAll(fsys, l.sealParts(fsys, cuts, 1000))
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		s := openSegment(t, fsys, sealed.FileName())
		if len(s.Blocks) != c.want {
			t.Errorf("%s: %d blocks, want %d", c.what, len(s.Blocks), c.want)
		}
	}
}

// TestRewriteRefuses: inputs that do not follow each other, are of another log, or do not
// hold what they say.
func TestRewriteRefuses(t *testing.T) {
	l := blockLog(t, 6)
	fsys := vfs.NewMem()
	inputs := l.sealParts(fsys, []int{2, 4}, 1)
	other := *inputs[1]
	other.LogID++
	for what, some := range map[string][]*Segment{
		"nothing": nil, "a hole": {inputs[0], inputs[2]}, "the wrong order": {inputs[1], inputs[0]}, "twice": {inputs[0], inputs[0]},
		"another log": {inputs[0], &other},
	} {
		o, err := CreateOpen(fsys, "merge-1", inputs[0].LogID)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewRewriter(o, some); err == nil {
			t.Errorf("%s: not refused", what)
		}
		if err := o.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// An early seal.
	o, err := CreateOpen(fsys, "merge-1", inputs[0].LogID)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewRewriter(o, inputs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Seal(); err == nil {
		t.Error("sealed before the last block")
	}
	// A directory that says another digest than its rows have, and a changed byte.
	block := *inputs[1].Blocks[0]
	meta := *block.Meta
	meta.Digest++
	block.Meta = &meta
	lying := *inputs[1]
	lying.Blocks = append([]*Block{&block}, lying.Blocks[1:]...)
	w.inputs = []*Segment{inputs[0], &lying, inputs[2]}
	if err := steps(w); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), lying.path) {
		t.Errorf("a wrong digest: %v", err)
	}
	if err := o.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range inputs[2].Blocks[0].Meta.Chunks {
		if err := fsys.Corrupt(inputs[2].path, int64(c.Offset)+chunkHeaderSize, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := rewriteAll(fsys, inputs); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a changed %s chunk: %v", c.Kind, err)
		}
		if err := fsys.Corrupt(inputs[2].path, int64(c.Offset)+chunkHeaderSize, 1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rewriteAll(fsys, inputs); err != nil {
		t.Errorf("whole again: %v", err)
	}
	// Sums that are not those of the blocks.
	inputs[0].Sealed.RawBytes++
	if _, err := rewriteAll(fsys, inputs); err == nil {
		t.Error("sums that differ are not refused")
	}
}

func steps(w *Rewriter) error {
	var e BlockEncoder
	for {
		if done, err := w.Step(&e); done || err != nil {
			return err
		}
	}
}
