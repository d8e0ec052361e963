package http

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/snappy"
	"github.com/logcluster/logcluster/segment"
	"google.golang.org/protobuf/encoding/protowire"
)

// protoEntry encodes an entry; metadata is name, value, name, value, ….
func protoEntry(seconds, nanos int64, line string, metadata ...string) []byte {
	ts := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(seconds))
	ts = protowire.AppendVarint(protowire.AppendTag(ts, 2, protowire.VarintType), uint64(nanos))
	e := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), ts)
	e = protowire.AppendBytes(protowire.AppendTag(e, 2, protowire.BytesType), []byte(line))
	for i := 0; i < len(metadata); i += 2 {
		pair := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), metadata[i])
		pair = protowire.AppendString(protowire.AppendTag(pair, 2, protowire.BytesType), metadata[i+1])
		e = protowire.AppendBytes(protowire.AppendTag(e, 3, protowire.BytesType), pair)
	}
	return e
}

// protoStream encodes a stream as a field of a request.
func protoStream(labels string, entries ...[]byte) []byte {
	s := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), labels)
	for _, e := range entries {
		s = protowire.AppendBytes(protowire.AppendTag(s, 2, protowire.BytesType), e)
	}
	s = protowire.AppendVarint(protowire.AppendTag(s, 3, protowire.VarintType), 12345) // hash
	return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), s)
}

func snap(parts ...[]byte) string { return string(s2.EncodeSnappy(nil, bytes.Join(parts, nil))) }

const (
	protobuf = "Content-Type: application/x-protobuf"
	jsonType = "Content-Type: application/json"
	pushPath = "/loki/api/v1/push"
)

func TestPushProtobuf(t *testing.T) {
	body := snap(
		protoStream(`{app="web", host="a"}`, protoEntry(1700000000, 1, "one"), protoEntry(1700000000, 2, "two\x00\xff", "trace", "t1", "user.id", "u")),
		protoStream(`{app="db"}`, protoEntry(-1, 999_999_999, "")),
		protoStream(`{host="a",app="web",}`, protoEntry(1700000000, 3, "three")),
		protoStream(`bad labels of a stream without entries`),
	)
	check := func(headers ...string) {
		t.Helper()
		f := newFixture(t)
		f.is(f.do("POST", pushPath, body, headers...), 204, "")
		f.stored("one", "two\x00\xff", "", "three")
		if e := f.entry(1); e.Timestamp != 1700000000_000000002 || e.Metadata.String() != `{trace="t1", user_id="u"}` || e.Stream.Labels.String() != `{app="web", host="a"}` {
			t.Errorf("entry %+v %s", e, e.Stream.Labels)
		}
		if e := f.entry(2); e.Timestamp != -1 || e.Metadata != nil {
			t.Errorf("entry %+v", e)
		}
		if got := f.node.batches[0]; len(got.Streams) != 2 || got.Rows[3].Stream != 0 || got.Rows[2].Stream != 1 || got.Key == (segment.Key{}) {
			t.Errorf("batch %+v", got)
		}
	}
	check(protobuf)
	check(protobuf, "Content-Encoding: snappy")
	check()
	check("Content-Type: text/plain; charset=utf-8")
	check("Content-Type: ;;;")
}

func TestPushKey(t *testing.T) {
	f := newFixture(t)
	body := snap(protoStream(`{a="b"}`, protoEntry(1, 2, "x")))
	send := func(target, body string, headers ...string) segment.Key {
		t.Helper()
		f.want(f.do("POST", target, body, headers...), 204)
		return f.node.batches[len(f.node.batches)-1].Key
	}
	first := send(pushPath, body)
	if again := send(pushPath, body, "Idempotency-Key: other"); again != first {
		t.Error("another key for the same body")
	}
	f.stored("x")
	for i, key := range []segment.Key{
		send(pushPath, snap(protoStream(`{a="b"}`, protoEntry(1, 3, "x")))),
		send(pushPath+"?x=y", body),
		send(pushPath, body, "X-Scope-OrgID: t"),
	} {
		if key == first {
			t.Errorf("%d: the same key", i)
		}
	}
}

// The labels of a stream may stand behind its entries, a message may stand in parts, and
// unknown fields anywhere.
func TestPushProtobufOrder(t *testing.T) {
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 15, protowire.VarintType), math.MaxUint64)
	unknown = protowire.AppendFixed32(protowire.AppendTag(unknown, 16, protowire.Fixed32Type), 7)
	unknown = protowire.AppendFixed64(protowire.AppendTag(unknown, 17, protowire.Fixed64Type), 7)
	unknown = protowire.AppendString(protowire.AppendTag(unknown, 18, protowire.BytesType), "x")
	unknown = protowire.AppendVarint(protowire.AppendTag(unknown, 1, protowire.VarintType), 3) // A known number of another type.
	entry := append(append(protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), "first"), unknown...), protoEntry(5, 6, "last")...)
	stream := protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), entry)
	stream = append(stream, unknown...)
	stream = protowire.AppendString(protowire.AppendTag(stream, 1, protowire.BytesType), `{a="b"}`)
	f := newFixture(t)
	f.is(f.do("POST", pushPath, snap(unknown, protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), stream), unknown)), 204, "")
	f.stored("last")
	if e := f.entry(0); e.Timestamp != 5_000_000_006 || e.Stream.Labels.String() != `{a="b"}` {
		t.Errorf("entry %+v", e)
	}
}

func TestPushRefusals(t *testing.T) {
	now := time.Now().Unix()
	good := protoEntry(now, 0, "good")
	check := func(bad []byte, texts ...string) {
		t.Helper()
		f := newFixture(t, func(o *Options) {
			o.Ingest.MaxLine = 10
			o.Ingest.MaxMetadataPairs = 2
			o.Retention = time.Hour
		})
		f.want(f.do("POST", pushPath, snap(protoStream(`{a="b"}`, good, bad, good))), 400, append(texts, `1 of 3 entries are refused, the others are stored`, `stream 0 {a="b"}, entry 1: `)...)
		f.stored("good", "good")
		if rows := f.node.batches[0].Rows; len(rows) != 3 || !rows[1].Refused {
			t.Errorf("rows %+v", rows)
		}
	}
	check(protoEntry(now, 0, "01234567890"), "the line has 11 bytes, the limit is 10")
	check(protoEntry(now+700, 0, "x"), "ahead of this node's clock")
	check(protoEntry(now-3700, 0, "x"), "older than the retention")
	check(protoEntry(0, 0, "x"), "1970-01-01T00:00:00Z is older")
	check(protoEntry(math.MaxInt64, 0, "x"), "is no time")
	check(protoEntry(math.MinInt64, 0, "x"), "is no time")
	check(protoEntry(now, 1_000_000_000, "x"), "is no time")
	check(protoEntry(now, -1, "x"), "is no time")
	check(protoEntry(now, 0, "x", "", "v"), "empty name")
	check(protoEntry(now, 0, "x", "a", "1", "b", "2", "c", "3"), "3 pairs of structured metadata, the limit is 2")
	check(protoEntry(now, 0, "x", strings.Repeat("n", 1025), "1"), "1025 bytes, the limit is 1024")
	check(protoEntry(now, 0, "x", "n", strings.Repeat("n", 70_000)), "70001 bytes of structured metadata")
}

func TestPushBadStreams(t *testing.T) {
	entry := protoEntry(time.Now().Unix(), 0, "good")
	check := func(labels string, texts ...string) {
		t.Helper()
		f := newFixture(t)
		body := snap(protoStream(`{a="b"}`, entry), protoStream(labels, entry, protoEntry(math.MaxInt64, 0, "x")), protoStream(`{a="c"}`, entry))
		w := f.do("POST", pushPath, body)
		f.want(w, 400, append(texts, "2 of 4 entries are refused, the others are stored", "stream 1 ")...)
		f.stored("good", "good")
		if w.Body.Len() > 2000 {
			t.Errorf("an answer of %d bytes", w.Body.Len())
		}
		if batch := f.node.batches[0]; len(batch.Rows) != 2 || len(batch.Streams) != 2 || batch.Rows[1].Stream != 1 {
			t.Errorf("batch %+v", batch)
		}
	}
	check(``)
	check(`{}`, "at least one")
	check(`{a=""}`, "at least one")
	check(`app="x"`)
	check(`{a="b"`)
	check(`{a="b"} x`)
	check(`{a="b",a="c"}`)
	check(`{a=~"b"}`)
	check(`{1a="b"}`)
	check(`{a-b="b"}`)
	check("{a=\"\xff\"}", "UTF-8")
	check(`{a="`+strings.Repeat("x", 4097)+`"}`, "the limit is 4096")
	check(`{a="`+strings.Repeat("x", 1<<20)+`"}`, "the limit is")
	check(`{`+strings.Repeat("x", 2000)+`="v"}`, "the limit is 1024")
	var many strings.Builder
	for i := range 65 {
		fmt.Fprintf(&many, `l%d="x",`, i)
	}
	check(`{`+many.String()+`}`, "65 labels, the limit is 64")
	check(`{`+strings.Repeat(`a="b",`, 1_000_000)+`}`, "the limit is")

	f := newFixture(t)
	f.want(f.do("POST", pushPath, snap(protoStream("{a=\"\u202e\\n\\x00\"}", entry))), 204)
	f = newFixture(t, func(o *Options) { o.Ingest.MaxStreams = 1 })
	f.want(f.do("POST", pushPath, snap(protoStream(`{a="b"}`, entry), protoStream(`{a="c"}`, entry), protoStream(`{a="b"}`, entry))), 400, "more than 1 streams", "1 of 3")
	f.stored("good", "good")
}

func TestPushDamaged(t *testing.T) {
	whole := bytes.Join([][]byte{protoStream(`{a="b"}`, protoEntry(1, 2, "x", "m", "n"))}, nil)
	check := func(message []byte) {
		t.Helper()
		f := newFixture(t)
		f.want(f.do("POST", pushPath, snap(message)), 400, "protobuf message is damaged")
		f.stored()
	}
	for cut := 1; cut < len(whole); cut++ {
		check(whole[:cut])
	}
	check([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})       // A length of 2⁶⁴-1.
	check([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})             // 2⁶³-1.
	check([]byte{0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}) // Too long a varint.
	check([]byte{0x0b})                                                                   // A group.
	check([]byte{0x00, 0x00})                                                             // Field 0.
	check([]byte{0x0f})                                                                   // Wire type 7.
	check([]byte{0x0d, 1, 2, 3})                                                          // A short fixed32.
	check([]byte{0x09, 1, 2, 3})                                                          // A short fixed64.
	check([]byte{0x08, 0x80})                                                             // A short varint.
}

func TestPushBodies(t *testing.T) {
	check := func(body string, code int, text string, headers ...string) {
		t.Helper()
		f := newFixture(t)
		f.want(f.do("POST", pushPath, body, headers...), code, text)
		f.stored()
	}
	check("", 400, "not a snappy block")
	check(snap(), 422, "at least one valid stream is required")
	check("hello, this is no snappy block", 400, "not a snappy block")
	check(`{"streams":[]}`, 400, "Content-Type: application/json")
	check(`{}`, 400, "Content-Type: application/json")
	// Snappy lengths are believed only as far as the body can go.
	check(string(binary.AppendUvarint(nil, 1<<32-1)), 413, "4294967295 bytes when decoded")
	check(string(binary.AppendUvarint(nil, 1<<40)), 400, "not a snappy block")
	check(string(binary.AppendUvarint(nil, 100<<20))+"abc", 400, "cannot hold")
	check("\xff\x06\x00\x00sNaPpY", 400, "snappy") // The framed format.
	check(snap(protoStream(`{a="b"}`, protoEntry(1, 2, "x"))), 415, "snappy", "Content-Encoding: gzip")
	check(`{}`, 415, "gzip, zstd or deflate", jsonType, "Content-Encoding: br")
	check(`{}`, 415, "one of gzip", jsonType, "Content-Encoding: gzip, gzip")
	check(`{}`, 422, "at least one valid stream is required", jsonType)
	check(`{"streams":[]}`, 422, "at least one valid stream is required", jsonType)
}

func TestPushEmptyStreams(t *testing.T) {
	f := newFixture(t)
	f.is(f.do("POST", pushPath, snap(protoStream(`{a="b"}`))), 204, "")
	f.is(f.do("POST", pushPath, `{"streams":[{"stream":{"a":"b"},"values":[]}]}`, jsonType), 204, "")
	if len(f.node.batches) != 0 {
		t.Error("appended an empty batch")
	}
}

func TestPushJSON(t *testing.T) {
	body := ` { "streams" : [ {"stream":{"app":"web","host":"\u0061"},"values":[["1700000000000000001","one"],["1700000000000000002","two\u0000\n\"",{"trace":"t1","user.id":"\u0075"}],["1700000000000000003","three",{}]]},
		{"values":[["-1",""]],"stream":{"app":"db"},"other":[1,{"a":null}]}], "more":{} } `
	check := func(headers ...string) {
		t.Helper()
		f := newFixture(t)
		f.is(f.do("POST", pushPath, body, headers...), 204, "")
		f.stored("one", "two\x00\n\"", "three", "")
		if e := f.entry(1); e.Timestamp != 1700000000_000000002 || e.Metadata.String() != `{trace="t1", user_id="u"}` || e.Stream.Labels.String() != `{app="web", host="a"}` {
			t.Errorf("entry %+v %s", e, e.Stream.Labels)
		}
		if e := f.entry(3); e.Timestamp != -1 || e.Metadata != nil || e.Stream.Labels.String() != `{app="db"}` {
			t.Errorf("entry %+v", e)
		}
	}
	check(jsonType)
	check("Content-Type: application/json; charset=utf-8")
	check("Content-Type: application/json; charset")
	check("Content-Type: Application/JSON")
}

func TestPushJSONRefusals(t *testing.T) {
	now := fmt.Sprint(time.Now().UnixNano())
	good := `["` + now + `","good"]`
	entry := func(bad string, texts ...string) {
		t.Helper()
		f := newFixture(t, func(o *Options) { o.Ingest.MaxMetadataPairs = 2 })
		body := `{"streams":[{"stream":{"a":"b"},"values":[` + good + `,` + bad + `,` + good + `]}]}`
		f.want(f.do("POST", pushPath, body, jsonType), 400, append(texts, "1 of 3 entries are refused, the others are stored", `stream 0 {"a":"b"}, entry 1: `)...)
		f.stored("good", "good")
	}
	entry(`[`+now+`,"x"]`, "the timestamp is a number: it must be a string")
	entry(`["2026-01-01T00:00:00Z","x"]`, "no number of unix nanoseconds")
	entry(`["","x"]`, "no number of unix nanoseconds")
	entry(`["9223372036854775808","x"]`, "no number of unix nanoseconds")
	entry(`["9223372036854775807","x"]`, "ahead")
	entry(`["`+now+`",5]`, "the line is a number")
	entry(`["`+now+`",null]`, "the line is null")
	entry(`["`+now+`"]`, "1 elements")
	entry(`[]`, "0 elements")
	entry(`["`+now+`","x",{},{}]`, "4 elements")
	entry(`{}`, "the entry is an object")
	entry(`"x"`, "the entry is a string")
	entry(`["`+now+`","x","y"]`, "the structured metadata is a string")
	entry(`["`+now+`","x",{"a":1}]`, `the structured metadata "a" is a number`)
	entry(`["`+now+`","x",{"a":{"b":"c"}}]`, `the structured metadata "a" is an object`)
	entry(`["`+now+`","x",{"a":["b"],"c":"d"}]`, `the structured metadata "a" is an array`)
	entry(`["`+now+`","x",{"a":"1","b":"2","c":"3"}]`, "the limit is 2")
	entry(`["`+now+`","x",{"a":"`+strings.Repeat("y", 70_000)+`"}]`, "70001 bytes of structured metadata")

	stream := func(bad string, texts ...string) {
		t.Helper()
		f := newFixture(t)
		body := `{"streams":[{"stream":{"a":"b"},"values":[` + good + `]},` + bad + `,{"stream":{"a":"c"},"values":[` + good + `]}]}`
		f.want(f.do("POST", pushPath, body, jsonType), 400, append(texts, "1 of 3 entries are refused, the others are stored", `stream 1 `)...)
		f.stored("good", "good")
	}
	values := `,"values":[["` + now + `","x"]]`
	stream(`{"stream":{}`+values+`}`, "at least one")
	stream(`{"x":1`+values+`}`, `has no "stream"`)
	stream(`{"stream":"{a=\"b\"}"`+values+`}`, `has no "stream"`)
	stream(`{"stream":{"a":1}`+values+`}`, `the value of label "a" is a number`)
	stream(`{"stream":{"a":"b","a":"c"}`+values+`}`, "given twice")
	stream(`{"stream":{"a.b":"c"}`+values+`}`, "not allowed")
	stream(`{"stream":{"":"c"}`+values+`}`, "not allowed")
	var many strings.Builder
	for i := range 1_000 {
		fmt.Fprintf(&many, `"l%d":"x",`, i)
	}
	stream(`{"stream":{`+many.String()+`"z":"y"}`+values+`}`, "more than 64 labels")

	broken := func(body string, texts ...string) {
		t.Helper()
		f := newFixture(t)
		f.want(f.do("POST", pushPath, body, jsonType), 400, append(texts, "nothing is stored")...)
		f.stored()
	}
	begin := `{"streams":[{"stream":{"a":"b"},"values":[` + good
	broken(``)
	broken(begin)
	broken(begin + `]}]`)
	broken(begin + `]}]}x`)
	broken(begin + `]}]}` + "\x00")
	broken(begin+`,["`+now+`","x",NaN]]}]}`, "a value")
	broken(begin+`,["`+now+`","x",`+strings.Repeat("[", 100_000), "nested deeper")
	broken(begin + `]},5]}`)
	broken(`{"streams":{}}`)
	broken(`[]`)
	broken(`null`)
}

func TestPushReportIsBounded(t *testing.T) {
	f := newFixture(t)
	var entries [][]byte
	for range 1000 {
		entries = append(entries, protoEntry(math.MaxInt64, 0, "x"))
	}
	w := f.do("POST", pushPath, snap(protoStream(`{a="`+strings.Repeat("b", 4000)+`"}`, entries...)))
	f.want(w, 400, "1000 of 1000 entries are refused", "and 900 more")
	if w.Body.Len() > 100*500 {
		t.Errorf("an answer of %d bytes", w.Body.Len())
	}
}

// What is reused between requests must not leak from one into the other.
func TestPushReuse(t *testing.T) {
	f := newFixture(t)
	var want []string
	for i := range 50 {
		line := strings.Repeat(fmt.Sprint(i%10), 1+i*37%200)
		want = append(want, line)
		body := snap(protoStream(fmt.Sprintf(`{a="%d"}`, i%7), protoEntry(int64(i), 0, line, "k", fmt.Sprint(i))))
		if i%5 == 4 {
			f.want(f.do("POST", pushPath, body[:len(body)/2]), 400)
		}
		f.want(f.do("POST", pushPath, body), 204)
	}
	f.stored(want...)
	for i := range 50 {
		if e := f.entry(i); e.Metadata.Get("k") != fmt.Sprint(i) || e.Stream.Labels.Get("a") != fmt.Sprint(i%7) {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
}

func TestSnappyRatio(t *testing.T) {
	// The densest that Google's and klauspost's encoders make stays below the bound.
	body := snappy.Encode(nil, make([]byte, 1<<20))
	if 1<<20 > snappyRatio*len(body) {
		t.Errorf("1 MiB of zeros are %d bytes: the bound of %d refuses them", len(body), snappyRatio)
	}
	if body = s2.EncodeSnappyBest(nil, make([]byte, 1<<20)); 1<<20 > snappyRatio*len(body) {
		t.Errorf("1 MiB of zeros are %d bytes: the bound of %d refuses them", len(body), snappyRatio)
	}
}
