package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strings"
	"time"
)

// StartOptions are the settings of a node, checked one by one and against each other.
// Whether they fit the data that is there, and this machine, is for the node to say.
type StartOptions struct {
	Data       string        // folder; made if it is missing
	Listen     string        // HTTP, HOST:PORT; an empty host is all interfaces, port 0 a free one
	PeerListen string        // between nodes, likewise
	EtcdListen string        // between the nodes' etcd members, likewise
	Name       string        // of the node: 1 to 64 of letters, digits, '_', '.' and '-'
	Peers      []Peer        // all nodes of the cluster as --peers lists them; nil: this one alone
	Shards     int           // 1 to 1024
	ShardsSet  bool          // Shards was asked for and is not the default
	Replicas   int           // 1 to 7
	Retention  time.Duration // 0: for ever
	MaxLine    int           // bytes, 1 to 16 MiB
	LogLevel   string        // debug, info, warn, error or fatal
	LogFormat  string        // auto (console on a terminal, else json), console or json
	Stdout     io.Writer     // for what the node tells its user
	Stderr     io.Writer     // for its log
}

const (
	maxShards   = 1024
	maxReplicas = 7
	maxMaxLine  = 16 << 20
)

func (p *program) startCommand() *command {
	o := &StartOptions{Stdout: p.stdout, Stderr: p.stderr}
	var maxLine int64
	shards := numberSetting("shards", "16", "Number of shards of a new cluster, 1 to 1024. It is fixed when the cluster is made: for an existing one give the same number, or leave it out.", 1, maxShards, &o.Shards)
	name := textSetting("name", "NAME", "", "Name of this node in its cluster, for good: 1 to 64 of letters, digits, '_', '.' and '-'.", checkNodeName, &o.Name)
	name.without = "the host's name"
	c := &command{
		name:  "start",
		about: "run a node",
		text: `
Runs a node in the foreground until it is interrupted (Ctrl-C, SIGTERM). It keeps everything
under --data and needs no other service. Started without flags it is a whole store on this
machine: send lines to http://127.0.0.1:3100/ingest?app=NAME, ask at /query, or use
"logcluster push" and "logcluster query". Lines that were acknowledged are on disk, whatever
happens to the process or the machine.

All ports listen on this machine only, unless told otherwise; there is no password yet, so
open them to a trusted network at most. This release runs single nodes: --peers may name this
one alone, and --peer-listen and --replicas wait for clusters.`,
		examples: []example{
			{"A node with its data in ./data", "logcluster start"},
			{"Keep a year of logs on another disk, and take them from the network", "logcluster start --data /srv/logs --retention 365d --listen 0.0.0.0:3100"},
			{"The same from the environment", "LOGCLUSTER_DATA=/srv/logs LOGCLUSTER_RETENTION=365d logcluster start"},
			{"The same from a file", "printf 'data: /srv/logs\\nretention: 365d\\n' > node.yaml\nlogcluster start --config node.yaml"},
		},
		settings: []*setting{
			textSetting("data", "DIR", "./data", "Folder that holds everything the node keeps. It is made if it is missing.", notEmpty, &o.Data),
			hostPortSetting("listen", "127.0.0.1:3100", "Address for HTTP: ingest, queries, metrics. :3100 is all interfaces; port 0 takes a free one.", &o.Listen),
			hostPortSetting("peer-listen", "127.0.0.1:3101", "Address for the other nodes of the cluster.", &o.PeerListen),
			hostPortSetting("etcd-listen", "127.0.0.1:2380", "Address for the etcd members in the other nodes.", &o.EtcdListen),
			name,
			{name: "peers", form: "LIST", about: "All nodes of the cluster, this one included, the same list on each: HOST,HOST,… or NAME=URL,NAME=URL,….", without: "this node alone",
				accept: func(text string) (err error) {
					o.Peers, err = parsePeers(text)
					return err
				}},
			shards,
			numberSetting("replicas", "3", "On how many nodes each line is kept, 1 to 7. A cluster of fewer nodes keeps it on all of them.", 1, maxReplicas, &o.Replicas),
			durationSetting("retention", "30d", "How long lines are to be kept: a duration like 12h, 7d, 2w; 0 is for ever. Older lines are refused; what has grown old is not deleted by this release.", &o.Retention),
			sizeSetting("max-line", "1MiB", "Longest line that is taken, in bytes or with a unit, up to 16MiB. Longer ones are refused.", 1, maxMaxLine, &maxLine),
			choiceSetting("log-level", "info", "Least severe messages of the node's own log.", &o.LogLevel, "debug", "info", "warn", "error", "fatal"),
			choiceSetting("log-format", "auto", "Form of the node's own log on the standard error; auto is console on a terminal, else json.", &o.LogFormat, "auto", "console", "json"),
			configSetting(),
		},
	}
	c.run = func(ctx context.Context, args []string) error {
		if len(args) > 0 {
			return &usageError{err: fmt.Errorf("start takes no arguments, but there is %s", display(args[0]))}
		}
		o.ShardsSet = shards.from != fromDefault
		o.MaxLine = int(maxLine)
		if o.Name == "" {
			host, err := p.hostname()
			if err != nil {
				return &usageError{err: fmt.Errorf("the host's name cannot be read, so give --name: %w", err)}
			}
			o.Name = nodeName(host)
		}
		if err := o.check(); err != nil {
			return &usageError{err: err}
		}
		err := p.Start(ctx, *o)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // It ended because it was told to.
		}
		return err
	}
	return c
}

// configSetting is the setting that every command has: where its other settings are.
func configSetting() *setting {
	return &setting{name: configName, form: "FILE",
		about:  "Flat YAML file with settings, one \"flag: value\" a line, for any of the commands. Flags and environment go before it.",
		accept: func(string) error { return nil }}
}

// check finds what settings that are right by themselves get wrong together.
func (o *StartOptions) check() error {
	var faults []error
	listeners := []struct{ flag, address string }{
		{"--listen", o.Listen}, {"--peer-listen", o.PeerListen}, {"--etcd-listen", o.EtcdListen},
	}
	for i, a := range listeners {
		for _, b := range listeners[:i] {
			if sameListener(a.address, b.address) {
				faults = append(faults, fmt.Errorf("%s and %s have the same port in %s and %s: give each its own", b.flag, a.flag, b.address, a.address))
			}
		}
	}
	return errors.Join(faults...)
}

// sameListener reports whether two addresses cannot both be listened on: they have one
// port, and one host or all hosts.
func sameListener(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && portA != "0" && (hostA == hostB || allHosts(hostA) || allHosts(hostB))
}

func allHosts(host string) bool { return host == "" || net.ParseIP(host).IsUnspecified() }

func notEmpty(text string) error {
	if text == "" {
		return errors.New("must not be empty")
	}
	return nil
}

const maxNodeName = 64

func checkNodeName(name string) error {
	if name == "" || len(name) > maxNodeName || name == "." || name == ".." || strings.ContainsFunc(name, notInName) {
		return fmt.Errorf("must be 1 to %d of letters, digits, '_', '.' and '-'", maxNodeName)
	}
	return nil
}

func notInName(c rune) bool {
	return c > math.MaxInt8 || !isAlphanumeric(byte(c)) && c != '_' && c != '.' && c != '-'
}

// nodeName makes a node's name of a host's name.
func nodeName(host string) string {
	name := strings.Map(func(c rune) rune {
		if notInName(c) {
			return '-'
		}
		return c
	}, host)
	name = strings.Trim(name[:min(len(name), maxNodeName)], "-.")
	if name == "" {
		return "node"
	}
	return name
}
