package shard

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/logcluster/logcluster/internal/vfs"
)

var rootOfFile = regexp.MustCompile(`[0-9a-f]{64}`)

// TestH2Trace shows the operations on the disk, in order, for each step in a shard's
// life. A change of the order changes testdata/trace and is seen in review; go test
// -rewrite writes it anew.
func TestH2Trace(t *testing.T) {
	var mu sync.Mutex
	var ops []string
	mem := vfs.NewMem()
	fs := vfs.NewFault(mem, func(op vfs.Op) vfs.Decision {
		if !changes(op) {
			return vfs.Decision{}
		}
		text := fmt.Sprintf("%s %s", op.Kind, op.Name)
		if op.NewName != "" {
			text += " to " + op.NewName
		}
		mu.Lock()
		defer mu.Unlock()
		ops = append(ops, rootOfFile.ReplaceAllString(text, "ROOT"))
		return vfs.Decision{}
	})
	b, o := newBench(fs), newOracle()
	datadriven.RunTest(t, "testdata/trace", func(t *testing.T, d *datadriven.TestData) string {
		var err error
		switch d.Cmd {
		case "open":
			b.options.AfterFailure = d.HasArg("after-failure")
			err = b.open()
		case "lead":
			err = b.lead()
		case "append":
			err = o.write(b, 0)
		case "encode":
			err = b.encode()
		case "seal":
			err = b.seal()
		case "merge":
			err = b.merge()
		case "tick":
			b.shard.Tick(time.Now())
			err = b.floor.Sync()
		case "close":
			err = b.shard.Close()
			b.encoders.Close()
		case "close-floor":
			err = b.floor.Close()
		case "old-floor":
			// As after a power loss: the mark is the first one.
			data := fileBytes(t, mem, "node/FLOOR")
			copy(data, make([]byte, floorSlotSize))
			copy(data[floorPage:], encodeFloorSlot(3, 1, &Mark{LogID: 77, File: 1, Position: tailHeaderSize}))
			replaceFile(t, mem, "node/FLOOR", data)
		default:
			d.Fatalf(t, "unknown command %q", d.Cmd)
		}
		mu.Lock()
		defer mu.Unlock()
		out := strings.Join(ops, "\n")
		ops = nil
		if err != nil {
			out += "\nerror: " + err.Error()
		}
		if out == "" {
			return "nothing"
		}
		return out
	})
}
