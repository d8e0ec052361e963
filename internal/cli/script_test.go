package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what one run of the program left behind.
type result struct {
	code           int
	stdout, stderr string
}

// testProgram returns a program whose start prints its options.
func testProgram() *program {
	p := &program{
		Program: Program{Version: VersionInfo{
			Version: "1.2.3", Commit: "abcdef", Date: "2026-01-31T12:00:00Z", Go: "go1.26",
			Formats: []Format{{"record", 1}, {"segment", 2}},
		}},
		env:      environment{},
		stdin:    strings.NewReader(""),
		terminal: func(any) bool { return false },
		hostname: func() (string, error) { return "host a.example", nil },
	}
	p.Start = func(_ context.Context, o StartOptions) error {
		if o.Data == "broken" {
			return errors.New("folder broken: no such disk")
		}
		fmt.Fprintf(o.Stdout, "data=%s listen=%s peer=%s etcd=%s name=%s\n", o.Data, o.Listen, o.PeerListen, o.EtcdListen, o.Name)
		fmt.Fprintf(o.Stdout, "shards=%d set=%t replicas=%d retention=%s max-line=%d log=%s,%s\n",
			o.Shards, o.ShardsSet, o.Replicas, o.Retention, o.MaxLine, o.LogLevel, o.LogFormat)
		for _, peer := range o.Peers {
			fmt.Fprintf(o.Stdout, "peer %+v\n", peer)
		}
		return nil
	}
	return p
}

// invoke runs the program with arguments and takes what it writes.
func (p *program) invoke(t testing.TB, args ...string) result {
	t.Helper()
	var stdout, stderr strings.Builder
	p.stdout, p.stderr = &stdout, &stderr
	code := p.run(t.Context(), args)
	return result{code, stdout.String(), stderr.String()}
}

// words splits a line as a shell does, with single quotes only.
func words(t testing.TB, line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out = append(out, part)
		} else {
			out = append(out, strings.Fields(part)...)
		}
	}
	if strings.Count(line, "'")%2 == 1 {
		t.Fatalf("quote without an end in %q", line)
	}
	return out
}

// TestScripts runs testdata/*.txt. Each script is a folder of its own, in which
//
//	file PATH     writes its input to a file
//	run           takes lines NAME=VALUE of environment and the command line
//
// and the output of run is standard output, standard error (behind "! ") and exit code.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	datadriven.Walk(t, scripts, func(t *testing.T, path string) {
		t.Chdir(t.TempDir())
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "file":
				if err := os.WriteFile(d.CmdArgs[0].Key, []byte(d.Input), 0o600); err != nil {
					t.Fatal(err)
				}
				return ""
			case "run":
				lines := strings.Split(d.Input, "\n")
				p := testProgram()
				p.env = parseEnvironment(lines[:len(lines)-1])
				args := words(t, lines[len(lines)-1])
				r := p.invoke(t, args[1:]...)
				out := r.stdout
				for line := range strings.Lines(r.stderr) {
					out += "! " + line
				}
				return out + fmt.Sprintf("exit %d\n", r.code)
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		})
	})
}

// contextWithCancel is a context that ends with the test or before.
func contextWithCancel(t testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return ctx, cancel
}
