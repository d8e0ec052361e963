package http

import (
	"errors"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
)

// maxForm bounds the body of a query. It holds the longest query, percent-encoded.
const maxForm = 1 << 20

// form returns the parameters of a query: of the URL, and of a form in the body, which
// goes before. A body that is no form is returned as it is.
func form(w http.ResponseWriter, r *http.Request) (values url.Values, body string, err error) {
	values, err = url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, "", badRequest("cannot read the parameters of the URL: %v", err)
	}
	if r.Method != http.MethodPost {
		return values, "", nil
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxForm))
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &size):
		return nil, "", err
	case err != nil:
		return nil, "", badRequest("cannot read the body: %v", err)
	}
	return mergeForm(values, r.Header, string(text))
}

// mergeForm adds the fields of a body that is a form.
func mergeForm(values url.Values, h http.Header, body string) (url.Values, string, error) {
	if t, _, _ := mime.ParseMediaType(h.Get("Content-Type")); t != "application/x-www-form-urlencoded" {
		return values, body, nil
	}
	fields, err := url.ParseQuery(body)
	if err != nil {
		return values, body, nil //nolint:nilerror // A query as it is, sent by curl -d, need not be a form.
	}
	merged := url.Values{}
	for _, from := range []url.Values{fields, values} {
		for name, v := range from {
			merged[name] = append(merged[name], v...)
		}
	}
	return merged, body, nil
}

// A timeError says how a time must be written.
func timeError(name, value string) error {
	return badRequest("%s=%s is no time: it may be RFC 3339 (2026-01-02T15:04:05Z), unix seconds (1767366245 or 1767366245.5) or unix nanoseconds", name, quote(value))
}

// lokiTime reads a time as Loki does: with a point or at most ten digits it is in seconds,
// else a whole number is in nanoseconds; all else is RFC 3339. What is beyond int64's
// nanoseconds is their first or last.
func lokiTime(name, value string) (int64, error) {
	if d, ok := parseDecimal(value); ok {
		unit := uint64(1_000_000_000)
		digits := len(strings.TrimLeft(value, "+-"))
		if digits > 10 && !strings.Contains(value, ".") {
			unit = 1
		}
		if ns, ok := d.nanoseconds(unit); ok {
			return ns, nil
		}
		return clampTime(!d.negative), nil
	}
	if f, err := strconv.ParseFloat(value, 64); err == nil && strings.Contains(value, ".") && !math.IsNaN(f) {
		// With an exponent: 1.7e9.
		if math.Abs(f) >= math.MaxInt64/1e9 {
			return clampTime(f > 0), nil
		}
		return int64(math.Round(f * 1e9)), nil
	}
	t, ok := parseRFC3339(value)
	if !ok {
		return 0, timeError(name, value)
	}
	if ns, ok := unixNano(t); ok {
		return ns, nil
	}
	return clampTime(t.Year() > 1970), nil
}

func clampTime(future bool) int64 {
	if future {
		return math.MaxInt64
	}
	return math.MinInt64
}

// timeParam reads a time, or returns the default if there is none.
func timeParam(values url.Values, name string, byDefault int64) (int64, error) {
	if value := values.Get(name); value != "" {
		return lokiTime(name, value)
	}
	return byDefault, nil
}

// sinceParam reads the length of a time range that has no start.
func sinceParam(values url.Values, byDefault time.Duration) (time.Duration, error) {
	value := values.Get("since")
	if value == "" {
		return byDefault, nil
	}
	d, err := logql.ParseDuration(value)
	if err != nil {
		return 0, badRequest("since=%s: %v", quote(value), err)
	}
	if d <= 0 {
		return 0, badRequest("since=%s: must be positive", quote(value))
	}
	return d, nil
}

// before is ts - d, or the first time there is.
func before(ts int64, d time.Duration) int64 {
	if ts < math.MinInt64+int64(d) {
		return math.MinInt64
	}
	return ts - int64(d)
}

// lokiRange reads start, end and since as Loki does.
func lokiRange(values url.Values, now int64) (start, end int64, err error) {
	if end, err = timeParam(values, "end", now); err != nil {
		return 0, 0, err
	}
	since, err := sinceParam(values, time.Hour)
	if err != nil {
		return 0, 0, err
	}
	start, err = timeParam(values, "start", before(min(end, now), since))
	return start, end, err
}

// stepParam reads a step: seconds, or a duration. 0 if there is none.
func stepParam(values url.Values) (time.Duration, error) {
	value := values.Get("step")
	if value == "" {
		return 0, nil
	}
	var step int64
	if d, ok := parseDecimal(value); ok {
		if step, ok = d.nanoseconds(1_000_000_000); !ok {
			return 0, badRequest("step=%s: too long", quote(value))
		}
	} else {
		d, err := logql.ParseDuration(value)
		if err != nil {
			return 0, badRequest("step=%s: %v", quote(value), err)
		}
		step = int64(d)
	}
	if step <= 0 {
		return 0, badRequest("step=%s: zero or negative query resolution step widths are not accepted. Try a positive integer", quote(value))
	}
	return time.Duration(step), nil
}

// directionParam reads the order of entries.
func directionParam(values url.Values) (segment.Direction, error) {
	switch value := values.Get("direction"); strings.ToLower(value) {
	case "", "backward":
		return segment.Backward, nil
	case "forward":
		return segment.Forward, nil
	default:
		return 0, badRequest("direction=%s: it may be forward or backward", quote(value))
	}
}

// limitParam reads how many entries are wanted.
func limitParam(values url.Values, byDefault, lowest, highest int) (int, error) {
	value := values.Get("limit")
	if value == "" {
		return min(byDefault, highest), nil
	}
	n, err := strconv.Atoi(value)
	switch {
	case errors.Is(err, strconv.ErrRange) && !strings.HasPrefix(value, "-"):
		n = math.MaxInt
	case err != nil:
		return 0, badRequest("limit=%s is no number", quote(value))
	}
	if n < lowest {
		return 0, badRequest("limit=%s: limit must be a positive value%s", quote(value), map[bool]string{true: ", or 0 for all entries"}[lowest == 0])
	}
	if n > highest {
		return 0, badRequest("limit=%s: max entries limit per query exceeded, limit > max_entries_limit_per_query (%s > %d)", quote(value), shorten(value), highest)
	}
	return n, nil
}

// boolParam reads a switch.
func boolParam(values url.Values, name string) (bool, error) {
	switch value := values.Get(name); value {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	default:
		return false, badRequest("%s=%s: it may be true or false", name, quote(value))
	}
}

// formatTime writes a time for people and programs.
func formatTime(dst []byte, ns int64) []byte {
	return time.Unix(0, ns).UTC().AppendFormat(dst, time.RFC3339Nano)
}
