package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func (b *bundle) around(id message.ID) Around {
	b.Helper()
	a, err := b.store.Around(b.ctx, b.status(id))
	if err != nil {
		b.Fatal(err)
	}
	return a
}

func TestAround(t *testing.T) {
	b := setup(t)
	p := newParcel(5)
	b.accept(p)
	m := p.Messages
	if a := b.around(m[0].ID); a.Queued.IsZero() || !a.WorkerSeen.IsZero() || a.Pod != "" || a.Refusal != nil {
		t.Errorf("an accepted message: %+v, want its parcel in the outbox, and no worker", a)
	}
	c := b.committer(CommitterOptions{})
	now := time.Now()
	park := func(m *message.Message, why outcome.Reason, due time.Time) {
		t.Helper()
		b.verdict(c, m, p.ID, outcome.Outcome{Status: outcome.Parked, Reason: why, Until: due}, Effects{})
	}
	t.Run("those that are released first are counted", func(t *testing.T) {
		park(m[0], outcome.Backoff, now.Add(-time.Second))
		park(m[1], outcome.Quota, now.Add(-time.Minute))
		park(m[2], outcome.Quota, now.Add(-time.Second))
		park(m[3], outcome.NotBefore, now.Add(time.Hour))
		for i, want := range []int{0, 1, 2, 0} { // of one that is not due nobody knows
			if a := b.around(m[i].ID); a.Before != want {
				t.Errorf("message %d: %d before it, want %d", i, a.Before, want)
			}
		}
	})
	t.Run("a claim names its worker", func(t *testing.T) {
		b.claim(c, m[4], p.ID)
		if a := b.around(m[4].ID); a.Pod == "" || a.Now.Sub(a.PodSeen) > time.Minute || a.WorkerSeen.Before(a.PodSeen) {
			t.Errorf("a claimed message: %+v, want its worker, alive", a)
		}
	})
	t.Run("the fallback and the refusal are found", func(t *testing.T) {
		q := newParcel(1)
		first := q.Messages[0]
		b.accept(q)
		b.verdict(c, first, q.ID, outcome.Outcome{Status: outcome.Skipped, Reason: outcome.WindowClosed}, Effects{
			Fallback: &message.Message{Kind: message.Template, Body: []byte(`{"template_id":"T2"}`)},
			Suppress: &Suppression{OpenID: first.To, TemplateID: "T9", ErrCode: 43101},
		})
		a := b.around(first.ID)
		if a.Instead.IsZero() || b.status(a.Instead).Message.Parent != first.ID {
			t.Errorf("fallback %s, want the message's", a.Instead)
		}
		if a.Refusal != nil {
			t.Errorf("refusal %+v is of another template", a.Refusal)
		}
		if _, err := b.store.pool.Exec(b.ctx, `UPDATE suppression SET template_id = 'T2'`); err != nil {
			t.Fatal(err)
		}
		if r := b.around(a.Instead).Refusal; r == nil || r.TemplateID != "T2" || r.ErrCode != 43101 || r.Since.IsZero() {
			t.Errorf("refusal %+v, want that of T2", r)
		}
	})
	if _, err := b.store.Around(b.ctx, Status{Message: &message.Message{ID: message.NewID(now)}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("an unknown message: %v, want %v", err, ErrNotFound)
	}
}
