package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
)

// reseal makes the CRC of an encoded frame header right.
func reseal(b []byte) { binary.LittleEndian.PutUint32(b[136:], Checksum(b[:136])) }

// bounded fails the test if f allocates more than limit bytes.
func bounded(t testing.TB, limit uint64, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > limit+1<<20 {
		t.Fatalf("%d bytes allocated, want at most %d", n, limit)
	}
}

func FuzzParseHeader(f *testing.F) {
	l := smallLog(f)
	for i := range l.records {
		b := AppendHeader(nil, &l.records[i].Header)
		f.Add(AppendTrailer(b, Trailer{Group: NewGroup(1<<40, 65535), Commit: 9}, b))
	}
	f.Add([]byte("LCFR"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, fix := range []bool{false, true} {
			if fix && len(b) >= HeaderSize {
				b = bytes.Clone(b)
				reseal(b)
			}
			h, err := ParseHeader(b)
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
					t.Fatalf("%v is neither damage nor a version", err)
				}
				continue
			}
			if again := AppendHeader(nil, &h); !bytes.Equal(again, b[:HeaderSize]) {
				t.Fatalf("header %x is written as %x", b[:HeaderSize], again)
			}
			if h.Size() > HeaderSize+TrailerSize+MaxPayload {
				t.Fatalf("frame of %d bytes", h.Size())
			}
			tr, err := ParseTrailer(b[HeaderSize:], b)
			if err == nil && !bytes.Equal(AppendTrailer(nil, tr, b), b[HeaderSize:HeaderSize+TrailerSize]) {
				t.Fatalf("trailer %x is written otherwise", b[HeaderSize:])
			}
		}
	})
}

// FuzzFrameDecode decodes any bytes as a payload, plain and compressed.
func FuzzFrameDecode(f *testing.F) {
	l := smallLog(f)
	newGenerator(seeded(f, 5)).log(l, 3, 20)
	for i := range l.records {
		r := &l.records[i]
		if r.Type != RecordData {
			continue
		}
		raw, err := decompress(nil, r.Codec, r.payload, int(r.RawLength))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw, r.Count, r.Streams, r.MinTimestamp, r.MaxTimestamp)
	}
	// Lists of names that many rows use, and numbers that claim much.
	f.Add(append(make([]byte, 20), bytes.Repeat([]byte{0xff, 0xff, 0x03}, 50)...), uint32(65535), uint32(1), int64(0), int64(0))
	f.Fuzz(func(t *testing.T, raw []byte, count, streams uint32, lo, hi int64) {
		if len(raw) > 1<<20 {
			return
		}
		h := Header{Type: RecordData, Count: count, Streams: streams, MinTimestamp: lo, MaxTimestamp: hi, RawLength: uint32(len(raw))}
		for _, codec := range []Codec{CodecNone, CodecS2, CodecZstd, 3} {
			payload := raw
			switch codec {
			case CodecS2:
				payload = s2.Encode(nil, raw)
			case CodecZstd:
				b, used, err := compress(nil, raw)
				if err != nil || used != CodecZstd {
					continue
				}
				payload = b
			}
			h.Codec, h.PayloadLength, h.PayloadCRC = codec, uint32(len(payload)), Checksum(payload)
			var d FrameDecoder
			var data *Data
			var err error
			// A few pointers for each row and label, as the format allows them.
			bounded(t, 100*uint64(len(raw))+64*uint64(min(count, MaxFrameEntries))+8<<20, func() { data, err = d.Decode(&h, payload) })
			if err != nil {
				if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
					t.Fatalf("%v is no damage", err)
				}
				continue
			}
			checkData(t, &h, data)
		}
	})
}

// checkData checks that decoded data is sound: readers index by it.
func checkData(t testing.TB, h *Header, d *Data) {
	t.Helper()
	rows := 0
	for _, run := range d.Runs {
		if int(run.Stream) >= len(d.Streams) {
			t.Fatalf("run of stream %d of %d", run.Stream, len(d.Streams))
		}
		rows += int(run.Count)
	}
	if rows != int(h.Count) || len(d.Timestamps) != rows || len(d.Ends) != rows || d.Metadata != nil && len(d.Metadata) != rows {
		t.Fatalf("%d rows in runs, %d timestamps, %d lines, %d metadata sets, want %d", rows, len(d.Timestamps), len(d.Ends), len(d.Metadata), h.Count)
	}
	total := 0
	for i := range rows {
		total += len(d.Line(i))
		if d.Timestamps[i] < h.MinTimestamp || d.Timestamps[i] > h.MaxTimestamp {
			t.Fatalf("timestamp %d outside %d to %d", d.Timestamps[i], h.MinTimestamp, h.MaxTimestamp)
		}
	}
	if total != len(d.Text) {
		t.Fatalf("lines of %d bytes in %d", total, len(d.Text))
	}
}

// FuzzFrameRoundTrip: a batch made from any bytes comes back as it was.
func FuzzFrameRoundTrip(f *testing.F) {
	f.Add([]byte("a\nb\n\nlonger line\n"), int64(5), int64(-3), uint8(2))
	f.Add([]byte{0, 1, 2, 0xff, '\n', '\r', '\n'}, int64(-1<<63), int64(1<<62), uint8(3))
	f.Fuzz(func(t *testing.T, text []byte, first, step int64, period uint8) {
		if len(text) > 1<<16 {
			return
		}
		b := &Batch{Streams: []*Stream{NewStream("t", nil), NewStream("t", Labels{{"a", string(text[:min(len(text), 9)])}})},
			Metadata: []Labels{{{"k", string(text[:min(len(text), 5)])}, {"l", ""}}}}
		for i, line := range bytes.Split(text, []byte("\n")) {
			r := Row{Timestamp: first + int64(i)*step, Line: line, Stream: uint32(i/3) % 2}
			if period > 0 && i%int(period) == 0 {
				r.Metadata = 1
			}
			r.Refused = period > 0 && i%int(period) == 1
			b.Rows = append(b.Rows, r)
		}
		l := newTestLog(t)
		l.append(b)
		at := 0
		for i := range l.records {
			r := &l.records[i]
			data, err := (&FrameDecoder{}).Decode(&r.Header, r.payload)
			if err != nil {
				t.Fatal(err)
			}
			checkData(t, &r.Header, data)
			row := 0
			var sumA, sumB uint64
			for _, run := range data.Runs {
				for range run.Count {
					e := Entry{Timestamp: data.Timestamps[row], Stream: data.Streams[run.Stream], Line: data.Line(row), Offset: r.Offset + uint64(row)}
					if data.Metadata != nil {
						e.Metadata = data.Metadata[row]
					}
					if d := sameEntry(&e, &l.entries[at]); d != "" {
						t.Fatal(d)
					}
					row++
					sumA += entryHash(&l.entries[at])
					sumB += entryHash(&l.entries[at]) * uint64(row)
					at++
				}
			}
			if sumA != r.DigestA || sumB != r.DigestB {
				t.Fatalf("digests %#x and %#x, want %#x and %#x", r.DigestA, r.DigestB, sumA, sumB)
			}
		}
		if at != len(l.entries) {
			t.Fatalf("%d entries, want %d", at, len(l.entries))
		}
	})
}

func FuzzParseStream(f *testing.F) {
	f.Add(NewStream("t", Labels{{"a", "b"}, {"c", ""}}).AppendKey(nil))
	f.Add(NewStream("tenant.with-all_1", nil).AppendKey(nil))
	f.Add([]byte{0x81, 0x00, 't'})              // a length in a longer form than it needs
	f.Add([]byte{1, 't', 1, 'b', 0, 1, 'a', 0}) // out of order
	f.Add([]byte{1, '/'})
	f.Fuzz(func(t *testing.T, key []byte) {
		kept := bytes.Clone(key)
		s, err := ParseStream(key)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%v is no damage", err)
			}
			return
		}
		for i := range key {
			key[i] = 0xee // the stream must not alias it
		}
		if again := s.AppendKey(nil); !bytes.Equal(again, kept) {
			t.Fatalf("%x is written as %x", kept, again)
		}
		if own := NewStream(s.Tenant, s.Labels); own.ID != s.ID || !own.Equal(s) {
			t.Fatalf("id %#x, want %#x", s.ID, own.ID)
		}
		if !ValidTenant(s.Tenant) || !slices.IsSortedFunc(s.Labels, func(a, b Label) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) }) {
			t.Fatalf("tenant %q, labels %s", s.Tenant, s.Labels)
		}
	})
}

func FuzzParseMetadata(f *testing.F) {
	var e metadataEncoder
	for _, set := range []Labels{nil, {{"a", "1"}}, {{"a", "2"}}, {{"a", ""}, {"b", "x"}}, nil} {
		if err := e.add(set); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(e.append(nil), uint16(5))
	f.Add([]byte{}, uint16(3))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0x07}, uint16(9))
	// One list of many names for many rows whose values are not there.
	many := binary.AppendUvarint([]byte{1}, 1000)
	for i := range 1000 {
		many = append(many, 2, byte(i>>8), byte(i))
	}
	f.Add(append(many, bytes.Repeat([]byte{1}, 2000)...), uint16(60000))
	f.Fuzz(func(t *testing.T, b []byte, rows uint16) {
		var sets []Labels
		var err error
		bounded(t, 80*uint64(len(b))+64*uint64(rows), func() { sets, err = parseMetadata(b, int(rows)) })
		if err != nil || sets == nil {
			return
		}
		if len(sets) != int(rows) {
			t.Fatalf("%d sets, want %d", len(sets), rows)
		}
		var e metadataEncoder
		for _, set := range sets {
			if err := e.add(set); err != nil {
				t.Fatalf("a decoded set is refused: %v", err)
			}
		}
		again, err := parseMetadata(e.append(nil), int(rows))
		if err != nil || again != nil && !slices.EqualFunc(again, sets, Labels.Equal) {
			t.Fatalf("sets %v are read again as %v: %v", sets, again, err)
		}
	})
}
