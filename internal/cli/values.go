package cli

import (
	"errors"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// longUnits are the units of durations beyond those of Go.
var longUnits = map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour}

var (
	errDuration = errors.New("not a duration: write a number and its unit, like 30s, 90m, 12h, 7d, 2w or 1d12h")
	errTooLong  = errors.New("longer than 292 years")
)

// parseDuration reads a duration of 0 or more: Go's notation with d (24 h), w (7 d) and
// y (365 d), as LogQL has it.
func parseDuration(text string) (time.Duration, error) {
	if text == "0" {
		return 0, nil
	}
	if text == "" || strings.HasPrefix(text, "-") || strings.HasPrefix(text, "+") {
		return 0, errDuration
	}
	var total time.Duration
	for rest := text; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789."))
		unit := len(rest[digits:]) - len(strings.TrimLeft(rest[digits:], "nuµmshdwy"))
		number, name := rest[:digits], rest[digits:digits+unit]
		rest = rest[digits+unit:]
		var part time.Duration
		var err error
		if unit := longUnits[name]; unit > 0 {
			n, err := strconv.ParseFloat(number, 64)
			if err != nil {
				return 0, errDuration
			}
			if n*float64(unit) >= math.MaxInt64 {
				return 0, errTooLong
			}
			part = time.Duration(n * float64(unit))
		} else {
			if part, err = time.ParseDuration(number + name); err != nil {
				return 0, errDuration
			}
		}
		if total += part; total < 0 {
			return 0, errTooLong
		}
	}
	return total, nil
}

// parseSize reads a number of bytes: 1048576, 1MiB, 64 KiB, 1MB (a million).
func parseSize(text string) (int64, error) {
	n, err := humanize.ParseBytes(text)
	if err != nil || text == "" || n > math.MaxInt64 {
		return 0, errors.New("not a size: write bytes, or a number and its unit, like 65536, 64KiB or 1MiB")
	}
	return int64(n), nil
}

// parseInt reads a whole number from low to high.
func parseInt(text string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		if high == math.MaxInt {
			return 0, fmt.Errorf("must be a whole number from %d", low)
		}
		return 0, fmt.Errorf("must be a whole number from %d to %d", low, high)
	}
	return n, nil
}

// parseBool reads a switch.
func parseBool(text string) (bool, error) {
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, errors.New("must be true or false")
	}
	return on, nil
}

// parseChoice reads one of a few words.
func parseChoice(text string, choices []string) (string, error) {
	if slices.Contains(choices, text) {
		return text, nil
	}
	return "", fmt.Errorf("must be one of %s%s", strings.Join(choices, ", "), didYouMean(text, "%s", choices))
}

// parseHostPort reads the address to listen on. Port 0 lets the system choose.
func parseHostPort(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return "", errors.New("not an address: write HOST:PORT, like 127.0.0.1:3100, or :3100 for all interfaces")
	}
	if err := checkPort(port); err != nil {
		return "", err
	}
	if host != "" {
		if err := checkHost(host); err != nil {
			return "", err
		}
	}
	return net.JoinHostPort(host, port), nil
}

func checkPort(port string) error {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return fmt.Errorf("port %q: must be a number from 0 to 65535", port)
	}
	return nil
}

// checkHost accepts an IP address, with a zone too, or a name of the form that DNS has.
func checkHost(host string) error {
	address, _, _ := strings.Cut(host, "%")
	if net.ParseIP(address) != nil {
		return nil
	}
	ok := len(host) > 0 && len(host) <= 253
	for label := range strings.SplitSeq(host, ".") {
		ok = ok && label != "" && len(label) <= 63 && !strings.HasPrefix(label, "-") && !strings.HasSuffix(label, "-")
		for _, c := range []byte(label) {
			ok = ok && (isAlphanumeric(c) || c == '-' || c == '_')
		}
	}
	if !ok {
		return fmt.Errorf("host %q: must be an IP address or a host name", host)
	}
	return nil
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
