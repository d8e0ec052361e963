package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
)

// VersionInfo says what the binary is.
type VersionInfo struct {
	Version string   `json:"version"` // semantic version, without "v"
	Commit  string   `json:"commit"`  // of the source; "unknown" if the build did not know
	Date    string   `json:"date"`    // of the commit, RFC 3339; "unknown" likewise
	Go      string   `json:"go"`      // of the compiler
	Formats []Format `json:"formats"` // that it writes
}

// A Format is one of the formats on disk or between nodes, with its version.
type Format struct {
	Name    string `json:"name"`
	Version int    `json:"version"`
}

const unknown = "unknown"

// BuildVersion takes commit, date and compiler from what Go stamped into the binary.
func BuildVersion(version string, formats ...Format) VersionInfo {
	v := VersionInfo{Version: version, Commit: unknown, Date: unknown, Go: runtime.Version(), Formats: formats}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	modified := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			modified = s.Value == "true"
		}
	}
	if modified {
		v.Commit += " with changes"
	}
	return v
}

func (v *VersionInfo) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "logcluster %s\ncommit   %s\ndate     %s\ngo       %s\n", v.Version, v.Commit, v.Date, v.Go)
	for i, f := range v.Formats {
		head := ""
		if i == 0 {
			head = "formats"
		}
		fmt.Fprintf(&b, "%-8s %s %d\n", head, f.Name, f.Version)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// outputSetting is --output of the commands that print a report.
func outputSetting(to *string, choices ...string) *setting {
	s := choiceSetting("output", choices[0], "Form of the output.", to, choices...)
	s.short = "o"
	return s
}

func (p *program) versionCommand() *command {
	var output string
	return &command{
		name:  "version",
		about: "print version, commit and formats",
		text: `
Prints what this binary is: its version, the commit and date of its source, the compiler, and
the versions of the formats that it writes to disk. A node reads the formats of older versions.`,
		examples: []example{{"For a script", "logcluster version --output json"}},
		settings: []*setting{outputSetting(&output, "default", "json"), configSetting()},
		run: func(_ context.Context, args []string) error {
			if len(args) > 0 {
				return &usageError{err: fmt.Errorf("version takes no arguments, but there is %s", display(args[0]))}
			}
			if output == "json" {
				return quietPipe(json.NewEncoder(p.stdout).Encode(p.Version))
			}
			return quietPipe(p.Version.write(p.stdout))
		},
	}
}
