package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// TestStartEnds: a node that was told to end has done what it should, unless it says
// that something else went wrong.
func TestStartEnds(t *testing.T) {
	f := func(ended error, want int) {
		t.Helper()
		ctx, stop := contextWithCancel(t)
		p := testProgram()
		var stderr strings.Builder
		p.stdout, p.stderr = io.Discard, &stderr
		p.Start = func(ctx context.Context, _ StartOptions) error {
			stop()
			<-ctx.Done()
			return ended
		}
		if code := p.run(ctx, []string{"start"}); code != want || (want == 0) != (stderr.Len() == 0) {
			t.Errorf("start that ends with %v: exit %d, %s; want %d", ended, code, stderr.String(), want)
		}
	}
	f(nil, 0)
	f(context.Canceled, 0)
	f(fmt.Errorf("http: %w", context.Canceled), 0)
	f(errors.New("shard 3: disk full"), 1)
}

func TestHostnameUnknown(t *testing.T) {
	p := testProgram()
	p.hostname = func() (string, error) { return "", errors.New("no name") }
	if r := p.invoke(t, "start"); r.code != 2 || r.stdout != "" {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
	if r := p.invoke(t, "start", "--name", "a"); r.code != 0 {
		t.Errorf("exit %d, %s", r.code, r.stderr)
	}
}
