package cli

import (
	"errors"
	"fmt"
	"strings"
)

// An invocation is what a command line asks for, before values are looked at.
type invocation struct {
	path    []*command // from the outermost to the one to run; empty: none was named
	help    bool       // asks for the help of the last of path
	version bool
	// args is the command line for urfave/cli, which stops looking for flags at the first
	// argument: `push FILE --label a=b` becomes `push --label=a=b -- FILE`.
	args []string
}

// word is the invocation's command as it is typed.
func (i *invocation) word() string {
	words := []string{"logcluster"}
	for _, c := range i.path {
		words = append(words, c.name)
	}
	return strings.Join(words, " ")
}

// understand finds the command in a command line (without the program's name), and puts
// its flags before its arguments.
func understand(commands []*command, line []string) (*invocation, error) {
	i := &invocation{}
	usage := func(err error) error { return &usageError{err, i.word()} }
	var flags, args []string
	for n := 0; n < len(line); n++ {
		arg := line[n]
		var last *command
		if len(i.path) > 0 {
			last = i.path[len(i.path)-1]
		}
		leaf := last != nil && len(last.below) == 0
		switch {
		case arg == "--":
			args = append(args, line[n+1:]...)
			n = len(line)
		case isFlag(arg):
			name, value, given := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
			if name == "help" || name == "h" {
				i.help = true
				continue
			}
			if name == "version" && last == nil {
				i.version = true
				continue
			}
			var settings []*setting
			if leaf {
				settings = last.settings
			}
			s, err := findFlag(settings, name, leaf)
			if err != nil {
				return nil, usage(err)
			}
			if !given && s.kind != kindSwitch {
				if n++; n == len(line) {
					return nil, usage(fmt.Errorf("--%s needs a value: --%s %s", s.name, s.name, s.form))
				}
				value, given = line[n], true
			}
			if given && s.kind == kindSwitch {
				if _, err := parseBool(value); err != nil {
					return nil, usage(fmt.Errorf("--%s=%s: %w", s.name, display(value), err))
				}
			}
			flag := "--" + s.name
			if given {
				flag += "=" + value
			}
			flags = append(flags, flag)
		case leaf:
			args = append(args, arg)
		case arg == "help" && !i.help:
			i.help = true
		default:
			below := commands
			if last != nil {
				below = last.below
			}
			c := find(below, arg)
			if c == nil {
				return nil, usage(fmt.Errorf("unknown command %s%s", display(arg), didYouMean(arg, "%s", names(below))))
			}
			i.path = append(i.path, c)
		}
	}
	for _, c := range i.path {
		i.args = append(i.args, c.name)
	}
	i.args = append(i.args, flags...)
	i.args = append(i.args, "--")
	i.args = append(i.args, args...)
	return i, nil
}

// isFlag reports whether an argument is a flag: "-" alone stands for the standard input.
func isFlag(arg string) bool { return len(arg) > 1 && arg[0] == '-' }

// findFlag finds the setting of a flag's long or short name. leaf: a command with flags
// has been named.
func findFlag(settings []*setting, name string, leaf bool) (*setting, error) {
	var known []string
	for _, s := range settings {
		if name != "" && (name == s.name || name == s.short) {
			return s, nil
		}
		known = append(known, s.name)
	}
	if !leaf {
		return nil, fmt.Errorf("unknown flag --%s: flags stand behind the command", name)
	}
	if hint := didYouMean(name, "--%s", known); hint != "" {
		return nil, fmt.Errorf("unknown flag --%s%s", name, hint)
	}
	return nil, errors.New("unknown flag --" + name)
}
