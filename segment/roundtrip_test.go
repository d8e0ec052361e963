package segment

import (
	"context"
	"fmt"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/logcluster/logcluster/internal/vfs"
)

// S3: what was written is read again, byte for byte, from frames, from the blocks of an
// open segment and from a sealed file.
func TestS3RoundTrip(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			rng := seeded(t, seed)
			g, l := newGenerator(rng), newTestLog(t)
			g.log(l, 1+rng.IntN(8), 1+rng.IntN(600))
			fsys := vfs.NewMem()
			o := l.open(fsys, "open-1", 1+rng.IntN(4))
			readAll := func(what string, units []Unit) {
				t.Helper()
				// Tenants are asked for apart; offsets bring the entries together.
				got := make([]Entry, 0, len(l.entries))
				for _, tenant := range []string{"t", "other"} {
					for _, u := range units {
						q := everything()
						q.Tenant = tenant
						entries, err := u.Select(context.Background(), q)
						if err != nil {
							t.Fatalf("%s: %v", what, err)
						}
						got = append(got, entries...)
					}
				}
				sameEntries(t, what, byOffset(got), l.entries)
			}
			readAll("frames", l.frames())
			readAll("open blocks", blockUnits(o.Blocks()))
			var sum uint64
			for _, b := range o.Blocks() {
				sum += b.Meta.Digest
			}
			if sum != l.digest() {
				t.Fatalf("the blocks' digest is %#x, the records' %#x", sum, l.digest())
			}
			sealed, err := o.Seal(l.sealRange())
			if err != nil {
				t.Fatal(err)
			}
			if err := o.Close(); err != nil {
				t.Fatal(err)
			}
			s := openSegment(t, fsys, sealed.FileName())
			readAll("sealed file", blockUnits(s.Blocks))
			if s.Sealed != sealed || s.Digest != l.digest() || s.Entries != uint64(len(l.entries)) {
				t.Fatalf("opened as %+v, sealed as %+v", s.Sealed, sealed)
			}
			report, err := Verify(fsys, sealed.FileName())
			if err != nil || len(report.Faults) > 0 || report.Sealed != sealed {
				t.Fatalf("verify: %+v, %v", report, err)
			}
		})
	}
}

// Frames' digests are those of an independent computation, and their decoded form is
// the batch.
func TestFrameDigests(t *testing.T) {
	for seed := range uint64(20) {
		l := newTestLog(t)
		newGenerator(seeded(t, seed)).log(l, 3, 200)
		at := 0
		for i := range l.records {
			r := &l.records[i]
			var a, b uint64
			for k := range uint64(r.Count) {
				e := &l.entries[at]
				at++
				h := entryHash(e)
				a += h
				b += h * (k + 1)
			}
			if a != r.DigestA || b != r.DigestB {
				t.Fatalf("record %d: digests %#x and %#x, want %#x and %#x", r.Index, r.DigestA, r.DigestB, a, b)
			}
		}
	}
}

// entryHash is the hash of an entry by its definition, written without the code under
// test.
func entryHash(e *Entry) uint64 {
	var b []byte
	number := func(v uint64) {
		for i := range 8 {
			b = append(b, byte(v>>(8*i)))
		}
	}
	text := func(s string) {
		n := len(s)
		for ; n > 0x7f; n >>= 7 {
			b = append(b, byte(n)|0x80)
		}
		b = append(append(b, byte(n)), s...)
	}
	text(e.Stream.Tenant)
	for _, l := range e.Stream.Labels {
		text(l.Name)
		text(l.Value)
	}
	id := xxhash.Sum64(b)
	b = b[:0]
	number(uint64(e.Timestamp))
	number(id)
	b = append(b, e.Line...)
	for _, l := range e.Metadata {
		text(l.Name)
		text(l.Value)
	}
	return xxhash.Sum64(b)
}
