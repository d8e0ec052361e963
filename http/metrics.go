package http

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the server's counters. Their labels are bounded: routes are those of the
// route table, reasons and protocols those of this package.
type metrics struct {
	requests *prometheus.CounterVec   // by route and code
	seconds  *prometheus.HistogramVec // by route
	panics   prometheus.Counter

	lines    *prometheus.CounterVec // by protocol
	bytes    *prometheus.CounterVec // by protocol
	rejected *prometheus.CounterVec // by reason
	inFlight prometheus.Gauge

	queries prometheus.Gauge
}

// newMetrics makes the metrics and registers them, unless reg is nil.
func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "logcluster_http_requests_total", Help: "Answered requests by route and status; aborted: the answer was cut off.",
		}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "logcluster_http_request_duration_seconds", Help: "Time from a request's header to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "logcluster_http_panics_total", Help: "Requests that failed by a programming error.",
		}),
		lines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "logcluster_ingest_lines_total", Help: "Lines that were acknowledged, by protocol.",
		}, []string{"protocol"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "logcluster_ingest_bytes_total", Help: "Bytes of the lines that were acknowledged, by protocol.",
		}, []string{"protocol"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "logcluster_rejected_lines_total", Help: "Lines that were refused, by reason.",
		}, []string{"reason"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "logcluster_ingest_in_flight_bytes", Help: "Memory that pushes hold that are not answered yet.",
		}),
		queries: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "logcluster_http_queries", Help: "Queries that run at the moment.",
		}),
	}
	for _, name := range reasonNames {
		m.rejected.WithLabelValues(name)
	}
	if reg == nil {
		return m, nil
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.panics, m.lines, m.bytes, m.rejected, m.inFlight, m.queries} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// answered counts an answer.
func (m *metrics) answered(route string, code int, aborted bool, took time.Duration) {
	text := "aborted"
	if !aborted {
		text = strconv.Itoa(code)
	}
	m.requests.WithLabelValues(route, text).Inc()
	m.seconds.WithLabelValues(route).Observe(took.Seconds())
}

// ingested counts what became of a batch that was stored.
func (m *metrics) ingested(protocol string, b *builder) {
	m.lines.WithLabelValues(protocol).Add(float64(b.accepted))
	m.bytes.WithLabelValues(protocol).Add(float64(b.bytes))
	for kind, n := range b.counts {
		if n > 0 {
			m.rejected.WithLabelValues(reasonNames[kind]).Add(float64(n))
		}
	}
}
