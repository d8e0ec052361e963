package http

import (
	"net/http"
	"strings"
)

// indexPage teaches the main routes. HOST stands for the address that was asked.
const indexPage = `logcluster VERSION: it takes log lines in, stores them, and finds them again.

Send

  curl --data-binary @app.log 'http://HOST/ingest?app=web&host=a'
      Plain text: one entry a line, with the time of arrival. The parameters are the labels
      of the stream; without any it is {source="ingest"}.

  curl -H 'Content-Type: application/x-ndjson' --data-binary @app.json 'http://HOST/ingest?app=web'
      One JSON object a line. The time is the first of the fields _time, time, timestamp, ts,
      @timestamp; the line is the first of _msg, message, msg, line, log; the others become
      structured metadata. Without such a field the whole object is the line.
        _time=FIELD,…    other fields to try for the time     (empty: the time of arrival)
        _msg=FIELD,…     other fields to try for the line     (empty: the whole object)
        _labels=FIELD,…  fields that become labels of the stream
        _format=text|ndjson|json    whatever the Content-Type

  The body may be compressed (Content-Encoding: gzip, zstd or deflate). The answer is JSON:
  accepted, rejected, and why. The header Idempotency-Key makes a repeat harmless.
  Loki's agents send to http://HOST/loki/api/v1/push.

Ask

  curl -G 'http://HOST/query' --data-urlencode 'query={app="web"} |= "error"' -d limit=10
      LogQL. One JSON object an entry, newest first; with -H 'Accept: text/plain' the lines alone.
        start, end    RFC 3339, unix seconds or nanoseconds     since=1h    limit=N (0: all)
        direction=forward|backward    strict=true: rather an error than a part

  curl -G 'http://HOST/query' --data-urlencode 'query=sum by (app) (count_over_time({app=~".+"}[1m]))' -d since=1h -d step=1m
      Metrics: with a step over a range, without at the end of it.

  Grafana: add a Loki data source with the URL http://HOST. Of Loki's API there are, under
  /loki/api/v1: push, query_range, query, labels, label, label/NAME/values, series and
  status/buildinfo. (Live tail, volumes and patterns are not there yet.)

Operate

  GET  /ready      may this node be sent requests?      GET      /metrics    for Prometheus
  GET  /livez      does the process answer?             GET, PUT /log_level  debug, info, warn, error, fatal
  GET  /status     shards, disk                         POST     /admin/seal seal everything that is open

The header X-Scope-OrgID names the tenant; without it the tenant is "default".
`

// index tells people what they can do here.
func (s *Server) index(w http.ResponseWriter, r *http.Request, _ *Node) error {
	host := r.Host
	for _, c := range []byte(host) {
		// What a client claims to be our name is shown only if it looks like one.
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(".-:[]_", c) >= 0) {
			host = ""
			break
		}
	}
	if host == "" || len(host) > 255 {
		host = "localhost:3100"
	}
	return writeText(w, strings.NewReplacer("HOST", host, "VERSION", orText(s.options.Build.Version, "dev")).Replace(indexPage))
}

// orText is the first of the texts, or the other if it is empty.
func orText(text, byDefault string) string {
	if text == "" {
		return byDefault
	}
	return text
}
