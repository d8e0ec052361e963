package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
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

// TestRun goes through the door that main uses.
func TestRun(t *testing.T) {
	var stdout, stderr strings.Builder
	p := Program{Version: BuildVersion("1.2.3", Format{"segment", 1})}
	code := Run(t.Context(), []string{"version"}, []string{"LOGCLUSTER_OUTPUT=default"}, strings.NewReader(""), &stdout, &stderr, p)
	if code != 0 || !strings.Contains(stdout.String(), "logcluster 1.2.3\n") || !strings.Contains(stdout.String(), runtime.Version()) || stderr.Len() > 0 {
		t.Errorf("exit %d, %s%s", code, stdout.String(), stderr.String())
	}
}

func FuzzSettingsFile(f *testing.F) {
	f.Add("data: x\nshards: 3\n")
	f.Add("a: &x [1]\nb: *x\n<<: *x\n? {a: b}\n: c\n---\n")
	f.Add("- data\n")
	f.Add("\xff\x00: \x00")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := parseSettingsFile("f.yaml", []byte(text), []string{"data", "shards"})
		if file == nil {
			if err == nil {
				t.Fatal("neither a file nor an error")
			}
			return
		}
		for key, value := range file.values {
			if key != "data" && key != "shards" || value.line < 1 || value.bad && err == nil {
				t.Fatalf("%s: %+v, %v", key, value, err)
			}
		}
	})
}

func FuzzUnderstand(f *testing.F) {
	f.Add("push\x00--label\x00a=b\x00--\x00-x")
	f.Add("query\x00-n=3\x00{}\x00-h")
	f.Add("segment\x00help\x00verify\x00-")
	f.Fuzz(func(t *testing.T, line string) {
		i, err := understand(testProgram().commands(), strings.Split(line, "\x00"))
		if (i == nil) == (err == nil) {
			t.Fatalf("%+v, %v", i, err)
		}
	})
}

func FuzzParsePeers(f *testing.F) {
	f.Add("a,b,[::1]")
	f.Add("a=http://h:1,b=https://[::1]:65535")
	f.Fuzz(func(t *testing.T, text string) {
		peers, err := parsePeers(text)
		if (len(peers) == 0) == (err == nil) {
			t.Fatalf("%+v, %v", peers, err)
		}
		for _, p := range peers {
			if p.Name == "" || p.Host == "" {
				t.Fatalf("%+v", p)
			}
		}
	})
}
