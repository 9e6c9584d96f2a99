package app

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// massCampaign starts one over n users.
func (w *ward) massCampaign(n int) message.ID {
	w.Helper()
	spec, err := campaign.ParseSpec([]byte("name: news\naccount: shop\nkind: mass\nmass: {msgtype: text, text: {content: 上新}}\n"))
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
	_, err = w.store.StartCampaign(ctx, id, time.Now(), time.Time{})
	check(err)
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
		if more, err = (settling{w.store}).Settle(w.Context()); err != nil {
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
