package app

import (
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestATickWaitsForItsAudience(t *testing.T) {
	for catchUp, more := range map[string]bool{campaign.CatchUpSkip: false, campaign.CatchUpOnce: true} {
		t.Run(catchUp, func(t *testing.T) {
			w := newWard(t)
			ctx := t.Context()
			ok := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			spec, err := campaign.ParseSpec([]byte("name: news\naccount: shop\nkind: template\ntemplate: {template_id: T1, data: {thing1: {value: hi}}}\n" +
				"audience: {followers: true}\nschedule: {cron: \"*/7 * * * *\", catch_up: " + catchUp + "}\n"))
			ok(err)
			id := message.NewID(time.Now())
			ok(w.store.CreateCampaign(ctx, spec, id))
			tick := time.Date(2026, 11, 28, 10, 7, 0, 0, time.UTC)
			_, err = w.store.StartCampaign(ctx, id, tick.Add(-time.Minute), tick)
			ok(err)
			r := &campaignRows{store: w.store}
			due := func(now time.Time, want ...time.Time) {
				t.Helper()
				list, err := r.Due(ctx, now)
				ok(err)
				if len(list) != 1 || len(list[0].Ticks) != len(want) || len(want) > 0 && !list[0].Ticks[0].Equal(want[0]) {
					t.Fatalf("at %v due is %+v, want %v", now, list, want)
				}
				ok(r.Ticked(ctx, list[0]))
			}

			// Its fetch takes more than an hour.
			a, err := w.store.TickAudience(ctx, id, tick, "followers", nil)
			ok(err)
			late := tick.Add(80 * time.Minute)
			if ticks, last, err := ticksOf(ctx, w.store, only(t, w, late), late); err != nil || len(ticks) != 1 || !ticks[0].Equal(tick) || !last.Equal(tick) {
				t.Fatalf("ticks %v up to %v, %v, want %v alone, whose audience is on its way", ticks, last, err, tick)
			}
			ok(w.store.FinishAudience(ctx, &a))
			due(late, tick)
			if !more {
				due(late) // those in between were missed
				return
			}
			due(late, tick.Add(74*time.Minute))
		})
	}
}

// Five schedulers whose clocks differ by more than a minute look at the same moment, again and again; now and then one dies
// between a firing and the schedule's moving on, and begins anew: a hundred ticks of a cron are a hundred firings.
func TestAHundredTicksAreAHundredFirings(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	ctx := t.Context()
	id := w.massDraft(2, "schedule: {cron: \"* * * * *\"}\n")
	const ticks = 100
	base := time.Date(2026, 11, 28, 10, 0, 30, 0, time.UTC)
	if _, err := w.store.StartCampaign(ctx, id, base, base.Add(30*time.Second)); err != nil {
		t.Fatal(err)
	}
	schedulers := make([]*campaignRows, 5)
	look := func(n, step int, now time.Time) error {
		if schedulers[n] == nil {
			schedulers[n] = &campaignRows{store: w.store}
		}
		due, err := schedulers[n].Due(ctx, now)
		if err != nil {
			return err
		}
		for _, d := range due {
			for _, tick := range d.Ticks {
				if _, err := schedulers[n].Fire(ctx, d.Campaign, tick); err != nil {
					return err
				}
			}
			if (n+step)%3 == 0 {
				schedulers[n] = nil
				return nil
			}
			if err := schedulers[n].Ticked(ctx, d); err != nil {
				return err
			}
		}
		return nil
	}
	end := base.Add(ticks * time.Minute)
	step := 0
	for at := base; !at.After(end); at = at.Add(20 * time.Second) {
		var g errgroup.Group
		for n := range schedulers {
			now := at.Add(time.Duration(n-2) * 17 * time.Second)
			if now.After(end) { // its clock is not to see the next tick
				now = end
			}
			g.Go(func() error { return look(n, step, now) })
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		step++
	}
	var firings, different int
	var first, last time.Time
	if err := w.db.QueryRow(ctx, `SELECT count(*), count(DISTINCT tick), min(tick), max(tick) FROM firing`).Scan(&firings, &different, &first, &last); err != nil {
		t.Fatal(err)
	}
	if firings != ticks || different != ticks || !first.Equal(base.Add(30*time.Second)) || !last.Equal(end.Add(-30*time.Second)) {
		t.Errorf("%d firings of %d ticks, from %v to %v, want %d from %v to %v", firings, different, first.UTC(), last.UTC(), ticks, base.Add(30*time.Second), end.Add(-30*time.Second))
	}
}

func TestACancelledCampaignIsSettledWithoutItsAccount(t *testing.T) {
	w := newWard(t)
	ctx := t.Context()
	id := w.massCampaign(3)
	w.exec(`UPDATE campaign SET kind = 'template', spec = spec || '{"kind": "template", "body": {"template_id": "T1", "data": {"thing1": {"value": "hi"}}}}'`)
	w.exec(`UPDATE chunk SET state = 'queued'`)
	r := &campaignRows{store: w.store}
	list, err := r.Firings(ctx)
	if err != nil || len(list) != 1 {
		t.Fatalf("firings %v, %v", list, err)
	}
	c := &chunks{store: w.store, pod: 1, accounts: accounts{}, senders: 4}
	if run, err := c.Take(ctx, list[0].ID, 1); run != nil || err != nil {
		t.Fatalf("a worker without its account took %+v, %v", run, err)
	}
	if _, err := w.store.MoveCampaign(ctx, id, campaign.Cancel, ""); err != nil {
		t.Fatal(err)
	}
	w.exec(`UPDATE chunk SET state = 'queued'`)
	run, err := c.Take(ctx, list[0].ID, 1)
	if err != nil || run == nil || run.Hand < 1 {
		t.Fatalf("of a cancelled campaign it took %+v, %v", run, err)
	}
	if n, _, err := c.Letters(ctx, run); n != 3 || err != nil {
		t.Errorf("%d recipients to be settled, %v, want 3", n, err)
	}
}

// only is the one campaign that is due.
func only(t *testing.T, w *ward, now time.Time) postgres.Campaign {
	t.Helper()
	list, err := w.store.DueCampaigns(t.Context(), now, postgres.DueFilter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("due are %v, %v, want one", list, err)
	}
	return list[0]
}
