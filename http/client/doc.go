// Package client speaks logcluster's own HTTP protocol: it sends lines to /ingest, asks
// /query and reads /status. It needs nothing but the standard library.
//
// Promises:
//
//   - K1 A batch is sent with one Idempotency-Key and unchanged bytes however often it is
//     retried, so that what was stored at the first attempt is not stored again.
//   - K2 Nothing is retried that the server has judged: only a lost connection, an answer
//     that was cut off, 429 and 5xx. A wait never is shorter than the server's Retry-After,
//     as far as that is within Retry.Max.
//   - K3 The end of an answer is the end of all of it: an answer that was cut off, or that
//     the server ended with an error, yields that error and never a plain io.EOF.
//   - K4 Memory is bounded whatever the server sends.
//
// A Client is safe for concurrent use. It starts no goroutines of its own; those of
// net/http's idle connections end with Close.
package client
