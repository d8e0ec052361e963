package client

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// A Number is a value of a metric query. What JSON has no number for is a string there:
// "NaN", "+Inf" and "-Inf".
type Number float64

// UnmarshalJSON reads a number or a string that holds one.
func (n *Number) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		var s string
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		text = []byte(s)
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return fmt.Errorf("value %q is not a number", text)
	}
	*n = Number(f)
	return nil
}

// A Point is one value of a series.
type Point struct {
	Time  time.Time
	Value Number
}

// UnmarshalJSON reads [time, value], the time as in RFC 3339.
func (p *Point) UnmarshalJSON(text []byte) error {
	var pair []json.RawMessage
	if err := json.Unmarshal(text, &pair); err != nil {
		return err
	}
	if len(pair) != 2 {
		return fmt.Errorf("point of %d values: must be time and value", len(pair))
	}
	if err := json.Unmarshal(pair[0], &p.Time); err != nil {
		return err
	}
	return p.Value.UnmarshalJSON(pair[1])
}
