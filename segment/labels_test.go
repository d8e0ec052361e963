package segment

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestNewLabels(t *testing.T) {
	f := func(want string, pairs ...Label) {
		t.Helper()
		got := NewLabels(slices.Clone(pairs))
		if got.String() != want {
			t.Errorf("%v: %s, want %s", pairs, got, want)
		}
		m := map[string]string{}
		for _, p := range pairs {
			m[p.Name] = p.Value
		}
		if again := LabelsFromMap(m); !again.Equal(got) {
			t.Errorf("%v: from a map %s, want %s", pairs, again, got)
		}
		for name, value := range m {
			if got.Get(name) != value {
				t.Errorf("%s: %s is %q, want %q", got, name, got.Get(name), value)
			}
		}
		if got.Get("none") != "" || len(got.Map()) != len(got) {
			t.Errorf("%s: %q, %v", got, got.Get("none"), got.Map())
		}
	}
	f(`{}`)
	f(`{a="1", b="2"}`, Label{"b", "2"}, Label{"a", "1"})
	f(`{a="3"}`, Label{"a", "1"}, Label{"a", "2"}, Label{"a", "3"}) // the last wins
	f(`{b="1"}`, Label{"a", ""}, Label{"b", "1"})                   // absent is empty
	f(`{}`, Label{"a", "1"}, Label{"a", ""})
	f(`{a="\"\n"}`, Label{"a", "\"\n"})
}

// Different sets have different keys, whatever the bytes.
func TestKeysAreDistinct(t *testing.T) {
	known := map[string]string{}
	var streams []*Stream
	parts := []string{"", "a", "ab", "b", "\x01", "a\x01b", strings.Repeat("x", 200)}
	for _, tenant := range []string{"t", "ta", "default"} {
		streams = append(streams, NewStream(tenant, nil))
		for _, name := range parts {
			for _, value := range parts {
				streams = append(streams, NewStream(tenant, Labels{{name, value}}))
				if name < "b" {
					streams = append(streams, NewStream(tenant, Labels{{name, value}, {"b", value}}))
				}
			}
		}
	}
	for i, s := range streams {
		key, text := string(s.AppendKey(nil)), s.Tenant+s.Labels.String()
		if other, ok := known[key]; ok {
			t.Fatalf("%s and %s have one key", text, other)
		}
		known[key] = text
		for k, o := range streams {
			if s.Equal(o) != (i == k) {
				t.Fatalf("%s equals %s: %t", text, o.Tenant+o.Labels.String(), i != k)
			}
		}
	}
}

func TestValidNames(t *testing.T) {
	f := func(valid func(string) bool, name string, want bool) {
		t.Helper()
		if valid(name) != want {
			t.Errorf("%q is valid: %t, want %t", name, !want, want)
		}
	}
	f(ValidTenant, "a", true)
	f(ValidTenant, "A-z_0.9", true)
	f(ValidTenant, strings.Repeat("a", 64), true)
	f(ValidTenant, strings.Repeat("a", 65), false)
	f(ValidTenant, "", false)
	f(ValidTenant, ".", false)
	f(ValidTenant, "..", false)
	f(ValidTenant, "...", true)
	f(ValidTenant, "a/b", false)
	f(ValidTenant, "é", false)
	f(ValidLabelName, "a", true)
	f(ValidLabelName, "_a9", true)
	f(ValidLabelName, "9a", false)
	f(ValidLabelName, "a-b", false)
	f(ValidLabelName, "", false)
}

func TestGroupNumbers(t *testing.T) {
	for _, number := range []uint64{0, 1, 1<<48 - 1} {
		for _, place := range []int{0, 1, MaxGroupRecords - 1} {
			tr := Trailer{Group: NewGroup(number, place)}
			if tr.GroupNumber() != number || tr.GroupPlace() != uint64(place) {
				t.Errorf("group %d, place %d is read as %d, %d", number, place, tr.GroupNumber(), tr.GroupPlace())
			}
		}
	}
}

func TestNames(t *testing.T) {
	f := func(v fmt.Stringer, want string) {
		t.Helper()
		if v.String() != want {
			t.Errorf("%s, want %s", v, want)
		}
	}
	f(RecordData, "DATA")
	f(RecordLoss, "LOSS")
	f(RecordType(0), "RECORD(0)")
	f(RecordType(200), "RECORD(200)")
	f(CodecZstd, "zstd")
	f(Codec(9), "codec(9)")
	f(ChunkOpenBlock, "OPENBLOCK")
	f(ChunkKind(99), "KIND(99)")
	f(MatchNotRegexp, "!~")
	if string(FrameMagic()) != "LCFR" {
		t.Errorf("frames begin with %q", FrameMagic())
	}
}

// An error says what and where, and is found by errors.Is through all that wraps it.
func TestErrors(t *testing.T) {
	err := fmt.Errorf("reading: %w", damaged("some/file", 42, "TS chunk", io.ErrUnexpectedEOF))
	if !errors.Is(err, ErrCorrupt) || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), `TS chunk in "some/file" at byte 42`) {
		t.Errorf("%v", err)
	}
	if err := damaged("f", 0, "x", fmt.Errorf("%w 9", ErrVersion)); errors.Is(err, ErrCorrupt) || !errors.Is(err, ErrVersion) {
		t.Errorf("%v", err)
	}
	if err := error(&CorruptError{What: "x"}); !errors.Is(err, ErrCorrupt) || err.Error() != "corrupt x" {
		t.Errorf("%v", err)
	}
}

// References count up in the order of first use, equal streams have one, and a copy of
// the slice that was taken before stays as it was.
func TestStreamTable(t *testing.T) {
	var table StreamTable
	var key []byte
	var snapshot []*Stream
	for i := range 100 {
		s := NewStream("t", Labels{{"n", fmt.Sprint(i / 2)}})
		if ref := table.Ref(s, &key); ref != uint32(i/2) {
			t.Fatalf("stream %d has reference %d", i/2, ref)
		}
		if i == 50 {
			snapshot = table.Streams[:len(table.Streams):len(table.Streams)]
		}
	}
	if len(table.Streams) != 50 || len(snapshot) != 26 {
		t.Fatalf("%d streams, %d in the snapshot", len(table.Streams), len(snapshot))
	}
	for i, s := range snapshot {
		if s.Labels.Get("n") != fmt.Sprint(i) {
			t.Fatalf("the snapshot's stream %d is %s", i, s.Labels)
		}
	}
}
