package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/logcluster/logcluster/http/client"
)

const (
	// liveDelay is how long a whole line waits at most for others to share its request.
	liveDelay = time.Second
	// longestLine is the longest line that any server can be set to take, in bytes. What
	// is longer is left out here, so that memory is bounded.
	longestLine = maxMaxLine
)

// A pusher sends inputs as batches, one at a time, so that they stay in order.
type pusher struct {
	options  *pushOptions
	client   *client.Client
	progress *progress
	session  string // begins every Idempotency-Key
	batches  int
	start    time.Time
	waiting  bool // it was told that the node does not take the current batch

	lines, refused int
	bytes          int64 // of all batches that were answered
	failed         bool
}

// input sends one input under a name.
func (u *pusher) input(ctx context.Context, name string, f *feed) error {
	labels := u.options.labels
	if len(labels) == 0 {
		labels = map[string]string{"source": strings.ToValidUTF8(filepath.Base(name), "?")}
	}
	format := client.Text
	if u.options.format == "ndjson" || u.options.format == "auto" && isNDJSON(name) {
		format = client.NDJSON
	}
	c := &cutter{
		maxLines: u.options.batchLines, maxBytes: int(u.options.batchBytes), maxLine: longestLine,
		send: func(b chunk) error { return u.send(ctx, name, labels, format, b) },
		tooLong: func(line int) {
			u.refuse(name, line, fmt.Sprintf("longer than %s, which no node takes", humanize.IBytes(longestLine)))
		},
	}
	// The timer runs while lines wait, from the first of them on.
	timer := time.NewTimer(liveDelay)
	timer.Stop()
	running := false
	for {
		select {
		case <-ctx.Done():
			return u.interrupted(name, c)
		case <-timer.C:
			running = false
			if err := c.flush(); err != nil {
				return err
			}
		case piece := <-f.pieces:
			sent := c.sent
			if err := c.add(piece.data); err != nil {
				return err
			}
			if piece.err != nil {
				return u.end(name, c, &piece)
			}
			if c.sent != sent || !c.waiting() {
				timer.Stop()
				running = false
			}
			if c.waiting() && !running {
				timer.Reset(liveDelay)
				running = true
			}
		}
	}
}

// end sends what is left of an input. After a failed read the line that it broke is not
// sent, as it is not known to be whole.
func (u *pusher) end(name string, c *cutter, last *piece) error {
	if err := last.readError(); err != nil {
		if err := c.flush(); err != nil {
			return err
		}
		u.fail("%s: read up to line %d: %s", name, c.sent, err)
		return nil
	}
	return c.finish()
}

func isNDJSON(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".ndjson", ".jsonl":
		return true
	}
	return false
}

// send sends one batch.
func (u *pusher) send(ctx context.Context, name string, labels map[string]string, format client.Format, b chunk) error {
	if format == client.NDJSON && len(bytes.TrimSpace(b.body)) == 0 {
		return nil // There is no object in it, and a node refuses a batch of nothing.
	}
	u.batches++
	u.waiting = false
	result, err := u.client.Ingest(ctx, client.Batch{
		Labels: labels,
		Body:   b.body,
		Format: format,
		Fields: u.options.fields,
		Key:    fmt.Sprintf("%s-%d", u.session, u.batches),
	})
	if err != nil {
		return notStored(name, b, err)
	}
	u.lines += result.Accepted
	u.bytes += int64(len(b.body))
	u.progress.add(len(b.body))
	for _, e := range result.Errors {
		u.refuse(name, b.first+e.Line-1, e.Reason)
	}
	if result.Omitted > 0 {
		u.refused += result.Omitted
		u.fail("%s: %d more of the lines %d to %d are refused", name, result.Omitted, b.first, b.first+b.lines-1)
	}
	return nil
}

// notStored says which lines are in doubt after a batch failed.
func notStored(name string, b chunk, err error) error {
	doubt := "it is not known which are stored"
	var status *client.StatusError
	if errors.As(err, &status) && !status.Temporary() {
		doubt = "none is stored"
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	return fmt.Errorf("%s: lines %d to %d: %w\nOf these, %s; all lines before them are stored, none after.",
		name, b.first, b.first+b.lines-1, explain(err, ""), doubt)
}

func (u *pusher) interrupted(name string, c *cutter) error {
	return fmt.Errorf("interrupted: %s is stored up to line %d", name, c.sent)
}

// notify tells, once a batch, that it has to wait.
func (u *pusher) notify(err error, _ time.Duration) {
	if !u.waiting && !u.options.quiet {
		u.progress.printf("waiting for the node: %s", err)
	}
	u.waiting = true
}

// refuse tells of a line that is not stored.
func (u *pusher) refuse(name string, line int, reason string) {
	u.refused++
	u.fail("%s:%d: %s", name, line, reason)
}

// fail tells of a fault that does not end the work, but shows in the exit code.
func (u *pusher) fail(format string, args ...any) {
	u.failed = true
	u.progress.printf(format, args...)
}

// summary tells what was done.
func (u *pusher) summary() {
	seconds := max(time.Since(u.start).Seconds(), 1e-6)
	text := fmt.Sprintf("stored %s lines (sent %s) in %.2f s: %s lines/s", humanize.Comma(int64(u.lines)), humanize.IBytes(uint64(u.bytes)),
		seconds, humanize.Comma(int64(float64(u.lines)/seconds)))
	if u.refused > 0 {
		text += fmt.Sprintf("; refused %s", humanize.Comma(int64(u.refused)))
	}
	u.progress.printf("%s", text)
}
