package http

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/logcluster/logcluster/segment"
)

// plainJSON are the bytes that stand in a JSON string as they are.
var plainJSON = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendString appends s as a JSON string. Bytes that are not valid UTF-8 become U+FFFD,
// one for each.
func appendString[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plainJSON[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			if size := runeLength(s[i:min(i+utf8.UTFMax, len(s))]); size > 0 {
				i += size
				continue
			}
			dst = append(append(dst, s[start:i]...), "\uFFFD"...)
			i++
			start = i
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

// runeLength is the number of bytes of the character that s begins with, 0 if it is not
// valid UTF-8.
func runeLength[T string | []byte](s T) int {
	r, size := utf8.DecodeRuneInString(string(s))
	if r == utf8.RuneError && size <= 1 {
		return 0
	}
	return size
}

// appendLabels appends a label set as a JSON object.
func appendLabels(dst []byte, set segment.Labels) []byte {
	dst = append(dst, '{')
	for i, p := range set {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, p.Name), ':')
		dst = appendString(dst, p.Value)
	}
	return append(dst, '}')
}

// appendStrings appends a list of strings as a JSON array.
func appendStrings(dst []byte, list []string) []byte {
	dst = append(dst, '[')
	for i, s := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, s)
	}
	return append(dst, ']')
}

// appendSeconds appends a time as Prometheus does: unix seconds, with milliseconds if
// there are any (https://prometheus.io/docs/prometheus/latest/querying/api/).
func appendSeconds(dst []byte, ns int64) []byte {
	ms := ns / 1_000_000
	if ns%1_000_000 < 0 {
		ms--
	}
	if ms < 0 {
		dst = append(dst, '-')
		ms = -ms
	}
	dst = strconv.AppendInt(dst, ms/1000, 10)
	if rest := ms % 1000; rest != 0 {
		dst = append(dst, '.', byte('0'+rest/100), byte('0'+rest/10%10), byte('0'+rest%10))
	}
	return dst
}

// appendPoint appends a time and a value as Prometheus does: [seconds,"value"].
func appendPoint(dst []byte, ns int64, value float64) []byte {
	dst = append(appendSeconds(append(dst, '['), ns), ',', '"')
	dst = strconv.AppendFloat(dst, value, 'f', -1, 64)
	return append(dst, '"', ']')
}

// appendNumber appends a value as a JSON number; what JSON has no number for is a string.
func appendNumber(dst []byte, value float64) []byte {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return append(strconv.AppendFloat(append(dst, '"'), value, 'f', -1, 64), '"')
	}
	return strconv.AppendFloat(dst, value, 'f', -1, 64)
}
