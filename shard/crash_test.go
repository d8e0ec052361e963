package shard

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// changes are the operations that a crash can fall before.
var changes = vfs.Kinds(vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpSyncDir, vfs.OpRemove, vfs.OpTruncate, vfs.OpMkdirAll)

// A crasher takes images of a file system just before operations.
type crasher struct {
	mem    *vfs.Mem
	oracle *oracle
	seed   uint64
	pick   func(n int) bool // whether to crash before change n

	mu     sync.Mutex
	n      int
	images []*image
}

func (c *crasher) inject(op vfs.Op) vfs.Decision {
	if !changes(op) {
		return vfs.Decision{}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.n
	c.n++
	if !c.pick(n) {
		return vfs.Decision{}
	}
	for m, mode := range crashModes {
		// What is acknowledged before the crash must be there, what is sent after it cannot.
		before := c.oracle.at()
		rng := generator(c.seed<<32 + uint64(n)<<8 + uint64(m))
		found := c.mem.Crash(rng, mode.options)
		after := c.oracle.at()
		c.images = append(c.images, &image{fmt.Sprintf("seed %d: %s before change %d, %s of %s", c.seed, mode.name, n, op.Kind, op.Name),
			found, &oracle{sent: after.sent, acked: before.acked}, false})
	}
	return vfs.Decision{}
}

// again returns images of crashes while an image is recovered.
func (im *image) again(seed uint64, pick func(n int) bool) []*image {
	mem := im.fs.Crash(nil, vfs.CrashOptions{Mode: vfs.CrashKeepAll})
	o := im.oracle.at()
	c := &crasher{mem: mem, oracle: o, seed: seed, pick: pick}
	b := newBench(vfs.NewFault(mem, c.inject))
	if b.start() == nil {
		_ = b.stop() // an error of either is for recover to find
	}
	for _, found := range c.images {
		found.what = im.what + "; then " + found.what
	}
	return c.images
}

// TestS2CrashSweep: after a crash before any change of the disk, while the script runs
// or while an earlier crash is recovered from, everything acknowledged is there once and
// in order, nothing else is, and no damage is reported.
func TestS2CrashSweep(t *testing.T) {
	tried := 0
	try := func(im *image) {
		tried++
		copied := im.copy(im.what)
		if err := copied.recover(); err != nil {
			t.Fatalf("%s: %v", im.what, err)
		}
	}
	// stale puts an older mark into an image: FLOOR is synced once a second at most.
	var marks [][]byte
	stale := func(im *image, rng *rand.Rand) {
		if _, err := im.fs.Size("shards/3/" + identName); err != nil {
			return // FLOOR is synced before IDENT is written
		}
		marks = append(marks, fileBytes(t, im.fs, "node/FLOOR"))
		old := im.copy(im.what + "; an old FLOOR")
		replaceFile(t, old.fs, "node/FLOOR", marks[rng.IntN(len(marks))])
		try(old)
	}
	for seed := range uint64(*seeds) {
		marks = nil
		mem, o := vfs.NewMem(), newOracle()
		c := &crasher{mem: mem, oracle: o, seed: seed, pick: func(int) bool { return true }}
		ok(t, (&run{bench: newBench(vfs.NewFault(mem, c.inject)), oracle: o}).script())
		rng := generator(seed)
		for i, im := range c.images {
			// Without -seeds each change has one of the four ways to crash, in turn.
			if *seeds == 1 && (i/len(crashModes)+i)%len(crashModes) > 0 {
				continue
			}
			try(im)
			if rng.IntN(3) == 0 {
				stale(im, rng)
			}
			if rng.IntN(20) > 0 {
				continue
			}
			for _, second := range im.again(seed, every(rng, 12)) {
				try(second)
				if rng.IntN(20) > 0 {
					continue
				}
				for _, third := range second.again(seed, every(rng, 30)) {
					try(third)
				}
			}
		}
	}
	t.Logf("%d crashes recovered from", tried)
}

// every picks one of n on average.
func every(rng *rand.Rand, n int) func(int) bool {
	return func(int) bool { return rng.IntN(n) == 0 }
}
