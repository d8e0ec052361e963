package cli

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/logcluster/logcluster/http/client"
)

// Colours of a terminal (ECMA-48 SGR).
const (
	colourTime   = "\x1b[2m"
	colourLabels = "\x1b[36m"
	colourEnd    = "\x1b[0m"
)

// timeLayout has a fixed width, so that lines stand below each other.
const timeLayout = "2006-01-02T15:04:05.000000000Z07:00"

// A renderer writes rows for people.
type renderer struct {
	escape bool // make what a terminal would act on visible
	colour bool
}

// append appends a row as one or several lines to dst.
func (r *renderer) append(dst []byte, row *client.Row) []byte {
	switch {
	case row.Value != nil:
		return r.point(dst, row.Time, row.Labels, float64(*row.Value))
	case row.Values != nil:
		for _, p := range row.Values {
			dst = r.point(dst, p.Time, row.Labels, float64(p.Value))
		}
		return dst
	}
	dst = r.head(dst, row.Time, row.Labels, row.Metadata)
	line := row.LineBase64
	if row.Line != nil {
		line = []byte(*row.Line)
	}
	if r.escape {
		dst = appendEscaped(dst, line)
	} else {
		dst = append(dst, line...)
	}
	return append(dst, '\n')
}

// point writes one value of a series.
func (r *renderer) point(dst []byte, t time.Time, labels map[string]string, value float64) []byte {
	dst = r.head(dst, t, labels, nil)
	dst = strconv.AppendFloat(dst, value, 'f', -1, 64)
	return append(dst, '\n')
}

// head writes time and labels, with structured metadata behind a bar: {app="web" | id="7"}.
func (r *renderer) head(dst []byte, t time.Time, labels, metadata map[string]string) []byte {
	dst = r.paint(dst, colourTime, t.UTC().AppendFormat(nil, timeLayout))
	set := appendPairs([]byte{'{'}, labels)
	if len(metadata) > 0 {
		set = appendPairs(append(set, " | "...), metadata)
	}
	dst = append(dst, ' ')
	dst = r.paint(dst, colourLabels, append(set, '}'))
	return append(dst, ' ')
}

func (r *renderer) paint(dst []byte, colour string, text []byte) []byte {
	if !r.colour {
		return append(dst, text...)
	}
	dst = append(dst, colour...)
	dst = append(dst, text...)
	return append(dst, colourEnd...)
}

// appendPairs writes labels by name, values quoted as in LogQL, which makes all that does
// not print visible.
func appendPairs(dst []byte, pairs map[string]string) []byte {
	for i, name := range slices.Sorted(maps.Keys(pairs)) {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendEscaped(dst, []byte(name))
		dst = append(dst, '=')
		dst = strconv.AppendQuote(dst, pairs[name])
	}
	return dst
}
