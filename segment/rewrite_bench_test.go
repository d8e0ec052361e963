package segment

import (
	"fmt"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// BenchmarkRewrite joins segments of few and of full blocks; bytes are those of lines.
func BenchmarkRewrite(b *testing.B) {
	for _, rows := range []int{8_000, 60_000} {
		b.Run(fmt.Sprintf("inputs=8/rows=%d", rows), func(b *testing.B) {
			l, size := benchRecords(b, 8*rows)
			var cuts []int
			for i := 1; i < 8; i++ {
				cuts = append(cuts, len(l.records)*i/8)
			}
			fsys := vfs.NewMem()
			inputs := l.sealParts(fsys, cuts, 1<<20)
			before, after := uint64(0), uint64(0)
			for _, in := range inputs {
				before += in.Length
			}
			b.SetBytes(int64(size))
			for b.Loop() {
				sealed, err := rewriteAll(fsys, inputs)
				if err != nil {
					b.Fatal(err)
				}
				after = sealed.Length
				if err := RemoveSealed(fsys, ".", &sealed); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(after)/float64(before), "size/inputs")
		})
	}
}
