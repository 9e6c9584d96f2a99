package postgres

import (
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestCensus(t *testing.T) {
	b := setup(t)
	now := time.Now()
	census := func() Census {
		t.Helper()
		c, err := b.store.Census(b.ctx, now.Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if c := census(); len(c.Stocks) != 0 || len(c.Workers) != 0 || c.Left != 0 || c.Rejected != 0 {
		t.Errorf("an empty ledger: %+v", c)
	}

	// Five accepted, of which one is parked and due, one is parked for later and one is claimed by a worker.
	c := b.committer(CommitterOptions{})
	p := newParcel(5)
	b.accept(p)
	for i, due := range []time.Time{now.Add(-time.Minute), now.Add(time.Hour)} {
		if _, err := c.Verdict(b.ctx, p.Messages[i], p.ID, outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: due}, Effects{}); err != nil {
			t.Fatal(err)
		}
	}
	b.claim(c, p.Messages[2], p.ID)
	if err := b.store.Reject(b.ctx, "normal", "x", "message:send", []byte("x"), "no parcel"); err != nil {
		t.Fatal(err)
	}
	got := census()
	if len(got.Stocks) != 1 {
		t.Fatalf("stocks = %+v", got.Stocks)
	}
	s := got.Stocks[0]
	if s.Account != "shop" || s.Kind != message.Template || s.Queued != 5 || s.Parked != 2 || s.Due != 1 {
		t.Errorf("stock = %+v, want 5 in the parcel, 2 parked, 1 of them due", s)
	}
	if s.DueFor < time.Minute || s.DueFor > 5*time.Minute || s.QueuedFor <= 0 || s.QueuedFor > 5*time.Minute {
		t.Errorf("due for %v, queued for %v", s.DueFor, s.QueuedFor)
	}
	if got.Workers["test"] != 1 || got.Left != 0 || got.Rejected != 1 {
		t.Errorf("census = %+v, want one worker that lives and one rejected task", got)
	}

	if _, err := b.store.pool.Exec(b.ctx, `UPDATE pod SET seen_at = now() - interval '40 seconds'`); err != nil {
		t.Fatal(err)
	}
	if got = census(); len(got.Workers) != 0 || got.Left < 40*time.Second || got.Left > 5*time.Minute {
		t.Errorf("with a dead worker: %+v, want its silence", got)
	}
}

// What a running campaign is still to send counts as waiting long before it is messages: the autoscaler must know of it.
func TestCensusCountsCampaigns(t *testing.T) {
	b := setup(t)
	id, _ := b.started(1200, nil)
	waiting := func() (n int64) {
		t.Helper()
		c, err := b.store.Census(b.ctx, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range c.Stocks {
			if s.Account != "shop" || s.Kind != message.Template {
				t.Errorf("stock = %+v, want none but shop's template messages", s)
			}
			n += s.Campaign
		}
		return n
	}
	if n := waiting(); n != 1200 {
		t.Errorf("%d recipients wait, want 1200", n)
	}
	if _, err := b.store.pool.Exec(b.ctx, `UPDATE campaign SET state = 'paused' WHERE id = $1`, [16]byte(id)); err != nil {
		t.Fatal(err)
	}
	if n := waiting(); n != 0 {
		t.Errorf("%d recipients of a paused campaign wait, want 0", n)
	}
}

func TestMigratedSaysWhatIsWrong(t *testing.T) {
	b := setup(t)
	if err := b.store.Migrated(b.ctx); err != nil {
		t.Errorf("after migrating: %v", err)
	}
	for change, want := range map[string]string{
		"SET version = version - 1": "needs",
		"SET version = version + 9": "", // a newer one: workers of this version run on
		"SET dirty = true":          "half-way",
	} {
		if _, err := b.store.pool.Exec(b.ctx, "UPDATE schema_migrations "+change); err != nil {
			t.Fatal(err)
		}
		if err := b.store.Migrated(b.ctx); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("after %s: %v, want %q", change, err, want)
		}
		if _, err := b.store.pool.Exec(b.ctx, "UPDATE schema_migrations SET dirty = false, version = $1", mustWanted(t)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.store.pool.Exec(b.ctx, "DELETE FROM schema_migrations"); err != nil {
		t.Fatal(err)
	}
	if err := b.store.Migrated(b.ctx); err == nil {
		t.Error("an empty schema is taken for a good one")
	}
}

func mustWanted(t *testing.T) uint {
	t.Helper()
	v, err := wanted()
	if err != nil {
		t.Fatal(err)
	}
	return v
}
