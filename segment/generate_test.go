package segment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// A generator makes random batches of one character, drawn once: few streams or many,
// times in order or wild, short lines or long, with metadata or without.
type generator struct {
	rng     *rand.Rand
	streams []*Stream
	now     int64
	times   int // how timestamps are drawn
	lines   int // how lines are drawn
	meta    int // one row in meta has metadata; 0: none
}

func newGenerator(rng *rand.Rand) *generator {
	g := &generator{rng: rng, now: 1_700_000_000_000_000_000, times: rng.IntN(6), lines: rng.IntN(5), meta: rng.IntN(4)}
	for range 1 + rng.IntN([]int{1, 4, 60}[rng.IntN(3)]) {
		g.streams = append(g.streams, NewStream("t", g.labels(5)))
	}
	// The same stream under another pointer, and one of another tenant.
	s := g.streams[0]
	g.streams = append(g.streams, NewStream(s.Tenant, append(Labels(nil), s.Labels...)), NewStream("other", s.Labels))
	return g
}

var labelValues = []string{"web", "db", "a", "b", "", "eu-1", "\x00", "ünï", "a\nb", strings.Repeat("x", 300)}

func (g *generator) labels(most int) Labels {
	var pairs []Label
	for range g.rng.IntN(most) {
		value := labelValues[g.rng.IntN(len(labelValues))]
		if g.rng.IntN(2) == 0 {
			value = fmt.Sprint(g.rng.IntN(1000))
		}
		pairs = append(pairs, Label{[]string{"app", "host", "level", "env", "job", "_x"}[g.rng.IntN(6)], value})
	}
	return NewLabels(pairs)
}

func (g *generator) time() int64 {
	r := g.rng
	switch g.times {
	case 0: // in order, like most logs
		g.now += r.Int64N(1e6)
	case 1: // equal, now and then a step
		if r.IntN(50) == 0 {
			g.now++
		}
	case 2: // descending
		g.now -= r.Int64N(1e9)
	case 3: // around a point
		return g.now + r.Int64N(1e12) - 5e11
	case 4: // anything
		return int64(r.Uint64())
	default: // the ends of the range and around 0
		edge := []int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64 - 1, math.MaxInt64 - 2, 0, -1, 1, math.MinInt64 / 2, math.MaxInt64 / 2}
		return edge[r.IntN(len(edge))]
	}
	return g.now
}

var words = strings.Fields("error warn info request user timeout connection refused GET POST /api/v1/items 200 404 500 took ms id= node trace panic retry")

func (g *generator) line() []byte {
	r := g.rng
	text := func() []byte {
		var b []byte
		for range r.IntN(12) {
			b = append(b, words[r.IntN(len(words))]...)
			b = append(b, ' ')
		}
		return b
	}
	switch g.lines {
	case 0:
		return text()
	case 1: // bytes that mean something elsewhere
		odd := []string{"\n", "\r\n", "\x00", "\xff\xfe", "\xc3\x28", "", "LCFR", "error", " ", "\x1b[31m", "{}"}
		var b []byte
		for range r.IntN(6) {
			b = append(b, odd[r.IntN(len(odd))]...)
		}
		return b
	case 2:
		return nil
	case 3: // noise
		b := make([]byte, r.IntN(200))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	default: // short ones, rarely a very long one
		if r.IntN(400) == 0 {
			return []byte(strings.Repeat("0123456789abcdef error ", r.IntN(50_000)))
		}
		return []byte(words[r.IntN(len(words))])
	}
}

// batch makes a batch of up to n rows.
func (g *generator) batch(n int) *Batch {
	b := &Batch{Streams: g.streams}
	for range g.rng.IntN(4) {
		b.Metadata = append(b.Metadata, g.labels(4))
	}
	stream := uint32(0)
	for range 1 + g.rng.IntN(n) {
		if g.rng.IntN(3) == 0 {
			stream = uint32(g.rng.IntN(len(g.streams)))
		}
		r := Row{Timestamp: g.time(), Line: g.line(), Stream: stream, Refused: g.rng.IntN(50) == 0}
		if g.meta > 0 && len(b.Metadata) > 0 && g.rng.IntN(g.meta) == 0 {
			r.Metadata = 1 + uint32(g.rng.IntN(len(b.Metadata)))
		}
		b.Rows = append(b.Rows, r)
	}
	return b
}

// log makes a log of some batches, with gaps and control records.
func (g *generator) log(l *testLog, batches, rows int) {
	for range batches {
		l.append(g.batch(rows))
		switch g.rng.IntN(6) {
		case 0:
			l.control()
		case 1:
			l.gap(uint64(g.rng.IntN(5)))
		}
	}
	if len(l.entries) == 0 {
		l.append(&Batch{Streams: g.streams[:1], Rows: []Row{{Timestamp: 1, Line: []byte("the only one")}}})
	}
}
