package telemetry_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
)

func TestLoggerKeepsToItsLevelAndFormat(t *testing.T) {
	for _, c := range []struct{ level, format, want string }{
		{"warn", "text", `level=WARN msg=kept account=shop`},
		{"warn", "json", `"level":"WARN","msg":"kept","account":"shop"`},
	} {
		var out strings.Builder
		log := telemetry.Logger(&out, c.level, c.format)
		log.Info("dropped")
		log.Warn("kept", "account", "shop")
		if got := out.String(); !strings.Contains(got, c.want) || strings.Contains(got, "dropped") {
			t.Errorf("%s %s: got %q, want %q alone", c.level, c.format, got, c.want)
		}
	}
}

func TestServeAnswersWithWhatWasCounted(t *testing.T) {
	m := telemetry.NewMetrics("v1")
	m.Decided("shop", "template", "urgent", "parked", "quota", 20*time.Millisecond)
	m.Called("/cgi-bin/message/template/send", "not sent", "quota_reset", 45009, 80*time.Millisecond)
	m.Called("/cgi-bin/message/template/send", "sent", "none", 0, 80*time.Millisecond)
	m.Called("/cgi-bin/message/template/send", "ambiguous", "no_answer", 0, 80*time.Millisecond)

	m.Fleet(&telemetry.Fleet{
		At: time.Now(), Workers: map[string]int{"v1": 2}, Left: 17 * time.Second,
		Queues:   []telemetry.Queue{{Class: "urgent", Tasks: map[string]int64{"pending": 3}}},
		Stocks:   []telemetry.Stock{{Account: "shop", Kind: "template", Queued: 10, Due: 2, Dispatchable: 12, PacePerSecond: 100, Behind: .12}},
		Quotas:   []telemetry.Quota{{Account: "shop", Kind: "template", Limit: 100, Used: 12, Left: 88}},
		Gates:    []telemetry.Gate{{Account: "shop", API: "all", State: "broken"}},
		Webhooks: []telemetry.Webhooks{{Account: "shop", Disabled: true}},
	})
	m.Tokens(func() []telemetry.Token { return []telemetry.Token{{Account: "shop", Age: -1, Left: time.Minute}} })
	address := freeAddress(t)
	server, err := telemetry.Listen(address, m)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- server.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("ended with %v", err)
		}
	}()
	if got := get(t, "http://"+address+"/healthz"); got != "ok\n" {
		t.Errorf("healthz answers %q", got)
	}
	metrics := get(t, "http://"+address+"/metrics")
	for _, want := range []string{
		`hongyan_decisions_total{account="shop",kind="template",reason="quota",status="parked"} 1`,
		`hongyan_wechat_errcodes_total{api="/cgi-bin/message/template/send",errcode="45009"} 1`,
		`hongyan_wechat_call_seconds_count{answer="none",api="/cgi-bin/message/template/send",class="sent",errcode="0"} 1`,
		`hongyan_wechat_call_seconds_count{answer="quota_reset",api="/cgi-bin/message/template/send",class="not sent",errcode="45009"} 1`,
		`hongyan_wechat_call_seconds_count{answer="no_answer",api="/cgi-bin/message/template/send",class="ambiguous",errcode="none"} 1`,
		`hongyan_decision_seconds_count{kind="template",lane="urgent"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	for _, want := range []string{
		`hongyan_build_info{program="worker",version="v1"} 1`,
		`hongyan_messages_dispatchable{account="shop",kind="template"} 12`,
		`hongyan_backlog_seconds{account="shop",kind="template"} 0.12`,
		`hongyan_quota_left{account="shop",kind="template"} 88`,
		`hongyan_gate_state{account="shop",api="all"} 2`,
		`hongyan_queue_tasks{class="urgent",state="pending"} 3`,
		`hongyan_webhook_disabled{account="shop"} 1`,
		`hongyan_workers{version="v1"} 2`,
		`hongyan_resolver_lag_seconds 17`,
		`hongyan_token_left_seconds{account="shop"} 60`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(metrics, "hongyan_token_age_seconds{") {
		t.Error("a token's age is exported that nobody knows")
	}
	m.Fleet(nil)
	if metrics = get(t, "http://"+address+"/metrics"); strings.Contains(metrics, "hongyan_workers") {
		t.Error("a worker that does not count any more still exports its last count")
	}
	if strings.Contains(metrics, `send",errcode="0"`) {
		t.Error("a call that WeChat took counts as an errcode")
	}
}

func TestServeSaysThatItsAddressIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := telemetry.Listen(l.Addr().String(), telemetry.NewMetrics("v1")); err == nil {
		t.Error("got no error")
	}
}

func TestServeSaysThatItsListenerBroke(t *testing.T) {
	s, err := telemetry.Listen(freeAddress(t), telemetry.NewMetrics("v1"))
	if err != nil {
		t.Fatal(err)
	}
	s.Break()
	if err := s.Run(t.Context()); err == nil {
		t.Error("got no error")
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	reply, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestReadyIsWhoseStoresAnswer(t *testing.T) {
	var stores telemetry.Stores
	ready := func() (int, string) {
		w := httptest.NewRecorder()
		stores.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", nil))
		return w.Code, w.Body.String()
	}
	if code, text := ready(); code != 503 || !strings.Contains(text, "starting") {
		t.Errorf("before the stores are open: %d %q", code, text)
	}
	well := telemetry.Store{Name: "postgres", Ask: func(context.Context) error { return nil }}
	away := telemetry.Store{Name: "redis", Ask: func(context.Context) error { return errors.New("dial secret-host: refused") }}
	stores.Watch(well)
	if code, text := ready(); code != 200 {
		t.Errorf("with its stores: %d %q", code, text)
	}
	stores.Watch(well, away)
	if code, text := ready(); code != 503 || !strings.Contains(text, "redis") || strings.Contains(text, "secret-host") {
		t.Errorf("without Redis: %d %q", code, text)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&stores)
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
	for _, want := range []string{`hongyan_store_up{store="postgres"} 1`, `hongyan_store_up{store="redis"} 0`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("metrics lack %s:\n%s", want, w.Body)
		}
	}
	stores.Watch()
	if code, _ := ready(); code != 503 {
		t.Errorf("while it stops: %d", code)
	}
}
