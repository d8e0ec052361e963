package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// writeSegment writes a sealed file of three entries and returns its path.
func writeSegment(t *testing.T) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	stream := segment.NewStream("default", segment.LabelsFromMap(map[string]string{"app": "web"}))
	batch := &segment.Batch{Streams: []*segment.Stream{stream}}
	for _, line := range []string{"one", "two", "three"} {
		batch.Rows = append(batch.Rows, segment.Row{Timestamp: 1_767_323_045_000_000_000, Line: []byte(line)})
	}
	var frames segment.FrameEncoder
	made, err := frames.Encode(batch, []uint32{0, 1, 2})
	must(err)
	defer made[0].Release()
	h := made[0].Header
	h.LogID, h.Index, h.Epoch, h.PreviousEpoch = 7, 1, 1, 1
	h.Chain = h.NextChain(segment.Chain{}, made[0].Payload)
	var decoder segment.FrameDecoder
	data, err := decoder.Decode(&h, made[0].Payload)
	must(err)
	path := filepath.Join(t.TempDir(), "open-1")
	open, err := segment.CreateOpen(vfs.NewOS(), path, h.LogID)
	must(err)
	var block segment.BlockEncoder
	block.Reset(0, h.Index, h.Offset)
	must(block.Add(&h, data, open.Streams()))
	_, err = open.Append(&block)
	must(err)
	sealed, err := open.Seal(segment.SealRange{FirstIndex: 1, LastIndex: 1, EndOffset: 3, Chain: h.Chain})
	must(err)
	must(open.Close())
	return filepath.Join(filepath.Dir(path), sealed.FileName())
}

func TestSegment(t *testing.T) {
	good := writeSegment(t)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(content)
	damaged[len(damaged)/2] ^= 1
	bad := writeFile(t, filepath.Base(good), string(damaged))
	absent := filepath.Join(t.TempDir(), "absent")
	f := func(args []string, code int, stdout, stderr []string) {
		t.Helper()
		r := testProgram().invoke(t, append([]string{"segment"}, args...)...)
		if r.code != code || (len(stderr) == 0) != (r.stderr == "") || (len(stdout) == 0) != (r.stdout == "") {
			t.Errorf("%q: exit %d, want %d\n%s\n%s", args, r.code, code, r.stdout, r.stderr)
		}
		for _, want := range stdout {
			if !strings.Contains(r.stdout, want) {
				t.Errorf("%q: %q is not in\n%s", args, want, r.stdout)
			}
		}
		for _, want := range stderr {
			if !strings.Contains(r.stderr, want) {
				t.Errorf("%q: %q is not in\n%s", args, want, r.stderr)
			}
		}
	}
	f([]string{"inspect", good}, 0, []string{"entries    3,", `{app="web"}`, "block 0"}, nil)
	f([]string{"inspect", absent}, 1, nil, []string{"absent: no such file"})
	f([]string{"inspect", good, bad}, 2, nil, []string{"takes one file"})
	f([]string{"verify"}, 2, nil, []string{"one or more files"})
	f([]string{"verify", good}, 0, []string{good + ": whole: entries 3, streams 1, blocks 1, lines of 11 B in "}, nil)
	f([]string{"verify", bad, absent, good}, 1, []string{bad + ": DAMAGED\n  ", good + ": whole"}, []string{"absent: no such file"})
	f([]string{"verify", writeFile(t, "x", "not a segment")}, 1, []string{"x: DAMAGED\n  "}, nil)
	f([]string{"frob"}, 2, nil, []string{"unknown command frob\nSee: logcluster segment --help"})
	f([]string{"inpsect", good}, 2, nil, []string{"did you mean inspect?"})
	f([]string{"inspect", "--raw", good}, 2, nil, []string{"unknown flag --raw\n"})
	f(nil, 0, []string{"logcluster segment COMMAND", "inspect", "verify"}, nil)
	f([]string{"verify", "--help"}, 0, []string{"logcluster segment verify FILE..."}, nil)
}
