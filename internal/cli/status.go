package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/logcluster/logcluster/http/client"
)

// nodeStatus is what this command reads of the answer of /status.
type nodeStatus struct {
	Name    string  `json:"name"`
	Version string  `json:"version"`
	Cluster string  `json:"cluster"`
	Ready   bool    `json:"ready"`
	Reason  string  `json:"reason"`
	Uptime  float64 `json:"uptime_seconds"`
	Disk    struct {
		Free  uint64 `json:"free_bytes"`
		Total uint64 `json:"total_bytes"`
	} `json:"disk"`
	Shards []shardStatus `json:"shards"`
}

type shardStatus struct {
	Shard          uint32   `json:"shard"`
	Health         string   `json:"health"`
	Owner          string   `json:"owner"`
	Epoch          uint64   `json:"epoch"`
	Replicas       []string `json:"replicas"`
	NextOffset     uint64   `json:"next_offset"`
	TailBytes      uint64   `json:"tail_bytes"`
	OpenBlocks     int      `json:"open_blocks"`
	SealedSegments int      `json:"sealed_segments"`
	SealedBytes    uint64   `json:"sealed_bytes"`
	RawBytes       uint64   `json:"raw_bytes"`
	Damage         []string `json:"damage"`
}

// well reports whether a shard serves and is whole.
func (s *shardStatus) well() bool { return s.Health == "ok" && len(s.Damage) == 0 }

func (p *program) statusCommand() *command {
	var s server
	var output string
	return &command{
		name:  "status",
		about: "show how a node and its shards are",
		text: `
Asks a node how it is and prints it, one line a shard. ENTRIES counts all that the shard ever
took. TAIL is what is not sealed yet; SEALED is the size of the sealed files, RATIO how many
bytes of lines one byte of them holds. The exit code is 1 if the node is not ready or a shard
is not well, so that a script can wait for it.`,
		examples: []example{
			{"The node on this machine", "logcluster status"},
			{"Wait until a node takes writes", "until logcluster status >/dev/null 2>&1; do sleep 1; done"},
			{"For a script", "logcluster status --output json"},
		},
		settings: append(s.settings(), outputSetting(&output, "default", "json"), configSetting()),
		run: func(ctx context.Context, args []string) error {
			if len(args) > 0 {
				return &usageError{err: fmt.Errorf("status takes no arguments, but there is %s", display(args[0]))}
			}
			c, err := p.connect(&s, client.Retry{})
			if err != nil {
				return err
			}
			defer c.Close()
			answer, err := c.Status(ctx)
			if err != nil {
				return explain(err, "")
			}
			var status nodeStatus
			if err := json.Unmarshal(answer, &status); err != nil {
				return fmt.Errorf("%s answered with something else than a status (%w): is it a logcluster node?", c.URL(), err)
			}
			if output == "json" {
				_, err = p.stdout.Write(answer)
			} else {
				err = status.write(p.stdout)
			}
			if err := quietPipe(err); err != nil {
				return err
			}
			return status.verdict()
		},
	}
}

// verdict is an error if anything is not as it should be.
func (s *nodeStatus) verdict() error {
	if !s.Ready {
		return fmt.Errorf("node %s is not ready%s", s.Name, because(s.Reason))
	}
	var bad []string
	for _, shard := range s.Shards {
		if !shard.well() {
			bad = append(bad, fmt.Sprint(shard.Shard))
		}
	}
	if len(bad) > 0 {
		return fmt.Errorf("not well: shard %s", strings.Join(bad, ", "))
	}
	return nil
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

func (s *nodeStatus) write(out io.Writer) error {
	var b strings.Builder
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY" + because(s.Reason)
	}
	fmt.Fprintf(&b, "node %s, %s\n", s.Name, ready)
	fmt.Fprintf(&b, "version  %s, up for %s\n", s.Version, (time.Duration(s.Uptime) * time.Second).String())
	fmt.Fprintf(&b, "cluster  %s\n", s.Cluster)
	fmt.Fprintf(&b, "disk     %s free of %s\n", humanize.IBytes(s.Disk.Free), humanize.IBytes(s.Disk.Total))
	if len(s.Shards) == 0 {
		b.WriteString("no shards\n")
	} else {
		b.WriteString("\n")
		s.writeShards(&b)
	}
	for _, shard := range s.Shards {
		for _, damage := range shard.Damage {
			fmt.Fprintf(&b, "shard %d: %s\n", shard.Shard, damage)
		}
	}
	// The words are the server's, and a terminal may read them.
	_, err := io.WriteString(out, escapeText(b.String()))
	return err
}

func (s *nodeStatus) writeShards(b *strings.Builder) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SHARD\tHEALTH\tOWNER\tEPOCH\tREPLICAS\tENTRIES\tTAIL\tBLOCKS\tSEGMENTS\tSEALED\tRATIO")
	for i := range s.Shards {
		h := &s.Shards[i]
		health := h.Health
		if health == "ok" && !h.well() {
			health = "damaged"
		}
		owner, ratio := h.Owner, "-"
		if owner == "" {
			owner = "none"
		}
		if h.SealedBytes > 0 {
			ratio = fmt.Sprintf("%.1f", float64(h.RawBytes)/float64(h.SealedBytes))
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%d\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", h.Shard, health, owner, h.Epoch,
			strings.Join(h.Replicas, ","), humanize.Comma(int64(min(h.NextOffset, 1<<62))), humanize.IBytes(h.TailBytes),
			h.OpenBlocks, h.SealedSegments, humanize.IBytes(h.SealedBytes), ratio)
	}
	// Writing to memory cannot fail.
	w.Flush()
}
