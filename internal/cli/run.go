package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/mattn/go-isatty"
	"github.com/urfave/cli/v2"
)

// Exit codes (U1).
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Program is what main gives to the commands.
type Program struct {
	Version VersionInfo
	// Start runs a node until ctx ends, and returns nil if it ended in good order. An
	// error is told on the standard error and makes the exit code 1.
	Start func(ctx context.Context, o StartOptions) error
}

// Run runs the command that args name and returns the exit code. args is without the
// program's name (os.Args[1:]), env as os.Environ gives it. When ctx ends, the command
// stops. A pipe that the reader of stdout closed is no error: the process ignores SIGPIPE
// from here on.
//
// A blocked read of stdin cannot be ended from outside: after push was stopped in one, a
// goroutine stays in it until stdin ends.
func Run(ctx context.Context, args, env []string, stdin io.Reader, stdout, stderr io.Writer, p Program) int {
	signal.Ignore(syscall.SIGPIPE)
	return (&program{
		Program: p, env: parseEnvironment(env), stdin: stdin, stdout: stdout, stderr: stderr,
		terminal: isTerminal, hostname: os.Hostname,
	}).run(ctx, args)
}

func isTerminal(stream any) bool {
	file, ok := stream.(interface{ Fd() uintptr })
	return ok && isatty.IsTerminal(file.Fd())
}

func (p *program) run(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	var usage *usageError
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &usage):
		fmt.Fprintf(p.stderr, "logcluster: %s\nSee: %s --help\n", indentLines(usage.Error()), usage.help)
		return exitUsage
	default:
		fmt.Fprintf(p.stderr, "logcluster: %s\n", indentLines(err.Error()))
		return exitFailed
	}
}

func (p *program) dispatch(ctx context.Context, args []string) error {
	commands := p.commands()
	i, err := understand(commands, args)
	if err != nil {
		return err
	}
	switch {
	case i.version && !i.help:
		i.path, i.args = []*command{find(commands, "version")}, []string{"version"}
	case i.help || len(i.path) == 0 || i.path[len(i.path)-1].run == nil:
		return p.showHelp(i, commands)
	}
	app := &cli.App{
		Name:            "logcluster",
		Usage:           "keeps logs safe and finds them again",
		HideHelp:        true,
		HideHelpCommand: true,
		HideVersion:     true,
		// A label's value may hold a comma.
		DisableSliceFlagSeparator: true,
		Reader:                    p.stdin,
		Writer:                    p.stdout,
		ErrWriter:                 p.stderr,
		// Errors are told by run alone, which also gives the exit code.
		ExitErrHandler: func(*cli.Context, error) {},
		Commands:       p.tree(commands, commands, "logcluster"),
	}
	return app.RunContext(ctx, append([]string{"logcluster"}, i.args...))
}

// showHelp writes help to the standard output, where it can be paged.
func (p *program) showHelp(i *invocation, commands []*command) error {
	var text strings.Builder
	writeHelp(&text, i, commands)
	_, err := io.WriteString(p.stdout, text.String())
	return quietPipe(err)
}

// quietPipe turns the error of a write to a pipe without a reader into none (U4).
func quietPipe(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// indentLines sets the second and further lines of a message in under the first.
func indentLines(text string) string { return strings.ReplaceAll(text, "\n", "\n  ") }
