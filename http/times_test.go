package http

import (
	"math"
	"testing"
)

func TestEntryTime(t *testing.T) {
	check := func(text string, want int64) {
		t.Helper()
		if got, ok := entryTime(text); !ok || got != want {
			t.Errorf("%s: %d, %v, want %d", text, got, ok, want)
		}
	}
	check("0", 0)
	check("1.", second)
	check("-0.5", -500_000_000)
	check("1700000000", baseTime)
	check("+1700000000.123456789", baseTime+123456789)
	check("1700000000.1234567899", baseTime+123456789)
	check("1700000000123", baseTime+123_000_000)
	check("1700000000123.456", baseTime+123_456_000)
	check("1700000000123456", baseTime+123_456_000)
	check("1700000000123456.789", baseTime+123_456_789)
	check("1700000000123456789", baseTime+123_456_789)
	check("1700000000123456789.9", baseTime+123_456_789)
	check("1.7E9", baseTime)
	check("1.7e18", baseTime)
	check("-1.7e9", -baseTime)
	check("9223372036", 9223372036*second)
	check("9223372036854775807", math.MaxInt64)
	check("2023-11-14T22:13:20Z", baseTime)
	check("2023-11-14t22:13:20z", baseTime)
	check("2023-11-14T22:13:20.123456789123Z", baseTime+123456789)
	check("2023-11-14T22:13:20,5Z", baseTime+500_000_000)
	check("2023-11-15T03:43:20+05:30", baseTime)
	check("2023-11-14 22:13:20.5Z", baseTime+500_000_000)
	check("1678-01-01T00:00:00Z", -9214560000*second)
	check("2262-01-01T00:00:00Z", 9214646400*second)
	for _, text := range []string{
		"", "-", "+", ".", "-.", ".5", "x", "1x", "1_000", "0x10", "NaN", "Inf", "-Inf", "1e400", "1e", "1e19", "99999999999", "9223372037",
		"9223372036854775808", "-9223372036854775809", "18446744073709551616", "2023-11-14", "2023-11-14T22:13:20", "2023-13-14T22:13:20Z",
		"1600-01-01T00:00:00Z", "9999-12-31T00:00:00Z", "0000-01-01T00:00:00Z", string(make([]byte, 100)),
	} {
		if got, ok := entryTime(text); ok {
			t.Errorf("%q: %d", text, got)
		}
	}
}

func FuzzTimes(f *testing.F) {
	for _, seed := range []string{"1700000000", "1.5", "1e9", "2023-11-14T22:13:20.5Z", "-9223372036854775808", "99999999999999999999", "0.000000001"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entryTime(text)
		if _, err := lokiTime("start", text); err != nil && len(err.Error()) > 1000 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	})
}
