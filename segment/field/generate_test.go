package field

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// A generator writes random JSON.
type generator struct{ *rand.Rand }

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g generator) space() string { return g.pick("", "", "", "", " ", "\n\t", "\r ") }

func (g generator) text() string {
	var b strings.Builder
	b.WriteByte('"')
	for range g.IntN(6) {
		b.WriteString(g.pick("a", "b", "key", "1", ".", "-", "é", "😀", " ", `\"`, `\\`, `\/`, `\n`, `\u0041`, `\u00e9`, `\ud83d\ude00`, "12345678", "_"))
	}
	b.WriteByte('"')
	return b.String()
}

func (g generator) value(depth int) string {
	if depth > 0 && g.IntN(3) == 0 {
		open, end := "[", "]"
		if g.IntN(2) == 0 {
			open, end = "{", "}"
		}
		var members []string
		for range g.IntN(4) {
			m := g.space() + g.value(depth-1) + g.space()
			if open == "{" {
				m = g.space() + g.text() + g.space() + ":" + m
			}
			members = append(members, m)
		}
		if len(members) == 0 {
			return open + g.space() + end
		}
		return open + strings.Join(members, ",") + end
	}
	if g.IntN(2) == 0 {
		return g.text()
	}
	return g.pick("0", "-1", "1.50", "1e9", "-0.1E-7", "true", "false", "null", "123456789012345678901")
}

func (g generator) object() string {
	for {
		if v := g.value(4); v[0] == '{' {
			return g.space() + v + g.space()
		}
	}
}

// F1, F3, F4, F5: lines are taken and read as encoding/json does, also after one byte of
// them was changed.
func TestAgainstEncodingJSON(t *testing.T) {
	right, wrong := 0, 0
	for seed := range uint64(30_000) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		line := []byte(g.object())
		if g.IntN(2) == 0 {
			i := g.IntN(len(line))
			switch g.IntN(3) {
			case 0:
				line[i] = g.pick(`"`, `\`, "{", "}", "[", "]", ",", ":", "0", "e", " ", "x", "-", "\x01")[0]
			case 1:
				line = append(line[:i], line[i+1:]...)
			default:
				line = line[:i]
			}
		}
		var fields Fields
		err := NewJSON(nil).Scan(line, &fields)
		if len(line) == 0 {
			continue
		}
		want, ok := decoded(line)
		if ok != (err == nil) {
			t.Fatalf("seed %d: %q: error %v, but encoding/json takes it: %t", seed, line, err, ok)
		}
		if !ok {
			wrong++
			continue
		}
		right++
		if len(want) != len(fields.List) {
			t.Fatalf("seed %d: %q: %s, want %v", seed, line, rendered(&fields), want)
		}
		for i := range want {
			if strings.ContainsRune(want[i].Value, '\uFFFD') {
				continue
			}
			if want[i] != fields.List[i] {
				t.Fatalf("seed %d: %q: %s, want %v", seed, line, rendered(&fields), want)
			}
		}
	}
	if right < 10_000 || wrong < 5_000 {
		t.Fatalf("%d right and %d wrong lines: the test tries too little", right, wrong)
	}
}
