package vfs

import (
	"math/rand/v2"
	"slices"
)

const (
	// pageSize is the unit of the page cache.
	pageSize = 4096

	// sectorSize is the unit that a disk writes whole or not at all.
	sectorSize = 512

	// maxFileSize bounds the page table of a file in memory.
	maxFileSize = 8 << 30
)

type page [pageSize]byte

// image is the content of a file: of its page cache or of the disk's platter.
// A nil page is a hole and reads as zeros. Bytes beyond size are zero. Pages
// are shared between images, so only the owner of a private one writes to it.
type image struct {
	size  int64
	pages []*page
}

func (i *image) page(index int64) *page {
	if index >= int64(len(i.pages)) {
		return nil
	}
	return i.pages[index]
}

func (i *image) set(index int64, p *page) {
	if missing := index + 1 - int64(len(i.pages)); missing > 0 {
		if p == nil {
			return
		}
		i.pages = append(i.pages, make([]*page, missing)...)
	}
	i.pages[index] = p
}

// resize cuts or extends the image and zeroes what lies beyond the new size.
func (i *image) resize(size int64) {
	i.size = size
	if whole := pagesOf(size); whole < int64(len(i.pages)) {
		clear(i.pages[whole:])
		i.pages = i.pages[:whole]
	}
	start := size % pageSize
	last := i.page(size / pageSize)
	if start == 0 || last == nil || isZero(last[start:]) {
		return
	}
	cut := new(page)
	copy(cut[:start], last[:start])
	i.pages[size/pageSize] = cut
}

// readAt copies what lies within the size.
func (i *image) readAt(p []byte, offset int64) int {
	if offset >= i.size {
		return 0
	}
	p = p[:min(int64(len(p)), i.size-offset)]
	for n := 0; n < len(p); {
		position := offset + int64(n)
		start := position % pageSize
		length := min(len(p)-n, int(pageSize-start))
		if source := i.page(position / pageSize); source != nil {
			copy(p[n:n+length], source[start:])
		} else {
			clear(p[n : n+length])
		}
		n += length
	}
	return len(p)
}

func (i *image) clone() image {
	return image{size: i.size, pages: slices.Clone(i.pages)}
}

// space returns the bytes that the image takes.
func (i *image) space() int64 {
	var space int64
	for _, p := range i.pages {
		if p != nil {
			space += pageSize
		}
	}
	return space
}

// sector returns one sector of a page that may be a hole.
func (p *page) sector(number int) []byte {
	if p == nil {
		return make([]byte, sectorSize)
	}
	return p[number*sectorSize : (number+1)*sectorSize]
}

// copied returns a page of its own with the same bytes.
func (p *page) copied() *page {
	fresh := new(page)
	if p != nil {
		*fresh = *p
	}
	return fresh
}

func pagesOf(size int64) int64 { return (size + pageSize - 1) / pageSize }

func isZero(p []byte) bool {
	return !slices.ContainsFunc(p, func(b byte) bool { return b != 0 })
}

// chance draws how likely each unsynced thing survives. The extremes are drawn
// often, since with even odds nothing that spans many sectors would ever
// survive, or go, as a whole.
func chance(rng *rand.Rand) float64 {
	return []float64{0, 1. / 16, 1. / 2, 15. / 16, 1}[rng.IntN(5)]
}
