package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"github.com/logcluster/logcluster/http/client"
)

// queryOptions are the settings of query.
type queryOptions struct {
	server   server
	since    time.Duration
	from, to string
	limit    int
	forward  bool
	step     time.Duration
	strict   bool
	output   string
}

func (p *program) queryCommand() *command {
	o := &queryOptions{}
	since := durationSetting("since", "", "How far back to look from --to, like 30m, 12h, 7d. Not together with --from.", &o.since)
	since.without = "all there is; with --step, 1h"
	checkTime := func(text string) error {
		_, err := parseTime(text, time.Now())
		return err
	}
	from := textSetting("from", "TIME", "", "Begin of the time to search, included: RFC 3339, a date, unix seconds, or how long ago (2h). Local time unless it has a zone.", checkTime, &o.from)
	from.without = "--to less --since"
	to := textSetting("to", "TIME", "", "End of the time to search, not included, written like --from.", checkTime, &o.to)
	to.without = "now"
	limit := numberSetting("limit", "0", "Most lines to print; 0 is all.", 0, math.MaxInt32, &o.limit)
	limit.short = "n"
	c := &command{
		name:  "query",
		about: "find lines, or count them, with LogQL",
		args:  "'LOGQL'",
		text: `
Asks a question in LogQL and prints the answer as it arrives, newest lines first. Put the
question in single quotes, as shells act on the braces and quotes in it.

  {app="web"}                                   all lines of the streams that have this label
  {app="web", host=~"a|b"} |= "error" != "404"  that contain error and not 404
  {app="web"} |~ "took [0-9]{4,}ms"             that match a regular expression
  sum by (host) (count_over_time({app="web"}[5m]))   how many in five minutes, for each host

--output default prints time, labels and line; on a terminal with colours (unless NO_COLOR is
set), and with control characters in lines made visible. raw prints the lines alone, byte for
byte; jsonl prints the JSON of the node, one object a line. What an answer lacks is told as a
warning; a failure in the middle of an answer is told, too, and makes the exit code 1.`,
		examples: []example{
			{"Errors of the last hour", `logcluster query '{app="web"} |= "error"' --since 1h`},
			{"Of a day, oldest first, the lines alone", `logcluster query '{app="web"}' --from 2026-01-31 --to 2026-02-01 --forward --output raw`},
			{"Lines a minute over the last six hours", `logcluster query 'sum(count_over_time({app="web"}[1m]))' --since 6h --step 1m`},
			{"With jq", `logcluster query '{app="web"}' -n 10 -o jsonl | jq -r .labels.host`},
		},
		settings: append([]*setting{
			since,
			from,
			to,
			limit,
			switchSetting("forward", "Oldest lines first.", &o.forward),
			durationSetting("step", "0", "Distance of the points of a metric query, like 1m; 0 asks for one value, at --to.", &o.step),
			switchSetting("strict", "Fail if a part of the data cannot be read, instead of a warning.", &o.strict),
			outputSetting(&o.output, "default", "raw", "jsonl"),
		}, append(o.server.settings(), configSetting())...),
	}
	c.run = func(ctx context.Context, args []string) error {
		if len(args) != 1 {
			hint := ""
			if len(args) > 1 {
				hint = ": put it in single quotes, the shell has cut it apart"
			}
			return &usageError{err: fmt.Errorf("query takes one question in LogQL, but there are %d arguments%s", len(args), hint)}
		}
		if from.from == fromFlag && since.from == fromFlag {
			return &usageError{err: errors.New("--since and --from both say where to begin: leave one out")}
		}
		// Of the two, the one that was set closer to the user counts.
		if since.from > from.from {
			o.from = ""
		}
		q, err := o.query(args[0], time.Now())
		if err != nil {
			return &usageError{err: err}
		}
		return p.query(ctx, o, q)
	}
	return c
}

// query makes the question for the client. Without --from and --to the times are the
// node's, whose clock the lines were stamped by.
func (o *queryOptions) query(text string, now time.Time) (client.Query, error) {
	q := client.Query{Text: text, Limit: o.limit, Forward: o.forward, Step: o.step, Strict: o.strict}
	var err error
	if o.to != "" {
		if q.End, err = parseTime(o.to, now); err != nil {
			return q, err
		}
	}
	if o.from == "" {
		q.Since = o.since
		return q, nil
	}
	if q.Start, err = parseTime(o.from, now); err != nil {
		return q, err
	}
	if !q.End.IsZero() && !q.Start.Before(q.End) {
		return q, fmt.Errorf("--from %s is not before --to %s", o.from, o.to)
	}
	return q, nil
}

// query prints the answer to a question.
func (p *program) query(ctx context.Context, o *queryOptions, q client.Query) error {
	c, err := p.connect(&o.server, client.Retry{})
	if err != nil {
		return err
	}
	defer c.Close()
	var warnings []string
	if o.output == "raw" {
		warnings, err = printLines(ctx, c, q, p.stdout)
	} else {
		warnings, err = p.printRows(ctx, c, o, q)
	}
	for _, w := range warnings {
		fmt.Fprintf(p.stderr, "warning: %s\n", strings.TrimSpace(escapeText(w)))
	}
	var write *writeError
	switch {
	case errors.As(err, &write):
		return quietPipe(write.err)
	case err != nil && ctx.Err() != nil:
		return errReported // The user stopped it, and knows.
	}
	return explain(err, q.Text)
}

// A writeError is a failure to write the output, not one of the answer.
type writeError struct{ err error }

func (e *writeError) Error() string { return "writing the output: " + e.err.Error() }

// printLines prints raw lines as they arrive.
func printLines(ctx context.Context, c *client.Client, q client.Query, out io.Writer) (warnings []string, err error) {
	answer, err := c.QueryLines(ctx, q)
	if err != nil {
		return nil, err
	}
	defer answer.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := answer.Read(buffer)
		if n > 0 {
			if _, err := out.Write(buffer[:n]); err != nil {
				return nil, &writeError{err}
			}
		}
		if errors.Is(err, io.EOF) {
			return answer.Warnings(), nil
		}
		if err != nil {
			return answer.Warnings(), err
		}
	}
}

// printRows prints the answer as JSON or for people.
func (p *program) printRows(ctx context.Context, c *client.Client, o *queryOptions, q client.Query) (warnings []string, err error) {
	rows, err := c.Query(ctx, q)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := bufio.NewWriterSize(p.stdout, 64<<10)
	terminal := p.terminal(p.stdout)
	r := &renderer{escape: terminal, colour: terminal && p.env["NO_COLOR"] == "" && p.env["TERM"] != "dumb"}
	var line []byte
	for rows.Next() {
		if o.output == "jsonl" {
			line = append(append(line[:0], rows.Bytes()...), '\n')
		} else {
			row, err := rows.Row()
			if err != nil {
				return rows.Warnings(), errors.Join(flush(out), err)
			}
			line = r.append(line[:0], row)
		}
		if _, err := out.Write(line); err != nil {
			return rows.Warnings(), &writeError{err}
		}
		// What is there is shown before more is waited for.
		if !rows.Buffered() {
			if err := flush(out); err != nil {
				return rows.Warnings(), err
			}
		}
	}
	if err := flush(out); err != nil {
		return rows.Warnings(), err
	}
	return rows.Warnings(), rows.Err()
}

func flush(out *bufio.Writer) error {
	if err := out.Flush(); err != nil {
		return &writeError{err}
	}
	return nil
}
