package cli

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress writes messages to the standard error, around a bar where there is one.
type progress struct {
	w   io.Writer
	bar *progressbar.ProgressBar // nil: no bar
}

// newProgress returns a progress. With total, the number of bytes to do, it has a bar.
func newProgress(w io.Writer, total int64) *progress {
	p := &progress{w: w}
	if total > 0 {
		p.bar = progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(w),
			progressbar.OptionShowBytes(true),
			progressbar.OptionUseIECUnits(true),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetWidth(30),
			progressbar.OptionClearOnFinish(),
		)
	}
	return p
}

// add counts bytes that are done.
func (p *progress) add(n int) {
	if p.bar != nil {
		_ = p.bar.Add(n) // A bar that cannot be drawn is no failure of the work.
	}
}

// printf writes a line, free of what a terminal would obey.
func (p *progress) printf(format string, args ...any) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.w, "%s\n", strings.TrimSuffix(escapeText(fmt.Sprintf(format, args...)), "\n"))
}

// close removes the bar.
func (p *progress) close() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
