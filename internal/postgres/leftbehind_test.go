package postgres

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// silence makes the pod look as if its last heartbeat were 20 s ago.
func (b *bundle) silence(pod int32) {
	b.Helper()
	if _, err := b.store.pool.Exec(b.ctx, `UPDATE pod SET seen_at = now() - interval '20 seconds' WHERE id = $1`, pod); err != nil {
		b.Fatal(err)
	}
}

// resolve resolves everything with one answer.
func (b *bundle) resolve(o outcome.Outcome) (all []LeftBehind) {
	b.Helper()
	for {
		changed, batches, err := b.store.ResolveLeftBehind(b.ctx, 15*time.Second, func(LeftBehind) (outcome.Outcome, string) {
			return o, "its worker fell silent"
		})
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, changed...)
		if batches == 0 {
			return all
		}
	}
}

var (
	again     = outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff}
	nobody    = outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}
	isPoison  = outcome.Outcome{Status: outcome.Dead, Reason: outcome.Poison}
	inFlights = `SELECT count(*) FROM in_flight`
)

func TestWhatADeadPodLeftIsResolved(t *testing.T) {
	t.Run("parked: the fence moves, doubt and the death are kept, and it is released again", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		p := newParcel(3)
		b.accept(p)
		settled := b.claim(c, p.Messages[0], p.ID)
		b.settle(c, p.Messages[0], settled, sent(1), Effects{})
		for _, m := range p.Messages[1:] {
			b.claim(c, m, p.ID)
		}
		if left := b.resolve(again); len(left) > 0 {
			t.Fatalf("the pod lives, and %v was taken from it", left)
		}
		b.silence(c.pod)
		left := b.resolve(again)
		if len(left) != 2 || left[0].Account != "shop" || left[0].Kind != message.Template || left[0].To != p.Messages[1].To && left[0].To != p.Messages[2].To ||
			left[0].Deaths != 1 || left[0].Doubt || left[0].Age < 0 || left[0].Age > time.Minute || left[0].Pod != b.Name() {
			t.Fatalf("left behind: %+v", left)
		}
		b.wantState(p.Messages[0].ID, outcome.Sent, "")
		s := b.wantState(p.Messages[1].ID, outcome.Parked, outcome.Backoff)
		if s.Claim != 2 || !s.Doubt || s.FirstIntent.IsZero() || len(s.Timeline) != 1 || !strings.Contains(s.Timeline[0].Note, "fell silent") {
			t.Errorf("got %+v", s)
		}
		if n := b.count(inFlights); n != 0 {
			t.Errorf("%d rows are in flight", n)
		}
		parcels := b.release(10, time.Now().Add(time.Second))
		if len(parcels) != 1 || len(parcels[0].Messages) != 2 {
			t.Fatalf("released %v", parcels)
		}
		other := b.committer(CommitterOptions{})
		next := b.claim(other, p.Messages[1], parcels[0].ID)
		if !next.OK || next.Number != 3 || !next.Doubt {
			t.Errorf("the next claim is %+v, want number 3, in doubt", next)
		}
	})
	t.Run("a pod that comes back finds its fence moved, and its result is a late event", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		p := newParcel(1)
		b.accept(p)
		m := p.Messages[0]
		claim := b.claim(c, m, p.ID)
		b.silence(c.pod)
		b.resolve(again)
		if b.settle(c, m, claim, sent(7), Effects{}) {
			t.Error("the result of a lost claim took effect")
		}
		s := b.wantState(m.ID, outcome.Parked, outcome.Backoff)
		if n := len(s.Timeline); n != 2 || !strings.Contains(s.Timeline[1].Note, "late result") {
			t.Errorf("timeline: %+v", s.Timeline)
		}
		// The same with its next claim taken by another, on the wire now.
		other := b.committer(CommitterOptions{})
		b.claim(other, m, b.release(1, time.Now().Add(time.Second))[0].ID)
		if b.settle(c, m, claim, outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest}, Effects{}) {
			t.Error("the result of a lost claim took effect over another's")
		}
		b.wantState(m.ID, outcome.Sending, "")
	})
	t.Run("unknown: a pod that comes back with its result still decides it", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		p := newParcel(2)
		b.accept(p)
		first, second := b.claim(c, p.Messages[0], p.ID), b.claim(c, p.Messages[1], p.ID)
		b.silence(c.pod)
		b.resolve(nobody)
		if s := b.wantState(p.Messages[0].ID, outcome.Unknown, outcome.InDoubt); s.Finished.IsZero() || s.Claim != 1 {
			t.Errorf("got %+v", s)
		}
		if !b.settle(c, p.Messages[0], first, sent(8), Effects{}) ||
			!b.settle(c, p.Messages[1], second, outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest, ErrCode: 47003}, Effects{}) {
			t.Error("evidence was refused")
		}
		b.wantState(p.Messages[0].ID, outcome.Sent, "")
		b.wantState(p.Messages[1].ID, outcome.Failed, outcome.RefusedRequest)
	})
	t.Run("deaths are counted over claims", func(t *testing.T) {
		b := setup(t)
		p := newParcel(1)
		b.accept(p)
		parcel := p.ID
		for death := 1; death <= 3; death++ {
			c := b.committer(CommitterOptions{})
			b.claim(c, p.Messages[0], parcel)
			b.silence(c.pod)
			end := again
			if death == 3 {
				end = isPoison
			}
			left := b.resolve(end)
			if len(left) != 1 || left[0].Deaths != death || left[0].Doubt != (death > 1) {
				t.Fatalf("death %d: %+v", death, left)
			}
			if death < 3 {
				if got := b.count(`SELECT count(*) FROM parked WHERE alone`); got != death-1 {
					t.Errorf("after death %d it travels alone: %d", death, got)
				}
				parcel = b.release(1, time.Now().Add(time.Second))[0].ID
			}
		}
		b.wantState(p.Messages[0].ID, outcome.Dead, outcome.Poison)
	})
	t.Run("of a pod without a row", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		p := newParcel(1)
		b.accept(p)
		b.claim(c, p.Messages[0], p.ID)
		if _, err := b.store.pool.Exec(b.ctx, `DELETE FROM pod WHERE id = $1`, c.pod); err != nil {
			t.Fatal(err)
		}
		b.resolve(nobody)
		b.wantState(p.Messages[0].ID, outcome.Unknown, outcome.InDoubt)
	})
	t.Run("once, by two at the same time, updated in place", func(t *testing.T) {
		b := setup(t)
		c := b.committer(CommitterOptions{})
		p := newParcel(100)
		b.accept(p)
		for _, m := range p.Messages {
			b.claim(c, m, p.ID) // a batch each
		}
		b.silence(c.pod)
		var wg sync.WaitGroup
		var n [2]int
		for i := range n {
			wg.Go(func() { n[i] = len(b.resolve(again)) })
		}
		wg.Wait()
		b.resolve(again)
		if n[0]+n[1] != 100 || b.count(`SELECT count(*) FROM event`) != 100 || b.count(`SELECT count(*) FROM parked`) != 100 || b.count(inFlights) != 0 {
			t.Errorf("%v were resolved, %d events", n, b.count(`SELECT count(*) FROM event`))
		}
	})
}

func TestOutbox(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	all := []*message.Parcel{newParcel(3), newParcel(2), newParcel(1), newParcel(1)}
	all[0].Messages[1].Labels, all[0].Messages[1].Key = map[string]string{"a": "b"}, "k1"
	b.accept(all...)
	old := func(list ...*message.Parcel) {
		for _, p := range list {
			if _, err := b.store.pool.Exec(b.ctx, `UPDATE parcel SET created_at = now() - interval '6 seconds' WHERE id = $1`, [16]byte(p.ID)); err != nil {
				t.Fatal(err)
			}
		}
	}
	page := func(after message.ID, limit int) []Waiting {
		t.Helper()
		before := message.FirstID(time.Now().Add(time.Hour))
		list, err := b.store.Outbox(b.ctx, after, before, 5*time.Second, limit)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if list := page(message.ID{}, 10); len(list) > 0 {
		t.Errorf("new parcels are waiting: %v", list)
	}
	old(all[:3]...)
	list := page(message.ID{}, 10)
	if len(list) != 3 || len(page(list[0].ID, 1)) != 1 || page(list[0].ID, 1)[0] != list[1] {
		t.Fatalf("got %v", list)
	}
	// Of the first parcel one message is sent; of the second all are; the third's is parked.
	b.settle(c, all[0].Messages[0], b.claim(c, all[0].Messages[0], all[0].ID), sent(1), Effects{})
	b.claim(c, all[1].Messages[0], all[1].ID)
	b.settle(c, all[1].Messages[1], b.claim(c, all[1].Messages[1], all[1].ID), sent(1), Effects{})
	b.verdict(c, all[2].Messages[0], all[2].ID, outcome.Outcome{Status: outcome.Parked, Reason: outcome.Gate, Until: time.Now()}, Effects{})

	parcels, err := b.store.Rebuild(b.ctx, list)
	if err != nil {
		t.Fatal(err)
	}
	if len(parcels) != 1 || parcels[0].ID != all[0].ID || len(parcels[0].Messages) != 2 {
		t.Fatalf("rebuilt %+v, want what is accepted of the first", parcels)
	}
	got, want := parcels[0].Messages[0], all[0].Messages[1]
	if got.ID != want.ID || got.To != want.To || got.Key != "k1" || got.Labels["a"] != "b" || string(got.Body) != string(want.Body) ||
		got.Account != "shop" || got.Kind != want.Kind || got.Lane != want.Lane {
		t.Errorf("rebuilt %+v, want %+v", got, want)
	}
	if n := b.count(`SELECT count(*) FROM parcel`); n != 2 {
		t.Errorf("%d rows in the outbox, want the first and the new one", n)
	}
	// A release brings the parked one in a new parcel: it never counts for the old one again.
	b.release(1, time.Now().Add(time.Second))
	third := Waiting{ID: all[2].ID, Account: "shop", Kind: message.Template, Lane: message.Normal}
	if parcels, err := b.store.Rebuild(b.ctx, []Waiting{third}); err != nil || len(parcels) > 0 {
		t.Errorf("rebuilt %v, %v of a parcel whose message travels in another", parcels, err)
	}
}
