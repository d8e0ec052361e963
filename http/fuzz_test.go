package http

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/logcluster/logcluster/logql"
	"google.golang.org/protobuf/encoding/protowire"
)

// decoder is a builder with small limits, outside of a request.
func decoder(t testing.TB) *builder {
	f := newFixture(t, func(o *Options) {
		o.Ingest.MaxInFlight = 64 << 20
		o.Ingest.MaxEntries, o.Ingest.MaxStreams = 1000, 20
		o.Ingest.MaxLine, o.Ingest.MaxMetadata, o.Ingest.MaxMetadataPairs = 100, 50, 4
	})
	return f.builder("t", f.memory.lease(t.Context()))
}

// consistent checks what must hold of every batch, from whatever bytes it was made.
func consistent(t *testing.T, b *builder, body []byte) {
	t.Helper()
	good := 0
	for i, row := range b.batch.Rows {
		if int(row.Stream) >= len(b.batch.Streams) || int(row.Metadata) > len(b.batch.Metadata) {
			t.Fatalf("row %d names a stream or metadata that is not there: %+v", i, row)
		}
		if row.Refused {
			continue
		}
		good++
		if len(row.Line) > b.limits.MaxLine || row.Timestamp > b.newest {
			t.Fatalf("row %d is beyond the limits: %+v", i, row)
		}
	}
	if good != b.accepted || len(b.refusals) > b.rejected || len(b.refusals) > maxRefusals+1 {
		t.Fatalf("%d accepted, %d in the batch; %d rejected, %d listed", b.accepted, good, b.rejected, len(b.refusals))
	}
	sum := 0
	for _, n := range b.counts {
		sum += n
	}
	if sum != b.rejected {
		t.Fatalf("%d rejected, %d counted", b.rejected, sum)
	}
	if len(b.batch.Rows) > b.limits.MaxEntries || len(b.batch.Streams) > b.limits.MaxStreams {
		t.Fatalf("%d rows, %d streams", len(b.batch.Rows), len(b.batch.Streams))
	}
	for i, s := range b.batch.Streams {
		if err := b.limits.checkLabels(s.Labels); err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		for _, other := range b.batch.Streams[:i] {
			if other.Equal(s) {
				t.Fatalf("stream %d stands there twice", i)
			}
		}
	}
	for i, set := range b.batch.Metadata {
		if len(set) == 0 || len(set) > b.limits.MaxMetadataPairs {
			t.Fatalf("metadata %d: %v", i, set)
		}
	}
	if len(b.batch.Metadata)+len(b.batch.Rows) > len(body)+1 {
		t.Fatal("more than the body can hold")
	}
}

// A reference decoder of PushRequest, by protobuf's own primitives.
type plainEntry struct {
	labels, line   string
	seconds, nanos int64
	pairs          int
}

// fields calls do for each field of a message.
func fields(m []byte, do func(n protowire.Number, kind protowire.Type, varint uint64, value []byte) bool) bool {
	for len(m) > 0 {
		number, kind, n := protowire.ConsumeTag(m)
		if n < 0 {
			return false
		}
		m = m[n:]
		var varint uint64
		var value []byte
		switch kind {
		case protowire.VarintType:
			varint, n = protowire.ConsumeVarint(m)
		case protowire.BytesType:
			value, n = protowire.ConsumeBytes(m)
		case protowire.Fixed32Type, protowire.Fixed64Type:
			n = protowire.ConsumeFieldValue(number, kind, m)
		default:
			return false
		}
		if n < 0 || !do(number, kind, varint, value) {
			return false
		}
		m = m[n:]
	}
	return true
}

func plainPush(m []byte) (entries []plainEntry, ok bool) {
	ok = fields(m, func(n protowire.Number, kind protowire.Type, _ uint64, stream []byte) bool {
		if n != 1 || kind != protowire.BytesType {
			return true
		}
		first, labels := len(entries), ""
		good := fields(stream, func(n protowire.Number, kind protowire.Type, _ uint64, value []byte) bool {
			switch {
			case n == 1 && kind == protowire.BytesType:
				labels = string(value)
			case n == 2 && kind == protowire.BytesType:
				e := plainEntry{}
				good := fields(value, func(n protowire.Number, kind protowire.Type, _ uint64, value []byte) bool {
					switch {
					case n == 1 && kind == protowire.BytesType:
						return fields(value, func(n protowire.Number, kind protowire.Type, varint uint64, _ []byte) bool {
							if n == 1 && kind == protowire.VarintType {
								e.seconds = int64(varint)
							} else if n == 2 && kind == protowire.VarintType {
								e.nanos = int64(int32(varint))
							}
							return true
						})
					case n == 2 && kind == protowire.BytesType:
						e.line = string(value)
					case n == 3 && kind == protowire.BytesType:
						e.pairs++
						return fields(value, func(protowire.Number, protowire.Type, uint64, []byte) bool { return true })
					}
					return true
				})
				entries = append(entries, e)
				return good
			}
			return true
		})
		for i := first; i < len(entries); i++ {
			entries[i].labels = labels
		}
		return good
	})
	return entries, ok
}

func FuzzPushProtobuf(f *testing.F) {
	f.Add(bytes.Join([][]byte{protoStream(`{a="b"}`, protoEntry(1, 2, "x", "k", "v"), protoEntry(3, 4, "y")), protoStream(`{c="d"}`, protoEntry(5, 6, ""))}, nil))
	f.Add(protoStream(`{`, protoEntry(math.MaxInt64, -1, strings.Repeat("x", 101))))
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte("\x0a\x0b\x12\x00\x0a\x07{a=\"b\"}\x12\x00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		b := decoder(t)
		_, err := decodePush(b, message)
		want, ok := plainPush(message)
		var status *statusError
		if err != nil {
			if !errors.As(err, &status) {
				t.Fatalf("error %v", err)
			}
			if ok && status.code == 400 {
				t.Fatalf("refused a good message: %v", err)
			}
			return
		}
		consistent(t, b, message)
		if !ok {
			t.Fatal("took a message that protowire refuses")
		}
		if b.accepted+b.rejected != len(want) {
			t.Fatalf("%d accepted, %d rejected of %d", b.accepted, b.rejected, len(want))
		}
		rows := b.batch.Rows
		for _, e := range want {
			set, err := logql.ParseLabels(e.labels)
			if err != nil || b.limits.checkLabels(set) != nil {
				continue // Not a row.
			}
			if len(rows) == 0 {
				if len(b.batch.Streams) == b.limits.MaxStreams {
					return
				}
				t.Fatalf("no row for %+v", e)
			}
			row := rows[0]
			if !b.batch.Streams[row.Stream].Labels.Equal(set) {
				if len(b.batch.Streams) == b.limits.MaxStreams {
					continue
				}
				t.Fatalf("stream %v, want %v", b.batch.Streams[row.Stream].Labels, set)
			}
			rows = rows[1:]
			if string(row.Line) != e.line || !row.Refused && row.Timestamp != e.seconds*1_000_000_000+e.nanos || e.pairs == 0 && row.Metadata != 0 {
				t.Fatalf("row %+v, want %+v", row, e)
			}
		}
	})
}

func FuzzPushJSON(f *testing.F) {
	f.Add([]byte(`{"streams":[{"stream":{"a":"b"},"values":[["1","x"],["2","y",{"k":"v"}]]},{"values":[[1,"z"]],"stream":{"c":"d"}}]}`))
	f.Add([]byte(`{"streams":[{"stream":{"\u0061":"\ud83d\ude00"},"values":[["1","\ud800\n\u0000"]]}],"x":[[[{}]]]}`))
	f.Add([]byte(`{"streams":[{"stream":{},"values":[["1","x",{"a":{}}],[],{},7]}]}`))
	f.Add([]byte(`{"streams":[`))
	f.Fuzz(func(t *testing.T, body []byte) {
		b := decoder(t)
		text := slices.Clone(body)
		_, err := decodePushJSON(b, text)
		if err != nil {
			var status *statusError
			if !errors.As(err, &status) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatal("took invalid JSON")
		}
		consistent(t, b, body)
		var push struct {
			Streams []struct {
				Stream map[string]any
				Values [][]any
			}
		}
		if !utf8.Valid(body) || json.Unmarshal(body, &push) != nil || b.rejected > 0 {
			return
		}
		var lines, times []string
		for _, s := range push.Streams {
			for _, v := range s.Values {
				if len(v) < 2 {
					return
				}
				ts, _ := v[0].(string)
				line, _ := v[1].(string)
				times, lines = append(times, ts), append(lines, line)
			}
		}
		names := bytes.ToLower(body)
		if bytes.Count(names, []byte("streams")) != 1 || bytes.Count(names, []byte("values")) != len(push.Streams) || bytes.Contains(names, []byte(`\u`)) || !bytes.Equal(names, body) {
			return // encoding/json takes names of another case, and of several equal ones the last.
		}
		if len(lines) != len(b.batch.Rows) {
			t.Fatalf("%d rows, want %d", len(b.batch.Rows), len(lines))
		}
		for i, row := range b.batch.Rows {
			if strings.ContainsRune(lines[i], utf8.RuneError) {
				continue
			}
			if ts, err := strconv.ParseInt(times[i], 10, 64); err != nil || ts != row.Timestamp || lines[i] != string(row.Line) {
				t.Fatalf("row %d is %+v, want %q %q", i, row, times[i], lines[i])
			}
		}
	})
}

func FuzzObjects(f *testing.F) {
	for _, document := range []bool{false, true} {
		f.Add([]byte("{\"msg\":\"a\",\"ts\":1,\"l\":\"x\",\"k\":{\"a\":[1, 2]}}\n\n{\"l\":null}\n{\"x\":\"\\u00e9\"}"), document)
		f.Add([]byte("[{\"msg\":\"a\"}, {\"l\":\"b\\\"\"},\n 7]"), document)
		f.Add([]byte("{\n\"msg\": \"a\"\n}\n{\"b\": \x00}\n{\"msg\":1e5}"), document)
		f.Add([]byte("{\"msg\":\"\xff\\ud800\"}\r\n[]"), document)
	}
	f.Fuzz(func(t *testing.T, body []byte, document bool) {
		b := decoder(t)
		o := objects{b: b, times: defaultTimes, messages: defaultMessages, labels: []string{"l"}, labelNames: []string{"l"}, fallback: defaultLabels}
		text := slices.Clone(body)
		var err error
		if document {
			err = o.document(text)
		} else {
			err = o.lines(text)
		}
		if err != nil {
			var status *statusError
			if !errors.As(err, &status) {
				t.Fatalf("error %v", err)
			}
			return
		}
		consistent(t, b, body)
		for _, f := range b.refusals {
			if f.where < 1 || f.where > bytes.Count(body, []byte{'\n'})+1 || f.reason == "" {
				t.Fatalf("refusal %+v", f)
			}
		}
		if document || !utf8.Valid(body) {
			return
		}
		// Each line by itself, by encoding/json.
		good := 0
		for line := range bytes.SplitSeq(body, []byte{'\n'}) {
			var object map[string]any
			if json.Unmarshal(line, &object) == nil && object != nil {
				good++
			}
		}
		if b.accepted > good {
			t.Fatalf("took %d objects of %d", b.accepted, good)
		}
		if bad := b.rejected - b.counts[reasonSyntax]; len(bytes.TrimSpace(body)) > 0 && b.counts[reasonSyntax] == 0 && b.accepted+bad != good {
			t.Fatalf("%d accepted and %d refused of %d", b.accepted, bad, good)
		}
	})
}

// The scanner takes what encoding/json takes, and finds the same values.
func FuzzJSONScanner(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,-2.5e+10,true,false,null,"x\n\u00e9\ud83d\ude00\ud800"],"b":{}}`, ` [ ] `, `"`, `01`, `-`, `1e`, `1.`, `[1,]`, `{,}`, `{"a":1,}`, `{"a"}`, `"\x"`, `tru`, "\"\t\"", `"\u12"`,
		strings.Repeat("[", 101) + strings.Repeat("]", 101), "\"\xff\"", `[1 2]`, `{} {}`, "\x00", `{"a":1 "b":2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := &jsonScanner{text: text}
		v, err := s.value(maxJSONDepth)
		s.space()
		ok := err == nil && s.pos == len(text)
		if err != nil && strings.Contains(err.Error(), "nested deeper") {
			return
		}
		if ok != json.Valid(text) {
			t.Fatalf("took it: %v (%v), encoding/json: %v", ok, err, !ok)
		}
		if !ok {
			return
		}
		var short bytes.Buffer
		if err := json.Compact(&short, text); err != nil {
			t.Fatal(err)
		}
		if v.kind != jsonString {
			if got := compact(nil, v.raw); !bytes.Equal(got, short.Bytes()) {
				t.Fatalf("compact: %q, want %q", got, short.Bytes())
			}
			return
		}
		var want string
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		if got := unescape(nil, v.raw); utf8.Valid(text) && string(got) != want {
			t.Fatalf("value %q, want %q", got, want)
		}
		raw := slices.Clone(v.raw)
		v.raw = slices.Clone(v.raw)
		if got := v.bytes(); !bytes.Equal(got, unescape(nil, raw)) {
			t.Fatalf("in place %q, want %q", got, unescape(nil, raw))
		}
	})
}
