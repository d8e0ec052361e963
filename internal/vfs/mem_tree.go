package vfs

import (
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
)

// node is a file or a folder of Mem.
type node struct {
	parent *node // The folder that programs see it in; nil once removed, and for the root.

	// Of a folder: what programs see in it, and what a power loss leaves.
	names   map[string]*node
	durable map[string]*node

	// Of a file.
	content content
	handles int  // Open files and locks.
	locked  bool // One of the handles is a lock.
}

func newFolder() *node {
	return &node{names: make(map[string]*node), durable: make(map[string]*node)}
}

func (n *node) isFolder() bool { return n.names != nil }

// place is a name in a folder. The zero value is nowhere.
type place struct {
	folder *node
	name   string
}

// change is a change of names that is not yet durable: a creation has no from,
// a removal no to, a rename both.
type change struct {
	node     *node
	from, to place
}

// apply makes the change durable.
func (c *change) apply() {
	if c.from.folder != nil {
		delete(c.from.folder.durable, c.from.name)
	}
	if c.to.folder != nil {
		c.to.folder.durable[c.to.name] = c.node
	}
}

func (c *change) touches(folder *node) bool {
	return c.from.folder == folder || c.to.folder == folder
}

func (c *change) isRemoval() bool { return c.to.folder == nil }

func (c *change) movesFolder() bool {
	return c.node.isFolder() && c.from.folder != nil && c.to.folder != nil
}

// follows tells whether the change cannot be durable unless the earlier one
// is. All other pairs may become durable in any order. Two changes of one node
// meet in a place. A new folder needs no rule: MkdirAll syncs it.
func (c *change) follows(earlier *change) bool {
	for _, p := range []place{c.from, c.to} {
		if p.folder != nil && (p == earlier.from || p == earlier.to) {
			return true
		}
	}
	if c.isRemoval() && earlier.touches(c.node) {
		// Else what was moved out of a removed folder could go with it.
		return true
	}
	// Else two folders could end up inside each other.
	return c.movesFolder() && earlier.movesFolder()
}

func (c *change) followsAny(earlier []*change) bool {
	return slices.ContainsFunc(earlier, c.follows)
}

// split cleans a name and cuts it into its parts; the root has none.
func split(name string) []string {
	return strings.FieldsFunc(path.Clean("/"+name), func(r rune) bool { return r == '/' })
}

// lookup finds a file or folder.
func (m *Mem) lookup(name string) (*node, error) {
	at := m.root
	for _, part := range split(name) {
		if !at.isFolder() {
			return nil, syscall.ENOTDIR
		}
		if at = at.names[part]; at == nil {
			return nil, syscall.ENOENT
		}
	}
	return at, nil
}

// locate finds the place that a name stands for, and what is there, if
// anything. The root is nobody's to change.
func (m *Mem) locate(name string) (place, *node, error) {
	parts := split(name)
	if len(parts) == 0 {
		return place{}, nil, syscall.EBUSY
	}
	last := len(parts) - 1
	folder, err := m.lookup(strings.Join(parts[:last], "/"))
	if err != nil {
		return place{}, nil, err
	}
	if !folder.isFolder() {
		return place{}, nil, syscall.ENOTDIR
	}
	return place{folder, parts[last]}, folder.names[parts[last]], nil
}

// findFolder is lookup for what must be a folder.
func (m *Mem) findFolder(name string) (*node, error) {
	n, err := m.lookup(name)
	if err == nil && !n.isFolder() {
		err = syscall.ENOTDIR
	}
	return n, err
}

// findFile is lookup for what must be a file.
func (m *Mem) findFile(name string) (*node, error) {
	n, err := m.lookup(name)
	if err == nil && n.isFolder() {
		err = syscall.EISDIR
	}
	return n, err
}

// link gives a new node a name.
func (m *Mem) link(n *node, at place) {
	n.parent = at.folder
	at.folder.names[at.name] = n
	m.pending = append(m.pending, &change{node: n, to: at})
}

// unlink takes a node's name away, and that of all below it.
func (m *Mem) unlink(n *node, at place) {
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		m.unlink(n.names[name], place{n, name})
	}
	delete(at.folder.names, at.name)
	m.pending = append(m.pending, &change{node: n, from: at})
	n.parent = nil
	m.release(n)
}

// move gives a node another name; the file that had it loses it.
func (m *Mem) move(n *node, from, to place) {
	m.pending = append(m.pending, &change{node: n, from: from, to: to})
	replaced := to.folder.names[to.name]
	delete(from.folder.names, from.name)
	to.folder.names[to.name] = n
	n.parent = to.folder
	if replaced != nil {
		replaced.parent = nil
		m.release(replaced)
	}
}

// release gives back the space of a file without name and handles.
func (m *Mem) release(n *node) {
	if n.parent == nil && n.handles == 0 {
		m.used -= n.content.cached.space()
	}
}

// syncFolder makes durable what changed in a folder, and what that follows.
func (m *Mem) syncFolder(folder *node) {
	m.counters.DirSyncs++
	var synced, left []*change
	for _, c := range slices.Backward(m.pending) {
		wanted := func(later *change) bool { return later.follows(c) }
		if c.touches(folder) || slices.ContainsFunc(synced, wanted) {
			synced = append(synced, c)
		} else {
			left = append(left, c)
		}
	}
	for _, c := range slices.Backward(synced) {
		c.apply()
	}
	slices.Reverse(left)
	m.pending = left
}

// writeBackNames makes a random part of the pending changes durable: any part
// in which no change stands without one that it follows.
func (m *Mem) writeBackNames(rng *rand.Rand) {
	odds := chance(rng)
	var left []*change
	for _, c := range m.pending {
		if rng.Float64() >= odds || c.followsAny(left) {
			left = append(left, c)
		} else {
			c.apply()
		}
	}
	m.pending = left
}

// walk visits the nodes that programs see or that a power loss leaves, each
// once and in an order that depends on the names only.
func (m *Mem) walk(visit func(*node)) {
	seen := make(map[*node]bool)
	var descend func(n *node)
	descend = func(n *node) {
		if seen[n] {
			return
		}
		seen[n] = true
		visit(n)
		for _, names := range []map[string]*node{n.names, n.durable} {
			for _, name := range slices.Sorted(maps.Keys(names)) {
				descend(names[name])
			}
		}
	}
	descend(m.root)
}
