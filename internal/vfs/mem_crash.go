package vfs

import (
	"maps"
	"math/rand/v2"
)

// CrashMode says what of the unsynced changes is left after a crash.
type CrashMode uint8

const (
	// CrashRandom is a power loss that leaves any part of what was not synced.
	CrashRandom CrashMode = iota

	// CrashDropUnsynced is a power loss that leaves nothing that was neither
	// synced nor written back.
	CrashDropUnsynced

	// CrashKeepAll is the end of the process alone (SIGKILL): all that was
	// written is read again, but what was not synced is still not durable and
	// a later power loss takes it.
	CrashKeepAll
)

// CrashOptions says how a Mem crashes. The zero value is a power loss that
// leaves a random part of what was not synced and never shows garbage.
type CrashOptions struct {
	Mode CrashMode

	// Garbage, in mode CrashRandom, shows what the disk held before in sectors
	// that were lost beyond the end of what a file had when it was last synced:
	// random bytes or a sector of some file.
	Garbage bool
}

// Crash returns the file system as the next process finds it if this one, or
// the machine, stops at this instant. Nobody has files open or locks in it.
// The original and its open files go on as if nothing had happened. The same
// state of rng and the same operations before give the same result; modes
// other than CrashRandom do not use rng, and it may be nil.
func (m *Mem) Crash(rng *rand.Rand, options CrashOptions) *Mem {
	m.mu.Lock()
	found := m.clone()
	m.mu.Unlock()
	switch options.Mode {
	case CrashKeepAll:
		return found
	case CrashRandom:
		ends := found.durableEnds()
		found.writeBack(rng)
		if options.Garbage {
			found.garble(rng, ends)
		}
	}
	found.forget()
	return found
}

// WriteBack makes a random part of what was not synced durable, as the system
// does in the background at any time. Tests call it between operations to get
// states on disk that mix more than the last synced content and the present.
func (m *Mem) WriteBack(rng *rand.Rand) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writeBack(rng)
}

func (m *Mem) writeBack(rng *rand.Rand) {
	m.writeBackNames(rng)
	m.walk(func(n *node) {
		if !n.isFolder() {
			n.content.writeBack(rng)
		}
	})
}

// clone copies names, page tables and pending changes, with all handles and
// locks left out. Pages are shared and copied when one side writes to them.
func (m *Mem) clone() *Mem {
	copies := make(map[*node]*node)
	var copied func(n *node) *node
	copiedNames := func(names map[string]*node) map[string]*node {
		if names == nil {
			return nil
		}
		fresh := make(map[string]*node, len(names))
		for name, n := range names {
			fresh[name] = copied(n)
		}
		return fresh
	}
	copied = func(n *node) *node {
		if n == nil {
			return nil
		}
		if fresh, ok := copies[n]; ok {
			return fresh
		}
		fresh := new(node)
		copies[n] = fresh
		fresh.content = n.content.clone()
		fresh.names, fresh.durable = copiedNames(n.names), copiedNames(n.durable)
		fresh.parent = copied(n.parent)
		return fresh
	}
	fresh := &Mem{root: copied(m.root), capacity: m.capacity}
	for _, c := range m.pending {
		fresh.pending = append(fresh.pending, &change{
			node: copied(c.node),
			from: place{copied(c.from.folder), c.from.name},
			to:   place{copied(c.to.folder), c.to.name},
		})
	}
	fresh.measure()
	return fresh
}

// durableEnds returns the size of every file on the platter.
func (m *Mem) durableEnds() map[*node]int64 {
	ends := make(map[*node]int64)
	m.walk(func(n *node) { ends[n] = n.content.platter.size })
	return ends
}

// garble puts stale bytes into sectors that were lost beyond the given ends.
func (m *Mem) garble(rng *rand.Rand, ends map[*node]int64) {
	var pool []*page
	m.walk(func(n *node) {
		for _, p := range n.content.platter.pages {
			if p != nil {
				pool = append(pool, p)
			}
		}
	})
	stale := func(sector []byte) {
		if len(pool) > 0 && rng.IntN(2) == 0 {
			copy(sector, pool[rng.IntN(len(pool))].sector(rng.IntN(pageSize/sectorSize)))
			return
		}
		for i := range sector {
			sector[i] = byte(rng.Uint32())
		}
	}
	m.walk(func(n *node) { n.content.garble(rng, ends[n], stale) })
}

// forget leaves what is durable, and nothing else.
func (m *Mem) forget() {
	m.pending = nil
	m.root.forget()
	m.measure()
}

// forget replaces what programs saw by what is durable, from here downwards.
func (n *node) forget() {
	n.content.forget()
	if !n.isFolder() {
		return
	}
	n.names = maps.Clone(n.durable)
	for _, below := range n.names {
		below.parent = n
		below.forget()
	}
}

// measure counts the space that is in use.
func (m *Mem) measure() {
	m.used = 0
	m.walk(func(n *node) {
		if n.parent != nil {
			m.used += n.content.cached.space()
		}
	})
}
