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
//	log range      log query [5m]   or   {…}[5m] line filters          then: offset 1h, offset -1h
//	range          count_over_time rate bytes_over_time bytes_rate     (log range), then: by (a), without (a)
//	aggregation    sum avg min max count                               by (a, b) or without (a, b), before or after (…)
//	scalar         1.5, 2e9, unary - and +
//	vector         vector(scalar)
//	operators      ^  * / %  + -  == != > >= < <= (bool)  and unless  or     (^ to the right, the rest to the left)
//	comment        # to the end of the line
//
// Strings stand in double quotes with Go's escapes or, raw, in backticks. Durations are
// written as Go and Prometheus write them (1h30m, 1.5h, 7d, 2w, 1y; a day has 24 hours, a
// year 365 days). Keywords are no reserved words: a label may be called sum or by.
//
// The rest of LogQL (parsers such as | json, label filters, unwrap, topk, on(…), …) is
// recognised, and answered by an *UnsupportedError that names it. It slots in as further
// kinds of Stage, as fields of LogRange, RangeAggregation and VectorAggregation.
//
// # The way of a query
//
//	text ─ Parse ─▶ Expr ─ Engine.Query ─▶ log query:     one Scan ─ Source.Entries ─▶ Result.Entries, streaming
//	                                     └▶ metric query: a Scan for each range aggregation ─ Source.Partial ─▶
//	                                        vectors over all points ─ aggregations, operators ─▶ Result
//
// What can be decided beside the bytes is part of the Scan: tenant, time, matchers, line
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
// that sum(rate(…)) is one division and does not depend on an order; structured metadata
// makes no series of its own.
package logql
