// Package logql is the query language: it turns text into a syntax tree, the tree into
// scans of a Source, and what the scans return into an answer. It is pure: no files, no
// network, no goroutines, and no clock beyond the deadline of a context.
//
// # The language
//
// The language is Grafana Loki's LogQL as its documentation describes it
// (https://grafana.com/docs/loki/latest/query/). What is understood:
//
//	log query      {app="web", host!="a", env=~"p.*", zone!~"x|y"}     at least one matcher must refuse ""
//	                 |= "text" or "other"   != "text"                  the line contains, does not contain
//	                 |~ "regexp" or "other" !~ "regexp"                RE2, not anchored, . matches newlines
//	                 | json            | json status, x="a.b[0]"       scalars of an object, values at paths
//	                 | logfmt          | logfmt host, ip="fwd"         (with --strict, --keep-empty) pairs
//	                 | level="error"   = != =~ !~                      label filters, by the type of the literal:
//	                 | status >= 500   | took > 1.5s   | size < 20KB   = == != > >= < <=
//	                 | a="b" or (c > 1 and d="e"), f="g" h="i"         joined, all alike from left to right
//	log range      log query [5m]   or   {…}[5m] stages                then: offset 1h, offset -1h
//	values         log query | unwrap label   unwrap duration(label)   duration_seconds, bytes; then label filters
//	range          count_over_time rate bytes_over_time bytes_rate     (log range), then: by (a), without (a)
//	               rate sum_ avg_ min_ max_ first_ last_ stdvar_       (log range with an unwrap), then the same
//	               stddev_over_time, quantile_over_time(0.99, …)
//	aggregation    sum avg min max count                               by (a, b) or without (a, b), before or after (…)
//	               topk(10, …) bottomk(10, …)                          the same; then sort, sort_desc
//	scalar         1.5, 2e9, unary - and +
//	vector         vector(scalar)
//	operators      ^  * / %  + -  == != > >= < <= (bool)  and unless  or     (^ to the right, the rest to the left)
//	comment        # to the end of the line
//
// Strings stand in double quotes with Go's escapes or, raw, in backticks. Durations are
// written as Go and Prometheus write them (1h30m, 1.5h, 7d, 2w, 1y; a day has 24 hours, a
// year 365 days). Keywords are no reserved words: a label may be called sum or by.
//
// What lines are taken apart by is package field's; what becomes of a line in a pipeline,
// faults (__error__) among it, is told at segment.Pipeline. A fault in an entry that counts
// in a metric query ends it with a *segment.PipelineError, which IsBadQuery knows, unless a
// label filter that names __error__ has let the entry pass.
//
// The rest of LogQL (| pattern, | line_format, on(…), …) is recognised, and answered by an
// *UnsupportedError that names it. It slots in as further kinds of Stage, as fields of
// LogRange, RangeAggregation and VectorAggregation.
//
// # The way of a query
//
//	text ─ Parse ─▶ Expr ─ Engine.Query ─▶ log query:     one Scan ─ Source.Entries ─▶ Result.Entries, streaming
//	                                     └▶ metric query: a Scan for each range aggregation ─ Source.Partial ─▶
//	                                        vectors over all points ─ aggregations, operators ─▶ Result
//
// What can be decided beside the bytes is part of the Scan: tenant, time, matchers, line
// filters (wherever they stand: nothing changes a line), the pipeline of parsers and label
// filters and, for sum by (…) (rate(…)) and its like, the grouping. Other nodes get
// Scan.Text and plan again (Scan.Replan): there is no second notation for plans.
//
// # Invariants
//
//	L1  Parse never panics, takes time and memory in proportion to the limits below, and its
//	    errors say where (line, column, offset), what was expected and what was found.
//	L2  Parse(e.String()) equals e for every e that Parse returns.
//	L3  The answer of a query is that of the definition, entry by entry: at point t a range
//	    aggregation counts the entries with t - offset - range < timestamp <= t - offset, and
//	    a series has no value at a point where it has no entry. Pushing work down and
//	    simplifying filters change no answer.
//	L4  No answer is silently partial: what a Source could not read is an error if
//	    Params.Strict is set and else among Result.Warnings.
//	L5  No arithmetic on times overflows: bounds that int64 nanoseconds cannot hold are an
//	    error that says so.
//
// Limits, checked before anything is allocated for what they bound: a query has at most
// MaxQueryLength bytes, nests at most MaxDepth levels, a regular expression has at most
// MaxRegexpLength bytes and all of a query's compile to at most MaxRegexpSize instructions.
// Points, series and samples are limited by Options.
//
// # Where it differs from Loki
//
// The operand of unary - may be any expression; arithmetic is IEEE 754's (x/0 is ±Inf);
// the argument of vector may be any scalar expression; sums are taken over integers, so
// that sum(rate(…)) is one division and does not depend on an order (sums of unwrapped values
// are of floating point, and may); structured metadata makes no series of its own unless the
// query has a parser or a label filter, which see it as labels; groupings stand after every
// range function; of several last values of one time, the largest counts.
package logql
