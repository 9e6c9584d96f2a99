package postgres

import (
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestSuppressionsFollowRefusals(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	p := newParcel(2)
	p.Messages[1].To = p.Messages[0].To
	b.accept(p)
	to := p.Messages[0].To
	_, since, err := b.store.SuppressedSince(b.ctx, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, m := range p.Messages { // two refusals of one user, perhaps in one transaction
		wg.Go(func() {
			claim, err := c.Claim(b.ctx, m, p.ID)
			if err == nil {
				_, err = c.Settle(b.ctx, m, claim, outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 43101},
					Effects{Suppress: &Suppression{OpenID: to, TemplateID: "T1", ErrCode: 43101}})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for template, want := range map[string]bool{"T1": true, "T2": false} {
		if got, err := b.store.IsSuppressed(b.ctx, "shop", to, template); got != want || err != nil {
			t.Errorf("template %s suppressed: %t (%v), want %t", template, got, err, want)
		}
	}
	changed, since, err := b.store.SuppressedSince(b.ctx, since)
	if err != nil || len(changed) != 1 || !changed[0].Active || changed[0].OpenID != to || changed[0].Account != "shop" {
		t.Errorf("changed %+v (%v), want the one suppression", changed, err)
	}
	if err := b.store.RecordInbound(b.ctx, []Inbound{{"shop", to, "message", time.Now().Add(-time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	if got, _ := b.store.IsSuppressed(b.ctx, "shop", to, "T1"); !got {
		t.Error("an event older than the refusal lifted it")
	}
	if err := b.store.RecordInbound(b.ctx, []Inbound{{"shop", to, "message", time.Now().Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	if changed, _, _ = b.store.SuppressedSince(b.ctx, since); len(changed) != 1 || changed[0].Active {
		t.Errorf("changed %+v, want it lifted", changed)
	}
}
