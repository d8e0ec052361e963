package shard

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
	"github.com/logcluster/logcluster/segment"
)

// A tailWriter writes tail files record by record, as a shard would.
type tailWriter struct {
	t     testing.TB
	mem   *vfs.Mem
	tails []*tailFile
	end   position
	group uint64
	place map[uint64][2]int64 // by index: the last place it was written to, [from, to)
	marks map[uint64]Mark     // by index of the group's last record
}

const testLog = 77

func newTailWriter(t testing.TB) *tailWriter {
	w := &tailWriter{t: t, mem: vfs.NewMem(), end: position{index: 1}, place: map[uint64][2]int64{}, marks: map[uint64]Mark{}}
	ok(t, w.mem.MkdirAll("d"))
	w.file()
	return w
}

// file begins the next tail file at the end of the log.
func (w *tailWriter) file() {
	w.t.Helper()
	f, err := createTail(w.mem, "d", uint64(len(w.tails)+1), testLog, w.end)
	ok(w.t, err)
	w.t.Cleanup(func() { _ = f.release() })
	w.tails = append(w.tails, f)
}

// payloadOf is what record index holds.
func payloadOf(index uint64) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("record %d. ", index), 4))
}

// records writes a group of n records of 10 entries each.
func (w *tailWriter) records(n int) {
	w.t.Helper()
	w.group++
	f := w.tails[len(w.tails)-1]
	for place := range n {
		payload := payloadOf(w.end.index)
		h := segment.Header{Type: segment.RecordData, PayloadLength: uint32(len(payload)), RawLength: uint32(len(payload)), Count: 10, Streams: 1,
			LogID: testLog, Index: w.end.index, Offset: w.end.offset, Epoch: 1, PreviousEpoch: w.end.epoch, PayloadCRC: segment.Checksum(payload)}
		h.Chain = h.NextChain(w.end.chain, payload)
		b := append(segment.AppendHeader(nil, &h), payload...)
		b = segment.AppendTrailer(b, segment.Trailer{Group: segment.NewGroup(w.group, place)}, b)
		_, err := f.file.WriteAt(b, f.end)
		ok(w.t, err)
		w.place[h.Index] = [2]int64{f.end, f.end + int64(len(b))}
		f.end += int64(len(b))
		w.end = position{index: h.Index + 1, offset: h.Offset + 10, epoch: 1, chain: h.Chain}
	}
	w.marks[w.end.index-1] = Mark{LogID: testLog, File: f.number, Position: f.end, Epoch: 1, Index: w.end.index - 1, NextOffset: w.end.offset, Chain: w.end.chain, Group: w.group}
}

// hurt flips a bit in the header, the payload or the trailer of a record.
func (w *tailWriter) hurt(index uint64, part string) {
	w.t.Helper()
	at := w.place[index]
	offset := map[string]int64{"header": at[0] + 40, "payload": at[0] + segment.HeaderSize + 3, "trailer": at[1] - 15}[part]
	for _, f := range slices.Backward(w.tails) {
		if f.first.index <= index {
			ok(w.t, w.mem.Corrupt(f.path, offset, 4))
			return
		}
	}
}

// zero clears a record.
func (w *tailWriter) zero(index uint64) {
	w.t.Helper()
	w.over(w.place[index][0], make([]byte, w.place[index][1]-w.place[index][0]))
}

// over writes into the last file.
func (w *tailWriter) over(at int64, b []byte) {
	w.t.Helper()
	_, err := w.tails[len(w.tails)-1].file.WriteAt(b, at)
	ok(w.t, err)
}

// cut cuts the last file in the middle of a record.
func (w *tailWriter) cut(index uint64) {
	w.t.Helper()
	ok(w.t, w.tails[len(w.tails)-1].file.Truncate((w.place[index][0]+w.place[index][1])/2))
}

// bytesOf returns a record as it stands in the last file.
func (w *tailWriter) bytesOf(index uint64) []byte {
	w.t.Helper()
	b := make([]byte, w.place[index][1]-w.place[index][0])
	_, err := w.tails[len(w.tails)-1].file.ReadAt(b, w.place[index][0])
	ok(w.t, err)
	return b
}

// scan describes what a scanner makes of the files: the records that it hands out, the
// losses, and how the log goes on.
func (w *tailWriter) scan(mark *Mark, committed position, known ...Loss) string {
	var b strings.Builder
	s := scanner{logID: testLog, tails: w.tails, mark: mark, committed: committed, known: known}
	from, to := uint64(0), uint64(0)
	flush := func() {
		if from > 0 {
			fmt.Fprintf(&b, "%d-%d ", from, to)
		}
		from = 0
	}
	s.visit = func(r *record, payload []byte) error {
		if h := &r.header; h.Index != to+1 || from == 0 {
			flush()
			from = h.Index
		}
		to = r.header.Index
		if string(payload) != string(payloadOf(to)) {
			return fmt.Errorf("record %d has a wrong payload", to)
		}
		return nil
	}
	if err := s.scan(); err != nil {
		return fmt.Sprintf("error: %v", err)
	}
	flush()
	for _, d := range s.damages {
		fmt.Fprintf(&b, "lost %d-%d [%d,%d) in %d ", d.FirstIndex, d.LastIndex, d.FirstOffset, d.EndOffset, d.File)
	}
	if s.torn {
		b.WriteString("torn ")
	}
	fmt.Fprintf(&b, "next %d/%d", s.end.index, s.end.offset)
	return b.String()
}

// TestH14Table has the rows of doc.go's table of torn ends and damage.
func TestH14Table(t *testing.T) {
	// The log: records 1, 2 | 3, 4, 5 | 6, 7, 8 by fsync groups.
	log := func(t *testing.T) *tailWriter {
		w := newTailWriter(t)
		w.records(2)
		w.records(3)
		w.records(3)
		return w
	}
	row := func(name, want string, f func(w *tailWriter) string) {
		t.Helper()
		t.Run(name, func(t *testing.T) {
			t.Helper()
			if got := f(log(t)); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	none := position{}
	mark := func(w *tailWriter, index uint64) *Mark { m := w.marks[index]; return &m }

	row("T1 the file ends", "1-8 next 9/80", func(w *tailWriter) string { return w.scan(mark(w, 8), none) })
	row("T1 zeros to the end", "1-8 next 9/80", func(w *tailWriter) string {
		w.over(w.place[8][1], make([]byte, 5000))
		return w.scan(mark(w, 8), none)
	})
	row("T1 no mark", "1-8 next 9/80", func(w *tailWriter) string { return w.scan(nil, none) })
	row("T1 an old mark", "1-8 next 9/80", func(w *tailWriter) string { return w.scan(mark(w, 2), none) })

	row("T2 cut below the mark", "1-6 lost 7-8 [60,80) in 1 torn next 9/80", func(w *tailWriter) string {
		w.cut(7)
		return w.scan(mark(w, 8), none)
	})
	row("T2 cut between records below the mark", "1-6 lost 7-8 [60,80) in 1 next 9/80", func(w *tailWriter) string {
		ok(w.t, w.tails[0].file.Truncate(w.place[7][0]))
		return w.scan(mark(w, 8), none)
	})
	row("T2 zeros below the mark", "1-7 lost 8-8 [70,80) in 1 next 9/80", func(w *tailWriter) string {
		w.zero(8)
		return w.scan(mark(w, 8), none)
	})
	row("T2 the last record below the mark", "1-7 lost 8-8 [70,80) in 1 torn next 9/80", func(w *tailWriter) string {
		w.hurt(8, "payload")
		return w.scan(mark(w, 8), none)
	})
	row("T2 the whole file", "lost 1-8 [0,80) in 1 next 9/80", func(w *tailWriter) string {
		ok(w.t, w.tails[0].file.Truncate(tailHeaderSize))
		return w.scan(mark(w, 8), none)
	})
	row("T2 cut below what MANIFEST knows", "1-2 lost 3-4 [20,40) in 1 torn next 5/40", func(w *tailWriter) string {
		w.cut(3)
		return w.scan(mark(w, 2), position{index: 5, offset: 40, epoch: 1})
	})

	for _, part := range []string{"header", "payload", "trailer"} {
		row("T3 the last record beyond the mark: "+part, "1-7 torn next 8/70", func(w *tailWriter) string {
			w.hurt(8, part)
			return w.scan(mark(w, 5), none)
		})
		row("T4 the first of the last group: "+part, "1-5 torn next 6/50", func(w *tailWriter) string {
			w.hurt(6, part)
			return w.scan(mark(w, 5), none)
		})
		row("T4 in the last group, and an old mark: "+part, "1-6 torn next 7/60", func(w *tailWriter) string {
			w.hurt(7, part)
			return w.scan(mark(w, 2), none)
		})
		row("T5 the group before the last, and an old mark: "+part, "1-3 5-8 lost 4-4 [30,40) in 1 next 9/80", func(w *tailWriter) string {
			w.hurt(4, part)
			return w.scan(mark(w, 2), none)
		})
		row("T5 the end of a group, and an old mark: "+part, "1-4 6-8 lost 5-5 [40,50) in 1 next 9/80", func(w *tailWriter) string {
			w.hurt(5, part)
			return w.scan(mark(w, 2), none)
		})
		row("T6 below the mark: "+part, "1-6 8-8 lost 7-7 [60,70) in 1 next 9/80", func(w *tailWriter) string {
			w.hurt(7, part)
			return w.scan(mark(w, 8), none)
		})
		row("T6 the first record of all: "+part, "2-8 lost 1-1 [0,10) in 1 next 9/80", func(w *tailWriter) string {
			w.hurt(1, part)
			return w.scan(mark(w, 8), none)
		})
		row("T6 no mark: "+part, "1-5 7-8 lost 6-6 [50,60) in 1 next 9/80", func(w *tailWriter) string {
			w.hurt(6, part)
			return w.scan(nil, none)
		})
		row("T6 below what MANIFEST knows: "+part, "1-6 8-8 lost 7-7 [60,70) in 1 next 9/80", func(w *tailWriter) string {
			w.hurt(7, part)
			return w.scan(mark(w, 5), position{index: 8, offset: 70, epoch: 1})
		})
	}
	row("T3 rubbish behind zeros", "1-8 torn next 9/80", func(w *tailWriter) string {
		w.over(w.place[8][1]+3000, []byte("rubbish"))
		return w.scan(mark(w, 8), none)
	})
	row("T4 cut in the last group", "1-6 torn next 7/60", func(w *tailWriter) string {
		w.cut(7)
		return w.scan(mark(w, 5), none)
	})
	row("T4 the first sectors of the last group are missing", "1-5 torn next 6/50", func(w *tailWriter) string {
		w.zero(6)
		return w.scan(mark(w, 5), none)
	})
	row("T5 two groups, each with a bad record", "1-2 4-6 lost 3-3 [20,30) in 1 torn next 7/60", func(w *tailWriter) string {
		w.hurt(3, "header")
		w.hurt(7, "header")
		return w.scan(mark(w, 2), none)
	})
	row("T6 several records", "1-2 6-8 lost 3-5 [20,50) in 1 next 9/80", func(w *tailWriter) string {
		w.zero(3)
		w.hurt(4, "header")
		w.hurt(5, "payload")
		return w.scan(mark(w, 8), none)
	})
	row("T6 several places", "1-1 3-4 6-8 lost 2-2 [10,20) in 1 lost 5-5 [40,50) in 1 next 9/80", func(w *tailWriter) string {
		w.hurt(2, "trailer")
		w.hurt(5, "header")
		return w.scan(mark(w, 8), none)
	})

	row("T6 a record of another history, whole in itself", "1-3 5-8 lost 4-4 [30,40) in 1 next 9/80", func(w *tailWriter) string {
		b := w.bytesOf(4)
		h, err := segment.ParseHeader(b)
		ok(w.t, err)
		h.MaxTimestamp = 99
		changed := append(segment.AppendHeader(nil, &h), payloadOf(4)...)
		w.over(w.place[4][0], segment.AppendTrailer(changed, segment.Trailer{Group: segment.NewGroup(2, 1)}, changed))
		return w.scan(mark(w, 8), none)
	})
	row("T6 a record in the place of the one before it", "1-3 5-8 lost 4-4 [30,40) in 1 next 9/80", func(w *tailWriter) string {
		w.over(w.place[4][0], w.bytesOf(5))
		return w.scan(mark(w, 8), none)
	})
	row("T8 a file that does not continue the log", `error: corrupt tail file in "d/tail-2" at byte 0: it does not continue the log at record 9`, func(w *tailWriter) string {
		w.end.chain[0]++
		w.file()
		w.records(1)
		return w.scan(mark(w, 8), none)
	})

	row("T7 a known loss", "1-3 5-8 next 9/80", func(w *tailWriter) string {
		w.hurt(4, "payload")
		return w.scan(mark(w, 8), none, Loss{FirstIndex: 4, LastIndex: 4, FirstOffset: 30, EndOffset: 40})
	})
	row("T7 a known loss that grew", "1-3 6-8 lost 5-5 [40,50) in 1 next 9/80", func(w *tailWriter) string {
		w.hurt(4, "payload")
		w.hurt(5, "payload")
		return w.scan(mark(w, 8), none, Loss{FirstIndex: 4, LastIndex: 4, FirstOffset: 30, EndOffset: 40})
	})
	row("T7 a known loss that reads well again", "1-3 5-8 next 9/80", func(w *tailWriter) string {
		return w.scan(mark(w, 8), none, Loss{FirstIndex: 4, LastIndex: 4, FirstOffset: 30, EndOffset: 40})
	})
	row("T7 beyond an old mark", "1-6 8-8 next 9/80", func(w *tailWriter) string {
		w.hurt(7, "header")
		return w.scan(mark(w, 2), none, Loss{FirstIndex: 7, LastIndex: 7, FirstOffset: 60, EndOffset: 70})
	})

	row("T8 in a file that is not the last", "1-7 9-10 lost 8-8 [70,80) in 1 next 11/100", func(w *tailWriter) string {
		w.file()
		w.records(2)
		w.hurt(8, "header")
		return w.scan(mark(w, 2), none)
	})
	row("T8 the end of a file that is not the last", "1-5 9-10 lost 6-8 [50,80) in 1 next 11/100", func(w *tailWriter) string {
		ok(w.t, w.tails[0].file.Truncate(w.place[6][0]))
		w.file()
		w.records(2)
		return w.scan(mark(w, 10), none)
	})
	row("T8 a torn end that was left behind", "1-8 next 9/80", func(w *tailWriter) string {
		w.hurt(7, "header")
		end := w.end
		w.end = position{index: 7, offset: 60, epoch: 1, chain: w.chainOf(6)}
		w.file()
		w.records(2)
		if w.end != end {
			w.t.Fatalf("the log went another way: %+v, %+v", w.end, end)
		}
		return w.scan(mark(w, 8), none)
	})
	row("T8 a file that was carried forward twice", "1-8 next 9/80", func(w *tailWriter) string {
		w.file() // begins at 9, and is left behind
		w.end = position{index: 1}
		w.file()
		w.records(8)
		return w.scan(mark(w, 8), none)
	})

	row("T9 a bad end and no mark", "1-7 lost 8-8 [70,70) in 1 torn next 9/70", func(w *tailWriter) string {
		w.hurt(8, "header")
		return w.scan(nil, none)
	})
	row("T9 the header can be read", "1-7 lost 8-8 [70,80) in 1 torn next 9/80", func(w *tailWriter) string {
		w.hurt(8, "payload")
		return w.scan(nil, none)
	})

	row("T10 an old record behind a torn end", "1-7 torn next 8/70", func(w *tailWriter) string {
		old := w.bytesOf(3)
		w.hurt(8, "header")
		w.over(w.place[8][1]+100, old)
		return w.scan(mark(w, 5), none)
	})
	row("T10 a record of another log in a line", "1-3 5-8 lost 4-4 [30,40) in 1 next 9/80", func(w *tailWriter) string {
		h := segment.Header{Type: segment.RecordData, LogID: testLog + 1, Index: 6, Offset: 50, Epoch: 1, PreviousEpoch: 1}
		w.over(w.place[4][0], frameOf(&h, 9))
		return w.scan(mark(w, 8), none)
	})
	row("T10 a record too far ahead in a line", "1-3 5-8 lost 4-4 [30,40) in 1 next 9/80", func(w *tailWriter) string {
		h := segment.Header{Type: segment.RecordData, LogID: testLog, Index: 700, Offset: 7000, Epoch: 1, PreviousEpoch: 1}
		w.over(w.place[4][0]+10, frameOf(&h, 9))
		return w.scan(mark(w, 8), none)
	})
	row("T10 a torn record of an earlier group", "1-7 torn next 8/70", func(w *tailWriter) string {
		h := segment.Header{Type: segment.RecordData, LogID: testLog, Index: 9, Offset: 80, Epoch: 1, PreviousEpoch: 1}
		w.hurt(8, "header")
		w.over(w.place[8][1]+500, frameOf(&h, 2))
		return w.scan(mark(w, 5), none)
	})

	row("a mark of a file that MANIFEST does not name", `error: corrupt manifest in "d/tail-1" at byte 0: it ends with tail file 1, FLOOR knows file 2: an old copy was put in its place`, func(w *tailWriter) string {
		m := mark(w, 8)
		m.File = 2
		return w.scan(m, none)
	})
	row("a mark of records that were truncated since", "1-7 next 8/70", func(w *tailWriter) string {
		w.end = position{index: 6, offset: 50, epoch: 1, chain: w.chainOf(5)}
		old := mark(w, 8)
		w.file()
		w.records(2)
		return w.scan(old, none)
	})
}

// frameOf is a whole frame without payload, of group number.
func frameOf(h *segment.Header, group uint64) []byte {
	h.PayloadCRC = segment.Checksum(nil)
	b := segment.AppendHeader(nil, h)
	return segment.AppendTrailer(b, segment.Trailer{Group: segment.NewGroup(group, 0)}, b)
}

func (w *tailWriter) chainOf(index uint64) segment.Chain {
	w.t.Helper()
	for _, f := range w.tails {
		size, err := f.file.Size()
		ok(w.t, err)
		r := &windowReader{file: f.file, size: size}
		if p, found := w.place[index]; found {
			if fr, fault, err := readFrame(r, testLog, p[0]); err == nil && fault == nil && fr.header.Index == index {
				return fr.header.Chain
			}
		}
	}
	w.t.Fatalf("record %d cannot be read", index)
	return segment.Chain{}
}

// TestVersionIsNotDamage: a record of a later release is no damage: the shard is not
// opened.
func TestVersionIsNotDamage(t *testing.T) {
	w := newTailWriter(t)
	w.records(2)
	b := w.bytesOf(2)
	b[4] = 9 // the version
	putU32(b[136:], segment.Checksum(b[:136]))
	w.over(w.place[2][0], b)
	s := scanner{logID: testLog, tails: w.tails, visit: func(*record, []byte) error { return nil }}
	if err := s.scan(); !errors.Is(err, segment.ErrVersion) || errors.Is(err, segment.ErrCorrupt) {
		t.Fatalf("%v", err)
	}
}
