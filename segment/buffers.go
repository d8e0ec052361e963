package segment

import (
	"math/bits"
	"sync"
)

// Buffers are kept by size, in powers of two: many small frames that wait for the next
// group must not each hold the memory of a large one.
const (
	smallestBuffer = 10 // 1 KiB
	largestBuffer  = 23 // 8 MiB
)

var buffers [largestBuffer - smallestBuffer + 1]sync.Pool

// bufferClass returns the power of two that holds n bytes, and false if none is kept.
func bufferClass(n int) (int, bool) {
	class := max(bits.Len(uint(max(n, 1)-1)), smallestBuffer)
	return class, class <= largestBuffer
}

// getBuffer returns a buffer of n bytes with any content. putBuffer gives it back.
func getBuffer(n int) *[]byte {
	class, kept := bufferClass(n)
	if !kept {
		b := make([]byte, n)
		return &b
	}
	if b, ok := buffers[class-smallestBuffer].Get().(*[]byte); ok {
		*b = (*b)[:n]
		return b
	}
	b := make([]byte, n, 1<<class)
	return &b
}

func putBuffer(b *[]byte) {
	if class, kept := bufferClass(cap(*b)); kept && cap(*b) == 1<<class {
		buffers[class-smallestBuffer].Put(b)
	}
}
