package field

import (
	"math"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

func TestParseNumber(t *testing.T) {
	for _, s := range []string{"", "-", ".", "-.", "1", "-1", "+1", "0", "-0", "1.", ".5", "-.5", "1.5", "1..5", "1e3", "x", " 1", "1 ", "12x", "123456789012345", "1234567890123456",
		"9007199254740993", "0.1", "0.30000000000000004", "123456789.123456", "1234567890.123456", "Inf", "-inf", "NaN", "0x1p-2", "1_000", "1e400", "000000000000001", "0.00000000000001", "99999999999999.9"} {
		want, wantErr := strconv.ParseFloat(s, 64)
		got, err := ParseNumber(s)
		if (err == nil) != (wantErr == nil) || err == nil && math.Float64bits(got) != math.Float64bits(want) {
			t.Errorf("%q: %v, %v, want %v, %v", s, got, err, want, wantErr)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		s := strconv.FormatInt(rng.Int64N(1<<rng.IntN(63)), 10)
		if rng.IntN(2) == 0 {
			at := rng.IntN(len(s) + 1)
			s = s[:at] + "." + s[at:]
		}
		want, _ := strconv.ParseFloat(s, 64)
		if got, err := ParseNumber(s); err != nil || got != want {
			t.Fatalf("%q: %v, %v, want %v", s, got, err, want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	f := func(s string, want uint64) {
		t.Helper()
		if got, err := ParseBytes(s); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", s, got, err, want)
		}
	}
	f("0", 0)
	f("20b", 20)
	f("42MB", 42e6)
	f("1.5Kib", 1536)
	f("1.5 KiB", 1536)
	f("20KB", 20000)
	f("20k", 20000)
	f("20Ki", 20480)
	f("1gib", 1<<30)
	f("2TB", 2e12)
	f("1PiB", 1<<50)
	f("15EiB", 15<<60)
	f("18446744073709551615", math.MaxUint64)
	f("9007199254740993B", 9007199254740993)
	f(".5kb", 500)
	f("0.9b", 0)
	f("1.B", 1)
	for _, s := range []string{"", "b", "kb", "-1b", "+1b", "1x", "1kbb", "1kibi", "1.2.3", "18446744073709551616", "16EiB", "99999.9EB", ".", ".kb", "1ib b", "1 k b", "1e3", "1é"} {
		if got, err := ParseBytes(s); err == nil {
			t.Errorf("%q is read as %d", s, got)
		}
	}
}

// FuzzNumbers looks for panics and for durations that are not written as they are read.
func FuzzNumbers(f *testing.F) {
	for _, seed := range []string{"1h30m", "-5.5ms", "µs", "1.5KiB", "0", "9e9", "99999999999999999999y", "1y2w3d4h5m6s7ms8us9ns"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want, wantErr := strconv.ParseFloat(s, 64)
		if got, err := ParseNumber(s); (err == nil) != (wantErr == nil) || err == nil && math.Float64bits(got) != math.Float64bits(want) {
			t.Fatalf("%q: %v, %v, want %v, %v", s, got, err, want, wantErr)
		}
		_, _ = ParseBytes(s)
		if d, err := ParseDuration(s); err == nil {
			if again, err := ParseDuration(FormatDuration(d)); d != math.MinInt64 && (err != nil || again != d) {
				t.Fatalf("%q is %d, written %q", s, d, FormatDuration(d))
			}
		}
		if want, err := time.ParseDuration(s); err == nil {
			if got, err := ParseDuration(s); err == nil && (got-want > 1 || want-got > 1) { // fractions are rounded otherwise
				t.Fatalf("%q: %v, want %v", s, got, want)
			}
		}
	})
}
