package segment

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// An annotator writes bytes as hexadecimal, each field with what it means.
type annotator struct {
	b   []byte
	at  int
	out strings.Builder
}

func (a *annotator) title(format string, args ...any) {
	fmt.Fprintf(&a.out, "# "+format+"\n", args...)
}

func (a *annotator) field(n int, format string, args ...any) []byte {
	field := a.b[a.at : a.at+n]
	text := "| " + fmt.Sprintf(format, args...)
	for rest := field; len(rest) > 0; {
		row := rest[:min(16, len(rest))]
		rest = rest[len(row):]
		fmt.Fprintf(&a.out, "%s\n", strings.TrimRight(fmt.Sprintf("%04x  %-48s %s", a.at, fmt.Sprintf("% x", row), text), " "))
		a.at += len(row)
		text = "|"
	}
	return field
}

// number is a field that is a little-endian number.
func (a *annotator) number(n int, name string) uint64 {
	var v uint64
	for i, c := range a.b[a.at : a.at+n] {
		v |= uint64(c) << (8 * i)
	}
	a.field(n, "%s: %d", name, v)
	return v
}

func (a *annotator) signed(name string) {
	a.field(8, "%s: %d", name, int64(binary.LittleEndian.Uint64(a.b[a.at:])))
}

// varints are n numbers of variable length in one field.
func (a *annotator) varints(n int, signed bool, name string) []uint64 {
	size := 0
	var values []uint64
	text := ""
	for range n {
		v, k := binary.Uvarint(a.b[a.at+size:])
		if signed {
			s, _ := binary.Varint(a.b[a.at+size:])
			text += fmt.Sprint(" ", s)
		} else {
			text += fmt.Sprint(" ", v)
		}
		values = append(values, v)
		size += k
	}
	a.field(size, "%s:%s", name, text)
	return values
}

// text is a length and as many bytes.
func (a *annotator) text(name string) {
	n, k := binary.Uvarint(a.b[a.at:])
	a.field(k+int(n), "%s: %q", name, a.b[a.at+k:a.at+k+int(n)])
}
