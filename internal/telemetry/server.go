package telemetry

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// ServerMetrics is what a server counts. Its methods may be called concurrently.
type ServerMetrics struct {
	Stores Stores // readiness, and as a metric

	registry *prometheus.Registry
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	pushes   *prometheus.CounterVec
	receipts *prometheus.CounterVec
	forwards *prometheus.CounterVec
	api      *prometheus.CounterVec
	apiTook  *prometheus.HistogramVec
}

// NewServerMetrics makes the metrics of a server of a version, with Go's own.
func NewServerMetrics(version string) *ServerMetrics {
	m := &ServerMetrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_callback_requests_total",
			Help: "Requests to the callback, by what became of them.",
		}, []string{"account", "result"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hongyan_callback_seconds", Help: "From a request's arrival to its answer; WeChat waits 5 s.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"account"}),
		pushes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_pushes_total",
			Help: "Recorded pushes by what they tell: the trigger of a window, a presence, a choice, a receipt, unknown, or other.",
		}, []string{"account", "tells"}),
		receipts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_receipts_total", Help: "Receipts that came, by kind of message and result.",
		}, []string{"account", "kind", "result"}),
		forwards: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_forwards_total", Help: "Requests passed on to the account's own server, by what became of them.",
		}, []string{"account", "result"}),
		api: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_api_requests_total", Help: "Requests to the HTTP API, by operation and status.",
		}, []string{"operation", "status"}),
		apiTook: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hongyan_api_seconds", Help: "From a request's arrival to its answer; JSON Lines as long as they stream.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, []string{"operation"}),
	}
	m.registry.MustRegister(&m.Stores, build("server", version), m.requests, m.took, m.pushes, m.receipts, m.forwards, m.api, m.apiTook,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Handler answers /metrics.
func (m *ServerMetrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Answered counts a request to the callback.
func (m *ServerMetrics) Answered(account, result string, took time.Duration) {
	m.requests.WithLabelValues(account, result).Inc()
	m.took.WithLabelValues(account).Observe(took.Seconds())
}

// Pushed counts a push by what it tells.
func (m *ServerMetrics) Pushed(account, tells string) { m.pushes.WithLabelValues(account, tells).Inc() }

// Receipt counts a receipt.
func (m *ServerMetrics) Receipt(account, kind string, delivered bool) {
	result := "undelivered"
	if delivered {
		result = "delivered"
	}
	m.receipts.WithLabelValues(account, kind, result).Inc()
}

// Forwarded counts a request that was passed on.
func (m *ServerMetrics) Forwarded(account, result string) {
	m.forwards.WithLabelValues(account, result).Inc()
}

// Requested counts a request to the HTTP API.
func (m *ServerMetrics) Requested(operation string, status int, took time.Duration) {
	m.api.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	m.apiTook.WithLabelValues(operation).Observe(took.Seconds())
}
