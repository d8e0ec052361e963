package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/logcluster/logcluster/http/client"
	"github.com/logcluster/logcluster/segment"
)

// pushOptions are the settings of push.
type pushOptions struct {
	server     server
	labels     map[string]string
	format     string
	fields     client.Fields
	batchLines int
	batchBytes int64
	retryFor   time.Duration
	quiet      bool
}

func (p *program) pushCommand() *command {
	o := &pushOptions{labels: map[string]string{}}
	label := &setting{name: "label", short: "l", kind: kindList, form: "NAME=VALUE",
		about:   "Label of the stream that the lines go to; repeat it for several (in environment and file: NAME=VALUE,NAME=VALUE).",
		without: "source=FILE (without folders) or source=stdin",
		accept:  o.addLabel}
	quiet := switchSetting("quiet", "No progress and no summary. What was refused is told all the same.", &o.quiet)
	quiet.short = "q"
	return &command{
		name:  "push",
		about: "send the lines of files or of the standard input",
		args:  "[FILE...]",
		text: `
Sends the lines of the files one after the other, or of the standard input if there is no FILE
or for the FILE "-". A line is what stands between two '\n', byte for byte: '\r', empty lines
and bytes that are not UTF-8 are kept. A batch counts as sent when the node has it on disk;
until then it is sent again when a connection breaks or a node is busy, without doubling
lines. Over a network, batches are sent gzipped.

Lines arriving slowly, as from tail -f, are sent within a second. A line that the node
refuses is told as FILE:LINE: REASON; the others are stored, and the exit code is 1.

With --format ndjson each line is a JSON object. The node takes its time from one of the
fields _time, time, timestamp, ts, @timestamp and its line from one of _msg, message, msg,
line, log, if they are there; the other fields become structured metadata.`,
		examples: []example{
			{"A file, as stream {app=\"web\", host=\"a\"}", "logcluster push --label app=web --label host=a access.log"},
			{"What a program prints", "make 2>&1 | logcluster push -l job=build"},
			{"A log as it grows", "tail -F /var/log/syslog | logcluster push -l source=syslog"},
			{"JSON lines, to another machine", "logcluster push -l app=shop --url http://logs.example:3100 events.ndjson"},
		},
		settings: append([]*setting{
			label,
			choiceSetting("format", "auto", "What a line is; auto is ndjson for files named .ndjson or .jsonl, else text.", &o.format, "auto", "text", "ndjson"),
			fieldsSetting("time-fields", "Of JSON objects: fields to take the time from, the first that is there.", "the usual names", &o.fields.Times),
			fieldsSetting("message-fields", "Of JSON objects: fields to take the line from, the first that is there.", "the usual names", &o.fields.Messages),
			fieldsSetting("label-fields", "Of JSON objects: fields that become labels of the stream, beside those of --label.", "none", &o.fields.Labels),
			numberSetting("batch-lines", "10000", "Most lines in a request, 1 to 1000000.", 1, 1_000_000, &o.batchLines),
			sizeSetting("batch-bytes", "1MiB", "Most bytes of lines in a request, unless one line is longer; up to 32MiB.", 1, 32<<20, &o.batchBytes),
			durationSetting("retry-for", "2m", "How long a batch is tried again; 0 tries once.", &o.retryFor),
			quiet,
		}, append(o.server.settings(), configSetting())...),
		run: func(ctx context.Context, args []string) error { return p.push(ctx, o, args) },
	}
}

func (o *pushOptions) addLabel(text string) error {
	name, value, ok := strings.Cut(text, "=")
	switch {
	case !ok:
		return errors.New("must be NAME=VALUE, like app=web")
	case !segment.ValidLabelName(name) || name[0] == '_': // /ingest keeps '_' for its own parameters.
		return fmt.Errorf("name %s: must be of letters, digits and '_', and begin with a letter", display(name))
	case value == "":
		return errors.New("an empty value is the same as no label: leave it out")
	case !utf8.ValidString(value):
		return errors.New("the value must be UTF-8")
	}
	if _, ok := o.labels[name]; ok {
		return fmt.Errorf("label %s is given twice", name)
	}
	o.labels[name] = value
	return nil
}

// fieldsSetting is a list of names of JSON fields. A repeated flag adds to it.
func fieldsSetting(name, about, without string, to *[]string) *setting {
	return &setting{name: name, kind: kindList, form: "NAME,NAME…", about: about, without: without, accept: func(text string) error {
		for field := range strings.SplitSeq(text, ",") {
			if field = strings.TrimSpace(field); field == "" {
				return errors.New("an empty name")
			}
			*to = append(*to, field)
		}
		return nil
	}}
}

// push sends all inputs.
func (p *program) push(ctx context.Context, o *pushOptions, paths []string) error {
	if len(paths) == 0 {
		paths = []string{"-"}
	}
	total := int64(0)
	if p.terminal(p.stderr) && !o.quiet {
		total = totalSize(paths)
		if total == 0 && p.terminal(p.stdin) {
			fmt.Fprintln(p.stderr, "reading lines from the terminal: Ctrl-D ends")
		}
	}
	u := &pusher{options: o, progress: newProgress(p.stderr, total), session: rand.Text(), start: time.Now()}
	defer u.progress.close()
	retry := client.Retry{For: o.retryFor, Notify: u.notify}
	if o.retryFor == 0 {
		retry.For = -1
	}
	var err error
	if u.client, err = p.connect(&o.server, retry); err != nil {
		return err
	}
	defer u.client.Close()
	for _, path := range paths {
		if err = p.pushInput(ctx, u, path); err != nil {
			break
		}
	}
	u.progress.close()
	if !o.quiet {
		u.summary()
	}
	if err == nil && u.failed {
		return errReported
	}
	return err
}

// totalSize is the sum of the sizes if all inputs are files whose size is known, else 0.
func totalSize(paths []string) int64 {
	var total int64
	for _, path := range paths {
		info, err := os.Stat(path)
		if path == "-" || err != nil || !info.Mode().IsRegular() {
			return 0
		}
		total += info.Size()
	}
	return total
}

// pushInput sends one input. Faults of the input are told and noted, and the next one
// may be better; an error ends it all.
func (p *program) pushInput(ctx context.Context, u *pusher, path string) error {
	if path == "-" {
		f := startFeed(p.stdin)
		defer f.close(nil)
		return u.input(ctx, "stdin", f)
	}
	file, err := os.Open(path)
	if err != nil {
		u.fail("%s", err)
		return nil
	}
	f := startFeed(file)
	defer f.close(file)
	return u.input(ctx, path, f)
}
