package http

import (
	"fmt"
	"math"
	"strings"
	"time"
	"unsafe"

	"github.com/logcluster/logcluster/segment"
)

// A reason is the kind of a refusal, as metrics count them.
type reason uint8

// The reasons. There are no others, so the metric's cardinality is bounded.
const (
	reasonLine reason = iota
	reasonOld
	reasonFuture
	reasonTime
	reasonSyntax
	reasonLabels
	reasonMetadata
	reasonStreams
	reasonCount
)

// reasonNames are the reasons as label values.
var reasonNames = [reasonCount]string{
	reasonLine:     "line_too_long",
	reasonOld:      "too_old",
	reasonFuture:   "too_far_in_future",
	reasonTime:     "bad_time",
	reasonSyntax:   "bad_syntax",
	reasonLabels:   "bad_labels",
	reasonMetadata: "bad_metadata",
	reasonStreams:  "too_many_streams",
}

// A refusal says why an entry, or all entries of a stream, are not stored.
type refusal struct {
	// where is the line of the body, from 1 (/ingest), or the stream, from 0 (Loki).
	where int
	// entry is the element of an array, from 1, 0 for none (/ingest), or the entry of the
	// stream, from 0, -1 for all of them (Loki).
	entry  int
	labels string // of the stream, shortened (Loki)
	reason string
}

// maxRefusals is how many refusals an answer lists, and one more if the body is not read
// to its end. All of them are counted.
const maxRefusals = 100

// A builder gathers one request's entries into a batch, refusing bad ones. It goes from
// request to request.
type builder struct {
	batch   segment.Batch
	lease   *lease
	limits  *IngestLimits
	streams *streamCache
	tenant  string

	now            int64 // the receiving clock's, unix nanoseconds: the time of entries without one
	oldest, newest int64 // timestamps that are accepted

	accepted, rejected int
	bytes              int64 // of accepted lines
	refusals           []refusal
	counts             [reasonCount]int

	known    map[uint64]uint32 // stream id → index in batch.Streams
	metadata map[string]uint32 // key of metadata → 1 + index in batch.Metadata
	names    map[string]string // of metadata, each allocated once
	pairs    []segment.Label   // scratch
	scratch  []byte
	fields   []jsonField // scratch of one object
	mark     streamMark
}

// streamMark is the state before a stream of Loki's push, whose labels may follow its
// entries, so that a bad stream can be taken back.
type streamMark struct {
	rows, accepted, rejected, refusals int
	bytes                              int64
	counts                             [reasonCount]int
}

// builder returns an empty builder for one request. Hand it back with release.
func (s *Server) builder(tenant string, l *lease) *builder {
	b, _ := s.memory.builders.Get().(*builder)
	if b == nil {
		b = &builder{
			limits: &s.options.Ingest, streams: s.streams,
			known: map[uint64]uint32{}, metadata: map[string]uint32{}, names: map[string]string{},
		}
	}
	b.tenant, b.lease = tenant, l
	b.now = time.Now().UnixNano()
	b.newest, b.oldest = b.now+int64(futureGrace), math.MinInt64
	if s.options.Retention > 0 {
		b.oldest = b.now - int64(s.options.Retention)
	}
	return b
}

// What of a builder is kept for the next request.
const (
	keptRows   = 1 << 16
	keptNames  = 1 << 12
	keptFields = 1 << 8
)

// release hands the builder on. No row, line or stream stays in it.
func (b *builder) release(m *memory) {
	rows, pairs, scratch, fields := b.batch.Rows, b.pairs, b.scratch, b.fields
	if cap(rows) > keptRows || cap(scratch) > keptBuffer || cap(fields) > keptFields || len(b.known) > keptNames || cap(b.batch.Metadata) > keptRows {
		return
	}
	clear(rows)
	clear(b.batch.Streams)
	clear(b.batch.Metadata)
	clear(pairs[:cap(pairs)])
	clear(fields[:cap(fields)])
	clear(b.refusals)
	clear(b.known)
	clear(b.metadata)
	clear(b.names)
	*b = builder{
		batch:  segment.Batch{Rows: rows[:0], Streams: b.batch.Streams[:0], Metadata: b.batch.Metadata[:0]},
		limits: b.limits, streams: b.streams, refusals: b.refusals[:0],
		known: b.known, metadata: b.metadata, names: b.names,
		pairs: pairs[:0], scratch: scratch[:0], fields: fields[:0],
	}
	m.builders.Put(b)
}

// add appends an entry, refused if it cannot be stored. The caller names the place of a
// refusal. An error ends the request.
func (b *builder) add(ts int64, line []byte, stream, metadata uint32, where, entry int) error {
	if len(b.batch.Rows) == cap(b.batch.Rows) {
		if err := b.growRows(); err != nil {
			return err
		}
	}
	row := segment.Row{Timestamp: ts, Line: line, Stream: stream, Metadata: metadata}
	if len(line) > b.limits.MaxLine || ts > b.newest || ts < b.oldest {
		row.Refused = true
		b.refuseRow(row, where, entry)
	} else {
		b.accepted++
		b.bytes += int64(len(line))
	}
	b.batch.Rows = append(b.batch.Rows, row)
	return nil
}

// addRefused appends an entry that the caller found bad. It counts where the batch is
// cut into parts, by its line, so that a retry is cut alike.
func (b *builder) addRefused(line []byte, stream uint32, where, entry int, kind reason, text string) error {
	if len(b.batch.Rows) == cap(b.batch.Rows) {
		if err := b.growRows(); err != nil {
			return err
		}
	}
	b.batch.Rows = append(b.batch.Rows, segment.Row{Line: line, Stream: stream, Refused: true})
	b.refuse(where, entry, kind, text)
	return nil
}

// refuseRow says what is wrong with a row.
func (b *builder) refuseRow(row segment.Row, where, entry int) {
	at := time.Unix(0, row.Timestamp).UTC().Format(time.RFC3339Nano)
	switch {
	case len(row.Line) > b.limits.MaxLine:
		b.refuse(where, entry, reasonLine, fmt.Sprintf("the line has %d bytes, the limit is %d", len(row.Line), b.limits.MaxLine))
	case row.Timestamp > b.newest:
		b.refuse(where, entry, reasonFuture, fmt.Sprintf("the timestamp %s is more than %s ahead of this node's clock", at, futureGrace))
	default:
		b.refuse(where, entry, reasonOld, fmt.Sprintf("the timestamp %s is older than the retention of %s", at, time.Duration(b.now-b.oldest)))
	}
}

// refuse counts a refusal and, if there are not too many, keeps its text.
func (b *builder) refuse(where, entry int, kind reason, text string) {
	b.rejected++
	b.counts[kind]++
	if len(b.refusals) < maxRefusals {
		b.refusals = append(b.refusals, refusal{where: where, entry: entry, reason: text})
	}
}

// refuseRest is refuse for a body that is not read to its end. It is always listed: what
// follows is not counted among the rejected.
func (b *builder) refuseRest(where, entry int, text string) {
	b.rejected++
	b.counts[reasonSyntax]++
	b.refusals = append(b.refusals, refusal{where: where, entry: entry, reason: text + "; what follows was not read"})
}

// growRows makes room for more rows, within the limits.
func (b *builder) growRows() error {
	n := cap(b.batch.Rows)
	if n >= b.limits.MaxEntries {
		return tooLarge("the request holds more than the limit of %d entries: send less at a time", b.limits.MaxEntries)
	}
	grown := min(max(2*n, 256), b.limits.MaxEntries)
	if err := b.lease.charge(int64(grown-n) * int64(unsafe.Sizeof(segment.Row{}))); err != nil {
		return err
	}
	rows := make([]segment.Row, len(b.batch.Rows), grown)
	copy(rows, b.batch.Rows)
	b.batch.Rows = rows
	return nil
}

// stream returns the index of a stream in the batch.
func (b *builder) stream(s *segment.Stream) (uint32, error) {
	if i, ok := b.known[s.ID]; ok && b.batch.Streams[i].Equal(s) {
		return i, nil
	}
	size := int64(unsafe.Sizeof(*s)) + 64
	for _, p := range s.Labels {
		size += int64(unsafe.Sizeof(p)) + int64(len(p.Name)+len(p.Value))
	}
	if err := b.lease.charge(size); err != nil {
		return 0, err
	}
	i := uint32(len(b.batch.Streams))
	b.batch.Streams = append(b.batch.Streams, s)
	b.known[s.ID] = i
	return i, nil
}

// begin notes where a stream of Loki's push begins. Its rows name the stream that end adds.
func (b *builder) begin() (stream uint32) {
	b.mark = streamMark{
		rows: len(b.batch.Rows), accepted: b.accepted, rejected: b.rejected,
		refusals: len(b.refusals), bytes: b.bytes, counts: b.counts,
	}
	return uint32(len(b.batch.Streams))
}

// end gives the rows since begin their stream, or, if there is a reason why it is none,
// takes them back.
func (b *builder) end(s *segment.Stream, where int, labels string, bad error) error {
	m := b.mark
	rows := b.batch.Rows[m.rows:]
	if bad == nil && len(rows) > 0 {
		provisional := uint32(len(b.batch.Streams))
		if _, known := b.known[s.ID]; !known && len(b.batch.Streams) >= b.limits.MaxStreams {
			bad = &labelError{reasonStreams, fmt.Sprintf("the request has more than %d streams", b.limits.MaxStreams)}
		} else {
			index, err := b.stream(s)
			if err != nil {
				return err
			}
			if index != provisional {
				for i := range rows {
					rows[i].Stream = index
				}
			}
		}
	}
	if bad != nil {
		clear(rows)
		b.batch.Rows = b.batch.Rows[:m.rows]
		b.accepted, b.rejected, b.bytes, b.counts = m.accepted, m.rejected, m.bytes, m.counts
		b.refusals = b.refusals[:m.refusals]
		kind := labelReason(bad)
		b.refuse(where, -1, kind, bad.Error())
		more := max(len(rows), 1) - 1 // All entries of the stream are refused.
		b.rejected += more
		b.counts[kind] += more
	}
	for i := m.refusals; i < len(b.refusals); i++ {
		b.refusals[i].labels = shorten(labels)
	}
	return nil
}

// meta returns the number for Row.Metadata of b.pairs, which may be views of the body:
// they are copied, unless the entries before had the same ones.
func (b *builder) meta() (uint32, error) {
	key := segment.Labels(b.pairs).AppendKey(b.scratch[:0])
	b.scratch = key
	if i, ok := b.metadata[string(key)]; ok {
		return i, nil
	}
	size := int64(len(b.pairs)) * int64(unsafe.Sizeof(segment.Label{}))
	total := 0
	for _, p := range b.pairs {
		total += len(p.Value)
	}
	if err := b.lease.charge(size + int64(total+len(key)) + 128); err != nil {
		return 0, err
	}
	// One allocation holds all values.
	values := make([]byte, 0, total)
	for _, p := range b.pairs {
		values = append(values, p.Value...)
	}
	rest := string(values)
	pairs := make([]segment.Label, len(b.pairs))
	for i, p := range b.pairs {
		pairs[i] = segment.Label{Name: b.name(p.Name), Value: rest[:len(p.Value)]}
		rest = rest[len(p.Value):]
	}
	set := segment.NewLabels(pairs)
	if len(set) == 0 {
		return 0, nil
	}
	b.batch.Metadata = append(b.batch.Metadata, set)
	index := uint32(len(b.batch.Metadata))
	if len(b.metadata) < keptNames {
		b.metadata[string(key)] = index
	}
	return index, nil
}

// name returns a copy of a metadata name, made valid, that is shared within the request.
func (b *builder) name(raw string) string {
	if name, ok := b.names[raw]; ok {
		return name
	}
	name := validName(raw)
	if len(b.names) < keptNames {
		b.names[strings.Clone(raw)] = name
	}
	return name
}

// checkMetadata reports what is wrong with b.pairs.
func (b *builder) checkMetadata() string {
	if len(b.pairs) > b.limits.MaxMetadataPairs {
		return fmt.Sprintf("%d pairs of structured metadata, the limit is %d", len(b.pairs), b.limits.MaxMetadataPairs)
	}
	size := 0
	for _, p := range b.pairs {
		size += len(p.Name) + len(p.Value)
		switch {
		case p.Name == "":
			return "structured metadata with an empty name"
		case len(p.Name) > b.limits.MaxName:
			return fmt.Sprintf("the metadata name %s has %d bytes, the limit is %d", quote(p.Name), len(p.Name), b.limits.MaxName)
		}
	}
	if size > b.limits.MaxMetadata {
		return fmt.Sprintf("%d bytes of structured metadata, the limit is %d", size, b.limits.MaxMetadata)
	}
	return ""
}

// view is a string over bytes that nobody changes while it is used.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
