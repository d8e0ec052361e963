package segment

import (
	"runtime"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// TestMemoryBytes: the estimate is of the size of what the tables really take.
func TestMemoryBytes(t *testing.T) {
	l := newTestLog(t)
	newGenerator(seeded(t, 5)).log(l, 40, 300)
	fsys := vfs.NewMem()
	path := l.seal(fsys, 2)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what finalizers held
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n = 20
	before := heap()
	var open []*Segment
	estimate := int64(0)
	for range n {
		s := openSegment(t, fsys, path)
		open = append(open, s)
		estimate += s.MemoryBytes()
	}
	taken := int64(heap()) - int64(before)
	if estimate < taken*2/3 || estimate > taken*3/2 {
		t.Errorf("%d segments with %d streams and %d blocks each take %d bytes, the estimate is %d", n, len(open[0].Streams()), len(open[0].Blocks), taken, estimate)
	}
	runtime.KeepAlive(open)
}
