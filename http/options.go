package http

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// Options are the settings of a Server. The zero value is a server on 127.0.0.1:3100.
type Options struct {
	// Listen is the address, HOST:PORT. Port 0 takes a free one, see Server.Addr.
	// Empty: 127.0.0.1:3100.
	Listen string
	// Node does the work. Empty, until SetNode: everything that needs a node is
	// answered by 503.
	Node Node
	// Build says what runs here.
	Build Build
	// Logger takes state changes and failures, never single good requests. Nil: none.
	Logger *zap.Logger
	// Level is what /log_level shows and sets. The zero value: a level of its own,
	// without effect on Logger.
	Level zap.AtomicLevel
	// Gatherer is what /metrics shows. Nil: an empty page.
	Gatherer prometheus.Gatherer
	// Registerer gets the server's own metrics. Nil: they are counted but not shown.
	Registerer prometheus.Registerer
	// Retention is the age from which on entries are refused. 0: none are.
	Retention time.Duration
	// Limits of requests.
	Ingest   IngestLimits
	Query    QueryLimits
	Timeouts Timeouts
}

// Build says what runs here, for / and buildinfo. Every field may be empty.
type Build struct {
	Version, Revision, Date string
}

// IngestLimits bound what one push may hold and what all of them together may. 0 in a
// field is its default.
type IngestLimits struct {
	MaxBody          int64 // bytes as received; 64 MiB
	MaxDecoded       int64 // bytes after decompression; 128 MiB
	MaxInFlight      int64 // bytes of memory for all requests that are not answered yet; 384 MiB
	MaxEntries       int   // in a request; 1,048,576
	MaxStreams       int   // in a request; 65,536
	MaxLine          int   // bytes; 1 MiB
	MaxLabels        int   // of a stream; 64
	MaxName          int   // bytes of a label's name; 1,024
	MaxValue         int   // bytes of a label's value; 4,096
	MaxMetadata      int   // bytes of an entry's structured metadata; 64 KiB
	MaxMetadataPairs int   // of an entry; 128
}

// QueryLimits bound what one query may ask for and what all of them together may. 0 in a
// field is its default.
type QueryLimits struct {
	MaxEntries int // that one request of Loki's API may ask for; 5,000
	MaxPoints  int // of a range query of Loki's API; 11,000
	MaxAnswer  int // bytes of an answer of Loki's API, which is built in memory; 64 MiB
	Concurrent int // queries that run at a time, the others wait; 16
}

// Timeouts bound how long things may take. 0 in a field is its default.
type Timeouts struct {
	Header time.Duration // to receive a request's header; 10 s
	// Body is for receiving a body, in addition to a second for each BodyRate bytes of
	// it: a big body may take longer, a trickle may not. 30 s and 32 KiB.
	Body     time.Duration
	BodyRate int64
	Idle     time.Duration // until a connection without requests is closed; 3 min
	Queue    time.Duration // that a request waits for memory or for its turn; 10 s
	Append   time.Duration // until entries are stored; 30 s
	Query    time.Duration // until a query is answered, or until it streams its next bytes; 2 min
	Write    time.Duration // until a client takes the bytes that it is sent; 1 min
	Drain    time.Duration // that Close waits for requests; 10 s
}

// futureGrace is how far an entry's timestamp may be ahead of the receiving clock.
const futureGrace = 10 * time.Minute

// or is the value of a setting, or its default.
func or[T int | int64 | time.Duration](setting *T, byDefault T) {
	if *setting == 0 {
		*setting = byDefault
	}
}

// withDefaults fills in the defaults.
func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:3100"
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Level == (zap.AtomicLevel{}) {
		o.Level = zap.NewAtomicLevel()
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	i := &o.Ingest
	or(&i.MaxBody, 64<<20)
	or(&i.MaxDecoded, 128<<20)
	or(&i.MaxInFlight, 384<<20)
	or(&i.MaxEntries, 1<<20)
	or(&i.MaxStreams, 1<<16)
	or(&i.MaxLine, 1<<20)
	or(&i.MaxLabels, 64)
	or(&i.MaxName, 1024)
	or(&i.MaxValue, 4096)
	or(&i.MaxMetadata, 64<<10)
	or(&i.MaxMetadataPairs, 128)
	q := &o.Query
	or(&q.MaxEntries, 5000)
	or(&q.MaxPoints, 11_000)
	or(&q.MaxAnswer, 64<<20)
	or(&q.Concurrent, 16)
	t := &o.Timeouts
	or(&t.Header, 10*time.Second)
	or(&t.Body, 30*time.Second)
	or(&t.BodyRate, 32<<10)
	or(&t.Idle, 3*time.Minute)
	or(&t.Queue, 10*time.Second)
	or(&t.Append, 30*time.Second)
	or(&t.Query, 2*time.Minute)
	or(&t.Write, time.Minute)
	or(&t.Drain, 10*time.Second)
	return o
}

// validate reports all settings that cannot be.
func (o *Options) validate() error {
	var errs []error
	check := func(name string, value int64) {
		if value < 0 {
			errs = append(errs, fmt.Errorf("%s is %d: must not be negative", name, value))
		}
	}
	i, q, t := &o.Ingest, &o.Query, &o.Timeouts
	for _, c := range []struct {
		name  string
		value int64
	}{
		{"retention", int64(o.Retention)},
		{"ingest.max body", i.MaxBody}, {"ingest.max decoded", i.MaxDecoded}, {"ingest.max in flight", i.MaxInFlight},
		{"ingest.max entries", int64(i.MaxEntries)}, {"ingest.max streams", int64(i.MaxStreams)},
		{"ingest.max line", int64(i.MaxLine)}, {"ingest.max labels", int64(i.MaxLabels)},
		{"ingest.max name", int64(i.MaxName)}, {"ingest.max value", int64(i.MaxValue)},
		{"ingest.max metadata", int64(i.MaxMetadata)}, {"ingest.max metadata pairs", int64(i.MaxMetadataPairs)},
		{"query.max entries", int64(q.MaxEntries)}, {"query.max points", int64(q.MaxPoints)},
		{"query.max answer", int64(q.MaxAnswer)}, {"query.concurrent", int64(q.Concurrent)},
		{"timeouts.header", int64(t.Header)}, {"timeouts.body", int64(t.Body)}, {"timeouts.body rate", t.BodyRate},
		{"timeouts.idle", int64(t.Idle)}, {"timeouts.queue", int64(t.Queue)}, {"timeouts.append", int64(t.Append)},
		{"timeouts.query", int64(t.Query)}, {"timeouts.write", int64(t.Write)}, {"timeouts.drain", int64(t.Drain)},
	} {
		check(c.name, c.value)
	}
	return errors.Join(errs...)
}
