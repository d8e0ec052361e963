package cli

import (
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

var errTime = errors.New("not a time: write 2026-01-31T15:04:05Z, 2026-01-31, unix seconds, now, or how long ago it was, like 2h")

// parseTime reads a point in time:
//
//	2026-01-31T15:04:05.123Z     RFC 3339
//	2026-01-31T15:04:05          in the local zone; also with a blank for the T, or without
//	2026-01-31                   seconds, or with the day alone
//	1769871845                   unix seconds, also with a fraction; of 12 digits on
//	                             milliseconds, of 15 on microseconds, of 18 on nanoseconds
//	now, 2h, -2h, now-2h         before the present
func parseTime(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, checkTime(t)
		}
	}
	if t, ok := parseUnix(text); ok {
		return t, nil
	}
	ago := strings.TrimPrefix(strings.TrimPrefix(text, "now"), "-")
	if ago == "" && text == "now" {
		return now, nil
	}
	d, err := parseDuration(ago)
	if err != nil || ago == "0" || strings.HasSuffix(text, "now"+ago) {
		return time.Time{}, errTime
	}
	t := now.Add(-d)
	return t, checkTime(t)
}

// parseUnix reads a number: of seconds, or of a smaller unit if it has too many digits.
func parseUnix(text string) (time.Time, bool) {
	digits := strings.TrimLeft(text, "0123456789")
	whole, fraction, isFraction := strings.Cut(text, ".")
	switch {
	case text == "" || digits != "" && !isFraction || len(whole) == 0:
		return time.Time{}, false
	case isFraction:
		seconds, err := strconv.ParseInt(whole, 10, 64)
		if err != nil || seconds < 0 || seconds > math.MaxInt64/int64(time.Second)-1 || len(fraction) == 0 || strings.Trim(fraction, "0123456789") != "" {
			return time.Time{}, false
		}
		nanos, _ := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
		return time.Unix(seconds, nanos), true
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, false
	}
	switch {
	case len(text) >= 18:
		return time.Unix(0, n), true
	case len(text) >= 15:
		return time.UnixMicro(n), true
	case len(text) >= 12:
		return time.UnixMilli(n), true
	}
	// Eleven digits are within what nanoseconds can hold only up to the year 2262.
	if n > math.MaxInt64/int64(time.Second)-1 {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

// checkTime refuses what nanoseconds since 1970 cannot hold in 64 bits.
func checkTime(t time.Time) error {
	if t.Before(time.Unix(0, math.MinInt64)) || t.After(time.Unix(0, math.MaxInt64)) {
		return errors.New("outside of the years 1678 to 2262")
	}
	return nil
}
