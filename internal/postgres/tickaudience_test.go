package postgres

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestAnAudienceIsFetchedOnceForATick(t *testing.T) {
	b := setup(t)
	id := b.draft(func(s *campaign.Spec) { s.Audience = campaign.Source{Kind: campaign.FromFollowers} })
	c, err := b.store.Campaign(b.ctx, id.String())
	b.ok(err)
	tick := time.Now().Truncate(time.Microsecond)
	a, err := b.store.TickAudience(b.ctx, id, tick, "followers", nil)
	b.ok(err)
	pages := map[string][]message.OpenID{"": {"oA", "oB"}, "oB": {"oC"}, "oC": nil}
	dead := errors.New("the worker dies")
	asked := []string{}
	page := func(_ context.Context, cursor string) ([]message.OpenID, string, error) {
		if asked = append(asked, cursor); len(asked) == 2 {
			return nil, "", dead
		}
		users := pages[cursor]
		if len(users) == 0 {
			return nil, "", nil
		}
		return users, string(users[len(users)-1]), nil
	}
	for try := range 3 {
		again, err := b.store.TickAudience(b.ctx, id, tick, "followers", nil)
		if err != nil || again.ID != a.ID {
			t.Fatalf("another worker has audience %d, %v, want %d", again.ID, err, a.ID)
		}
		i, err := b.store.NewImport(b.ctx, c, again)
		b.ok(err)
		if err := i.Pull(b.ctx, page, nil); (try == 0) != errors.Is(err, dead) {
			t.Fatalf("try %d: %v", try, err)
		}
		if ready, err := b.store.ReadyAudience(b.ctx, id, tick); ready != 0 || err != nil {
			t.Errorf("audience %d is ready, %v", ready, err)
		}
		a = i.Audience
	}
	b.ok(b.store.FinishAudience(b.ctx, &a))
	if ready, err := b.store.ReadyAudience(b.ctx, id, tick); ready != a.ID || err != nil {
		t.Errorf("audience %d is ready, %v, want %d", ready, err, a.ID)
	}
	if want := []string{"", "oB", "oB", "oC"}; !slices.Equal(asked, want) {
		t.Errorf("pages asked for behind %q, want %q: what was fetched is not fetched again", asked, want)
	}
	if got := b.strings(`SELECT n || openid FROM recipient ORDER BY n`); !slices.Equal(got, []string{"1oA", "2oB", "3oC"}) {
		t.Errorf("recipients %q", got)
	}

	other, err := b.store.TickAudience(b.ctx, id, tick.Add(time.Hour), "followers", nil)
	if err != nil || other.ID == a.ID || other.Total != 0 {
		t.Errorf("another tick has %+v, %v", other, err)
	}
}
