package cli

import (
	"context"
	"errors"
	"io"

	"github.com/urfave/cli/v2"
)

// program is one run of the binary.
type program struct {
	Program
	env            environment
	stdin          io.Reader
	stdout, stderr io.Writer
	// terminal reports whether a stream is a terminal.
	terminal func(stream any) bool
	hostname func() (string, error)
}

// A command is one word of the command line, with or without words below it.
type command struct {
	name     string
	about    string // one line
	text     string // the help's description: paragraphs, hard-wrapped
	args     string // the form of its arguments: [FILE...]
	examples []example
	below    []*command
	settings []*setting
	// run does the work, after all settings have their values.
	run func(ctx context.Context, args []string) error
}

// An example is a line to copy, and what it does.
type example struct {
	does, line string
}

// errReported is returned by a command that has told all there is to tell, and failed.
var errReported = errors.New("reported")

// A usageError is a command line or a setting that is not understood (U1: exit code 2).
type usageError struct {
	err  error
	help string // the command to ask for help about: "logcluster push"
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// commands returns the commands anew, with settings of their own.
func (p *program) commands() []*command {
	return []*command{
		p.startCommand(),
		p.statusCommand(),
		p.pushCommand(),
		p.queryCommand(),
		p.segmentCommand(),
		p.versionCommand(),
	}
}

// find returns the command of a name, or nil.
func find(commands []*command, name string) *command {
	for _, c := range commands {
		if c.name == name {
			return c
		}
	}
	return nil
}

func names(commands []*command) []string {
	var out []string
	for _, c := range commands {
		out = append(out, c.name)
	}
	return out
}

// settingsBeside returns the settings of every command but one, and of those below.
func settingsBeside(commands []*command, but *command) []*setting {
	var out []*setting
	for _, c := range commands {
		if c != but {
			out = append(out, c.settings...)
		}
		out = append(out, settingsBeside(c.below, but)...)
	}
	return out
}

// tree makes commands, some of all, those of urfave/cli, which parses the flags and dispatches.
// Its help and its suggestions are switched off: they know nothing of environment and file.
func (p *program) tree(all, commands []*command, path string) []*cli.Command {
	var out []*cli.Command
	for _, c := range commands {
		word := path + " " + c.name
		node := &cli.Command{
			Name:            c.name,
			Usage:           c.about,
			ArgsUsage:       c.args,
			HideHelp:        true,
			HideHelpCommand: true,
			Subcommands:     p.tree(all, c.below, word),
			OnUsageError:    func(_ *cli.Context, err error, _ bool) error { return &usageError{err, word} },
		}
		for _, s := range c.settings {
			node.Flags = append(node.Flags, s.flag())
		}
		if c.run != nil {
			node.Action = func(ctx *cli.Context) error {
				r := &resolver{env: p.env, own: c.settings, others: settingsBeside(all, c), stderr: p.stderr}
				if err := r.resolve(ctx); err != nil {
					return &usageError{err, word}
				}
				err := c.run(ctx.Context, ctx.Args().Slice())
				if usage := (*usageError)(nil); errors.As(err, &usage) && usage.help == "" {
					usage.help = word
				}
				return err
			}
		}
		out = append(out, node)
	}
	return out
}
