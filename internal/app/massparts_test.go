package app

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// massCampaign starts one over n users.
func (w *ward) massCampaign(n int) message.ID {
	w.Helper()
	id := w.massDraft(n, "")
	_, err := w.store.StartCampaign(w.Context(), id, time.Now(), time.Time{})
	if err != nil {
		w.Fatal(err)
	}
	return id
}

// massDraft writes one down, with more lines of a spec.
func (w *ward) massDraft(n int, more string) message.ID {
	w.Helper()
	spec, err := campaign.ParseSpec([]byte("name: news\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: 上新}}\n" + more))
	if err != nil {
		w.Fatal(err)
	}
	id := message.NewID(time.Now())
	ctx := w.Context()
	check := func(err error) {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
	}
	check(w.store.CreateCampaign(ctx, spec, id))
	a, err := w.store.BeginAudience(ctx, id, "file:a.csv", nil)
	check(err)
	check(w.store.CopyRecipients(ctx, &a, func(yield func(message.OpenID, []string) bool) {
		for i := range n {
			if !yield(message.OpenID(fmt.Sprintf("oUser%07d", i)), nil) {
				return
			}
		}
	}, nil))
	check(w.store.FinishAudience(ctx, &a))
	return id
}

// feedParts is a feeder's turn: it queues up to n parts, or looks after those that there are.
func (w *ward) feedParts(r *campaignRows, n int) {
	w.Helper()
	firings, err := r.Firings(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range firings {
		if _, err := r.Tidy(w.Context(), f.ID); err != nil {
			w.Fatal(err)
		}
		if n == 0 {
			continue
		}
		if chunks, err := r.QueueChunks(w.Context(), f.ID, n); err != nil || len(chunks) > 0 {
			w.Fatalf("queued %v, %v: parts of a mass send are no chunks of the queue", chunks, err)
		}
	}
	w.settle()
}

// settle is the settler's turns until it finds no more.
func (w *ward) settle() {
	w.Helper()
	for more := true; more; {
		var err error
		if more, err = (settling{store: w.store}).Settle(w.Context()); err != nil {
			w.Fatal(err)
		}
	}
}

func (w *ward) states(id message.ID) (list []string) {
	w.Helper()
	rows, err := w.db.Query(w.Context(), `SELECT recipient || ' ' || status FROM outcomes WHERE campaign_id = $1 ORDER BY id`, id.String())
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			w.Fatal(err)
		}
		list = append(list, s)
	}
	return list
}

func TestAPartIsAcceptedOnceWhateverDies(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	rows := func() *campaignRows { return &campaignRows{store: w.store, rdb: w.rdb, queue: w.enqueuer} }
	id := w.massCampaign(20_001)
	w.feedParts(rows(), 1)
	if got, want := w.states(id), []string{"list:6667 accepted"}; !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	// The feeder has died before it noted that the part is accepted: another one makes it again.
	if _, err := w.db.Exec(t.Context(), `UPDATE chunk SET state = 'queued', until = now() - interval '1 second' WHERE state = 'settling'`); err != nil {
		t.Fatal(err)
	}
	w.feedParts(rows(), 0)
	if got, want := w.states(id), []string{"list:6667 accepted"}; !slices.Equal(got, want) {
		t.Errorf("made again: %v, want %v", got, want)
	}
	if f, err := w.store.OpenFirings(t.Context()); err != nil || f[0].Busy != 1 {
		t.Errorf("%d parts are busy, %v, want the one that is accepted", f[0].Busy, err)
	}
	p, err := w.store.CampaignProgress(t.Context(), id.String())
	if err != nil || p.Total != 3 || p.Waiting != 2 {
		t.Errorf("%d parts, %d waiting, %v, want 3 and 2", p.Total, p.Waiting, err)
	}

	// Cancelled, what has not gone ends so, and the firing with it.
	if _, err := w.store.MoveCampaign(t.Context(), id, campaign.Cancel, "the text is wrong"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Cancel(t.Context(), campaign.MessageID(p.Firing.StartedAt, p.Firing.ID, 1)); err != nil {
		t.Fatal(err)
	}
	w.feedParts(rows(), 20)
	if got, want := w.states(id), []string{"list:6667 cancelled", "list:6667 cancelled", "list:6667 cancelled"}; !slices.Equal(got, want) {
		t.Errorf("cancelled: %v, want %v", got, want)
	}
	w.feedParts(rows(), 0)
	if f, err := w.store.OpenFirings(t.Context()); err != nil || len(f) > 0 {
		t.Errorf("the firing is open: %+v, %v", f, err)
	}
}

// A part that the ledger does not take ends its firing, and no other.
func TestARefusedPartEndsItsFiring(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	ctx := t.Context()
	id := w.massDraft(30_000, "schedule: {cron: \"0 10 * * *\"}\n")
	tick := time.Date(2026, 11, 28, 2, 0, 0, 0, time.UTC)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.store.StartCampaign(ctx, id, tick.Add(-time.Hour), tick)
	ok(err)
	r := &campaignRows{store: w.store, rdb: w.rdb, queue: w.enqueuer}
	fire := func() {
		t.Helper()
		made, err := r.Fire(ctx, id, tick)
		if err != nil || !made {
			t.Fatalf("fired: %v, %v", made, err)
		}
		ok(w.store.Ticked(ctx, id, tick, tick.AddDate(0, 0, 1)))
		tick = tick.AddDate(0, 0, 1)
	}
	fire()
	w.feedParts(r, 1) // the first part goes
	w.exec(`UPDATE message SET state = 'sent', finished_at = now()`)
	w.settle()
	firings, err := r.Firings(ctx)
	ok(err)
	open := r.open[firings[0].ID]
	open.Of.Spec.Labels = map[string]string{"season": "\x00"} // no row can hold that
	_, err = r.QueueChunks(ctx, open.ID, 1)
	ok(err)
	for range 2 {
		w.feedParts(r, 2)
	}
	if got, want := w.states(id), []string{"list:10000 sent", "list:10000 cancelled"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p, err := w.store.CampaignProgress(ctx, id.String())
	ok(err)
	if want := (postgres.Tally{"sent": 1, "failed invalid": 1, "cancelled cancelled": 1}); p.EndedAt.IsZero() || !maps.Equal(p.Outcomes, want) {
		t.Errorf("the firing has ended at %v with %v, want %v", p.EndedAt, p.Outcomes, want)
	}
	if c := p.Campaign; c.State != campaign.Scheduled || !strings.HasPrefix(c.Reason, "its firing of 2026-11-28T02:00:00Z ended: ") {
		t.Errorf("the campaign is %s (%s), want it to wait for its next tick and to say why", c.State, c.Reason)
	}
	fire()
	w.feedParts(r, 1)
	if got := w.states(id); len(got) != 3 || got[2] != "list:10000 accepted" {
		t.Errorf("at the next tick: %v, want its first part on its way", got)
	}

	// Without a next tick, that is the campaign's end.
	ok(w.store.Ticked(ctx, id, tick, time.Time{}))
	w.exec(`UPDATE message SET state = 'sent', finished_at = now() WHERE state = 'accepted'`)
	w.settle()
	firings, err = r.Firings(ctx)
	ok(err)
	r.open[firings[0].ID].Of.Spec.Labels = map[string]string{"season": "\x00"}
	_, err = r.QueueChunks(ctx, firings[0].ID, 1)
	ok(err)
	for range 2 {
		w.feedParts(r, 2)
	}
	if f, err := w.store.OpenFirings(ctx); err != nil || len(f) > 0 {
		t.Errorf("the firing is open: %+v, %v", f, err)
	}
	if c, err := w.store.Campaign(ctx, id.String()); err != nil || c.State != campaign.Failed || c.Reason == "" {
		t.Errorf("the campaign is %s (%s), %v, want it failed", c.State, c.Reason, err)
	}
}

func TestFailedPartsAreTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	ctx := t.Context()
	r := &campaignRows{store: w.store, rdb: w.rdb, queue: w.enqueuer}
	end := func(recipient, as string) { // as WeChat answers
		t.Helper()
		if _, err := w.db.Exec(ctx, `UPDATE message m SET state = split_part($2, ' ', 1)::message_state, reason = split_part($2, ' ', 2)::message_reason, finished_at = now()
			FROM message_body b WHERE b.id = m.id AND m.state = 'accepted' AND b.recipient = $1`, recipient, as); err != nil {
			t.Fatal(err)
		}
	}
	id := w.massCampaign(20_001)
	for _, as := range []string{"sent none", "failed refused_request", "sent none"} {
		w.feedParts(r, 1)
		end("list:6667", as)
		w.settle()
	}
	w.wantStates(id, "list:6667 sent", "list:6667 failed", "list:6667 sent")
	if n, err := w.store.CountFailed(ctx, id, []string{"failed"}, nil); n != 6667 || err != nil {
		t.Errorf("%d users would be sent to again, %v, want those of one part", n, err)
	}
	if _, err := w.store.RetryFailed(ctx, id, []string{"failed"}, []string{"invalid"}, time.Now()); !errors.Is(err, postgres.ErrNothingToRetry) {
		t.Errorf("retry for a reason that no part has: %v", err)
	}
	f, err := w.store.RetryFailed(ctx, id, []string{"failed"}, nil, time.Now())
	if err != nil || f.Total != 6667 {
		t.Fatalf("the retry goes to %d, %v, want those of one part", f.Total, err)
	}
	w.feedParts(r, 1)
	w.wantStates(id, "list:6667 sent", "list:6667 failed", "list:6667 sent", "list:6667 accepted")
	var same bool
	if err := w.db.QueryRow(ctx, `SELECT count(DISTINCT b.recipients) = 1 FROM message m JOIN message_body b ON b.id = m.id WHERE m.state IN ('failed', 'accepted')`).Scan(&same); err != nil || !same {
		t.Errorf("the retry goes to others than the failed part, %v", err)
	}
	if _, err := w.store.RetryFailed(ctx, id, []string{"failed"}, nil, time.Now()); !errors.Is(err, postgres.ErrFiringOpen) {
		t.Errorf("a second retry: %v", err)
	}
	end("list:6667", "sent none")
	w.settle()
	if _, err := w.store.RetryFailed(ctx, id, []string{"failed"}, nil, time.Now()); !errors.Is(err, postgres.ErrNothingToRetry) {
		t.Errorf("a retry when all has been sent: %v", err)
	}
}

func TestAMassSendToATagIsTriedAgainWhole(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	ctx := t.Context()
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	spec, err := campaign.ParseSpec([]byte("name: news\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: 上新}}\naudience: {tag: 2}\n"))
	ok(err)
	id := message.NewID(time.Now())
	ok(w.store.CreateCampaign(ctx, spec, id))
	a, err := w.store.BeginAudience(ctx, id, "tag:2", nil)
	ok(err)
	ok(w.store.FinishFiltered(ctx, &a))
	_, err = w.store.StartCampaign(ctx, id, time.Now(), time.Time{})
	ok(err)
	r := &campaignRows{store: w.store, rdb: w.rdb, queue: w.enqueuer}
	w.feedParts(r, 1)
	w.exec(`UPDATE message SET state = 'failed', reason = 'retries_exhausted', finished_at = now()`)
	w.settle()
	if n, err := w.store.CountFailed(ctx, id, []string{"failed"}, nil); n != 1 || err != nil {
		t.Errorf("%d would be sent again, %v, want the one message", n, err)
	}
	f, err := w.store.RetryFailed(ctx, id, []string{"failed"}, nil, time.Now())
	if err != nil || f.Total != 1 {
		t.Fatalf("the retry has %d parts, %v, want one", f.Total, err)
	}
	w.feedParts(r, 1)
	w.wantStates(id, "tag:2 failed", "tag:2 accepted")
}

func (w *ward) wantStates(id message.ID, want ...string) {
	w.Helper()
	if got := w.states(id); !slices.Equal(got, want) {
		w.Errorf("got %v, want %v", got, want)
	}
}
