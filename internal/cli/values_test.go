package cli

import (
	"math"
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	f := func(text string, want time.Duration) {
		t.Helper()
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("parseDuration(%q) is %s, %v; want %s", text, got, err, want)
		}
	}
	f("0", 0)
	f("0s", 0)
	f("1ns", 1)
	f("1us2µs3ms", 3*time.Millisecond+3*time.Microsecond)
	f("90m", 90*time.Minute)
	f("1.5h", 90*time.Minute)
	f("7d", 168*time.Hour)
	f("2w", 336*time.Hour)
	f("1d12h", 36*time.Hour)
	f("0.5d", 12*time.Hour)
	f("1y", 365*24*time.Hour)
	bad := func(text string) {
		t.Helper()
		if got, err := parseDuration(text); err == nil {
			t.Errorf("parseDuration(%q) is %s, want an error", text, got)
		}
	}
	for _, text := range []string{"", "1", "d", "-1h", "+1h", "1h-2m", "1 h", "1x", "..d", "1dd", "d1", "300y", "999999999999w", "292y292y", "1e3s", "\xff"} {
		bad(text)
	}
}

func FuzzParseDuration(f *testing.F) {
	f.Add("1d12h")
	f.Add("9.9e9w")
	f.Add("106751d23h47m16.854775807s")
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := parseDuration(text); err == nil && d < 0 {
			t.Errorf("%q is %s", text, d)
		}
	})
}

func TestParseSize(t *testing.T) {
	f := func(text string, want int64) {
		t.Helper()
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("parseSize(%q) is %d, %v; want %d", text, got, err, want)
		}
	}
	f("0", 0)
	f("1048576", 1<<20)
	f("1MiB", 1<<20)
	f("1.5 kib", 1536)
	f("1MB", 1e6)
	bad := func(text string) {
		t.Helper()
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) is %d, want an error", text, got)
		}
	}
	for _, text := range []string{"", "-1", "MiB", "1XB", "10EB", "100EB", "1e3", "NaN", "Inf"} {
		bad(text)
	}
}

func TestParseInt(t *testing.T) {
	if n, err := parseInt("7", 7, 7); n != 7 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	for _, text := range []string{"", "6", "8", "x", "7.0", "0x7", "7_0", "99999999999999999999"} {
		if n, err := parseInt(text, 7, 7); err == nil {
			t.Errorf("parseInt(%q) is %d, want an error", text, n)
		}
	}
	if n, err := parseInt("12", 0, math.MaxInt); n != 12 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestNodeName(t *testing.T) {
	f := func(host, want string) {
		t.Helper()
		got := nodeName(host)
		if got != want {
			t.Errorf("nodeName(%q) is %q, want %q", host, got, want)
		}
		if err := checkNodeName(got); err != nil {
			t.Errorf("nodeName(%q): %v", host, err)
		}
	}
	f("host-1.example_x", "host-1.example_x")
	f("my host", "my-host")
	f("-.host.-", "host")
	f("höst", "h-st")
	f("", "node")
	f("..", "node")
	f("\xff", "node")
	long := ""
	for range 100 {
		long += "a"
	}
	f(long, long[:64])
	f(long[:63]+"é", long[:63])
}

func TestNearest(t *testing.T) {
	known := []string{"data", "listen", "shards", "log-level", "log-format"}
	f := func(written, want string) {
		t.Helper()
		if got := nearest(written, known); got != want {
			t.Errorf("nearest(%q) is %q, want %q", written, got, want)
		}
	}
	f("shrads", "shards")
	f("sahrds", "shards")
	f("shard", "shards")
	f("loglevel", "log-level")
	f("log_format", "log-format")
	f("date", "data")
	f("x", "")
	f("", "")
	f("completely-different", "")
}

func TestEditDistance(t *testing.T) {
	f := func(a, b string, want int) {
		t.Helper()
		if got := editDistance(a, b); got != want {
			t.Errorf("from %q to %q it is %d, want %d", a, b, got, want)
		}
		if got := editDistance(b, a); got != want {
			t.Errorf("from %q to %q it is %d, want %d", b, a, got, want)
		}
	}
	f("", "", 0)
	f("", "abc", 3)
	f("abc", "abc", 0)
	f("abc", "acb", 1)
	f("abc", "abd", 1)
	f("abc", "ab", 1)
	f("kitten", "sitting", 3)
	f("ca", "abc", 3) // A swapped pair is not edited again.
}
