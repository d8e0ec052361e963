package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
)

// writeHelp writes what a command is for and how to use it.
func writeHelp(w io.Writer, i *invocation, commands []*command) {
	if len(i.path) == 0 {
		writeOverview(w, commands)
		return
	}
	c := i.path[len(i.path)-1]
	fmt.Fprintf(w, "%s: %s\n\n", i.word(), c.about)
	fmt.Fprintf(w, "Usage:\n  %s", i.word())
	if len(c.settings) > 0 {
		fmt.Fprint(w, " [flags]")
	}
	if len(c.below) > 0 {
		fmt.Fprint(w, " COMMAND")
	}
	if c.args != "" {
		fmt.Fprint(w, " "+c.args)
	}
	fmt.Fprintf(w, "\n\n%s\n", strings.TrimSpace(c.text))
	if len(c.examples) > 0 {
		fmt.Fprint(w, "\nExamples:\n")
		for _, e := range c.examples {
			fmt.Fprintf(w, "  # %s\n  %s\n", e.does, strings.ReplaceAll(e.line, "\n", "\n  "))
		}
	}
	if len(c.below) > 0 {
		fmt.Fprint(w, "\nCommands:\n")
		writeCommands(w, c.below)
	}
	if len(c.settings) > 0 {
		fmt.Fprint(w, "\nFlags (also as environment variables, and as lines of the file that --config names):\n")
		for _, s := range c.settings {
			writeSetting(w, s)
		}
	}
}

func writeSetting(w io.Writer, s *setting) {
	fmt.Fprint(w, "  --"+s.name)
	if s.short != "" {
		fmt.Fprint(w, ", -"+s.short)
	}
	if s.kind != kindSwitch {
		fmt.Fprint(w, " "+s.form)
	}
	fmt.Fprintf(w, "\n%s\n", wrap(s.about, "      ", 92))
	fmt.Fprintf(w, "      Default: %s. Environment: %s\n", cmp.Or(s.without, s.fallback, "none"), s.env())
}

func writeCommands(w io.Writer, commands []*command) {
	for _, c := range commands {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.about)
	}
}

// writeOverview is the help of the program.
func writeOverview(w io.Writer, commands []*command) {
	fmt.Fprint(w, `logcluster keeps logs safe and finds them again.

Usage:
  logcluster COMMAND [flags] [arguments]

Commands:
`)
	writeCommands(w, commands)
	fmt.Fprint(w, `
The first minute:
  logcluster start                                      # a node, in a terminal of its own
  echo 'hello world' | logcluster push --label app=demo
  logcluster query '{app="demo"} |= "hello"'

logcluster COMMAND --help teaches each command. Exit codes: 0 done, 1 failed, 2 not understood.
`)
}

// wrap breaks a text into lines of at most width bytes with an indent.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
			b.WriteString(indent)
			column = len(indent)
		case column+1+len(word) > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
