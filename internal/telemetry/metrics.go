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
	Stores Stores // readiness, and as a metric

	registry  *prometheus.Registry
	fleet     fleet
	tokens    tokens
	claims    *prometheus.CounterVec
	shut      *prometheus.CounterVec
	resolved  *prometheus.CounterVec
	requeued  prometheus.Counter
	decisions *prometheus.CounterVec
	took      *prometheus.HistogramVec
	calls     *prometheus.HistogramVec
	answers   *prometheus.CounterVec
	joined    *prometheus.CounterVec
	lag       *prometheus.HistogramVec
	webhooks  *prometheus.CounterVec
}

// NewMetrics makes the metrics of a worker of a version, with Go's own.
func NewMetrics(version string) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		claims: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_claims_total",
			Help: "Claims that were asked for right before a call: granted, or refused because the message was decided or is somebody else's.",
		}, []string{"account", "kind", "result"}),
		shut: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_window_disagreements_total",
			Help: "Customer-service messages that we thought allowed and WeChat refused with 45015 or 45047: events are missing.",
		}, []string{"account", "errcode"}),
		resolved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_resolved_total", Help: "Messages that dead workers left claimed, by what became of them.",
		}, []string{"account", "kind", "status"}),
		requeued: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "hongyan_requeued_total", Help: "Accepted messages that were in no queue and were enqueued again.",
		}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_decisions_total",
			Help: "Decisions about messages: outcomes, and parkings.",
		}, []string{"account", "kind", "status", "reason"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hongyan_decision_seconds", Help: "From the arrival of a message in the worker to its written decision.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"kind", "lane"}),
		calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "hongyan_wechat_call_seconds",
			Help:    "Calls that send a message, by what is known of them afterwards and what WeChat's errcode means for us.",
			Buckets: []float64{.025, .05, .1, .2, .3, .5, 1, 2, 5, 10},
		}, []string{"api", "class", "answer", "errcode"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_wechat_errcodes_total", Help: "Errcodes other than 0 that WeChat answered with.",
		}, []string{"api", "errcode"}),
		joined: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_receipts_joined_total",
			Help: "Receipts that found their message: by msgid, inferred by user and time, or proof that an unknown one was sent.",
		}, []string{"account", "kind", "how"}),
		lag: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "hongyan_receipt_lag_seconds", Help: "From a send to the coming of WeChat's receipt for it.",
			Buckets: []float64{1, 2, 5, 10, 30, 60, 300, 600, 1800, 3600},
		}, []string{"kind"}),
		webhooks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "hongyan_webhooks_total", Help: "Tries to tell producers' endpoints: told, failed, given_up, disabled.",
		}, []string{"account", "result"}),
	}
	m.registry.MustRegister(&m.Stores, &m.fleet, &m.tokens, build("worker", version),
		m.claims, m.shut, m.resolved, m.requeued, m.decisions, m.took, m.calls, m.answers, m.joined, m.lag, m.webhooks,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Decided counts what was decided about a message.
func (m *Metrics) Decided(account, kind, lane, status, reason string, took time.Duration) {
	m.decisions.WithLabelValues(account, kind, status, reason).Inc()
	m.took.WithLabelValues(kind, lane).Observe(took.Seconds())
}

// Cancelled counts what a campaign that was cancelled has left, which no worker has had in hand.
func (m *Metrics) Cancelled(account, kind string, n int) {
	m.decisions.WithLabelValues(account, kind, "cancelled", "cancelled").Add(float64(n))
}

// Expect counts the decisions that alarm, of an account's kind, from 0 on: an increase from nothing at all to 1 is none to
// Prometheus, and the first one would alarm nobody.
func (m *Metrics) Expect(account, kind string) {
	m.decisions.WithLabelValues(account, kind, "unknown", "in_doubt")
	m.decisions.WithLabelValues(account, kind, "dead", "poison")
	m.resolved.WithLabelValues(account, kind, "unknown")
	m.resolved.WithLabelValues(account, kind, "dead")
}

// build says which program and version this is.
func build(program, version string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "hongyan_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"program": program, "version": version},
	})
	g.Set(1)
	return g
}

// Fleet takes a new count of what all processes have in hand; nil: somebody else counts.
func (m *Metrics) Fleet(f *Fleet) { m.fleet.last.Store(f) }

// Tokens says whom to ask for the access tokens of this process.
func (m *Metrics) Tokens(ask func() []Token) { m.tokens.ask.Store(&ask) }

// Claimed counts a claim.
func (m *Metrics) Claimed(account, kind string, granted bool) {
	result := "refused"
	if granted {
		result = "granted"
	}
	m.claims.WithLabelValues(account, kind, result).Inc()
}

// WindowShut counts WeChat's refusal of a customer-service message that we thought allowed.
func (m *Metrics) WindowShut(account string, errcode int) {
	m.shut.WithLabelValues(account, strconv.Itoa(errcode)).Inc()
}

// Resolved counts a message that a dead worker left.
func (m *Metrics) Resolved(account, kind, status string) {
	m.resolved.WithLabelValues(account, kind, status).Inc()
}

// Requeued counts messages that were in no queue.
func (m *Metrics) Requeued(n int) { m.requeued.Add(float64(n)) }

// Called counts a call to WeChat by what it answered: answer is the errcode's meaning, errcode 0 is none.
func (m *Metrics) Called(api, class, answer string, errcode int, took time.Duration) {
	code := strconv.Itoa(errcode)
	if errcode == 0 && class != "sent" {
		code = "none" // no answer
	}
	m.calls.WithLabelValues(api, class, answer, code).Observe(took.Seconds())
	if errcode != 0 {
		m.answers.WithLabelValues(api, code).Inc()
	}
}

// Joined counts a receipt that found its message, how: msgid, inferred or proof.
func (m *Metrics) Joined(account, kind, how string, lag time.Duration) {
	m.joined.WithLabelValues(account, kind, how).Inc()
	m.lag.WithLabelValues(kind).Observe(lag.Seconds())
}

// Webhook counts a try to tell an endpoint.
func (m *Metrics) Webhook(account, result string) { m.webhooks.WithLabelValues(account, result).Inc() }

// Handler answers with them.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// A Server answers /metrics, /healthz and /readyz.
type Server struct {
	server   *http.Server
	listener net.Listener // nil: serves nothing
}

// Listen takes the address; an empty one is none.
func Listen(address string, m *Metrics) (*Server, error) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.Handler())
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /readyz", &m.Stores)
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
