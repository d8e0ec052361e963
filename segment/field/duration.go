package field

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// units of durations, longest first.
var units = [...]struct {
	name   string
	length time.Duration
}{
	{"y", 365 * 24 * time.Hour},
	{"w", 7 * 24 * time.Hour},
	{"d", 24 * time.Hour},
	{"h", time.Hour},
	{"m", time.Minute},
	{"s", time.Second},
	{"ms", time.Millisecond},
	{"us", time.Microsecond},
	{"µs", time.Microsecond}, // U+00B5, micro sign
	{"μs", time.Microsecond}, // U+03BC, Greek letter mu
	{"ns", time.Nanosecond},
}

// ParseDuration reads a duration as Go and Prometheus write them: numbers, each with an
// optional fraction and a unit (y, w, d, h, m, s, ms, us or µs, ns), after an optional
// sign: 1h30m, 1.5h, 7d, -5m. A plain 0 needs no unit. What is beyond ±292 years is an
// error. (https://pkg.go.dev/time#ParseDuration and
// https://prometheus.io/docs/prometheus/latest/querying/basics/#float-literals-and-time-durations)
func ParseDuration(s string) (time.Duration, error) {
	rest, negative := s, false
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		negative = rest[0] == '-'
		rest = rest[1:]
	}
	if rest == "0" {
		return 0, nil
	}
	if rest == "" {
		return 0, fmt.Errorf("duration %s has no number; write one such as 5m or 1h30m", quote(s))
	}
	var sum uint64
	for rest != "" {
		part, tail, err := durationPart(rest)
		if err != nil {
			return 0, fmt.Errorf("duration %s %w", quote(s), err)
		}
		if sum += part; part > math.MaxInt64 || sum > math.MaxInt64 {
			return 0, fmt.Errorf("duration %s is longer than 292 years", quote(s))
		}
		rest = tail
	}
	if negative {
		return -time.Duration(sum), nil
	}
	return time.Duration(sum), nil
}

// durationPart reads one number and its unit from the beginning of s. A part beyond the
// range of a duration is returned as the largest uint64.
func durationPart(s string) (nanoseconds uint64, rest string, err error) {
	digits := 0
	for digits < len(s) && s[digits] >= '0' && s[digits] <= '9' {
		digits++
	}
	number := digits
	if number < len(s) && s[number] == '.' {
		number++
		for number < len(s) && s[number] >= '0' && s[number] <= '9' {
			number++
		}
	}
	if number == 0 || s[:number] == "." {
		return 0, "", fmt.Errorf("has no number where one is expected; write one such as 5m or 1h30m")
	}
	end := number
	for end < len(s) && s[end] != '.' && (s[end] < '0' || s[end] > '9') {
		end++
	}
	name := s[number:end]
	for _, u := range units {
		if u.name == name {
			return scale(s[:digits], s[digits:number], uint64(u.length)), s[end:], nil
		}
	}
	if name == "" {
		return 0, "", fmt.Errorf("has no unit; did you mean %ss?", s[:number])
	}
	return 0, "", fmt.Errorf("has an unknown unit %s; the units are ns, us, ms, s, m, h, d, w and y", quote(name))
}

// scale returns (whole + fraction)·unit, where fraction is empty or begins with a point.
func scale(whole, fraction string, unit uint64) uint64 {
	var n uint64
	if whole != "" {
		var err error
		if n, err = strconv.ParseUint(whole, 10, 64); err != nil || n > math.MaxInt64/unit {
			return math.MaxUint64
		}
		n *= unit
	}
	if len(fraction) > 1 {
		part, _ := strconv.ParseFloat("0"+fraction, 64)
		n += uint64(part * float64(unit)) // Less than a unit: no overflow.
	}
	return n
}

// FormatDuration returns the canonical form of a duration: the largest units first, none of
// them 0, nothing longer than days.
func FormatDuration(d time.Duration) string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	rest := uint64(d)
	if d < 0 {
		b.WriteByte('-')
		rest = -rest
	}
	for _, u := range units {
		if n := rest / uint64(u.length); n > 0 && u.length <= 24*time.Hour {
			b.WriteString(strconv.FormatUint(n, 10))
			b.WriteString(u.name)
			rest -= n * uint64(u.length)
		}
	}
	return b.String()
}

// quote writes a piece of input for an error message, shortened.
func quote(s string) string {
	if len(s) > 48 {
		s = s[:45] + "..."
	}
	return strconv.Quote(s)
}
