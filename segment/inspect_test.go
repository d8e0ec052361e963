package segment

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/internal/vfs/vfstest"
)

func TestInspect(t *testing.T) {
	fsys := vfs.NewMem()
	l := newTestLog(t)
	newGenerator(seeded(t, 1)).log(l, 6, 300)
	l.append(&Batch{Streams: []*Stream{NewStream("t", Labels{{"\x1b[1m", "\x1b[2J"}})}, Rows: []Row{{Line: []byte("x")}}})
	path := l.seal(fsys, 2)
	in, err := Inspect(vfstest.OpenTracking(t, fsys), path)
	if err != nil {
		t.Fatal(err)
	}
	s := openSegment(t, fsys, path)
	if in.Sealed != s.Sealed || in.LogID != l.at.LogID || len(in.Streams) != len(s.Streams()) || len(in.Blocks) != len(s.Blocks) || in.Major != formatMajor {
		t.Fatalf("inspected as %+v", in)
	}
	// Header, chunks, tables, leaves and trailer make up the whole file.
	total := uint64(fileHeaderSize + trailerSize + in.Leaves*leafSize)
	for _, b := range in.Blocks {
		for _, c := range b.Chunks {
			total += c.size()
		}
	}
	for _, c := range in.Tables {
		total += c.size()
	}
	if total != in.Length {
		t.Fatalf("the parts have %d bytes, the file %d", total, in.Length)
	}
	var b strings.Builder
	n, err := in.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, b.Len(), err)
	}
	if strings.ContainsFunc(b.String(), func(r rune) bool { return r < ' ' && r != '\n' }) {
		t.Fatalf("a label reaches the terminal as it is: %q", b.String())
	}
	for _, want := range []string{path, `"\x1b[1m"="\x1b[2J"`, "FALLBACK", "block 3:", in.Root.String()} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	fsys := vfs.NewMem()
	tracked := vfstest.OpenTracking(t, fsys)
	if _, err := Inspect(tracked, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	writeBytes(t, fsys, "text", []byte(strings.Repeat("no segment ", 100)))
	if _, err := Inspect(tracked, "text"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("another file: %v", err)
	}
	if _, err := Verify(tracked, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("verify of a missing file: %v", err)
	}
	// A chunk header that is not the one of the index.
	path := smallLog(t).seal(fsys, 1)
	if err := fsys.Corrupt(path, fileHeaderSize+9, 0x40); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(tracked, path); !errors.Is(err, ErrCorrupt) {
		t.Errorf("a bad chunk header: %v", err)
	}
}
