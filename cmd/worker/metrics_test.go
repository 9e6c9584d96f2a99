package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Two workers under load: both are ready, one counts for all, and what they count adds up.
func TestMetricsOfAFleet(t *testing.T) {
	t.Parallel()
	const n = 40
	f := newFleet(t, quick())
	f.remembers(n)
	var addresses []string
	for range 2 {
		addresses = append(addresses, f.startWatched())
	}
	f.enqueue(mixed(n)...)
	f.await(60*time.Second, map[string]int{"sent": n}, "true")
	var all string
	eventually(t, 60*time.Second, "count of what is done", func() bool {
		all = ""
		for _, a := range addresses {
			code, text := get(t, "http://"+a+"/metrics")
			if code != 200 {
				t.Fatalf("%s answers %d", a, code)
			}
			all += text
		}
		return strings.Contains(all, `hongyan_quota_used{account="shop",kind="template"} 30`) &&
			strings.Contains(all, `hongyan_messages_queued{account="shop",kind="template"} 0`)
	})
	if counting := strings.Count(all, "# TYPE hongyan_census_timestamp_seconds"); counting != 1 {
		t.Errorf("%d workers count for all, want 1", counting)
	}
	for _, want := range []string{
		`hongyan_workers{version="`, `hongyan_gate_state{account="shop",api="all"} 0`, `hongyan_gate_state{account="shop",api="/cgi-bin/message/custom/send"} 0`,
		`hongyan_queue_tasks{class="bulk",state="pending"} 0`, `hongyan_resolver_lag_seconds 0`, `hongyan_rejected_tasks 0`,
		`hongyan_store_up{store="postgres"} 1`, `hongyan_store_up{store="redis"} 1`, `hongyan_store_up{store="migrations"} 1`,
		`hongyan_token_left_seconds{account="shop"} `, `hongyan_token_age_seconds{account="shop"} `,
		`hongyan_claims_total{account="shop",kind="custom",result="granted"} `, `hongyan_pace_per_second{account="shop",kind="template"} 400`,
		`answer="none",api="/cgi-bin/message/template/send",class="sent"`, `hongyan_messages_dispatchable{account="shop",kind="mass"} 0`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	f.searchText("metrics", all, true)
	for _, a := range addresses {
		if code, text := get(t, "http://"+a+"/readyz"); code != 200 {
			t.Errorf("readyz: %d %s", code, text)
		}
	}
	f.exec("UPDATE schema_migrations SET dirty = true")
	if code, text := get(t, "http://"+addresses[0]+"/readyz"); code != 503 || !strings.Contains(text, "migrations") {
		t.Errorf("readyz on a broken schema: %d %s", code, text)
	}
	f.exec("UPDATE schema_migrations SET dirty = false")
}

// startWatched starts a worker that serves metrics, and says where.
func (f *fleet) startWatched() (address string) {
	f.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	text, err := os.ReadFile(f.config)
	if err != nil {
		f.Fatal(err)
	}
	file := f.config + "." + strings.ReplaceAll(address, ":", "-") + ".yaml"
	watched := strings.Replace(string(text), "worker: {", "worker: {metrics_listen: '"+address+"', ", 1)
	if err := os.WriteFile(file, []byte(watched), 0o600); err != nil {
		f.Fatal(err)
	}
	p := startProcess(f, nil, nil, "--config", file)
	p.ready()
	f.workers = append(f.workers, p)
	return address
}

func get(t *testing.T, url string) (code int, text string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// What ends without a run (cancelled, spared, of an account that nobody knows) is counted all the same.
func TestMetricsOfWhatHasNoAccount(t *testing.T) {
	t.Parallel()
	m := telemetry.NewMetrics("test")
	a := &pipeline.Attempt{Message: &message.Message{Kind: message.Template, Lane: message.Bulk}}
	decided(m, a, outcome.Outcome{Status: outcome.Cancelled, Reason: outcome.ReasonCancelled}, time.Second)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if want := `account="unknown",kind="template",reason="cancelled",status="cancelled"} 1`; !strings.Contains(w.Body.String(), want) {
		t.Errorf("metrics lack %s", want)
	}
}
