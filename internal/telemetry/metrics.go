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
	joined    *prometheus.CounterVec
	lag       *prometheus.HistogramVec
	webhooks  *prometheus.CounterVec
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
		joined: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_receipts_joined_total",
			Help: "Receipts that found their message: by msgid, inferred by user and time, or proof that an unknown one was sent.",
		}, []string{"account", "kind", "how"}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hongyan_receipt_lag_seconds", Help: "From a send to WeChat's receipt for it.",
			Buckets: []float64{1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600},
		}, []string{"kind"}),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_webhooks_total", Help: "Tries to tell producers' endpoints: told, failed, disabled.",
		}, []string{"account", "result"}),
	}
	m.registry.MustRegister(m.decisions, m.took, m.calls, m.answers, m.joined, m.lag, m.webhooks,
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

// Joined counts a receipt that found its message, how: msgid, inferred or proof.
func (m *Metrics) Joined(account, kind, how string, lag time.Duration) {
	m.joined.WithLabelValues(account, kind, how).Inc()
	m.lag.WithLabelValues(kind).Observe(lag.Seconds())
}

// Webhook counts a try to tell an endpoint.
func (m *Metrics) Webhook(account, result string) { m.webhooks.WithLabelValues(account, result).Inc() }

// A Server answers /metrics and /healthz.
type Server struct {
	server   *http.Server
	listener net.Listener // nil: serves nothing
}

// Listen takes the address; an empty one is none.
func Listen(address string, m *Metrics) (*Server, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s := &Server{server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}}
	if address == "" {
		return s, nil
	}
	var err error
	s.listener, err = (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	return s, err
}

// Run serves until the context ends. An error says that the listener broke: a worker that cannot be watched should be
// started anew.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = s.server.Close() })()
	if err := s.server.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
