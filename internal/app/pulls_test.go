package app

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// dueCampaign starts a campaign whose tick has come.
func (w *ward) dueCampaign(name, more string, tick time.Time) message.ID {
	w.Helper()
	spec, err := campaign.ParseSpec(fmt.Appendf(nil, "name: %s\naccount: shop\nkind: template\ntemplate: {template_id: T1, data: {thing1: {value: hi}}}\n%s\n", name, more))
	if err != nil {
		w.Fatal(err)
	}
	id := message.NewID(time.Now())
	if err := w.store.CreateCampaign(w.Context(), spec, id); err != nil {
		w.Fatal(err)
	}
	if _, err := w.store.StartCampaign(w.Context(), id, tick.Add(-time.Minute), tick); err != nil {
		w.Fatal(err)
	}
	return id
}

// A pump is a fetch of the tests' own. It counts turns.
type pump struct {
	mu            sync.Mutex
	turns         map[message.ID]int
	going, asking int
	most, mostAsk int
	work          func(ctx context.Context, c postgres.Campaign, over func() bool) error
}

func (f *pump) fetch(ctx context.Context, c postgres.Campaign, _ time.Time, over func() bool) error {
	query := 0
	if c.Spec.Audience.Kind == campaign.FromSQL {
		query = 1
	}
	f.mu.Lock()
	f.turns[c.ID]++
	f.going, f.asking = f.going+1, f.asking+query
	f.most, f.mostAsk = max(f.most, f.going), max(f.mostAsk, f.asking)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.going, f.asking = f.going-1, f.asking-query
	}()
	return f.work(ctx, c, over)
}

func (f *pump) had(id message.ID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.turns[id]
}

// pulls runs a puller until the test ends.
func (w *ward) pulls(f *pump, turn time.Duration) {
	p := newPuller(w.store, slog.New(slog.DiscardHandler))
	p.turn, p.fetch = turn, f.fetch
	ctx, stop := context.WithCancel(w.Context())
	done := make(chan error)
	go func() { done <- p.run(ctx) }()
	w.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.Error(err)
		}
	})
}

func eventually(tb testing.TB, within time.Duration, what string, is func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(within); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			tb.Fatalf("no %s within %v", what, within)
		}
	}
}

func TestFetchesTakeTurns(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	tick := time.Now().Add(-time.Second)
	var lists, queries []message.ID
	for i := range 2 {
		queries = append(queries, w.dueCampaign(fmt.Sprint("query ", i), `audience: {sql: "SELECT 1"}`, tick))
	}
	for i := range 4 {
		lists = append(lists, w.dueCampaign(fmt.Sprint("list ", i), "audience: {followers: true}", tick))
	}
	finish := make(chan struct{})
	f := &pump{turns: map[message.ID]int{}, work: func(ctx context.Context, c postgres.Campaign, over func() bool) error {
		if c.Spec.Audience.Kind == campaign.FromSQL {
			select { // to the end, however long it takes
			case <-finish:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for !over() { // page by page, and there is no end
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return errTurnOver
	}}
	w.pulls(f, 20*time.Millisecond)
	eventually(t, 20*time.Second, "five turns of each list", func() bool {
		for _, id := range lists {
			if f.had(id) < 5 {
				return false
			}
		}
		return true
	})
	least, most := f.had(lists[0]), f.had(lists[0])
	for _, id := range lists {
		least, most = min(least, f.had(id)), max(most, f.had(id))
	}
	if most > least+2 {
		t.Errorf("lists had %d to %d turns, want about as many each", least, most)
	}
	if a, b := f.had(queries[0]), f.had(queries[1]); a+b != 1 {
		t.Errorf("queries began %d and %d times, want one of them once", a, b)
	}
	close(finish)
	eventually(t, 20*time.Second, "turn of the other query", func() bool { return f.had(queries[0]) > 0 && f.had(queries[1]) > 0 })
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.most != pullsAtOnce || f.mostAsk != 1 {
		t.Errorf("%d fetches side by side, %d of them queries, want %d and 1", f.most, f.mostAsk, pullsAtOnce)
	}
}

// A tick that waits in line is not missed, whatever the campaign makes up for.
func TestATickThatWaitsForItsFetchIsBegun(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	tick := time.Now().Truncate(time.Minute)
	for i := range pullsAtOnce {
		w.dueCampaign(fmt.Sprint("first ", i), "audience: {followers: true}", tick)
	}
	id := w.dueCampaign("later", "audience: {followers: true}\nschedule: {cron: \"* * * * *\", catch_up: skip}", tick)
	f := &pump{turns: map[message.ID]int{}, work: func(ctx context.Context, _ postgres.Campaign, _ func() bool) error {
		<-ctx.Done()
		return ctx.Err()
	}}
	w.pulls(f, time.Hour)
	eventually(t, 10*time.Second, "begun audience", func() bool {
		begun, err := w.store.BegunTick(t.Context(), id, tick.Add(-time.Minute))
		return err == nil && begun.Equal(tick)
	})
	if f.had(id) > 0 {
		t.Error("it was fetched: the test tests nothing")
	}
}

func TestAFetchStopsWithItsCampaign(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	for _, v := range []campaign.Verb{campaign.Pause, campaign.Cancel} {
		t.Run(string(v), func(t *testing.T) {
			id := w.dueCampaign(string(v), "audience: {followers: true}", time.Now().Add(-time.Second))
			stopped := make(chan time.Time, 2)
			f := &pump{turns: map[message.ID]int{}, work: func(ctx context.Context, _ postgres.Campaign, _ func() bool) error {
				<-ctx.Done()
				stopped <- time.Now()
				return ctx.Err()
			}}
			ward := *w
			ward.TB = t
			ward.pulls(f, pullTurn)
			eventually(t, 10*time.Second, "fetch", func() bool { return f.had(id) == 1 })
			moved := time.Now()
			if _, err := w.store.MoveCampaign(t.Context(), id, v, ""); err != nil {
				t.Fatal(err)
			}
			select {
			case at := <-stopped:
				if took := at.Sub(moved); took > 5*time.Second { // 2 s, on a machine that stands still for three
					t.Errorf("it stopped after %v, want 2 s, and 5 at most", took)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("it goes on")
			}
			if c, err := w.store.Campaign(t.Context(), id.String()); err != nil || c.Reason != "" {
				t.Errorf("the campaign's reason is %q, %v, want none: nothing has failed", c.Reason, err)
			}
			if v == campaign.Cancel {
				return
			}
			if _, err := w.store.MoveCampaign(t.Context(), id, campaign.Resume, ""); err != nil {
				t.Fatal(err)
			}
			eventually(t, 10*time.Second, "fetch after the resume", func() bool { return f.had(id) == 2 })
		})
	}
}

// Campaigns that cannot fire hide none of those that can, however many they are.
func TestDueCampaignsAreLookedAtByTurns(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	now := time.Now()
	w.dueCampaign("old 0", "audience: {followers: true}", now.Add(-time.Hour))
	w.exec(`INSERT INTO campaign (id, name, account, kind, spec, state, last_tick, next_tick)
		SELECT gen_random_uuid(), 'old ' || n, account, kind, spec, state, last_tick, next_tick FROM campaign, generate_series(1, 249) AS n`)
	young := w.dueCampaign("young", "audience: {followers: true}", now.Add(-time.Second))
	r := &campaignRows{store: w.store}
	seen := map[message.ID]int{}
	for range 6 {
		list, err := r.Due(t.Context(), now)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			seen[d.Campaign]++
		}
	}
	if len(seen) != 251 || seen[young] < 2 {
		t.Errorf("six looks have shown %d campaigns, the youngest %d times, want each of 251 twice", len(seen), seen[young])
	}
	for id, n := range seen {
		if n < 2 || n > 3 {
			t.Errorf("%s was shown %d times", id, n)
		}
	}
	if list, err := (&rota{}).look(t.Context(), w.store, now, true); err != nil || len(list) != postgres.DueAtOnce {
		t.Errorf("a look at those that are fetched shows %d, %v", len(list), err)
	}
}

// Not parallel: the offset is the process's.
func TestAClockThatIsPutRightHoldsNoFetchUp(t *testing.T) {
	w := newWard(t)
	behind := func(d time.Duration) {
		now := time.Now()
		clock.Follow(now.Add(d), now, now)
	}
	t.Cleanup(func() { behind(0) })
	id := w.dueCampaign("list", "audience: {followers: true}", time.Now().Add(-time.Second))
	f := &pump{turns: map[message.ID]int{}, work: func(context.Context, postgres.Campaign, func() bool) error { return nil }}
	behind(10 * time.Minute)
	w.pulls(f, time.Second)
	eventually(t, 20*time.Second, "fetch", func() bool { return f.had(id) > 0 })
	behind(0)
	had := f.had(id)
	eventually(t, 20*time.Second, "fetch once the clock was put right", func() bool { return f.had(id) > had+1 })
}
