package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
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
	pages := map[string][]message.OpenID{"": {"oA", "oB"}, "oB": {"oA", "oC"}, "oC": nil} // oA has left and come back
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
		i, err := b.store.NewFetch(b.ctx, c, again)
		b.ok(err)
		if err := i.Pull(b.ctx, page, nil); (try == 0) != errors.Is(err, dead) {
			t.Fatalf("try %d: %v", try, err)
		}
		if ready, err := b.store.ReadyAudience(b.ctx, id, tick); ready != 0 || err != nil {
			t.Errorf("audience %d is ready, %v", ready, err)
		}
		if a = i.Audience; try == 2 {
			b.ok(i.Finish(b.ctx))
			a = i.Audience
		}
	}
	if a.Total != 3 || a.Duplicates != 1 {
		t.Errorf("of four %d are left, %d were dropped, want 3 and 1", a.Total, a.Duplicates)
	}
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

func TestWhoeverIsInAFetchTwiceIsDropped(t *testing.T) {
	b := setup(t)
	id := b.draft(nil)
	c, err := b.store.Campaign(b.ctx, id.String())
	b.ok(err)
	_, err = b.store.pool.Exec(b.ctx, `INSERT INTO suppression (account, openid, active, reason, errcode, since)
		SELECT id, 'oGone', true, 'refused_recipient', 43004, now() FROM account WHERE name = $1`, c.Account)
	b.ok(err)
	for _, tc := range []struct {
		blocks     [][]string
		want       []string
		duplicates int32
	}{
		{nil, nil, 0},
		{[][]string{{"oA", "oB", "oGone"}, {"oC"}}, []string{"1oA", "2oB", "3oC"}, 0},
		{[][]string{{"oA", "oA"}}, []string{"1oA"}, 1},
		{[][]string{{"oA", "oB", "oA"}, {"oB", "oC", "oA"}, {"oD", "oGone", "oD"}}, []string{"1oA", "2oB", "3oC", "4oD"}, 4},
		{[][]string{{"oA", "oA", "oA", "oB"}, {"oC", "oD"}}, []string{"1oA", "2oC", "3oD", "4oB"}, 2}, // the last fill the gap
	} {
		a, err := b.store.BeginAudience(b.ctx, id, "sql", []string{"name"})
		b.ok(err)
		i, err := b.store.NewFetch(b.ctx, c, a)
		b.ok(err)
		for _, block := range tc.blocks {
			_, err := i.Add(b.ctx, newcomers(block...), nil)
			b.ok(err)
		}
		b.ok(i.Finish(b.ctx))
		got := b.strings(`SELECT n || openid FROM recipient WHERE audience = $1 AND vars = ARRAY[openid] ORDER BY n`, a.ID)
		if !slices.Equal(got, tc.want) || i.Audience.Total != int32(len(tc.want)) || i.Audience.Duplicates != tc.duplicates {
			t.Errorf("%v: recipients %q, %d of them, %d dropped, want %q, %d dropped", tc.blocks, got, i.Audience.Total, i.Audience.Duplicates, tc.want, tc.duplicates)
		}
		var stored Audience
		list, err := b.store.Audiences(b.ctx, id)
		b.ok(err)
		if stored = list[0]; stored.State != "ready" || stored.Total != i.Audience.Total || stored.Duplicates != tc.duplicates {
			t.Errorf("%v: the row says %+v", tc.blocks, stored)
		}
	}
}

// What a fetch holds in memory does not grow with the list: a worker has 64 MiB for everything.
func TestAFetchHoldsAFewPages(t *testing.T) {
	b := setup(t)
	id := b.draft(func(s *campaign.Spec) { s.Audience = campaign.Source{Kind: campaign.FromFollowers} })
	c, err := b.store.Campaign(b.ctx, id.String())
	b.ok(err)
	a, err := b.store.BeginAudience(b.ctx, id, "followers", nil)
	b.ok(err)
	const pages, size = 40, 10_000
	const few = 4 << 20 // bytes; a page and its block are about one MiB, and the page before may still be reachable
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	i, err := b.store.NewFetch(b.ctx, c, a)
	b.ok(err)
	var first, most int64
	at := 0
	b.ok(i.Pull(b.ctx, func(context.Context, string) ([]message.OpenID, string, error) {
		now := heap()
		if at == 2 { // with what a connection keeps for itself
			first = now
		}
		most = max(most, now)
		if at == pages {
			return nil, "", nil
		}
		at++
		users := make([]message.OpenID, size)
		for n := range users {
			users[n] = message.OpenID(fmt.Sprintf("oFollower%019d", at*size+n))
		}
		return users, string(users[size-1]), nil
	}, nil))
	b.ok(i.Finish(b.ctx))
	if i.Audience.Total != pages*size {
		t.Errorf("%d were fetched, want %d", i.Audience.Total, pages*size)
	}
	if grown := most - first; first == 0 || grown > few {
		t.Errorf("behind %d pages the fetch holds %d KiB more than behind two, want at most %d", pages, grown>>10, few>>10)
	}
}
