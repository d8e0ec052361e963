package shard

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// benchFrame is 1,000 lines of about 137 bytes as one frame.
func benchFrame(b *testing.B) *segment.Frame {
	batch := &segment.Batch{Streams: testStreams}
	for i := range 1000 {
		line := fmt.Appendf(nil, "2026-05-04T12:%02d:%02d.%03dZ INFO request %08x of user %d served by worker %d in %d ms: GET /api/v1/items/%d 200 %d bytes, cache miss",
			i/60%60, i%60, i*7%1000, i*2654435761, i*31%977, i%8, i*13%450, i*17%9999, i*101%65536)
		batch.Rows = append(batch.Rows, segment.Row{Timestamp: int64(i) * 1e6, Line: line, Stream: uint32(i / 500)})
	}
	frames, err := framesOf(batch)
	if err != nil || len(frames) != 1 {
		b.Fatal(len(frames), err)
	}
	return frames[0]
}

// BenchmarkAppend appends frames to a shard on real files, with the encoder at work
// beside it as far as it comes.
func BenchmarkAppend(b *testing.B) {
	frame := benchFrame(b)
	for _, parallel := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("fs=disk/lines=1000/parallel=%d", parallel), func(b *testing.B) {
			var fsyncs atomic.Int64
			n := newBench(vfs.OS{})
			dir := b.TempDir()
			n.root = dir + "/"
			n.options.Dir = dir + "/shards/3"
			n.options.MaxBacklog = 1 << 50
			n.options.ObserveFsync = func(float64) { fsyncs.Add(1) }
			if err := n.start(); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(frame.Header.RawLength))
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var group sync.WaitGroup
			for range parallel {
				group.Go(func() {
					for left.Add(-1) >= 0 {
						f := &segment.Frame{Header: frame.Header, Payload: frame.Payload, Streams: frame.Streams}
						if _, _, err := n.shard.Append(context.Background(), []*segment.Frame{f}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			group.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "lines/s")
			b.ReportMetric(float64(fsyncs.Load())/float64(b.N), "fsyncs/op")
			if err := n.stop(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkOpen opens a shard whose tail holds many records of one line, as after a
// power loss: no block is left.
func BenchmarkOpen(b *testing.B) {
	const records = 100_000
	mem := vfs.NewMem()
	n := newBench(mem)
	n.options.MaxBacklog = 1 << 50
	if err := n.start(); err != nil {
		b.Fatal(err)
	}
	n.shard.sealMu.Lock() // no block
	for i := 0; i < records; i += 1000 {
		var frames []*segment.Frame
		for k := range 1000 {
			f, err := framesOf(batch(0, i+k, 1, ""))
			if err != nil {
				b.Fatal(err)
			}
			frames = append(frames, f...)
		}
		if _, _, err := n.shard.Append(context.Background(), frames); err != nil {
			b.Fatal(err)
		}
	}
	n.shard.sealMu.Unlock()
	if err := n.stop(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m := newBench(mem.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashDropUnsynced}))
		if err := m.open(); err != nil {
			b.Fatal(err)
		}
		if err := m.stop(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
}
