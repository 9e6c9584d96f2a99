package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// startSimulated starts a server, a worker and a simulated WeChat, which calls the server back. It has templates of the demo.
func startSimulated(t *testing.T) *house {
	t.Helper()
	sim := wechattest.New(wechattest.Options{})
	web := httptest.NewServer(sim)
	t.Cleanup(func() { sim.Close(); web.Close() })
	redis, database := devstack.Redis(t), devstack.Postgres(t, postgres.Migrate)
	h := startConfigured(t, redis, database, fmt.Sprintf(simulated, redis, database, web.URL))
	sim.MustAddAccount(wechattest.Settings{
		AppID: "wx00000000000000f1", Secret: "canary-secret-of-the-shop-0000001", AnyOpenID: true, AnyMedia: true, AnyWindow: true,
		Templates: []wechattest.Template{
			{ID: "order_paid", Title: "订单", Content: "商品：{{thing2.DATA}}", Keys: []string{"thing2"}},
			{ID: "delivery", Title: "物流", Keys: []string{"character_string1", "thing2", "phrase3"}},
			{ID: "campaign", Title: "活动", Content: "主题：{{thing1.DATA}}\n说明：{{thing2.DATA}}\n截止：{{time3.DATA}}", Keys: []string{"thing1", "thing2", "time3"}},
		},
		Callback: &wechattest.Callback{URL: h.url + "/wechat/shop", Token: "a-token-of-the-simulator", AESKey: "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"},
	})
	c, err := config.Load(h.file, os.LookupEnv, config.NeedRedis, config.NeedPostgres, config.NeedAccounts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx, c, app.Options{Log: slog.New(slog.DiscardHandler), Version: "test"}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the worker ended: %v", err)
		}
	})
	return h
}

// The whole way over HTTP, by the Go client: spec, audience, check, start, progress, outcomes.
func TestACampaignOverHTTP(t *testing.T) {
	t.Parallel()
	h := startSimulated(t)
	key := h.key("crm", "shop:template:*")
	c, err := client.HTTP(h.url, key)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	made, err := c.CreateCampaign(ctx, []byte(saleCampaign))
	if err != nil || made.Name != "sale" || made.State != client.CampaignDraft {
		t.Fatalf("created %+v, %v", made, err)
	}
	if _, err := c.CreateCampaign(ctx, []byte(strings.Replace(saleCampaign, "您好", "再见", 1))); !isSpecError(err) {
		t.Errorf("another of that name: %v", err)
	}
	const n = 500 // at 80 a second
	var people strings.Builder
	people.WriteString("openid,name\n")
	for i := range n {
		fmt.Fprintf(&people, "oHTTP%d,用户%d\n", i, i)
	}
	people.WriteString("?,坏\n")
	var refused []client.Reject
	a, err := c.ImportAudience(ctx, "sale", "people.csv", strings.NewReader(people.String()), client.ImportOptions{
		Rejected: func(r client.Reject) error { refused = append(refused, r); return nil },
	})
	if err != nil || a.Recipients != n || a.Refused != 1 || len(refused) != 1 || refused[0].Line != n+2 {
		t.Fatalf("imported %+v, refused %+v, %v", a, refused, err)
	}
	check, err := c.CheckCampaign(ctx, "sale", client.CheckOptions{Samples: 2})
	if err != nil || !check.Fits() || check.Good != n || len(check.Samples) != 2 || check.Forecast == nil || len(check.Notes) > 0 {
		t.Fatalf("checked %+v, %v", check, err)
	}
	if state, err := c.StartCampaign(ctx, made.ID.String()); err != nil || state != client.CampaignRunning {
		t.Fatalf("started: %s, %v", state, err)
	}
	if _, err := c.StartCampaign(ctx, "sale"); !errors.Is(err, client.ErrState) {
		t.Errorf("started again: %v", err)
	}
	var p client.CampaignProgress
	h.eventually("campaign that is done", func() bool {
		if p, err = c.CampaignProgress(ctx, made.ID.String()); err != nil {
			t.Fatal(err)
		}
		return p.Campaign.State == client.CampaignDone
	})
	if p.Total != n || p.Ended() != n || len(p.Outcomes) != 1 || p.Outcomes[0].Status != "sent" {
		t.Errorf("progress %+v", p)
	}
	if rate, _ := p.Rate(client.CampaignProgress{}); rate <= 0 {
		t.Errorf("rate %v", rate)
	}
	var outcomes bytes.Buffer
	if err := c.ExportCampaign(ctx, made.ID.String(), &outcomes); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&outcomes).ReadAll()
	if err != nil || len(rows) != n+1 || rows[1][4] != "sent" {
		t.Errorf("%d rows of outcomes, %v", len(rows), err)
	}
	if _, err := c.RetryFailed(ctx, made.ID.String(), client.RetryOptions{}); !errors.Is(err, client.ErrNothingToRetry) {
		t.Errorf("retried: %v", err)
	}
	list, err := c.Campaigns(ctx, client.CampaignFilter{States: []client.CampaignState{client.CampaignDone}})
	if err != nil || len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("list %+v, %v", list, err)
	}
	if _, err := c.Campaign(ctx, "nobody"); !errors.Is(err, client.ErrNoCampaign) {
		t.Errorf("a campaign of nobody: %v", err)
	}
}

func isSpecError(err error) bool {
	_, is := errors.AsType[*client.SpecError](err)
	return is
}

// read reads an answer.
func (h *house) read(text string, into any) {
	h.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		h.Fatalf("%v: %s", err, text)
	}
}

// What a check says of windows and caps comes whole over HTTP.
func TestTheFactsOfACheckOverHTTP(t *testing.T) {
	t.Parallel()
	h := startSimulated(t)
	c, err := client.HTTP(h.url, h.key("crm", "shop:*:*"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := t.Context()
	check := func(name, spec string) client.CampaignCheck {
		t.Helper()
		if _, err := c.CreateCampaign(ctx, []byte("name: "+name+"\naccount: shop\n"+spec)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.ImportAudience(ctx, name, "people.csv", strings.NewReader("openid\noHTTP1\noHTTP2\noHTTP3\n"), client.ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		k, err := c.CheckCampaign(ctx, name, client.CheckOptions{})
		if err != nil || !k.Fits() {
			t.Fatalf("%s: %+v, %v", name, k, err)
		}
		return k
	}
	if err := c.Event(ctx, client.Event{Account: "shop", OpenID: "oHTTP2", Type: client.Messaged, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	k := check("answers", "kind: custom\ncustom: {msgtype: text, text: {content: 您好}}\n")
	if k.Closed != 2 || k.Mass != nil || k.Forecast == nil || k.Forecast.Needs != 1 || k.Forecast.Timezone != "Asia/Shanghai" {
		t.Errorf("of kind custom: %d closed, %+v, forecast %+v", k.Closed, k.Mass, k.Forecast)
	}
	k = check("news", "kind: mass\nmass: {msgtype: text, text: {content: 今晚上新}}\n")
	if m := k.Mass; k.Closed != -1 || m == nil || m.Messages != 1 || m.Users != 3 || m.Cap != "" || m.Allowed.IsZero() || k.Forecast == nil || k.Forecast.Needs != 1 {
		t.Errorf("of kind mass: %d closed, %+v, forecast %+v", k.Closed, k.Mass, k.Forecast)
	}
}
