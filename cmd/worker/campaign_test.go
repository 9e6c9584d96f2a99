package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

const swift = "limits: {template: {per_day: 1000000, per_second: 100000}}"

// swiftShop has no limits that a test would meet.
func swiftShop(yaml ...string) account {
	a := shop(append([]string{swift}, yaml...)...)
	a.wechat.Limits[wechattest.PathTemplate] = wechattest.Limit{PerDay: 1_000_000}
	return a
}

// ledger is the database as commands use it.
func (f *fleet) ledger() *postgres.Store {
	f.Helper()
	s, err := postgres.Open(f.Context(), f.database, postgres.Options{Name: "test"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	return s
}

// campaign writes a campaign down whose audience has n people.
func (f *fleet) campaign(s *postgres.Store, n int, change func(*campaign.Spec)) message.ID {
	f.Helper()
	id := message.NewID(time.Now())
	spec := &campaign.Spec{
		Name: "double-eleven " + id.String(), Account: "shop", Kind: message.Template,
		Body: json.RawMessage(`{"template_id":"order_paid","data":{"thing2":{"value":"{{.name}}，您好"}}}`),
	}
	if change != nil {
		change(spec)
	}
	if err := s.CreateCampaign(f.Context(), spec, id); err != nil {
		f.Fatal(err)
	}
	audience := f.number(`INSERT INTO audience (campaign, source, columns, state, total) VALUES ($1, 'file:a.csv', '{name}', 'ready', $2) RETURNING id`, id.String(), n)
	_, err := f.db.CopyFrom(f.Context(), pgx.Identifier{"recipient"}, []string{"audience", "n", "openid", "vars"}, pgx.CopyFromSlice(n, func(i int) ([]any, error) {
		return []any{int32(audience), int32(i + 1), string(user(i)), []string{fmt.Sprintf("顾客 %d", i)}}, nil
	}))
	if err != nil {
		f.Fatal(err)
	}
	return id
}

func (f *fleet) startCampaign(s *postgres.Store, id message.ID) {
	f.Helper()
	if _, err := s.StartCampaign(f.Context(), id, time.Now(), time.Time{}); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) move(s *postgres.Store, id message.ID, v campaign.Verb) {
	f.Helper()
	if _, err := s.MoveCampaign(f.Context(), id, v, "by the test"); err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) awaitCampaign(within time.Duration, id message.ID, state campaign.State) {
	f.Helper()
	eventually(f, within+comesBack, "campaign that is "+string(state), func() bool {
		return f.number(`SELECT count(*)::int FROM campaign WHERE id = $1 AND state = $2`, id.String(), string(state)) == 1
	})
}

// once fails unless the simulator has taken one message to each of n users.
func (f *fleet) once(n int) {
	f.Helper()
	got := f.sim.CountBy(func(a wechattest.Accept) string { return a.To })
	for i := range n {
		if times := got[string(user(i))]; times != 1 {
			f.Errorf("user %d got it %d times, want once", i, times)
		}
	}
	if len(got) != n {
		f.Errorf("%d users got it, want %d", len(got), n)
	}
}

func TestACampaignOutlivesItsWorkers(t *testing.T) {
	t.Parallel()
	const n = 4000
	f := newFleet(t, swiftShop())
	f.sim.SetLatency(wechattest.Latency{Min: 5 * time.Millisecond, Max: 15 * time.Millisecond})
	s := f.ledger()
	id := f.campaign(s, n, nil)
	workers := f.start(2)
	f.startCampaign(s, id)
	eventually(t, time.Minute, "load", func() bool { return f.sim.AcceptedTotal() > n/4 })
	workers[0].kill()
	if f.sim.AcceptedTotal() > n-500 {
		t.Error("nearly everything was sent before the kill: the test tests little")
	}
	f.start(1)
	eventually(t, time.Minute, "more", func() bool { return f.sim.AcceptedTotal() > n/2 })
	f.move(s, id, campaign.Pause)
	f.move(s, id, campaign.Resume)
	f.await(2*time.Minute, map[string]int{"sent": n}, "campaign_id = $1", id.String())
	f.awaitCampaign(30*time.Second, id, campaign.Done)
	f.once(n)
	if tallied := f.number(`SELECT sum((tally ->> 'sent')::int)::int FROM chunk`); tallied != n {
		t.Errorf("the chunks count %d sent, want %d", tallied, n)
	}
}

func TestACampaignStopsAndGoesOn(t *testing.T) {
	t.Parallel()
	const n = 1000
	f := newFleet(t, swiftShop())
	s := f.ledger()
	id := f.campaign(s, n, func(c *campaign.Spec) { c.Pace = 50 })
	f.start(2)
	f.startCampaign(s, id)
	eventually(t, time.Minute, "load", func() bool { return f.sim.AcceptedTotal() >= 20 })
	within := func(what string, took, stalled time.Duration) {
		t.Helper()
		if t.Logf("%s: %v", what, took.Round(10*time.Millisecond)); took > 2*time.Second+stalled {
			t.Errorf("%s: %v, want 2 s at most; stalled for %v", what, took, stalled)
		}
	}
	last := func() time.Time {
		all := f.sim.AllAccepts()
		return all[len(all)-1].At
	}
	paused, stall := time.Now(), stallOf(t)
	f.move(s, id, campaign.Pause)
	f.standsStill()
	within("the last message after the pause", last().Sub(paused), stall())
	before := f.sim.AcceptedTotal()
	resumed, stall := time.Now(), stallOf(t)
	f.move(s, id, campaign.Resume)
	eventually(t, 20*time.Second+comesBack, "message after resume", func() bool { return f.sim.AcceptedTotal() > before })
	within("the first message after the resume", f.sim.AllAccepts()[before].At.Sub(resumed), stall())
	cancelled, stall := time.Now(), stallOf(t)
	f.move(s, id, campaign.Cancel)
	f.standsStill()
	within("the last message after the cancel", last().Sub(cancelled), stall())
	sent := f.sim.AcceptedTotal()
	f.await(time.Minute, map[string]int{"sent": sent, "cancelled cancelled": n - sent}, "campaign_id = $1", id.String())
	eventually(t, 30*time.Second+comesBack, "firing that has ended", func() bool {
		return f.number(`SELECT count(*)::int FROM firing WHERE ended_at IS NOT NULL`) == 1
	})
	f.awaitCampaign(time.Second, id, campaign.Cancelled)
	if sent == n || f.number(`SELECT count(*)::int FROM outcomes WHERE status = 'cancelled' AND recipient LIKE 'o%'`) != n-sent {
		t.Errorf("%d of %d were sent before the cancel, and the others' outcomes do not name them", sent, n)
	}
}

func TestACampaignOutlivesItsQueue(t *testing.T) {
	t.Parallel()
	const n = 3000
	f := newFleet(t, swiftShop())
	f.sim.SetLatency(wechattest.Latency{Min: 5 * time.Millisecond, Max: 15 * time.Millisecond})
	s := f.ledger()
	id := f.campaign(s, n, func(c *campaign.Spec) { c.Canary = 50 })
	f.start(2)
	f.startCampaign(s, id)
	f.awaitCampaign(30*time.Second, id, campaign.Paused)
	f.await(10*time.Second, map[string]int{"sent": 50}, "campaign_id = $1", id.String())
	f.move(s, id, campaign.Resume)
	eventually(t, time.Minute, "load", func() bool { return f.sim.AcceptedTotal() > n/4 })
	if err := f.rdb.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	f.await(2*time.Minute, map[string]int{"sent": n}, "campaign_id = $1", id.String())
	f.awaitCampaign(30*time.Second, id, campaign.Done)
	f.once(n)
}

func TestACampaignThatFailsPauses(t *testing.T) {
	t.Parallel()
	const n = 3000
	f := newFleet(t, swiftShop())
	fault := f.sim.MustInject(wechattest.Fault{Kind: wechattest.Errcode, Code: 47003, API: wechattest.PathTemplate})
	s := f.ledger()
	id := f.campaign(s, n, nil)
	f.start(1)
	f.startCampaign(s, id)
	f.awaitCampaign(30*time.Second, id, campaign.Paused)
	if reason := f.text(`SELECT reason FROM campaign`); !strings.Contains(reason, "ended failed refused_request (47003)") {
		t.Errorf("it paused because %q", reason)
	}
	f.standsStill()
	failed := f.number(`SELECT count(*)::int FROM message`)
	if failed > n/2 {
		t.Errorf("%d of %d failed before it paused", failed, n)
	}
	f.sim.Heal(fault)
	f.move(s, id, campaign.Resume)
	f.await(time.Minute, map[string]int{"failed refused_request": failed, "sent": n - failed}, "true")
	f.awaitCampaign(10*time.Second, id, campaign.Done)
	if _, err := s.RetryFailed(t.Context(), id, []string{"failed"}, nil, time.Now()); err != nil {
		t.Fatal(err)
	}
	f.await(time.Minute, map[string]int{"failed refused_request": failed, "sent": n}, "true")
	f.once(n)
}

func TestACampaignThatNobodyCanSendFails(t *testing.T) {
	t.Parallel()
	const n = 700
	f := newFleet(t, swiftShop())
	s := f.ledger()
	id := f.campaign(s, n, func(c *campaign.Spec) {
		c.Body = json.RawMessage(`{"template_id":"order_paid","data":{"thing2":{"value":"{{.nmae}}"}}}`)
	})
	f.start(1)
	f.startCampaign(s, id)
	f.awaitCampaign(30*time.Second, id, campaign.Failed)
	f.await(30*time.Second, map[string]int{"cancelled cancelled": n}, "campaign_id = $1", id.String())
	if reason := f.text(`SELECT reason FROM campaign`); !strings.Contains(reason, `no column "nmae"`) || f.sim.AcceptedTotal() > 0 {
		t.Errorf("it failed because %q, and %d were sent", reason, f.sim.AcceptedTotal())
	}
}

func TestACampaignWaitsForItsQuota(t *testing.T) {
	t.Parallel()
	midnight := nextDay(t)
	const n = 1500
	a := shop("limits: {template: {per_day: 400, per_second: 100000}}")
	f := newFleet(t, a)
	s := f.ledger()
	id := f.campaign(s, n, nil)
	f.start(2)
	f.startCampaign(s, id)
	f.awaitCampaign(30*time.Second, id, campaign.Throttled)
	f.standsStill()
	if reason := f.text(`SELECT reason FROM campaign`); reason != "quota" {
		t.Errorf("it waits because %q, want quota", reason)
	}
	var until time.Time
	if err := f.db.QueryRow(t.Context(), `SELECT until FROM campaign`).Scan(&until); err != nil || until.Before(midnight) || until.After(midnight.Add(2*time.Minute)) {
		t.Errorf("it goes on at %v, %v, want soon after %v", until, err, midnight)
	}
	if got := f.outcomes("true"); got["sent"] < 300 || got["sent"] > 400 || len(got) != 1 {
		t.Errorf("outcomes %v, want what the day allows sent, and no rows of the others", got)
	}
}

// text asks the database for one text.
func (f *fleet) text(query string) (s string) {
	f.Helper()
	if err := f.db.QueryRow(f.Context(), query).Scan(&s); err != nil {
		f.Fatalf("%s: %v", query, err)
	}
	return s
}

func TestCampaignsSpareTheirUsers(t *testing.T) {
	t.Parallel()
	const n = 300
	f := newFleet(t, swiftShop())
	s := f.ledger()
	f.start(2)
	t.Run("three at once, two a week", func(t *testing.T) {
		for i := range 3 {
			f.startCampaign(s, f.campaign(s, n, func(c *campaign.Spec) {
				c.Cap = campaign.FrequencyCap{Messages: 2, Per: "week"}
				c.Body = json.RawMessage(fmt.Sprintf(`{"template_id":"order_paid","data":{"thing2":{"value":"%d {{.name}}"}}}`, i))
			}))
		}
		f.await(90*time.Second, map[string]int{"sent": 2 * n, "skipped frequency_cap": n}, "campaign_id IS NOT NULL")
		for i := range n {
			if got := f.number(`SELECT count(*)::int FROM outcomes WHERE recipient = $1 AND status = 'sent'`, string(user(i))); got != 2 {
				t.Errorf("user %d got %d, want 2", i, got)
			}
		}
	})
	t.Run("two at once with the same content", func(t *testing.T) {
		before := f.sim.AcceptedTotal()
		for range 2 {
			f.startCampaign(s, f.campaign(s, n, func(c *campaign.Spec) { c.Dedupe = true }))
		}
		f.await(90*time.Second, map[string]int{"sent": 3 * n, "skipped frequency_cap": n, "skipped duplicate": n}, "campaign_id IS NOT NULL")
		if sent := f.sim.AcceptedTotal() - before; sent != n {
			t.Errorf("%d were sent, want %d", sent, n)
		}
	})
}

// standsStill waits until nothing is sent for two seconds: pods look at a campaign each second. The seconds are counted in
// looks: a machine that stands still does not count.
func (f *fleet) standsStill() {
	f.Helper()
	last, same := f.sim.AcceptedTotal(), 0
	eventually(f, 30*time.Second, "stop", func() bool {
		same++
		if now := f.sim.AcceptedTotal(); now != last {
			last, same = now, 0
		}
		return same > int(2*time.Second/pollEvery)
	})
}
