package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// configName is the one setting that cannot stand in the file, as it names the file.
const configName = "config"

// environment is the variables that a program is started with.
type environment map[string]string

// parseEnvironment reads variables in the form NAME=VALUE. Of several with one name the
// last counts, as in os/exec. Empty values are as if absent.
func parseEnvironment(variables []string) environment {
	e := environment{}
	for _, v := range variables {
		if name, value, ok := strings.Cut(v, "="); ok {
			e[name] = value
		}
	}
	return e
}

// resolver finds the values of a command's settings.
type resolver struct {
	env environment
	// own are the settings of the command that runs, others those of all other commands:
	// for their names, and to tell a value that is meant for another command from a wrong
	// one.
	own, others []*setting
	stderr      io.Writer
}

// known is the name of every setting of every command, sorted.
func (r *resolver) known() []string {
	var names []string
	for _, s := range slices.Concat(r.own, r.others) {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// resolve gives every setting of the command its value. The error is all faults joined.
func (r *resolver) resolve(c *cli.Context) error {
	known := r.known()
	r.warnUnknown(known)
	keys := slices.DeleteFunc(known, func(name string) bool { return name == configName })
	var file *settingsFile
	var faults []error
	path := r.env[envName(configName)]
	if c.IsSet(configName) {
		path = c.String(configName)
	}
	if path != "" {
		var err error
		if file, err = readSettingsFile(path, keys); err != nil {
			faults = append(faults, err)
		}
	}
	for _, s := range r.own {
		if err := r.set(c, s, file); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// set gives one setting its value.
func (r *resolver) set(c *cli.Context, s *setting, file *settingsFile) error {
	if c.IsSet(s.name) {
		s.from = fromFlag
		var faults []error
		for _, text := range flagTexts(c, s) {
			if err := s.accept(text); err != nil {
				faults = append(faults, fmt.Errorf("--%s %s: %w", s.name, display(text), err))
			}
		}
		return errors.Join(faults...)
	}
	if text := r.env[s.env()]; text != "" {
		err := s.acceptAll(text)
		if err == nil {
			s.from = fromEnv
			return nil
		}
		if !r.meantForAnother(s.name, func(other *setting) error { return other.acceptAll(text) }) {
			return fmt.Errorf("%s=%s: %w", s.env(), display(text), err)
		}
	}
	if file != nil && s.name != configName {
		if value, ok := file.values[s.name]; ok && !value.bad {
			err := s.acceptFrom(&value)
			if err == nil {
				s.from = fromFile
				return nil
			}
			if !r.meantForAnother(s.name, func(other *setting) error { return other.acceptFrom(&value) }) {
				return fmt.Errorf("%s:%d: %s: %s: %w", file.path, value.line, s.name, display(value.text), err)
			}
		}
	}
	if s.fallback == "" {
		return nil
	}
	if err := s.acceptAll(s.fallback); err != nil {
		return fmt.Errorf("default of --%s, %s: %w", s.name, s.fallback, err)
	}
	return nil
}

// flagTexts is what the command line says for a setting.
func flagTexts(c *cli.Context, s *setting) []string {
	switch s.kind {
	case kindSwitch:
		return []string{fmt.Sprint(c.Bool(s.name))}
	case kindList:
		return c.StringSlice(s.name)
	default:
		return []string{c.String(s.name)}
	}
}

// acceptAll takes a text from elsewhere than the command line.
func (s *setting) acceptAll(text string) error {
	if s.kind != kindList {
		return s.accept(text)
	}
	for part := range strings.SplitSeq(text, ",") {
		if err := s.accept(strings.TrimSpace(part)); err != nil {
			return err
		}
	}
	return nil
}

// acceptFrom takes a value of the file.
func (s *setting) acceptFrom(v *fileValue) error {
	if err := v.check(s.kind); err != nil {
		return err
	}
	return s.acceptAll(v.text)
}

// meantForAnother reports whether a value that one command does not accept is right for
// the setting of the same name of another: `output: raw` in the shared file is query's,
// and leaves status at its default.
func (r *resolver) meantForAnother(name string, accept func(*setting) error) bool {
	return slices.ContainsFunc(r.others, func(other *setting) bool { return other.name == name && accept(other) == nil })
}

// warnUnknown names the LOGCLUSTER_ variables that set nothing.
func (r *resolver) warnUnknown(known []string) {
	prefix := envName("")
	var names, unknown []string
	for _, name := range known {
		names = append(names, strings.TrimPrefix(envName(name), prefix))
	}
	for variable := range r.env {
		if name, ok := strings.CutPrefix(variable, prefix); ok && !slices.Contains(names, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		fmt.Fprintf(r.stderr, "warning: unknown environment variable %s%s%s\n", prefix, name, didYouMean(name, prefix+"%s", names))
	}
}

// display shows a value in an error: as it is, unless that would be hard to see.
func display(text string) string {
	if text == "" || strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '"' }) {
		return fmt.Sprintf("%q", text)
	}
	if len(text) > 200 {
		return text[:200] + "…"
	}
	return text
}
