package telemetry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is what a worker counts. Its methods may be called concurrently.
type Metrics struct {
	registry  *prometheus.Registry
	decisions *prometheus.CounterVec
	took      *prometheus.HistogramVec
	calls     *prometheus.HistogramVec
	answers   *prometheus.CounterVec
}

// NewMetrics makes the metrics of a process, with Go's own.
func NewMetrics() *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_decisions_total",
			Help: "Decisions about messages: outcomes, and parkings.",
		}, []string{"account", "kind", "status", "reason"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hongyan_decision_seconds", Help: "From the arrival of a message in the worker to its written decision.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"kind", "lane"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hongyan_wechat_call_seconds", Help: "Calls that send a message, by what is known of them afterwards.",
			Buckets: []float64{.025, .05, .1, .2, .3, .5, 1, 2, 5, 10},
		}, []string{"api", "class"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_wechat_errcodes_total", Help: "Errcodes other than 0 that WeChat answered with.",
		}, []string{"api", "errcode"}),
	}
	m.registry.MustRegister(m.decisions, m.took, m.calls, m.answers,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Decided counts what was decided about a message.
func (m *Metrics) Decided(account, kind, lane, status, reason string, took time.Duration) {
	m.decisions.WithLabelValues(account, kind, status, reason).Inc()
	m.took.WithLabelValues(kind, lane).Observe(took.Seconds())
}

// Called counts a call to WeChat; errcode 0 is none.
func (m *Metrics) Called(api, class string, errcode int, took time.Duration) {
	m.calls.WithLabelValues(api, class).Observe(took.Seconds())
	if errcode != 0 {
		m.answers.WithLabelValues(api, strconv.Itoa(errcode)).Inc()
	}
}

// Serve answers /metrics and /healthz at the address until the returned server is closed. An empty address serves
// nothing.
func Serve(address string, m *Metrics) (*http.Server, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	if address == "" {
		return server, nil
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, err
	}
	go func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			panic(err) // the listener broke: a worker that cannot be watched should be started anew
		}
	}()
	return server, nil
}
