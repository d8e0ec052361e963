package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/dustin/go-humanize"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

func (p *program) segmentCommand() *command {
	return &command{
		name:  "segment",
		about: "look into sealed segment files, check them",
		text: `
Reads segment files, the sealed files under DATA/shards that hold the lines. No node needs to
run, and none is disturbed.`,
		below: []*command{
			{
				name:  "inspect",
				about: "print what a segment file says of itself",
				args:  "FILE",
				text: `
Prints a segment file's format, range of time and offsets, streams, and how many bytes each kind
of chunk takes, block by block. It checks the directory of the file but not the blocks: that is
what "logcluster segment verify" does.`,
				examples: []example{{"One file", "logcluster segment inspect data/shards/3/seg-1-2-…"}},
				run: func(_ context.Context, args []string) error {
					if len(args) != 1 {
						return &usageError{err: fmt.Errorf("segment inspect takes one file, but there are %d arguments", len(args))}
					}
					in, err := segment.Inspect(vfs.NewOS(), args[0])
					if err != nil {
						return err
					}
					_, err = in.WriteTo(p.stdout)
					return quietPipe(err)
				},
			},
			{
				name:  "verify",
				about: "read segment files whole and compare all checksums",
				args:  "FILE...",
				text: `
Reads whole segment files and compares every checksum and digest, down to the single entries.
Each file's verdict is a line; what is damaged in it follows. The exit code is 1 if any file is
damaged or cannot be read.`,
				examples: []example{{"All of a node", "logcluster segment verify data/shards/*/seg-*"}},
				run:      p.verify,
			},
		},
	}
}

// verify checks one file after the other.
func (p *program) verify(ctx context.Context, paths []string) error {
	if len(paths) == 0 {
		return &usageError{err: errors.New("segment verify takes one or more files")}
	}
	bad := false
	for _, path := range paths {
		if err := ctx.Err(); err != nil {
			return errReported // The user stopped it, and knows.
		}
		report, err := segment.Verify(vfs.NewOS(), path)
		if err != nil {
			bad = true
			fmt.Fprintf(p.stderr, "%s\n", indentLines(err.Error()))
			continue
		}
		if _, err := fmt.Fprint(p.stdout, escapeText(verdict(path, report))); err != nil {
			return quietPipe(err)
		}
		bad = bad || len(report.Faults) > 0
	}
	if bad {
		return errReported
	}
	return nil
}

// verdict is a report for people.
func verdict(path string, r *segment.Report) string {
	if len(r.Faults) == 0 {
		return fmt.Sprintf("%s: whole: entries %s, streams %d, blocks %d, lines of %s in %s\n", path,
			humanize.Comma(int64(r.Entries)), r.Streams, r.Blocks, humanize.IBytes(r.RawBytes), humanize.IBytes(r.Length))
	}
	text := fmt.Sprintf("%s: DAMAGED\n", path)
	for _, fault := range r.Faults {
		text += "  " + indentLines(fault.Error()) + "\n"
	}
	return text
}
