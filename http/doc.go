// Package http is the outside of a node: it turns requests into batches and questions, and
// what comes back into the bytes that each protocol's clients expect. Inside the package
// http is net/http; whoever imports it calls it httpd.
//
// # The way of a request
//
//	push   readBody ─ decompress ─ textLines | objects | decodePush | decodePushJSON ─▶ builder ─ Appender.Append ─▶ answer
//	query  form ─ params ─ Querier.Query ─▶ lokiResult (in memory) | streamWriter (streaming)
//
// A Server listens before there is a node behind it: until SetNode, what needs one is
// answered by 503. /livez, /metrics, /log_level and / need none; /ready says what is
// waited for.
//
// # Invariants
//
//	W1  A bad line takes no good line with it: it is refused with its place and the reason, and
//	    the others are stored. The answer is then 400 all the same. Where the form of the body
//	    is broken (protobuf, JSON of a push), so that nobody knows what the lines are, nothing
//	    is stored and the answer says so.
//	W2  Lines are stored byte for byte: they are views of the body from its arrival to the end of
//	    Append. Nothing is cut, trimmed or made valid.
//	W3  Overload, changes of owner and shutdown are answered by 503 with Retry-After, never by a
//	    4xx: agents drop what is answered so.
//	W4  No length from outside is allocated before it is checked, and what all requests hold is
//	    charged to one budget (IngestLimits.MaxInFlight) before it is allocated.
//	W5  The same request makes the same batch with the same key: refused lines count where a batch
//	    is cut into parts, so that whether they are refused, by the clock, does not matter.
//	Q1  No answer is silently partial. What could not be read is named in warnings; an error after
//	    the first byte breaks the connection, so that half an answer never looks like a whole one.
//	Q2  A streaming answer takes constant memory, and ends when the client hangs up.
//
// # POST /ingest
//
// The parameters of the URL are the labels of the stream, each once; the names that begin
// with _ are the parameters below. Without any label the stream is {source="ingest"}.
//
// The body is plain text, one entry a line: lines end at \n alone, \r stays, empty lines are
// entries, and after a final \n there is nothing more. All entries have the time of the
// request's arrival. Or it is JSON by its Content-Type: NDJSON (application/x-ndjson,
// application/jsonl, application/stream+json and the like), one object a line, blank lines
// are skipped; or application/json: an array of objects, or objects one after the other, on
// as many lines as they like. Of an object,
//
//	time      is the first field, that is not null, of _time, time, timestamp, ts, @timestamp: RFC 3339
//	          with any fraction, or a unix time as a number or string, in s, ms, µs or ns by its
//	          magnitude (seconds below 10¹¹, and so on by steps of 1000). Without one: the time of
//	          arrival.
//	line      is the first field of _msg, message, msg, line, log: a string's value, the JSON text of
//	          anything else. Without one: the whole object as it was sent.
//	labels    are those of the URL, and the fields that _labels names, which go before.
//	metadata  are the other fields, if the line is one of them: strings as they are, numbers, booleans
//	          and nested values as JSON without white space, null not at all. In their names all but
//	          letters, digits and _ becomes _.
//
// Of equal names the last counts. Only the outermost object's fields are looked at.
//
//	_time=A,B     the fields tried for the time; empty: none
//	_msg=A,B      the fields tried for the line; empty: none, the whole object is the line
//	_labels=A,B   the fields that become labels
//	_format=F     text, ndjson or json, whatever the Content-Type says
//
// The answer is always a JSON object: {"accepted":2,"rejected":1,"duplicate":false,"errors":[{"line":3,"reason":"…"}]},
// with at most 100 errors and errors_omitted for the rest; lines count from 1. If a body of
// application/json cannot be read to its end, the last error says so. 200: all is stored.
// 400 with rejected: the others are stored. Any other answer has error, and nothing, or nobody
// knows what, is stored: with the header Idempotency-Key the same request may then be sent again.
//
// # Loki's API
//
// As its documentation says (https://grafana.com/docs/loki/latest/reference/loki-http-api/),
// except: timestamps of any order are accepted; a body of push that is the same as an earlier
// one is stored once; times beyond int64's nanoseconds are the first or last there is;
// query_range has no interval; strict=true turns warnings into an error; answers are not
// compressed; structured metadata is part of no series. Lines that are not valid UTF-8 come
// with U+FFFD in place of the invalid bytes, because JSON has no bytes: /query returns them exactly.
//
// # GET, POST /query
//
// The parameters are query (or q, or the body of a POST), start, end, since, limit, direction,
// time, step and strict. Times and steps are written as for Loki; limit=0, the default, is no
// limit. A log query is from 1970 to ten minutes ahead unless it says otherwise. A metric query
// with a step is over a range (the last hour by default), without one it is of the instant time
// or end. The answer is NDJSON, sent as it is found:
//
//	{"time":"2026-01-02T15:04:05.123456789Z","labels":{…},"line":"…","metadata":{…}}   an entry
//	   parsed, an object beside metadata, has the labels that the query's parsers found
//	   line_base64 in place of line, if the line is not valid UTF-8
//	{"labels":{…},"time":"…","value":1.5}                                               a sample
//	{"labels":{…},"values":[["2026-01-02T15:04:00Z",1.5],…]}                            a series
//	   values without a number are the strings "NaN", "+Inf" and "-Inf"
//	{"warnings":["…"]}                                                                  at the end
//	{"error":"…"}                                                                       then the connection breaks
//
// With Accept: text/plain it is the lines alone, each with \n behind it, or `{labels} value`;
// warnings are then in the trailer Logcluster-Warnings.
//
// # Limits against hostile clients
//
// Headers, bodies, answers and queues have time limits (Timeouts); bodies must come at a
// minimum rate. Compressed and decompressed sizes, zstd's window, entries, streams, labels and
// metadata are bounded (IngestLimits), JSON to 100 levels and 4,096 fields. Requests that web
// pages of other origins send with the browser's means are refused. A panic ends its request
// only, and is logged.
package http
