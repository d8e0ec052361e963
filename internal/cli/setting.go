package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// kind says how a setting's value is written.
type kind uint8

const (
	kindText     kind = iota // any scalar, as it is written
	kindNumber               // a whole number
	kindSwitch               // true or false; the flag alone is true
	kindDuration             // 12h; a plain number in a file is let through for its 0
	kindSize                 // 1MiB, or a number of bytes
	kindList                 // texts: the flag may be repeated, elsewhere they stand between commas
)

// A setting is declared once and can be set by flag, environment and file.
type setting struct {
	name     string // of the flag and the key: lower-case words joined by '-'
	short    string // one letter, or ""
	kind     kind
	form     string // how the value is written, for the help: HOST:PORT
	fallback string // the default as a user would write it; "" is the zero value
	without  string // for the help: what is so without it; "" is the fallback
	about    string // one sentence: what it does, unit and range
	// accept checks a value and keeps it. Of a list it gets each text by itself.
	accept func(text string) error
	from   source // what set it; the zero value is the default
}

// source says which of the four ways gave a value.
type source uint8

const (
	fromDefault source = iota
	fromFile
	fromEnv
	fromFlag
)

// env is the name of the setting's environment variable.
func (s *setting) env() string { return envName(s.name) }

func envName(name string) string {
	return "LOGCLUSTER_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// flag is the setting for urfave/cli. It has no default: resolve looks for one after it
// looked elsewhere.
func (s *setting) flag() cli.Flag {
	switch s.kind {
	case kindSwitch:
		return &cli.BoolFlag{Name: s.name}
	case kindList:
		return &cli.StringSliceFlag{Name: s.name}
	default:
		return &cli.StringFlag{Name: s.name}
	}
}

// The constructors below are for the types of values that commands need.

func textSetting(name, form, fallback, about string, check func(string) error, to *string) *setting {
	return &setting{name: name, form: form, fallback: fallback, about: about, accept: func(text string) error {
		*to = text
		if check == nil {
			return nil
		}
		return check(text)
	}}
}

func choiceSetting(name, fallback, about string, to *string, choices ...string) *setting {
	return &setting{name: name, form: strings.Join(choices, "|"), fallback: fallback, about: about, accept: func(text string) (err error) {
		*to, err = parseChoice(text, choices)
		return err
	}}
}

func hostPortSetting(name, fallback, about string, to *string) *setting {
	return &setting{name: name, form: "HOST:PORT", fallback: fallback, about: about, accept: func(text string) (err error) {
		*to, err = parseHostPort(text)
		return err
	}}
}

func numberSetting(name, fallback, about string, low, high int, to *int) *setting {
	return &setting{name: name, kind: kindNumber, form: "N", fallback: fallback, about: about, accept: func(text string) (err error) {
		*to, err = parseInt(text, low, high)
		return err
	}}
}

func switchSetting(name, about string, to *bool) *setting {
	return &setting{name: name, kind: kindSwitch, fallback: "false", about: about, accept: func(text string) (err error) {
		*to, err = parseBool(text)
		return err
	}}
}

func durationSetting(name, fallback, about string, to *time.Duration) *setting {
	return &setting{name: name, kind: kindDuration, form: "DURATION", fallback: fallback, about: about, accept: func(text string) (err error) {
		*to, err = parseDuration(text)
		return err
	}}
}

func sizeSetting(name, fallback, about string, low, high int64, to *int64) *setting {
	return &setting{name: name, kind: kindSize, form: "SIZE", fallback: fallback, about: about, accept: func(text string) (err error) {
		if *to, err = parseSize(text); err != nil {
			return err
		}
		if *to < low || *to > high {
			return fmt.Errorf("must be from %d to %d bytes", low, high)
		}
		return nil
	}}
}
