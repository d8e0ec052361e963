package segment

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/logcluster/logcluster/internal/vfs"
)

// benchLog makes log-like lines: n rows in batches of 1,000, of a few streams each.
func benchLog(b *testing.B, n int) (batches []*Batch, lineBytes int) {
	rng := rand.New(rand.NewPCG(1, 2))
	var streams []*Stream
	for i := range 40 {
		streams = append(streams, NewStream("default", NewLabels([]Label{{"app", []string{"api", "web", "db", "queue"}[i%4]}, {"host", fmt.Sprint("node", i/4)}, {"env", "prod"}})))
	}
	levels := []string{"INFO", "INFO", "INFO", "INFO", "DEBUG", "WARN", "ERROR"}
	paths := []string{"/api/v1/items", "/api/v1/users", "/login", "/static/app.js", "/metrics"}
	now := int64(1_700_000_000_000_000_000)
	for len(batches)*1000 < n {
		batch := &Batch{Streams: streams}
		stream := uint32(rng.IntN(len(streams)))
		for range 1000 {
			if rng.IntN(50) == 0 {
				stream = uint32(rng.IntN(len(streams)))
			}
			now += rng.Int64N(2_000_000)
			line := fmt.Appendf(nil, "2023-11-14T22:%02d:%02d.%03dZ %s [worker-%d] request %s%s/%d from 10.%d.%d.%d finished with status %d in %d ms trace=%016x",
				now/6e10%60, now/1e9%60, now/1e6%1000, levels[rng.IntN(len(levels))], rng.IntN(16), "GET ", paths[rng.IntN(len(paths))], rng.IntN(100000),
				rng.IntN(4), rng.IntN(256), rng.IntN(256), []int{200, 200, 200, 204, 404, 500}[rng.IntN(6)], rng.IntN(900), rng.Uint64())
			lineBytes += len(line)
			batch.Rows = append(batch.Rows, Row{Timestamp: now, Line: line, Stream: stream})
		}
		batches = append(batches, batch)
	}
	return batches, lineBytes
}

func benchRecords(b *testing.B, n int) (*testLog, int) {
	batches, size := benchLog(b, n)
	l := newTestLog(b)
	for _, batch := range batches {
		l.append(batch)
	}
	return l, size
}

func lines1000() []uint32 {
	rows := make([]uint32, 1000)
	for i := range rows {
		rows[i] = uint32(i)
	}
	return rows
}

func BenchmarkFrameEncode(b *testing.B) {
	for _, metadata := range []int{0, 3} {
		b.Run(fmt.Sprintf("lines=1000/metadata=%d", metadata), func(b *testing.B) {
			batches, size := benchLog(b, 20_000)
			for _, batch := range batches {
				for i := range batch.Rows {
					if metadata > 0 {
						batch.Metadata = append(batch.Metadata, Labels{{"trace_id", fmt.Sprintf("%032x", i)}, {"user", fmt.Sprint(i % 50)}, {"version", "1.2.3"}}[:metadata])
						batch.Rows[i].Metadata = uint32(len(batch.Metadata))
					}
				}
			}
			var e FrameEncoder
			rows := lines1000()
			stored := 0
			b.SetBytes(int64(size / len(batches)))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				frames, err := e.Encode(batches[n%len(batches)], rows)
				if err != nil {
					b.Fatal(err)
				}
				for _, f := range frames {
					stored += len(f.Payload)
					f.Release()
				}
				n++
			}
			b.ReportMetric(float64(n)*1000/b.Elapsed().Seconds(), "lines/s")
			b.ReportMetric(float64(size/len(batches))*float64(n)/float64(stored), "ratio")
		})
	}
}

func BenchmarkFrameDecode(b *testing.B) {
	l, size := benchRecords(b, 20_000)
	var d FrameDecoder
	known := map[string]*Stream{}
	d.Intern = func(key []byte) (*Stream, error) {
		s := known[string(key)]
		if s == nil {
			var err error
			if s, err = ParseStream(key); err != nil {
				return nil, err
			}
			known[string(key)] = s
		}
		return s, nil
	}
	b.SetBytes(int64(size / len(l.records)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		r := &l.records[n%len(l.records)]
		if _, err := d.Decode(&r.Header, r.payload); err != nil {
			b.Fatal(err)
		}
		n++
	}
	b.ReportMetric(float64(n)*1000/b.Elapsed().Seconds(), "lines/s")
}

// gather fills an encoder with a full block.
func gather(b *testing.B, e *BlockEncoder, table *StreamTable, l *testLog) int {
	var d FrameDecoder
	e.Reset(0, l.records[0].Index, l.records[0].Offset)
	for i := range l.records {
		r := &l.records[i]
		if !e.Fits(&r.Header) {
			break
		}
		data, err := d.Decode(&r.Header, r.payload)
		if err != nil {
			b.Fatal(err)
		}
		if err := e.Add(&r.Header, data, table); err != nil {
			b.Fatal(err)
		}
	}
	return e.RawBytes()
}

// BenchmarkBlockEncode decodes frames, adds them to a block, encodes it, and reads it
// back: all that the encoder does for each byte of the log.
func BenchmarkBlockEncode(b *testing.B) {
	l, _ := benchRecords(b, 66_000)
	var e BlockEncoder
	var table StreamTable
	b.ReportAllocs()
	size, stored, n := 0, 0, 0
	for b.Loop() {
		size = gather(b, &e, &table, l)
		out, _, err := e.Encode(fileHeaderSize, &table)
		if err != nil {
			b.Fatal(err)
		}
		stored = len(out)
		n++
	}
	b.SetBytes(int64(size))
	b.ReportMetric(float64(size)/float64(stored), "ratio")
}

func benchBlock(b *testing.B) *Block {
	l, _ := benchRecords(b, 66_000)
	fsys := vfs.NewMem()
	o := l.open(fsys, "open-1", 1<<20)
	b.Cleanup(func() { o.Close() })
	return o.Blocks()[0]
}

func BenchmarkBlockDecode(b *testing.B) {
	block := benchBlock(b)
	b.SetBytes(int64(block.Meta.RawBytes))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := block.decodeAll(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkScan searches decoded lines: what of a query is not reading.
func BenchmarkScan(b *testing.B) {
	block := benchBlock(b)
	d, err := block.decodeAll()
	if err != nil {
		b.Fatal(err)
	}
	filters := []struct {
		name   string
		filter []*LineFilter
	}{
		{"contains-rare", []*LineFilter{mustFilter(b, MatchEqual, "trace=00ff")}},
		{"contains-common", []*LineFilter{mustFilter(b, MatchEqual, "status 500")}},
		{"contains-or", []*LineFilter{mustFilter(b, MatchEqual, "status 500", "trace=00ff")}},
		{"not-contains-rare", []*LineFilter{mustFilter(b, MatchNotEqual, "trace=00ff")}},
		{"not-contains-common", []*LineFilter{mustFilter(b, MatchNotEqual, "INFO")}},
		{"not-then-contains", []*LineFilter{mustFilter(b, MatchNotEqual, "INFO"), mustFilter(b, MatchEqual, "trace=00ff")}},
		{"regexp-literal", []*LineFilter{mustFilter(b, MatchRegexp, "trace=00f.")}},
		{"regexp-middle", []*LineFilter{mustFilter(b, MatchRegexp, `[0-9]+ from 10\.1\.2[0-9]*\.1 `)}},
		{"not-regexp", []*LineFilter{mustFilter(b, MatchNotRegexp, "(?i)error")}},
	}
	for _, f := range filters {
		b.Run("filter="+f.name, func(b *testing.B) {
			b.SetBytes(int64(block.Meta.RawBytes))
			kept, n := 0, 0
			for b.Loop() {
				for _, l := range d.chunks {
					scanLines(f.filter, l.text, l.ends, 0, len(l.ends), func(int) { kept++ })
				}
				n++
			}
			b.ReportMetric(100*float64(kept)/float64(n)/float64(block.Meta.Rows), "%kept")
		})
	}
}

func mustFilter(b *testing.B, mt MatchType, values ...string) *LineFilter {
	f, err := NewLineFilter(mt, values...)
	if err != nil {
		b.Fatal(err)
	}
	return f
}

// BenchmarkSelect answers whole queries from one block, reading included.
func BenchmarkSelect(b *testing.B) {
	block := benchBlock(b)
	lo, hi := block.Bounds()
	app, err := NewMatcher("app", MatchEqual, "db")
	if err != nil {
		b.Fatal(err)
	}
	base := Query{Tenant: "default", Start: lo, End: hi + 1}
	queries := []struct {
		name string
		q    func(q *Query)
	}{
		{"all", func(*Query) {}},
		{"last-100", func(q *Query) { q.Limit = 100 }},
		{"rare", func(q *Query) { q.Filters = []*LineFilter{mustFilter(b, MatchEqual, "trace=00ff")} }},
		{"one-app-last-100", func(q *Query) { q.Limit, q.Matchers = 100, []*Matcher{app} }},
	}
	for _, c := range queries {
		b.Run("query="+c.name, func(b *testing.B) {
			q := base
			c.q(&q)
			b.SetBytes(int64(block.Meta.RawBytes))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := block.Select(context.Background(), &q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAggregate(b *testing.B) {
	block := benchBlock(b)
	lo, hi := block.Bounds()
	for _, c := range []struct {
		name    string
		filters []*LineFilter
	}{{"none", nil}, {"contains", []*LineFilter{mustFilter(b, MatchEqual, "ERROR")}}} {
		b.Run("steps=30/filter="+c.name, func(b *testing.B) {
			q := &Query{Tenant: "default", Start: lo, End: hi + 1, Filters: c.filters}
			a := &Aggregation{First: lo, Step: (hi - lo) / 30, Steps: 30, Range: (hi - lo) / 10, Grouping: Grouping{Names: []string{"app"}}}
			b.SetBytes(int64(block.Meta.RawBytes))
			b.ReportAllocs()
			for b.Loop() {
				if err := block.Aggregate(context.Background(), q, a, NewPartial(a)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSeal finishes a file of one block, on a file system in memory.
func BenchmarkSeal(b *testing.B) {
	l, size := benchRecords(b, 60_000)
	fsys := vfs.NewMem()
	l.open(fsys, "left", 1<<20).Close()
	file, aux := fileBytes(b, fsys, "left"), fileBytes(b, fsys, "left.aux")
	b.SetBytes(int64(size))
	for b.Loop() {
		b.StopTimer()
		fsys := vfs.NewMem()
		writeBytes(b, fsys, "open-1", bytes.Clone(file))
		writeBytes(b, fsys, "open-1.aux", bytes.Clone(aux))
		o, err := ResumeOpen(fsys, "open-1", l.at.LogID, func(*BlockMeta) bool { return true })
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := o.Seal(l.sealRange()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		o.Close()
		b.StartTimer()
	}
}
