package postgres

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// inDoubt makes a message that an earlier attempt may have sent, and that is accepted again.
func (b *bundle) inDoubt(c *Committer, expires time.Time) (*message.Message, message.ID) {
	b.Helper()
	p := newParcel(1)
	p.Messages[0].ExpiresAt = expires
	b.accept(p)
	m := p.Messages[0]
	claim := b.claim(c, m, p.ID)
	b.settle(c, m, claim, outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now()}, Effects{Doubt: true})
	return m, p.ID
}

func (b *bundle) release(n int, now time.Time) []*message.Parcel {
	b.Helper()
	parcels, err := b.store.Release(b.ctx, []Budget{{Account: "shop", Kind: message.Template, N: n}}, now)
	if err != nil {
		b.Fatal(err)
	}
	return parcels
}

func TestAMessageInDoubtEndsOnlySentOrUnknown(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	skipped := outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed}
	fallback := Effects{Fallback: newMessage()}

	t.Run("a verdict without a claim makes it unknown, and nothing follows", func(t *testing.T) {
		m, _ := b.inDoubt(c, time.Time{})
		parcels := b.release(10, time.Now().Add(time.Second))
		rows := b.count(`SELECT count(*) FROM message`)
		if !b.verdict(c, m, parcels[0].ID, skipped, fallback) {
			t.Fatal("the verdict took no effect")
		}
		b.wantState(m.ID, outcome.Unknown, outcome.InDoubt)
		if got := b.count(`SELECT count(*) FROM message`); got != rows {
			t.Errorf("%d messages more: its fallback was written", got-rows)
		}
	})
	t.Run("the same by the pod that knows of no row", func(t *testing.T) {
		m, _ := b.inDoubt(c, time.Time{})
		parcels := b.release(10, time.Now().Add(time.Second))
		other := b.committer(CommitterOptions{}) // has seen no row yet, so it tries to write one
		if !b.verdict(other, m, parcels[0].ID, skipped, fallback) {
			t.Fatal("the verdict took no effect")
		}
		b.wantState(m.ID, outcome.Unknown, outcome.InDoubt)
	})
	t.Run("expiry while it is parked makes it unknown", func(t *testing.T) {
		m, _ := b.inDoubt(c, time.Now().Add(time.Hour))
		b.release(10, time.Now().Add(2*time.Hour))
		b.wantState(m.ID, outcome.Unknown, outcome.InDoubt)
	})
	t.Run("cancel makes it unknown, and says so", func(t *testing.T) {
		m, _ := b.inDoubt(c, time.Time{})
		r, err := b.store.Cancel(b.ctx, m.ID)
		if err != nil || r.Cancelled || r.State != outcome.Unknown {
			t.Errorf("got %+v, %v; want unknown", r, err)
		}
		b.wantState(m.ID, outcome.Unknown, outcome.InDoubt)
	})
}

func TestWeChatsWindowForRepeatsCountsFromAnAttemptThatMayHaveLeft(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(1)
	b.accept(p)
	m := p.Messages[0]
	first := b.claim(c, m, p.ID)
	b.settle(c, m, first, outcome.Outcome{Status: outcome.Parked, Reason: outcome.Quota, Until: time.Now()}, Effects{})
	again := b.claim(c, m, b.release(1, time.Now().Add(time.Second))[0].ID)
	if !again.FirstIntent.After(first.FirstIntent) {
		t.Errorf("after a refusal that surely was none, the window counts from %v, the refused attempt", again.FirstIntent)
	}
}

func TestWhatWasAttemptedIsReleasedBeforeABacklog(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	backlog := newParcel(5)
	for _, m := range backlog.Messages {
		m.NotBefore = time.Now().Add(time.Minute)
	}
	b.accept(backlog)
	m, _ := b.inDoubt(c, time.Time{})
	later := time.Now().Add(time.Hour) // the backlog was due before it
	if _, err := b.store.pool.Exec(b.ctx, `UPDATE parked SET due_at = now() + interval '30 minutes' WHERE id = $1`, [16]byte(m.ID)); err != nil {
		t.Fatal(err)
	}
	parcels := b.release(1, later)
	if len(parcels) != 1 || parcels[0].Messages[0].ID != m.ID {
		t.Errorf("released %v first, want %s", parcels, m.ID)
	}
}
