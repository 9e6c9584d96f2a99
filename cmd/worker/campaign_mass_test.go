package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// importUsers gives a campaign the first n users.
func (f *fleet) importUsers(id string, n int) {
	f.Helper()
	var text strings.Builder
	text.WriteString("openid\n")
	for i := range n {
		fmt.Fprintln(&text, user(i))
	}
	a, err := f.producer.ImportAudience(f.Context(), id, "users.csv", strings.NewReader(text.String()), client.ImportOptions{})
	if err != nil || a.Recipients != n {
		f.Fatalf("imported %+v, %v", a, err)
	}
}

func (f *fleet) startIt(id string) {
	f.Helper()
	if _, err := f.producer.StartCampaign(f.Context(), id); err != nil {
		f.Fatal(err)
	}
}

const massSpec = "name: news\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: 今晚八点上新}}\n"

func TestAMassCampaignGoesInParts(t *testing.T) {
	t.Parallel()
	nextDay(t)
	const n = 20_001 // three parts of 6,667
	f := newFleet(t, massShop())
	id := f.create(massSpec)
	f.importUsers(id, n)
	f.start(2)
	f.startIt(id)
	f.awaitState(60*time.Second, id, client.CampaignDone)
	f.await(10*time.Second, map[string]int{"sent": 3}, "campaign_id = $1 AND recipient = 'list:6667'", id)
	f.accepts(wechattest.PathMassSend, 3)
	for i := range n {
		if got := f.wechat("shop").MassReceived(string(user(i))); got != 1 {
			t.Fatalf("user %d got %d, want 1", i, got)
		}
	}
	p, err := f.producer.CampaignProgress(t.Context(), id)
	if err != nil || p.Total != 3 || p.Ended() != 3 || p.Audience.Recipients != n {
		t.Errorf("progress %+v, %v", p, err)
	}
}

func TestAMassCampaignToATagIsOneCall(t *testing.T) {
	t.Parallel()
	nextDay(t)
	a := massShop()
	a.wechat.Tags = []wechattest.Tag{{ID: 2, Name: "会员"}}
	a.wechat.Limits[wechattest.PathMassSendAll] = wechattest.Limit{PerDay: 1000}
	f := newFleet(t, a)
	f.wechat("shop").Tag(2, string(user(1)), string(user(2)))
	id := f.create(massSpec + "audience: {tag: 2}\n")
	f.startIt(id)
	f.start(2)
	f.awaitState(60*time.Second, id, client.CampaignDone)
	f.await(10*time.Second, map[string]int{"sent": 1}, "campaign_id = $1 AND recipient = 'tag:2'", id)
	f.accepts(wechattest.PathMassSendAll, 1)
	if calls := f.wechat("shop").Used(wechattest.PathTagUsers); calls > 0 {
		t.Errorf("%d pages of users were fetched for a filter", calls)
	}
}

func TestAMassCampaignIsPausedAndCancelledBetweenParts(t *testing.T) {
	t.Parallel()
	nextDay(t)
	const n = 30_000
	f := newFleet(t, massShop())
	id := f.create(massSpec + "canary: 10\n")
	f.importUsers(id, n)
	f.start(2)
	f.startIt(id)
	f.awaitState(60*time.Second, id, client.CampaignPaused)
	f.await(10*time.Second, map[string]int{"sent": 1}, "campaign_id = $1", id)
	if n := f.wechat("shop").MassReceived(string(user(11))); n != 0 {
		t.Errorf("somebody behind the canary got %d", n)
	}
	if _, err := f.producer.CancelCampaign(t.Context(), id, "the text is wrong"); err != nil {
		t.Fatal(err)
	}
	f.await(30*time.Second, map[string]int{"sent": 1, "cancelled cancelled": 3}, "campaign_id = $1", id)
	f.accepts(wechattest.PathMassSend, 1)
}

func TestAMassCampaignSurvivesKilledWorkers(t *testing.T) {
	t.Parallel()
	nextDay(t)
	const n = 50_000 // five parts
	f := newFleet(t, massShop())
	f.sim.SetLatency(wechattest.Latency{Min: 2 * time.Second, Max: 2 * time.Second})
	id := f.create(massSpec)
	f.importUsers(id, n)
	f.start(2)
	f.startIt(id)
	eventually(f, 60*time.Second, "part", func() bool { return f.sim.AcceptedTotal() > 0 })
	for _, w := range f.workers { // one of them waits for WeChat's answer
		w.kill()
	}
	if left := f.outcomes("true"); left["sending"] != 1 {
		t.Errorf("the dead left %v, want a part that was sent: the test tests nothing", left)
	}
	f.workers = nil
	f.start(2) // they find within a minute what the dead left
	f.awaitState(120*time.Second, id, client.CampaignDone)
	f.await(10*time.Second, map[string]int{"sent": 5}, "campaign_id = $1", id)
	for i := 0; i < n; i += 7 {
		if got := f.wechat("shop").MassReceived(string(user(i))); got != 1 {
			t.Fatalf("user %d got %d, want 1", i, got)
		}
	}
}
