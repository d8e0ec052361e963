package segment

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// benchSets are logs by name: the *.log files of the folder SEGMENT_SAMPLES, or, without
// it, the log that the other benchmarks use.
func benchSets(b *testing.B) map[string][][]byte {
	sets := map[string][][]byte{}
	folder := os.Getenv("SEGMENT_SAMPLES")
	if folder == "" {
		batches, _ := benchLog(b, 20_000)
		for _, batch := range batches {
			for _, r := range batch.Rows {
				sets["made"] = append(sets["made"], r.Line)
			}
		}
		return sets
	}
	paths, err := filepath.Glob(filepath.Join(folder, "*.log"))
	if err != nil || len(paths) == 0 {
		b.Fatalf("no *.log in SEGMENT_SAMPLES=%q: %v", folder, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			b.Fatal(err)
		}
		sets[strings.TrimSuffix(filepath.Base(path), ".log")] = bytes.Split(bytes.TrimSuffix(text, []byte("\n")), []byte("\n"))
	}
	return sets
}

func setLog(b *testing.B, lines [][]byte) (l *testLog, size int) {
	l = newTestLog(b)
	stream := NewStream("default", Labels{{"app", "set"}})
	for first := 0; first < len(lines); first += 1000 {
		batch := &Batch{Streams: []*Stream{stream}}
		for i, line := range lines[first:min(first+1000, len(lines))] {
			size += len(line) + 1
			batch.Rows = append(batch.Rows, Row{Timestamp: 1_700_000_000_000_000_000 + int64(first+i)*1_000_000, Line: line})
		}
		l.append(batch)
	}
	return l, size
}

// BenchmarkEncodeSet makes a sealed file of each set. ratio is the set's bytes, with a
// newline a line, by those of the whole file.
func BenchmarkEncodeSet(b *testing.B) {
	raw, stored := 0, 0
	for name, lines := range benchSets(b) {
		b.Run("set="+name, func(b *testing.B) {
			l, size := setLog(b, lines)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			length := 0
			for b.Loop() {
				o := l.open(vfs.NewMem(), "open-1", 1<<30)
				s, err := o.Seal(l.sealRange())
				if err != nil {
					b.Fatal(err)
				}
				length = int(s.Length)
				o.Close()
			}
			b.ReportMetric(float64(size)/float64(length), "ratio")
			raw, stored = raw+size, stored+length
		})
	}
	b.Logf("all sets: %d bytes in %d, ratio %.2f", raw, stored, float64(raw)/float64(stored))
}

// BenchmarkRenderSet puts all lines of a set's sealed file together.
func BenchmarkRenderSet(b *testing.B) {
	for name, lines := range benchSets(b) {
		b.Run("set="+name, func(b *testing.B) {
			l, size := setLog(b, lines)
			o := l.open(vfs.NewMem(), "open-1", 1<<30)
			defer o.Close()
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				for _, block := range o.Blocks() {
					if err := block.verify(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
