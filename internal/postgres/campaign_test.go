package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// draft writes a campaign down, under a name of its own.
func (b *bundle) draft(change func(*campaign.Spec)) message.ID {
	b.Helper()
	id := message.NewID(time.Now())
	spec := &campaign.Spec{
		Name: "double-eleven " + id.String(), Account: "shop", Kind: message.Template, Lane: message.Bulk,
		Body: json.RawMessage(`{"template_id":"T1","data":{"thing1":{"value":"{{.name}}"}}}`),
	}
	if change != nil {
		change(spec)
	}
	for range 2 { // a repeated call changes nothing
		if err := b.store.CreateCampaign(b.ctx, spec, id); err != nil {
			b.Fatal(err)
		}
	}
	return id
}

// audience gives the campaign an audience of n that is ready.
func (b *bundle) audience(id message.ID, n int) (audience int32) {
	b.Helper()
	err := b.store.pool.QueryRow(b.ctx, `INSERT INTO audience (campaign, source, columns, state, total) VALUES ($1, 'file:a.csv', '{name}', 'ready', $2) RETURNING id`,
		[16]byte(id), n).Scan(&audience)
	if err != nil {
		b.Fatal(err)
	}
	_, err = b.store.pool.CopyFrom(b.ctx, pgx.Identifier{"recipient"}, []string{"audience", "n", "openid", "vars"},
		pgx.CopyFromSlice(n, func(i int) ([]any, error) {
			return []any{audience, int32(i + 1), fmt.Sprintf("oAudience%019d", i+1), []string{fmt.Sprintf("name %d", i+1)}}, nil
		}))
	if err != nil {
		b.Fatal(err)
	}
	return audience
}

// started is a campaign whose first firing has begun.
func (b *bundle) started(n int, change func(*campaign.Spec)) (message.ID, Firing) {
	b.Helper()
	id := b.draft(change)
	b.audience(id, n)
	if _, err := b.store.StartCampaign(b.ctx, id, time.Now(), time.Time{}); err != nil {
		b.Fatal(err)
	}
	return id, b.firing(id)
}

// firing is the campaign's last.
func (b *bundle) firing(id message.ID) (f Firing) {
	b.Helper()
	f.Campaign = id
	if err := b.store.pool.QueryRow(b.ctx, `SELECT id, tick, audience, started_at, total FROM firing WHERE campaign = $1 ORDER BY id DESC LIMIT 1`,
		[16]byte(id)).Scan(&f.ID, &f.Tick, &f.Audience, &f.StartedAt, &f.Total); err != nil {
		b.Fatal(err)
	}
	return f
}

func (b *bundle) wantCampaign(id message.ID, state campaign.State, reason string) Campaign {
	b.Helper()
	c, err := b.store.Campaign(b.ctx, id.String())
	if err != nil {
		b.Fatal(err)
	}
	if c.State != state || c.Reason != reason {
		b.Fatalf("campaign is %s (%s), want %s (%s)", c.State, c.Reason, state, reason)
	}
	return c
}

func TestCampaignsAreWrittenAndFound(t *testing.T) {
	b := setup(t)
	named := func(name string) func(*campaign.Spec) { return func(s *campaign.Spec) { s.Name = name } }
	first := b.draft(named("double-eleven"))
	taken := &campaign.Spec{Name: "double-eleven", Account: "club", Kind: message.Template, Body: json.RawMessage(`{}`)}
	if err := b.store.CreateCampaign(b.ctx, taken, message.NewID(time.Now())); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a second one of a name: %v", err)
	}
	_, err := b.store.FailCampaign(b.ctx, first, "for another")
	b.ok(err)
	second := b.draft(func(s *campaign.Spec) {
		s.Name, s.Pace, s.Labels = "double-eleven", 20, map[string]string{"season": "11"}
	})
	if got, err := b.store.Campaign(b.ctx, "double-eleven"); err != nil || got.ID != second {
		t.Errorf("one of two has not ended: %s, %v, want %s", got.ID, err, second)
	}
	other := b.draft(func(s *campaign.Spec) { s.Name, s.Account = "other", "club" })
	if got, err := b.store.Campaign(b.ctx, "other"); err != nil || got.ID != other {
		t.Errorf("by name: %s, %v, want %s", got.ID, err, other)
	}
	got, err := b.store.Campaign(b.ctx, second.String())
	b.ok(err)
	if got.Spec.Pace != 20 || got.Spec.Labels["season"] != "11" || got.State != campaign.Draft || !got.NextTick.IsZero() || !got.LastTick.IsZero() {
		t.Errorf("got %+v with spec %+v", got, got.Spec)
	}
	if got, err := b.store.Campaign(b.ctx, first.String()); err != nil || got.ID != first {
		t.Errorf("by id: %s, %v", got.ID, err)
	}
	if _, err := b.store.Campaign(b.ctx, "none"); !errors.Is(err, ErrNoCampaign) {
		t.Errorf("a name that is not there: %v", err)
	}
	for _, tc := range []struct {
		filter CampaignFilter
		want   []message.ID
	}{
		{CampaignFilter{}, []message.ID{other, second, first}},
		{CampaignFilter{Account: "club"}, []message.ID{other}},
		{CampaignFilter{States: []campaign.State{campaign.Running}}, nil},
		{CampaignFilter{Limit: 1}, []message.ID{other}},
	} {
		list, err := b.store.Campaigns(b.ctx, tc.filter)
		var ids []message.ID
		for _, c := range list {
			ids = append(ids, c.ID)
		}
		if err != nil || !slices.Equal(ids, tc.want) {
			t.Errorf("%+v: %v, %v, want %v", tc.filter, ids, err, tc.want)
		}
	}
	_, err = b.store.FailCampaign(b.ctx, second, "for another")
	b.ok(err)
	if c, err := b.store.Campaign(b.ctx, "double-eleven"); err != nil || c.ID != second {
		t.Errorf("of two of a name that have ended it means %v, %v; want the youngest, %v", c.ID, err, second)
	}
}

// Whoever creates a campaign at the same moment under the same name, one gets it.
func TestANameIsTakenOnce(t *testing.T) {
	b := setup(t)
	var made, taken atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			spec := &campaign.Spec{Name: "double-eleven", Account: "shop", Kind: message.Template, Body: json.RawMessage(`{}`)}
			switch err := b.store.CreateCampaign(b.ctx, spec, message.NewID(time.Now())); {
			case err == nil:
				made.Add(1)
			case errors.Is(err, ErrNameTaken):
				taken.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 || taken.Load() != 7 {
		t.Errorf("%d were created and %d told that the name is taken, want 1 and 7", made.Load(), taken.Load())
	}
}

func TestCampaignsMove(t *testing.T) {
	b := setup(t)
	move := func(id message.ID, v campaign.Verb, want campaign.State) {
		t.Helper()
		got, err := b.store.MoveCampaign(b.ctx, id, v, "by hand")
		if err != nil || got != want {
			t.Fatalf("%s: %s, %v, want %s", v, got, err, want)
		}
	}
	id, _ := b.started(10, nil)
	b.wantCampaign(id, campaign.Running, "")
	move(id, campaign.Pause, campaign.Paused)
	b.wantCampaign(id, campaign.Paused, "by hand")
	if _, err := b.store.MoveCampaign(b.ctx, id, campaign.Pause, ""); !errorIs[*campaign.MoveError](err) {
		t.Errorf("a second pause: %v", err)
	}
	if held, err := b.store.HoldCampaign(b.ctx, id, campaign.Throttled, "quota", time.Now()); held || err != nil {
		t.Errorf("a paused campaign is held: %v, %v", held, err)
	}
	move(id, campaign.Resume, campaign.Running)
	until := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	if held, err := b.store.HoldCampaign(b.ctx, id, campaign.Throttled, "quota", until); !held || err != nil {
		t.Fatalf("a running campaign is not held: %v, %v", held, err)
	}
	if c := b.wantCampaign(id, campaign.Throttled, "quota"); !c.Until.Equal(until) {
		t.Errorf("until %v, want %v", c.Until, until)
	}
	if freed, err := b.store.FreeCampaign(b.ctx, id); !freed || err != nil {
		t.Fatalf("a throttled campaign is not freed: %v, %v", freed, err)
	}
	move(id, campaign.Cancel, campaign.Cancelled)
	b.wantCampaign(id, campaign.Cancelled, "by hand")
	if failed, err := b.store.FailCampaign(b.ctx, id, "too late"); failed || err != nil {
		t.Errorf("a cancelled campaign fails: %v, %v", failed, err)
	}
	if _, err := b.store.MoveCampaign(b.ctx, message.NewID(time.Now()), campaign.Pause, ""); !errors.Is(err, ErrNoCampaign) {
		t.Errorf("a campaign that is not there: %v", err)
	}
}

func errorIs[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestAFiringHasItsChunks(t *testing.T) {
	b := setup(t)
	for _, tc := range []struct {
		total, canary int
		want          []string
	}{
		{1, 0, []string{"1: 1-1"}},
		{500, 0, []string{"1: 1-500"}},
		{1001, 0, []string{"1: 1-500", "2: 501-1000", "3: 1001-1001"}},
		{1001, 10, []string{"0: 1-10", "1: 11-510", "2: 511-1001"}},
		{10, 10, []string{"1: 1-10"}}, // nobody would be left to wait for the look
	} {
		_, f := b.started(tc.total, func(s *campaign.Spec) { s.Canary = tc.canary })
		got := b.strings(`SELECT format('%s: %s-%s', no, first, last) FROM chunk WHERE firing = $1 AND state = 'waiting' ORDER BY no`, f.ID)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%d recipients, canary %d: chunks %v, want %v", tc.total, tc.canary, got, tc.want)
		}
	}
	id := b.draft(nil)
	if _, err := b.store.StartCampaign(b.ctx, id, time.Now(), time.Time{}); !errors.Is(err, ErrNoAudience) {
		t.Errorf("a campaign without audience starts: %v", err)
	}
	b.wantCampaign(id, campaign.Draft, "")
}

func TestATickFiresOnce(t *testing.T) {
	b := setup(t)
	id := b.draft(nil)
	b.audience(id, 600)
	tick := time.Now().Truncate(time.Second)
	if state, err := b.store.StartCampaign(b.ctx, id, tick.Add(-time.Minute), tick); err != nil || state != campaign.Scheduled {
		t.Fatalf("start: %s, %v", state, err)
	}
	if due, err := b.store.DueCampaigns(b.ctx, tick.Add(-time.Second), DueFilter{}); err != nil || len(due) > 0 {
		t.Fatalf("due before its tick: %v, %v", due, err)
	}
	due, err := b.store.DueCampaigns(b.ctx, tick, DueFilter{})
	if err != nil || len(due) != 1 || due[0].ID != id {
		t.Fatalf("due at its tick: %v, %v", due, err)
	}
	var mu sync.Mutex
	made := 0
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			_, mine, err := b.store.Fire(b.ctx, id, tick, 0)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if mine {
				made++
			}
		})
	}
	wg.Wait()
	if n := b.count(`SELECT count(*) FROM firing`); made != 1 || n != 1 {
		t.Errorf("%d schedulers of 5 made a firing, and there are %d, want 1", made, n)
	}
	if n := b.count(`SELECT count(*) FROM chunk`); n != 2 {
		t.Errorf("%d chunks, want 2", n)
	}
	b.wantCampaign(id, campaign.Running, "")
	next := tick.Add(time.Hour)
	for range 2 {
		if err := b.store.Ticked(b.ctx, id, tick, next); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.store.Ticked(b.ctx, id, tick.Add(-time.Second), tick.Add(time.Minute)); err != nil { // a slow clock
		t.Fatal(err)
	}
	if c := b.wantCampaign(id, campaign.Running, ""); !c.NextTick.Equal(next) || !c.LastTick.Equal(tick) {
		t.Errorf("followed up to %v, next %v, want %v and %v", c.LastTick, c.NextTick, tick, next)
	}
}

// Five schedulers whose clocks differ by seconds, one of which dies now and then between a firing and the schedule's
// moving on: a hundred ticks are a hundred firings.
func TestFiveSchedulersFireAHundredTicksOnce(t *testing.T) {
	b := setup(t)
	id := b.draft(nil)
	b.audience(id, 1)
	const ticks = 100
	base := time.Now().Truncate(time.Second)
	if _, err := b.store.StartCampaign(b.ctx, id, base, base.Add(time.Second)); err != nil {
		b.Fatal(err)
	}
	next := func(after time.Time) time.Time {
		if n := after.Truncate(time.Second).Add(time.Second); n.Sub(base) <= ticks*time.Second {
			return n
		}
		return time.Time{}
	}
	schedule := func(now time.Time, dies func() bool) error {
		due, err := b.store.DueCampaigns(b.ctx, now, DueFilter{})
		if err != nil {
			return err
		}
		for _, c := range due {
			for tick := next(c.LastTick); !tick.IsZero() && !tick.After(now); tick = next(tick) {
				if _, _, err := b.store.Fire(b.ctx, c.ID, tick, 0); err != nil {
					return err
				}
			}
			if dies() {
				return nil
			}
			if err := b.store.Ticked(b.ctx, c.ID, now, next(now)); err != nil {
				return err
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	for n := range 5 {
		wg.Go(func() {
			skew := time.Duration(n-2) * 700 * time.Millisecond
			for at := time.Duration(0); at < (ticks+5)*time.Second; at += 600 * time.Millisecond {
				if err := schedule(base.Add(at+skew), func() bool { return int(at/time.Millisecond)%7 == n }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := b.count(`SELECT count(DISTINCT tick) FROM firing`); n != ticks || b.count(`SELECT count(*) FROM firing`) != ticks {
		t.Errorf("%d firings of %d ticks, want %d", b.count(`SELECT count(*) FROM firing`), n, ticks)
	}
	if c := b.wantCampaign(id, campaign.Running, ""); !c.NextTick.IsZero() {
		t.Errorf("after its last tick the next is %v", c.NextTick)
	}
}
