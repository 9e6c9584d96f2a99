package app

import (
	"context"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A rota is the order in which due campaigns are looked at where one look shows only some of them: who was seen goes to the
// end of the line. So those that cannot fire yet, or whose audience cannot be fetched, hide nobody.
type rota struct{ seen []message.ID }

func (r *rota) look(ctx context.Context, store *postgres.Store, now time.Time, pulled bool) ([]postgres.Campaign, error) {
	due, err := store.DueCampaigns(ctx, now, postgres.DueFilter{Pulled: pulled, Behind: r.seen})
	if err != nil {
		return nil, err
	}
	if len(due) < postgres.DueAtOnce { // it has shown them all
		r.seen = nil
		return due, nil
	}
	shown := make(map[message.ID]bool, len(due))
	for _, c := range due {
		shown[c.ID] = true
	}
	r.seen = slices.DeleteFunc(r.seen, func(id message.ID) bool { return shown[id] })
	for _, c := range due {
		r.seen = append(r.seen, c.ID)
	}
	return due, nil
}
