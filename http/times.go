package http

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// A decimal is a number with up to nine digits after the point; further ones are cut.
type decimal struct {
	negative bool
	whole    uint64
	billions uint64 // the fraction, in 1e-9
}

// parseDecimal reads [+-]digits[.digits]. There is no rounding: 1700000000.123456789 is
// what it says, which a float64 cannot hold.
func parseDecimal(s string) (d decimal, ok bool) {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		d.negative = s[0] == '-'
		s = s[1:]
	}
	whole, fraction, point := strings.Cut(s, ".")
	for _, part := range []string{whole, fraction} {
		for i := range len(part) {
			if part[i] < '0' || part[i] > '9' {
				return d, false
			}
		}
	}
	if whole == "" && fraction == "" || point && whole == "" {
		return d, false
	}
	var err error
	if d.whole, err = strconv.ParseUint(whole, 10, 64); err != nil {
		return d, false
	}
	if fraction != "" {
		fraction = (fraction + "000000000")[:9]
		d.billions, _ = strconv.ParseUint(fraction, 10, 64)
	}
	return d, true
}

// nanoseconds is the number of units of a length in nanoseconds; false if int64 cannot
// hold it.
func (d decimal) nanoseconds(unit uint64) (int64, bool) {
	if d.whole > math.MaxInt64/unit {
		return 0, false
	}
	n := d.whole*unit + d.billions*unit/1_000_000_000
	if n > math.MaxInt64 {
		return 0, false
	}
	if d.negative {
		return -int64(n), true
	}
	return int64(n), true
}

// A number of a time is in seconds below the first of these, in milliseconds below the
// second, in microseconds below the third, and else in nanoseconds. They are the years
// 1973 to 5138 in all units.
const (
	secondsBelow = 1e11
	millisBelow  = 1e14
	microsBelow  = 1e17
)

// unixByMagnitude reads a unix time in seconds, milliseconds, microseconds or nanoseconds,
// with or without a fraction or an exponent.
func unixByMagnitude(s string) (int64, bool) {
	d, ok := parseDecimal(s)
	if !ok {
		// Rare enough for the precision of a float64.
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !strings.ContainsAny(s, "eE") || math.Abs(f) >= math.MaxInt64 {
			return 0, false
		}
		if d, ok = parseDecimal(strconv.FormatFloat(f, 'f', 9, 64)); !ok {
			return 0, false
		}
	}
	switch {
	case d.whole < secondsBelow:
		return d.nanoseconds(1_000_000_000)
	case d.whole < millisBelow:
		return d.nanoseconds(1_000_000)
	case d.whole < microsBelow:
		return d.nanoseconds(1000)
	}
	return d.nanoseconds(1)
}

// parseRFC3339 reads a date as RFC 3339 writes it, with any fraction, also with a blank
// in place of the T.
func parseRFC3339(s string) (time.Time, bool) {
	if len(s) > 64 {
		return time.Time{}, false
	}
	if len(s) > 10 && s[10] == ' ' {
		s = s[:10] + "T" + s[11:]
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t, err = time.Parse(time.RFC3339Nano, strings.ToUpper(s)) // The RFC allows t and z.
	}
	return t, err == nil
}

// unixNano is t.UnixNano, whose result is undefined for what int64 cannot hold.
func unixNano(t time.Time) (ns int64, ok bool) {
	const limit = math.MaxInt64 / 1_000_000_000
	if s := t.Unix(); s >= limit || s <= -limit {
		return 0, false
	}
	return t.UnixNano(), true
}

// entryTime reads the time of an entry: RFC 3339 or a unix time of any unit.
func entryTime(s string) (ns int64, ok bool) {
	if len(s) > 64 {
		return 0, false
	}
	if ns, ok := unixByMagnitude(s); ok {
		return ns, true
	}
	t, ok := parseRFC3339(s)
	if !ok {
		return 0, false
	}
	return unixNano(t)
}
