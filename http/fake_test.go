package http

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// A fakeNode is a node in memory: what Append stores, its queries find.
type fakeNode struct {
	mu      sync.Mutex
	entries []segment.Entry
	batches []segment.Batch // deep copies
	keys    map[segment.Key]bool

	appendErr error
	onAppend  func(ctx context.Context) error
	damage    []error // of every scan
	endWith   error   // at the end of every iteration over entries
	onNext    func(i int)
	iterator  func(ctx context.Context) segment.Iterator // in place of the stored entries'
	notReady  error
	sealed    int
	onSeal    func(ctx context.Context) error
}

func newFakeNode() *fakeNode { return &fakeNode{keys: map[segment.Key]bool{}} }

func (n *fakeNode) Append(ctx context.Context, b *segment.Batch) (segment.Receipt, error) {
	if n.onAppend != nil {
		if err := n.onAppend(ctx); err != nil {
			return segment.Receipt{}, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.appendErr != nil {
		return segment.Receipt{}, n.appendErr
	}
	own := segment.Batch{Key: b.Key, Streams: slices.Clone(b.Streams), Metadata: slices.Clone(b.Metadata)}
	for _, row := range b.Rows {
		row.Line = slices.Clone(row.Line)
		own.Rows = append(own.Rows, row)
	}
	n.batches = append(n.batches, own)
	if b.Key != (segment.Key{}) && n.keys[b.Key] {
		return segment.Receipt{Duplicate: true}, nil
	}
	n.keys[b.Key] = true
	for _, row := range own.Rows {
		if row.Refused {
			continue
		}
		e := segment.Entry{Timestamp: row.Timestamp, Stream: own.Streams[row.Stream], Line: row.Line, Offset: uint64(len(n.entries))}
		if row.Metadata > 0 {
			e.Metadata = own.Metadata[row.Metadata-1]
		}
		n.entries = append(n.entries, e)
	}
	return segment.Receipt{}, nil
}

func (n *fakeNode) find(q *segment.Query) ([]segment.Entry, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, err := range n.damage {
		if err := q.Damaged(err); err != nil {
			return nil, err
		}
	}
	var found []segment.Entry
	for _, e := range n.entries {
		if e.Timestamp >= q.Start && e.Timestamp < q.End && q.MatchesStream(e.Stream) && q.KeepsLine(e.Line) {
			found = append(found, e)
		}
	}
	slices.SortStableFunc(found, func(a, b segment.Entry) int {
		c := cmp.Or(cmp.Compare(a.Timestamp, b.Timestamp), cmp.Compare(a.Offset, b.Offset))
		if q.Direction == segment.Backward {
			return -c
		}
		return c
	})
	if q.Limit > 0 && len(found) > q.Limit {
		found = found[:q.Limit]
	}
	return found, nil
}

func (n *fakeNode) Entries(ctx context.Context, scan *logql.Scan) (segment.Iterator, error) {
	if n.iterator != nil {
		return n.iterator(ctx), nil
	}
	found, err := n.find(&scan.Query)
	return &fakeIterator{ctx: ctx, node: n, entries: found}, err
}

func (n *fakeNode) Partial(_ context.Context, scan *logql.Scan) (*segment.Partial, error) {
	found, err := n.find(&scan.Query)
	p := segment.NewPartial(scan.Aggregation)
	for _, e := range found {
		value := uint64(1)
		if scan.Aggregation.Measure == segment.MeasureBytes {
			value = uint64(len(e.Line))
		}
		lo, hi := scan.Aggregation.Span(e.Timestamp)
		p.For(scan.Aggregation.Grouping.Apply(e.Stream.Labels)).Add(lo, hi, value, 1)
	}
	return p, err
}

func (n *fakeNode) Streams(_ context.Context, scan *logql.Scan) ([]segment.Labels, error) {
	found, err := n.find(&scan.Query)
	var sets []segment.Labels
	for _, e := range found {
		sets = append(sets, e.Stream.Labels)
	}
	return sets, err
}

func (n *fakeNode) Seal(ctx context.Context) (SealResult, error) {
	if n.onSeal != nil {
		if err := n.onSeal(ctx); err != nil {
			return SealResult{}, err
		}
	}
	n.sealed++
	return SealResult{Shards: 2, Segments: 2, Entries: 10, RawBytes: 100, FileBytes: 30}, nil
}

func (n *fakeNode) Status(context.Context) (Status, error) {
	return Status{Name: "a", Version: "1", Cluster: "c1", Ready: true, Uptime: 1.5, Disk: Disk{Free: 1, Total: 2},
		Shards: []Shard{{Shard: 3, Health: "ok", Owner: "a", Epoch: 4, Replicas: []string{"a"}}}}, nil
}

func (n *fakeNode) Ready() error { return n.notReady }

// A fakeIterator overwrites what it returned before, as the real ones may.
type fakeIterator struct {
	ctx     context.Context
	node    *fakeNode
	entries []segment.Entry
	next    int
	at      segment.Entry
	line    []byte
	err     error
	closed  bool
}

func (it *fakeIterator) Next() bool {
	if it.node.onNext != nil {
		it.node.onNext(it.next)
	}
	if it.err = it.ctx.Err(); it.err != nil {
		return false
	}
	if it.next == len(it.entries) {
		it.err = it.node.endWith
		return false
	}
	it.at = it.entries[it.next]
	for i := range it.line {
		it.line[i] = '#'
	}
	it.line = append(it.line[:0], it.at.Line...)
	it.at.Line = it.line
	it.next++
	return true
}

func (it *fakeIterator) At() *segment.Entry { return &it.at }
func (it *fakeIterator) Err() error         { return it.err }
func (it *fakeIterator) Close() error       { it.closed = true; return nil }

// A retryError is what a node says when it cannot now.
type retryError struct{ after time.Duration }

func (e retryError) Error() string             { return "shard 3 has no owner at the moment" }
func (e retryError) RetryAfter() time.Duration { return e.after }

var errBroken = errors.New("block 7 of segment x is damaged")

// A fixture is a server over a fake node, without a network.
type fixture struct {
	*Server
	t    testing.TB
	node *fakeNode
	logs *observer.ObservedLogs
}

// plugged is the node as the server gets it.
func (f *fixture) plugged() Node {
	return Node{Appender: f.node, Querier: logql.NewEngine(logql.Options{Source: f.node}), Admin: f.node}
}

func newFixture(t testing.TB, change ...func(*Options)) *fixture {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	f := &fixture{t: t, node: newFakeNode(), logs: logs}
	o := Options{Logger: zap.New(core), Node: f.plugged(), Build: Build{Version: "0.1", Revision: "abc"}}
	for _, c := range change {
		c(&o)
	}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = newServer(o.withDefaults(), m)
	return f
}

// do sends a request. Headers are given as "Name: value".
func (f *fixture) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	f.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

// want checks a status and that the body contains all texts.
func (f *fixture) want(w *httptest.ResponseRecorder, code int, texts ...string) {
	f.t.Helper()
	body := w.Body.String()
	if w.Code != code {
		f.t.Errorf("status %d, want %d; body: %.300s", w.Code, code, body)
	}
	for _, text := range texts {
		if !strings.Contains(body, text) {
			f.t.Errorf("body lacks %q: %.1000s", text, body)
		}
	}
}

// is checks a status and the whole body.
func (f *fixture) is(w *httptest.ResponseRecorder, code int, body string) {
	f.t.Helper()
	if got := w.Body.String(); w.Code != code || got != body {
		f.t.Errorf("status %d, want %d\n got %q\nwant %q", w.Code, code, got, body)
	}
}

// lines are the stored lines, in their order.
func (f *fixture) lines() []string {
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	var lines []string
	for _, e := range f.node.entries {
		lines = append(lines, string(e.Line))
	}
	return lines
}

// stored checks the stored lines.
func (f *fixture) stored(lines ...string) {
	f.t.Helper()
	if got := f.lines(); !slices.Equal(got, lines) {
		f.t.Errorf("stored %q, want %q", got, lines)
	}
}

// entry is a stored entry.
func (f *fixture) entry(i int) segment.Entry {
	f.t.Helper()
	f.node.mu.Lock()
	defer f.node.mu.Unlock()
	if i >= len(f.node.entries) {
		f.t.Fatalf("%d entries are stored, want more than %d", len(f.node.entries), i)
	}
	return f.node.entries[i]
}

// put stores an entry behind the server's back.
func (f *fixture) put(ts int64, line string, labels string, metadata ...string) {
	f.t.Helper()
	set, err := logql.ParseLabels(labels)
	if err != nil {
		f.t.Fatal(err)
	}
	e := segment.Entry{Timestamp: ts, Line: []byte(line), Stream: segment.NewStream(segment.DefaultTenant, set), Offset: uint64(len(f.node.entries))}
	for i := 0; i < len(metadata); i += 2 {
		e.Metadata = append(e.Metadata, segment.Label{Name: metadata[i], Value: metadata[i+1]})
	}
	f.node.entries = append(f.node.entries, e)
}

// A network is a fixture that listens.
func newNetwork(t testing.TB, change ...func(*Options)) (*fixture, string) {
	t.Helper()
	f := newFixture(t)
	o := Options{Listen: "127.0.0.1:0", Node: f.plugged(), Logger: f.log}
	for _, c := range change {
		c(&o)
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	f.Server = s
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f, "http://" + s.Addr().String()
}

// client is an HTTP client whose connections end with the test.
func client(t testing.TB) *http.Client {
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// fetch returns an answer and its body.
func fetch(t testing.TB, c *http.Client, r *http.Request) (*http.Response, string) {
	t.Helper()
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

func recorder() *httptest.ResponseRecorder { return httptest.NewRecorder() }

func request(method, target string) *http.Request { return httptest.NewRequest(method, target, nil) }
