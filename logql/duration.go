package logql

import (
	"strconv"
	"time"

	"github.com/logcluster/logcluster/segment/field"
)

// ParseDuration is field.ParseDuration: the durations of queries and of the fields of
// lines are written alike.
func ParseDuration(s string) (time.Duration, error) { return field.ParseDuration(s) }

// quote writes a piece of input for an error message, shortened.
func quote(s string) string {
	if len(s) > 48 {
		s = s[:45] + "..."
	}
	return strconv.Quote(s)
}
