package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// create writes a campaign down as an operator does.
func (f *fleet) create(spec string) string {
	f.Helper()
	c, err := f.producer.CreateCampaign(f.Context(), []byte(spec))
	if err != nil {
		f.Fatal(err)
	}
	return c.ID.String()
}

func (f *fleet) awaitState(within time.Duration, id string, state client.CampaignState) {
	f.Helper()
	eventually(f, within+comesBack, "campaign that is "+string(state), func() bool {
		c, err := f.producer.Campaign(f.Context(), id)
		if err != nil {
			f.Fatal(err)
		}
		return c.State == state
	})
}

func TestWorkersFetchTheFollowersForAFiring(t *testing.T) {
	t.Parallel()
	const n = 21_000 // three pages
	f := newFleet(t, swiftShop())
	shop := f.sim.Accounts()[0]
	openids := make([]string, n)
	for i := range openids {
		openids[i] = string(user(i))
	}
	shop.AddFollowers(openids...)
	id := f.create(`
name: followers
account: shop
kind: template
template: {template_id: order_paid, data: {thing2: {value: 上新了}}}
audience: {followers: true}
`)
	if state, err := f.producer.StartCampaign(t.Context(), id); err != nil || state != client.CampaignScheduled {
		t.Fatalf("started, it is %s, %v", state, err)
	}
	f.start(2)
	f.awaitState(120*time.Second, id, client.CampaignDone)
	f.await(10*time.Second, map[string]int{"sent": n}, "campaign_id = $1", id)
	if sent := f.sim.AcceptedTotal(); sent != n {
		t.Errorf("the simulator has %d, want %d", sent, n)
	}
	if calls := shop.Used(wechattest.PathUsers); calls > 4 {
		t.Errorf("%d pages were fetched, want the 3 there are and one look behind", calls)
	}
}

func TestAFetchStopsAndGoesOnWithItsCampaign(t *testing.T) {
	t.Parallel()
	const n, pages = 75_000, 8
	f := newFleet(t, swiftShop())
	shop := f.sim.Accounts()[0]
	openids := make([]string, n)
	for i := range openids {
		openids[i] = string(user(i))
	}
	shop.AddFollowers(openids...)
	f.sim.MustInject(wechattest.Fault{Kind: wechattest.Hang, API: wechattest.PathUsers, For: 700 * time.Millisecond})
	id := f.create(`
name: followers
account: shop
kind: template
template: {template_id: order_paid, data: {thing2: {value: 上新了}}}
audience: {followers: true}
schedule: {at: "` + time.Now().Add(time.Second).Format(time.RFC3339Nano) + `"}
pace: {per_second: 1}
`)
	if _, err := f.producer.StartCampaign(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	f.start(2)
	eventually(f, time.Minute, "second page", func() bool { return f.number(`SELECT coalesce(max(total), 0)::int FROM audience`) >= 20_000 })
	if _, err := f.producer.PauseCampaign(t.Context(), id, "a look"); err != nil {
		t.Fatal(err)
	}
	paused, stall := time.Now(), stallOf(t)
	calls, since := shop.Used(wechattest.PathUsers), paused
	eventually(f, 20*time.Second, "stop", func() bool {
		if now := shop.Used(wechattest.PathUsers); now != calls {
			calls, since = now, time.Now()
		}
		return time.Since(since) > 3*time.Second
	})
	if took := since.Sub(paused); took > 2*time.Second+stall() {
		t.Errorf("the last page was asked for %v after the pause, want 2 s at most; stalled for %v", took, stall())
	}
	if total := f.number(`SELECT total FROM audience`); total >= n {
		t.Errorf("%d were fetched before the pause: the test tests nothing", total)
	}
	if _, err := f.producer.ResumeCampaign(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	f.awaitState(time.Minute, id, client.CampaignRunning)
	if total, rows := f.number(`SELECT total FROM audience`), f.number(`SELECT count(DISTINCT openid)::int FROM recipient`); total != n || rows != n {
		t.Errorf("%d recipients, %d of them different, want %d", total, rows, n)
	}
	if calls := shop.Used(wechattest.PathUsers); calls > pages+2 {
		t.Errorf("%d pages were asked for, want the %d there are, one look behind, and the one that the pause broke off", calls, pages)
	}
	if _, err := f.producer.CancelCampaign(t.Context(), id, "enough seen"); err != nil {
		t.Fatal(err)
	}
}

func TestAQueryIsAskedAnewForEachFiring(t *testing.T) {
	t.Parallel()
	f := newFleet(t, swiftShop())
	f.addConfig(fmt.Sprintf("campaigns: {database: %q}\n", f.database))
	f.sim.SetLog(wechattest.LogBodies)
	f.exec(`CREATE TABLE customer (openid text, name text); INSERT INTO customer VALUES ('oAnn', 'Ann'), ('oBob', NULL), ('not an openid', 'x')`)
	id := f.create(`
name: asked
account: shop
kind: template
template: {template_id: order_paid, data: {thing2: {value: '{{default "顾客" .name}}，您好'}}}
audience: {sql: "SELECT openid, name FROM customer"}
`)
	f.start(2)
	if _, err := f.producer.StartCampaign(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	f.awaitState(60*time.Second, id, client.CampaignDone)
	f.await(10*time.Second, map[string]int{"sent": 2}, "campaign_id = $1", id)
	var said []string
	for _, a := range f.sim.AllAccepts() {
		said = append(said, a.Body)
	}
	if all := strings.Join(said, " "); !strings.Contains(all, "Ann，您好") || !strings.Contains(all, "顾客，您好") {
		t.Errorf("it says %s", all)
	}
	p, err := f.producer.CampaignProgress(t.Context(), id)
	if err != nil || p.Audience.Recipients != 2 || p.Audience.Refused != 1 || p.Audience.Source != "sql" {
		t.Errorf("its audience is %+v, %v", p.Audience, err)
	}
}

func TestACampaignWhoseAudienceCannotBeFetchedSaysWhy(t *testing.T) {
	t.Parallel()
	f := newFleet(t, swiftShop())
	id := f.create(`
name: asked
account: shop
kind: template
template: {template_id: order_paid, data: {thing2: {value: 您好}}}
audience: {sql: "SELECT openid FROM customer"}
`)
	f.start(1)
	if _, err := f.producer.StartCampaign(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	eventually(f, 30*time.Second, "reason", func() bool {
		c, err := f.producer.Campaign(t.Context(), id)
		return err == nil && strings.HasPrefix(c.Reason, "its audience cannot be fetched: campaigns.database is not in this worker's configuration; tried again at ")
	})
}
