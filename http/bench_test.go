package http

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
)

// samples are n lines like those of services, of about 140 bytes.
func samples(n int) []string {
	rng := rand.New(rand.NewPCG(1, 2))
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("2026-01-02T15:04:%02d.%03dZ INFO dfs.DataNode$PacketResponder: Received block blk_%d of size %d from /10.%d.%d.%d:%d src: worker-%d dest: db",
			rng.IntN(60), rng.IntN(1000), rng.Int64(), rng.IntN(1<<26), rng.IntN(256), rng.IntN(256), rng.IntN(256), rng.IntN(1<<16), rng.IntN(64))
	}
	return lines
}

func size(lines []string) (n int64) {
	for _, l := range lines {
		n += int64(len(l))
	}
	return n
}

// discard is a node that stores nothing.
type discard struct{ *fakeNode }

func (discard) Append(_ context.Context, _ *segment.Batch) (segment.Receipt, error) {
	return segment.Receipt{}, nil
}

// report adds the lines per second of a benchmark whose iteration takes n of them.
func reportLines(b *testing.B, n int) {
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}

// body is a request's that can be sent again.
type body struct{ strings.Reader }

func (*body) Close() error { return nil }

// null takes an answer.
type null struct {
	header http.Header
	code   int
}

func (n *null) Header() http.Header         { return n.header }
func (n *null) Write(p []byte) (int, error) { return len(p), nil }
func (n *null) WriteHeader(code int)        { n.code = code }

// BenchmarkIngest is the way of a request of 1,000 lines, without network and storage: from
// the body as received to the batch.
func BenchmarkIngest(b *testing.B) {
	lines := samples(1000)
	var entries, withMetadata [][]byte
	var pushJSON, objects strings.Builder
	pushJSON.WriteString(`{"streams":[{"stream":{"app":"web","host":"a","env":"prod"},"values":[`)
	for i, l := range lines {
		entries = append(entries, protoEntry(1700000000, int64(i), l))
		withMetadata = append(withMetadata, protoEntry(1700000000, int64(i), l, "level", "info", "trace", fmt.Sprintf("%032x", i)))
		if i > 0 {
			pushJSON.WriteByte(',')
		}
		fmt.Fprintf(&pushJSON, `["%d",%q]`, 1700000000000000000+i, l)
		fmt.Fprintf(&objects, `{"ts":"2023-11-14T22:13:20.%09dZ","level":"info","msg":%q,"status":200}`+"\n", i, l)
	}
	pushJSON.WriteString(`]}]}`)
	labels := `{app="web", env="prod", host="a"}`
	for _, c := range []struct{ name, target, contentType, body string }{
		{"loki_protobuf", pushPath, "application/x-protobuf", snap(protoStream(labels, entries...))},
		{"loki_protobuf_metadata", pushPath, "application/x-protobuf", snap(protoStream(labels, withMetadata...))},
		{"loki_json", pushPath, "application/json", pushJSON.String()},
		{"text", "/ingest?app=web", "text/plain", strings.Join(lines, "\n")},
		{"ndjson", "/ingest?app=web", "application/x-ndjson", objects.String()},
	} {
		b.Run("protocol="+c.name, func(b *testing.B) {
			f := newFixture(b)
			f.SetNode(Node{Appender: discard{f.node}, Querier: f.plugged().Querier, Admin: f.node})
			r := request("POST", c.target)
			r.Header.Set("Content-Type", c.contentType)
			r.ContentLength = int64(len(c.body))
			b.SetBytes(size(lines))
			b.ReportAllocs()
			w := &null{header: http.Header{}}
			for b.Loop() {
				again := &body{}
				again.Reset(c.body)
				r.Body = again
				f.ServeHTTP(w, r)
				if w.code/100 != 2 {
					b.Fatal(w.code)
				}
			}
			reportLines(b, len(lines))
		})
	}
}

// BenchmarkDecodePush is the decoder of the protobuf message alone.
func BenchmarkDecodePush(b *testing.B) {
	lines := samples(1000)
	var entries [][]byte
	for i, l := range lines {
		entries = append(entries, protoEntry(1700000000, int64(i), l))
	}
	message := protoStream(`{app="web", env="prod", host="a"}`, entries...)
	f := newFixture(b)
	b.SetBytes(size(lines))
	b.ReportAllocs()
	for b.Loop() {
		l := f.memory.lease(b.Context())
		builder := f.builder("default", l)
		if _, err := decodePush(builder, message); err != nil || builder.accepted != len(lines) {
			b.Fatal(err)
		}
		builder.release(f.memory)
		l.release(true)
	}
	reportLines(b, len(lines))
}

// stored yields entries.
type stored struct {
	entries []segment.Entry
	next    int
}

func (s *stored) Next() bool         { s.next++; return s.next <= len(s.entries) }
func (s *stored) At() *segment.Entry { return &s.entries[s.next-1] }
func (s *stored) Err() error         { return nil }
func (s *stored) Close() error       { return nil }

// BenchmarkAnswer is the writing of an answer of 5,000 entries of 20 streams.
func BenchmarkAnswer(b *testing.B) {
	lines := samples(5000)
	it := &stored{}
	for i, l := range lines {
		set := segment.NewLabels([]segment.Label{{Name: "app", Value: "web"}, {Name: "host", Value: fmt.Sprint(i % 20)}})
		if i < 20 {
			it.entries = append(it.entries, segment.Entry{Timestamp: int64(i), Line: []byte(l), Stream: segment.NewStream("default", set)})
		} else {
			it.entries = append(it.entries, segment.Entry{Timestamp: int64(i), Line: []byte(l), Stream: it.entries[i%20].Stream})
		}
	}
	b.Run("format=loki", func(b *testing.B) {
		b.SetBytes(size(lines))
		b.ReportAllocs()
		var values, body buffer
		for b.Loop() {
			it.next = 0
			var err error
			if body.b, err = lokiResult(body.b[:0], &logql.Result{Type: logql.TypeStreams, Entries: it}, false, 1<<30, &values); err != nil {
				b.Fatal(err)
			}
		}
		reportLines(b, len(lines))
	})
	for _, plain := range []bool{false, true} {
		b.Run(fmt.Sprintf("format=stream/plain=%t", plain), func(b *testing.B) {
			b.SetBytes(size(lines))
			b.ReportAllocs()
			for b.Loop() {
				it.next = 0
				out := newStreamWriter(&flushable{null: null{header: http.Header{}}}, func() {})
				w := &resultWriter{out: out, plain: plain}
				for it.Next() {
					w.entry(it.At())
				}
				if err := out.close(); err != nil {
					b.Fatal(err)
				}
			}
			reportLines(b, len(lines))
		})
	}
}

// flushable is a null that can be flushed.
type flushable struct{ null }

func (*flushable) Flush() {}
