package field

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

var errBytes = errors.New("not a size in bytes such as 20KB or 1.5MiB")

// powers of ten that a float64 holds exactly.
var powers = [...]float64{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// ParseNumber reads a floating-point number as strconv.ParseFloat does: 250, -89.923, 1e6,
// Inf. What is beyond its range is an error.
func ParseNumber(s string) (float64, error) {
	if v, ok := shortNumber(s); ok {
		return v, nil
	}
	return strconv.ParseFloat(s, 64)
}

// shortNumber reads decimals of up to 15 digits, for which one division is exact.
func shortNumber(s string) (float64, bool) {
	rest, negative := s, false
	if rest != "" && rest[0] == '-' {
		rest, negative = rest[1:], true
	}
	if len(rest) == 0 || len(rest) > 16 {
		return 0, false
	}
	var n uint64
	point := -1
	for i := range len(rest) {
		c := rest[i]
		switch {
		case c >= '0' && c <= '9':
			n = n*10 + uint64(c-'0')
		case c == '.' && point < 0:
			point = i
		default:
			return 0, false
		}
	}
	fraction, digits := 0, len(rest)
	if point >= 0 {
		fraction, digits = len(rest)-1-point, len(rest)-1
	}
	if digits == 0 || digits > 15 {
		return 0, false
	}
	v := float64(n) / powers[fraction]
	if negative {
		v = -v
	}
	return v, true
}

// ParseBytes reads a size: a number, which may have a fraction, and a unit (B, KB, MB, GB,
// TB, PB, EB by 1,000, KiB, MiB, … by 1,024, in any case, with or without its B). Without
// a unit it is in bytes. Fractions of bytes are dropped.
func ParseBytes(s string) (uint64, error) {
	digits := 0
	for digits < len(s) && classes[s[digits]] == classDigit {
		digits++
	}
	end := digits
	if end < len(s) && s[end] == '.' {
		for end++; end < len(s) && classes[s[end]] == classDigit; end++ {
		}
	}
	if end == 0 || s[:end] == "." {
		return 0, errBytes
	}
	unit, ok := byteUnit(strings.TrimLeft(s[end:], " "))
	if !ok {
		return 0, errBytes
	}
	if end == digits {
		if n, err := strconv.ParseUint(s[:digits], 10, 64); err == nil && n <= math.MaxUint64/unit {
			return n * unit, nil
		}
		return 0, errBytes
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	if n *= float64(unit); err != nil || n >= 1<<64 {
		return 0, errBytes
	}
	return uint64(n), nil
}

// byteUnit returns how many bytes a unit has.
func byteUnit(s string) (uint64, bool) {
	if s == "" {
		return 1, true
	}
	if last := s[len(s)-1]; last == 'b' || last == 'B' {
		s = s[:len(s)-1]
	}
	base := uint64(1000)
	if len(s) == 2 && s[1]|' ' == 'i' {
		base, s = 1024, s[:1]
	}
	if s == "" {
		return 1, true
	}
	power := strings.IndexByte("kmgtpe", s[0]|' ')
	if power < 0 || len(s) > 1 {
		return 0, false
	}
	unit := base
	for range power {
		unit *= base
	}
	return unit, true
}
