package cli

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestU2CutterAgainstOracle cuts random inputs that arrive in random pieces, with random
// limits, and compares with what a plain split of the whole gives.
func TestU2CutterAgainstOracle(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 1))
		input := make([]byte, rng.IntN(400))
		for i := range input {
			input[i] = "ab\n\r"[rng.IntN(4)]
		}
		c := &cutter{maxLines: 1 + rng.IntN(5), maxBytes: 1 + rng.IntN(20), maxLine: 1 + rng.IntN(8)}
		lines := bytes.SplitAfter(input, []byte{'\n'})
		if len(lines[len(lines)-1]) == 0 {
			lines = lines[:len(lines)-1]
		}
		var wantBytes []byte
		var wantNumbers, wantLong, numbers, long []int
		for i, line := range lines {
			if len(bytes.TrimSuffix(line, []byte{'\n'})) > c.maxLine {
				wantLong = append(wantLong, i+1)
				continue
			}
			wantBytes = append(wantBytes, line...)
			wantNumbers = append(wantNumbers, i+1)
		}
		var got []byte
		c.tooLong = func(line int) { long = append(long, line) }
		c.send = func(b chunk) error {
			in := bytes.Count(b.body, []byte{'\n'})
			if !bytes.HasSuffix(b.body, []byte{'\n'}) {
				in++
			}
			if in != b.lines || b.lines < 1 || b.lines > c.maxLines || b.lines > 1 && len(b.body) > c.maxBytes {
				t.Errorf("seed %d: chunk of %d lines, %q, within %d lines and %d bytes", seed, b.lines, b.body, c.maxLines, c.maxBytes)
			}
			for i := range b.lines {
				numbers = append(numbers, b.first+i)
			}
			got = append(got, b.body...)
			return nil
		}
		for rest := input; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			if err := c.add(rest[:n]); err != nil {
				t.Fatal(err)
			}
			if c.waiting() && rng.IntN(4) == 0 {
				if err := c.flush(); err != nil {
					t.Fatal(err)
				}
			}
			if len(c.buffer) > c.maxBytes+c.maxLine+2 {
				t.Errorf("seed %d: %d bytes kept", seed, len(c.buffer))
			}
			rest = rest[n:]
		}
		if err := c.finish(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, wantBytes) || !slices.Equal(numbers, wantNumbers) || !slices.Equal(long, wantLong) {
			t.Fatalf("seed %d: %q\nsent %q, lines %d, too long %d\nwant %q, lines %d, too long %d", seed, input, got, numbers, long, wantBytes, wantNumbers, wantLong)
		}
	}
}
