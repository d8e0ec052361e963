package shard

import (
	"context"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

func TestAppendSealReopen(t *testing.T) {
	b := newBench(vfs.NewMem())
	n := 0
	for round := range 4 {
		ok(t, b.start())
		b.check(t, n)
		for range 5 {
			if _, err := b.append(batch(0, n, 100, "")); err != nil {
				t.Fatal(err)
			}
			n += 100
		}
		b.check(t, n)
		if round%2 == 1 {
			r, err := b.shard.Seal(context.Background())
			ok(t, err)
			if r.Segments != 1 || r.Entries != 1000 {
				t.Fatalf("sealed %+v", r)
			}
			b.check(t, n)
			if st := b.shard.Status(); st.TailFiles != 1 || st.OpenRows != 0 {
				t.Fatalf("after the seal: %+v", st)
			}
		}
		ok(t, b.stop())
		b.options.Create = false
	}
}
