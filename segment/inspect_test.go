package segment

import (
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

func TestInspect(t *testing.T) {
	fsys := vfs.NewMem()
	l := newTestLog(t)
	newGenerator(seeded(t, 1)).log(l, 6, 300)
	l.append(&Batch{Streams: []*Stream{NewStream("t", Labels{{"app", "\x1b[2J"}})}, Rows: []Row{{Line: []byte("x")}}})
	path := l.seal(fsys, 2)
	in, err := Inspect(fsys, path)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	n, err := in.WriteTo(&b)
	if err != nil || n != int64(b.Len()) {
		t.Fatalf("wrote %d of %d bytes: %v", n, b.Len(), err)
	}
	t.Log(b.String())
}
