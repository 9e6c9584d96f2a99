package postgres

import (
	"slices"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestWhatCampaignsHaveSentToAUser(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(6, nil)
	run := b.take(b.queue(id, 1)[0])
	list := b.recipients(run)
	ends := []outcome.Outcome{
		sent(1),
		{Status: outcome.Failed, Reason: outcome.RefusedRecipient},
		{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now()},
		{Status: outcome.Unknown, Reason: outcome.InDoubt},
	}
	var users []message.OpenID
	for i, r := range list {
		users = append(users, r.OpenID)
		m := letter(run, r)
		if i == 5 { // decided without a call
			b.verdictFor(c, run, m, outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed})
			continue
		}
		claim := b.claimFor(c, run, m)
		if i < len(ends) {
			b.settle(c, m, claim, ends[i], Effects{})
		}
	}
	single := newMessage() // no campaign's
	single.To = users[5]
	b.settle(c, single, b.claim(c, single, message.ID{}), sent(9), Effects{})

	got, err := b.store.CampaignSends(b.ctx, "shop", users, time.Now().Add(-time.Minute), true)
	b.ok(err)
	var to []message.OpenID
	for _, s := range got {
		to = append(to, s.To)
		if s.Content == "" || time.Since(s.At).Abs() > time.Minute {
			t.Errorf("got %+v", s)
		}
	}
	slices.Sort(to)
	if want := []message.OpenID{users[0], users[2], users[3], users[4]}; !slices.Equal(to, want) {
		t.Errorf("sent, or may be sent: %v, want %v", to, want)
	}
	for name, list := range map[string]func() ([]CampaignSend, error){
		"of another account": func() ([]CampaignSend, error) {
			return b.store.CampaignSends(b.ctx, "club", users, time.Now().Add(-time.Minute), false)
		},
		"since now": func() ([]CampaignSend, error) {
			return b.store.CampaignSends(b.ctx, "shop", users, time.Now().Add(time.Minute), false)
		},
	} {
		if got, err := list(); err != nil || len(got) > 0 {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// A campaign may take weeks: what it sends today is under an id of the day on which it began.
func TestWhatALongCampaignHasSentCounts(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, f := b.started(2, nil)
	_, err := b.store.pool.Exec(b.ctx, `UPDATE firing SET started_at = started_at - interval '60 days' WHERE id = $1`, f.ID)
	b.ok(err)
	run := b.take(b.queue(id, 1)[0])
	list := b.recipients(run)
	monday := campaign.FrequencyCap{Messages: 1, Per: "week"}.Since(time.Now())
	for _, r := range list {
		m := letter(run, r)
		b.settle(c, m, b.claimFor(c, run, m), sent(1), Effects{})
	}
	_, err = b.store.pool.Exec(b.ctx, `UPDATE message SET intent_at = $1 WHERE n = 2`, monday.Add(-time.Second))
	b.ok(err)
	check := func(when string) {
		t.Helper()
		got, err := b.store.CampaignSends(b.ctx, "shop", []message.OpenID{list[0].OpenID, list[1].OpenID}, monday, false)
		if err != nil || len(got) != 1 || got[0].To != list[0].OpenID {
			t.Errorf("%s: sent this week are %+v, %v, want the one to %s", when, got, err, list[0].OpenID)
		}
	}
	check("while it goes on")
	o := b.open(id)
	b.ok(b.store.EndChunk(b.ctx, run, Tally{"sent": 2}))
	_, err = b.store.EndFiring(b.ctx, o)
	b.ok(err)
	check("when it has ended")
}

func TestWhatAPausedCampaignHasParkedStays(t *testing.T) {
	b := setup(t)
	c := b.committer(CommitterOptions{})
	id, _ := b.started(1, nil)
	run := b.take(b.queue(id, 1)[0])
	m := letter(run, b.recipients(run)[0])
	parked := outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now().Add(-time.Second)}
	b.settle(c, m, b.claimFor(c, run, m), parked, Effects{})
	other := newMessage()
	b.verdict(c, other, message.ID{}, parked, Effects{})
	b.ok(b.store.PutOffParked(b.ctx, b.open(id), time.Second, time.Hour))
	parcels, err := b.store.Release(b.ctx, []Budget{{Account: "shop", Kind: message.Template, N: 10}}, time.Now())
	if err != nil || len(parcels) != 1 || len(parcels[0].Messages) != 1 || parcels[0].Messages[0].ID != other.ID {
		t.Errorf("released %+v, %v, want the other message alone", parcels, err)
	}
}
