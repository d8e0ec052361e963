package http

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/logcluster/logcluster/logql"
	"github.com/logcluster/logcluster/segment"
)

// The answers of Loki's query API, byte by byte
// (https://grafana.com/docs/loki/latest/reference/loki-http-api/#query-logs-within-a-range-of-time).

// categorizeLabels is the flag of a client that wants structured metadata beside each
// line and not among the stream's labels.
const categorizeLabels = "categorize-labels"

// wantsCategories reports whether the request has the flag.
func wantsCategories(h http.Header) bool {
	for _, value := range h.Values("X-Loki-Response-Encoding-Flags") {
		for flag := range strings.SplitSeq(value, ",") {
			if strings.TrimSpace(flag) == categorizeLabels {
				return true
			}
		}
	}
	return false
}

// A lokiStream gathers the entries of one label set.
type lokiStream struct {
	labels segment.Labels
	parts  []part
}

// A part is a piece of lokiStreams.values that belongs to one stream.
type part struct{ start, end int }

// lokiStreams groups entries by their labels, as they come.
type lokiStreams struct {
	categorize bool
	limit      int    // of values
	values     []byte // of all streams as they came, as JSON with a comma after each

	groups  []*lokiStream
	byKey   map[string]*lokiStream           // by the key of the labels
	streams map[*segment.Stream]*knownStream // what was seen of a stream
	key     []byte                           // scratch
}

// A knownStream finds the groups of a stream's entries without merging labels again.
type knownStream struct {
	plain *lokiStream            // of entries without labels of their own
	byOwn map[string]*lokiStream // by the key of metadata and parsed labels
}

func newLokiStreams(categorize bool, limit int, values []byte) *lokiStreams {
	return &lokiStreams{categorize: categorize, limit: limit, values: values[:0], byKey: map[string]*lokiStream{}, streams: map[*segment.Stream]*knownStream{}}
}

// add adds an entry.
func (g *lokiStreams) add(e *segment.Entry) error {
	group := g.group(e)
	start := len(g.values)
	v := append(g.values, '[', '"')
	v = strconv.AppendInt(v, e.Timestamp, 10)
	v = append(v, '"', ',')
	v = appendString(v, e.Line)
	if g.categorize {
		v = append(v, ",{"...)
		if len(e.Metadata) > 0 {
			v = appendLabels(append(v, `"structuredMetadata":`...), e.Metadata)
		}
		if len(e.Parsed) > 0 {
			if len(e.Metadata) > 0 {
				v = append(v, ',')
			}
			v = appendLabels(append(v, `"parsed":`...), e.Parsed)
		}
		v = append(v, '}')
	}
	g.values = append(v, ']', ',')
	if len(g.values) > g.limit {
		return badRequest("the answer is larger than the limit of %d bytes: ask for fewer entries by limit, for a shorter time range, or stream them from /query", g.limit)
	}
	if last := len(group.parts) - 1; last >= 0 && group.parts[last].end == start {
		group.parts[last].end = len(g.values)
	} else {
		group.parts = append(group.parts, part{start, len(g.values)})
	}
	return nil
}

// group returns the group of an entry.
func (g *lokiStreams) group(e *segment.Entry) *lokiStream {
	known := g.streams[e.Stream]
	if known == nil {
		known = &knownStream{}
		g.streams[e.Stream] = known
	}
	if g.categorize || len(e.Metadata)+len(e.Parsed) == 0 {
		if known.plain == nil {
			known.plain = g.labelled(e.Stream.Labels)
		}
		return known.plain
	}
	// No label's name begins with the byte that parts the two.
	g.key = e.Parsed.AppendKey(append(e.Metadata.AppendKey(g.key[:0]), 0))
	if group := known.byOwn[string(g.key)]; group != nil {
		return group
	}
	if known.byOwn == nil {
		known.byOwn = map[string]*lokiStream{}
	}
	key := string(g.key)
	group := g.labelled(mergeLabels(e.Stream.Labels, e.Metadata, e.Parsed))
	known.byOwn[key] = group
	return group
}

// labelled returns the group of a label set.
func (g *lokiStreams) labelled(set segment.Labels) *lokiStream {
	g.key = set.AppendKey(g.key[:0])
	group := g.byKey[string(g.key)]
	if group == nil {
		group = &lokiStream{labels: set}
		g.groups = append(g.groups, group)
		g.byKey[string(g.key)] = group
	}
	return group
}

// mergeLabels adds structured metadata, and what a query's parsers found, to a stream's
// labels. Metadata that has the name of one of them gets _extracted behind it; the parsed
// labels' names are chosen already.
func mergeLabels(set, metadata, parsed segment.Labels) segment.Labels {
	pairs := slices.Concat(set, parsed)
	for _, p := range metadata {
		name := strings.Clone(p.Name) // The entry's are valid until the next one.
		if set.Get(name) != "" {
			name += "_extracted"
		}
		pairs = append(pairs, segment.Label{Name: name, Value: strings.Clone(p.Value)})
	}
	return segment.NewLabels(pairs)
}

// appendTo appends the result array. Groups stand in the order of their labels.
func (g *lokiStreams) appendTo(dst []byte) []byte {
	slices.SortFunc(g.groups, func(a, b *lokiStream) int { return compareLabels(a.labels, b.labels) })
	dst = append(dst, '[')
	for i, group := range g.groups {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendLabels(append(dst, `{"stream":`...), group.labels)
		dst = append(dst, `,"values":[`...)
		for _, p := range group.parts {
			dst = append(dst, g.values[p.start:p.end]...)
		}
		dst[len(dst)-1] = ']' // In place of the last comma: no group is empty.
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// compareLabels orders label sets by their first difference.
func compareLabels(a, b segment.Labels) int {
	return slices.CompareFunc(a, b, func(x, y segment.Label) int {
		if c := strings.Compare(x.Name, y.Name); c != 0 {
			return c
		}
		return strings.Compare(x.Value, y.Value)
	})
}

// lokiResult appends the whole answer to a query to body. values is memory for entries.
func lokiResult(body []byte, r *logql.Result, categorize bool, limit int, values *buffer) ([]byte, error) {
	flags := categorize && r.Type == logql.TypeStreams
	switch r.Type {
	case logql.TypeStreams:
		g := newLokiStreams(categorize, limit, values.b)
		for r.Entries.Next() {
			if err := g.add(r.Entries.At()); err != nil {
				return body, err
			}
		}
		values.b = g.values
		if err := r.Entries.Err(); err != nil {
			return body, err
		}
		body = slices.Grow(body, len(g.values)+256*len(g.groups)+1024)
		body = g.appendTo(lokiHead(body, r, flags))
	case logql.TypeVector:
		body = append(lokiHead(body, r, flags), '[')
		for i, sample := range r.Vector {
			if i > 0 {
				body = append(body, ',')
			}
			body = appendLabels(append(body, `{"metric":`...), sample.Labels)
			body = appendPoint(append(body, `,"value":`...), sample.Timestamp, sample.Value)
			body = append(body, '}')
		}
		body = append(body, ']')
	case logql.TypeMatrix:
		body = append(lokiHead(body, r, flags), '[')
		for i, series := range r.Matrix {
			if i > 0 {
				body = append(body, ',')
			}
			body = appendLabels(append(body, `{"metric":`...), series.Labels)
			body = append(body, `,"values":[`...)
			for j, p := range series.Points {
				if j > 0 {
					body = append(body, ',')
				}
				body = appendPoint(body, p.Timestamp, p.Value)
			}
			body = append(body, ']', '}')
		}
		body = append(body, ']')
	case logql.TypeScalar:
		body = appendPoint(lokiHead(body, r, flags), r.Scalar.Timestamp, r.Scalar.Value)
	}
	return append(body, `,"stats":{}}}`+"\n"...), nil
}

// lokiHead appends what stands before the result. The entries must have been read: only
// then are the warnings known.
func lokiHead(dst []byte, r *logql.Result, flags bool) []byte {
	dst = append(dst, `{"status":"success",`...)
	dst = append(appendWarnings(dst, r.Warnings()), `"data":{"resultType":"`...)
	dst = append(append(dst, r.Type...), `",`...)
	if flags {
		dst = append(dst, `"encodingFlags":["`+categorizeLabels+`"],`...)
	}
	return append(dst, `"result":`...)
}

// appendWarnings appends the member warnings, if there are any, and a comma.
func appendWarnings(dst []byte, warnings []string) []byte {
	if len(warnings) == 0 {
		return dst
	}
	return append(appendStrings(append(dst, `"warnings":`...), warnings), ',')
}
