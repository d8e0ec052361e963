package vfs

import (
	"bytes"
	"maps"
	"math/rand/v2"
	"slices"
)

// content is what a file of Mem holds, twice: as programs see it and as a
// power loss leaves it.
type content struct {
	cached  image // What reads return.
	platter image // What has reached the disk.

	// dirty holds the pages that the next sync writes. The value tells whether
	// no other image has the page, so that a write may change it in place. A
	// page that differs from the platter and is not in here was given up by a
	// failed sync.
	dirty map[int64]bool

	// resized tells that the next sync writes the size, smallest is the least
	// size since the last one: a cut may reach the disk without what was
	// written after it.
	resized  bool
	smallest int64
}

// write copies p into one page of the cache and returns how much fitted.
func (c *content) write(p []byte, offset int64) int {
	index := offset / pageSize
	target := c.cached.page(index)
	if !c.dirty[index] {
		target = target.copied()
		c.cached.set(index, target)
		c.markDirty(index, true)
	}
	n := copy(target[offset%pageSize:], p)
	if end := offset + int64(n); end > c.cached.size {
		c.setSize(end)
	}
	return n
}

func (c *content) markDirty(index int64, private bool) {
	if c.dirty == nil {
		c.dirty = make(map[int64]bool)
	}
	c.dirty[index] = private
}

// setSize changes the size in the cache.
func (c *content) setSize(size int64) {
	if !c.resized {
		c.resized, c.smallest = true, c.cached.size
	}
	c.smallest = min(c.smallest, size)
	c.cached.size = size
}

// truncate changes the size and forgets what lies beyond it.
func (c *content) truncate(size int64) {
	if size == c.cached.size {
		return
	}
	for index := pagesOf(size); index < int64(len(c.cached.pages)); index++ {
		if c.cached.page(index) != nil {
			c.markDirty(index, false)
		}
	}
	boundary := size / pageSize
	before := c.cached.page(boundary)
	c.setSize(size)
	c.cached.resize(size)
	if after := c.cached.page(boundary); after != before {
		c.markDirty(boundary, after != nil)
	}
}

// sync brings the dirty pages and the size to the platter.
func (c *content) sync() {
	size := c.platter.size
	for index := range c.dirty {
		c.platter.set(index, c.cached.page(index))
		// After a failed sync the platter may be shorter than the cache
		// though nothing has changed the size since.
		size = max(size, min(c.cached.size, (index+1)*pageSize))
	}
	if c.resized {
		size = c.cached.size
	}
	c.platter.resize(size)
	c.dirty, c.resized = nil, false
}

// discard marks everything clean without writing it: what a failed fsync does
// to the page cache. Reads go on seeing the bytes, later syncs pass them by.
func (c *content) discard() {
	c.dirty, c.resized = nil, false
}

// writeBack brings a random part of what is dirty to the platter, sector by
// sector, as a system does at any time without being asked.
func (c *content) writeBack(rng *rand.Rand) {
	odds := chance(rng)
	for _, index := range slices.Sorted(maps.Keys(c.dirty)) {
		c.platter.set(index, c.tear(rng, odds, index))
	}
	if !c.resized {
		// A dirty page beyond the platter's size is lost, see sync.
		c.platter.resize(c.platter.size)
		return
	}
	size := c.survivingSize(rng)
	c.platter.resize(size)
	if size <= c.cached.size {
		c.smallest = size
	}
}

// tear mixes the sectors of a page in the cache with those on the platter.
func (c *content) tear(rng *rand.Rand, odds float64, index int64) *page {
	written, kept := c.cached.page(index), c.platter.page(index)
	var torn *page
	whole := true
	for number := range pageSize / sectorSize {
		sector := written.sector(number)
		if bytes.Equal(sector, kept.sector(number)) {
			continue
		}
		if rng.Float64() >= odds {
			whole = false
			continue
		}
		if torn == nil {
			torn = kept.copied()
		}
		copy(torn.sector(number), sector)
	}
	switch {
	case torn == nil:
		return kept
	case whole:
		// From now on two images have it.
		c.dirty[index] = false
		return written
	default:
		return torn
	}
}

// survivingSize draws one of the sizes that the disk may show: the last one it
// was told, the present one, the least in between, or any on the way from
// there to the present one.
func (c *content) survivingSize(rng *rand.Rand) int64 {
	switch rng.IntN(4) {
	case 0:
		return c.platter.size
	case 1:
		return c.cached.size
	case 2:
		return c.smallest
	default:
		sectors := (c.cached.size - c.smallest) / sectorSize
		size := (c.smallest/sectorSize + rng.Int64N(sectors+1)) * sectorSize
		return max(size, c.smallest)
	}
}

// garble fills lost sectors with what the disk held there before: those beyond
// size, the end of the file when it was last synced, that were written in the
// cache and did not reach the platter. Of a sector of zeros nobody can tell
// whether it did.
func (c *content) garble(rng *rand.Rand, size int64, stale func(sector []byte)) {
	if size >= c.platter.size {
		return
	}
	for index := size / pageSize; index < pagesOf(c.platter.size); index++ {
		written, kept := c.cached.page(index), c.platter.page(index)
		if written == nil || written == kept {
			continue
		}
		garbled := kept.copied()
		for number := range pageSize / sectorSize {
			start := index*pageSize + int64(number)*sectorSize
			lost := isZero(written.sector(number)) || !bytes.Equal(written.sector(number), kept.sector(number))
			if start >= size && start < c.platter.size && lost && rng.IntN(2) == 0 {
				stale(garbled.sector(number))
			}
		}
		c.platter.set(index, garbled)
	}
	c.platter.resize(c.platter.size)
}

// forget drops the cache: a machine after a power loss.
func (c *content) forget() {
	c.cached = c.platter.clone()
	c.dirty, c.resized = nil, false
}

// clone copies the page tables and shares the pages from now on.
func (c *content) clone() content {
	for index := range c.dirty {
		c.dirty[index] = false
	}
	fresh := *c
	fresh.cached, fresh.platter = c.cached.clone(), c.platter.clone()
	fresh.dirty = maps.Clone(c.dirty)
	return fresh
}

// corrupt flips bits of a byte in both images.
func (c *content) corrupt(offset int64, mask byte) {
	index, at := offset/pageSize, offset%pageSize
	written, kept := c.cached.page(index), c.platter.page(index)
	flipped := written.copied()
	flipped[at] ^= mask
	c.cached.set(index, flipped)
	_, dirty := c.dirty[index]
	onPlatter := offset < c.platter.size
	switch {
	case onPlatter && written == kept:
		c.platter.set(index, flipped)
	case onPlatter:
		own := kept.copied()
		own[at] ^= mask
		c.platter.set(index, own)
	default:
		dirty = true
	}
	if dirty {
		c.markDirty(index, !onPlatter || written != kept)
	}
}
