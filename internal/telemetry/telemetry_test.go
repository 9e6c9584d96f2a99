package telemetry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

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
	m := telemetry.NewMetrics()
	m.Decided("shop", "template", "urgent", "parked", "quota", 20*time.Millisecond)
	m.Called("/cgi-bin/message/template/send", "not sent", 45009, 80*time.Millisecond)
	m.Called("/cgi-bin/message/template/send", "sent", 0, 80*time.Millisecond)

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
		`hongyan_wechat_call_seconds_count{api="/cgi-bin/message/template/send",class="sent"} 1`,
		`hongyan_decision_seconds_count{kind="template",lane="urgent"} 1`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(metrics, `errcode="0"`) {
		t.Error("a call that WeChat took counts as an errcode")
	}
}

func TestServeSaysThatItsAddressIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := telemetry.Listen(l.Addr().String(), telemetry.NewMetrics()); err == nil {
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
