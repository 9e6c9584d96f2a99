package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// audiences fetches, for each firing, the audiences that WeChat or a query gives, while this pod is the one that does.
// The row of the audience is the tick's own, each page moves its cursor: whoever comes after a death goes on there.
func (w *pod) audiences(ctx context.Context) error {
	work := func(ctx context.Context) error {
		p := newPuller(w.store, w.log)
		p.fetch = w.fetch
		return p.run(ctx)
	}
	return w.store.Lead(ctx, "audiences", work, func(err error) { w.log.Warn("lead the fetching of audiences", "error", err) })
}

// fetch makes the audience of a tick ready.
func (w *pod) fetch(ctx context.Context, c postgres.Campaign, tick time.Time, over func() bool) error {
	a, err := w.store.TickAudience(ctx, c.ID, tick, c.Spec.Audience.String(), nil)
	if err != nil || a.State != "importing" {
		return err
	}
	if c.Spec.Filtered() { // WeChat has the list
		return w.store.FinishFiltered(ctx, &a)
	}
	var into *postgres.Import
	if c.Spec.Audience.Kind == campaign.FromSQL {
		into, err = w.query(ctx, c, a)
	} else {
		into, err = w.list(ctx, c, a, over)
	}
	if err != nil {
		return err
	}
	return into.Finish(ctx)
}

// list fetches the followers, or those of a tag.
func (w *pod) list(ctx context.Context, c postgres.Campaign, a postgres.Audience, over func() bool) (*postgres.Import, error) {
	account, known := w.accounts[c.Account]
	if !known {
		return nil, fmt.Errorf("account %q is not in this worker's configuration", c.Account)
	}
	into, err := w.store.NewFetch(ctx, c, a)
	if err != nil {
		return nil, err
	}
	return into, into.Pull(ctx, func(ctx context.Context, cursor string) ([]message.OpenID, string, error) {
		if cursor != a.Cursor && over() { // a turn is a page at least
			return nil, "", errTurnOver
		}
		page, err := w.usersOf(ctx, account, c.Spec.Audience.Tag, message.OpenID(cursor))
		return page.Users, string(page.Next), err
	}, nil)
}

func (w *pod) usersOf(ctx context.Context, a *account, tag int, after message.OpenID) (page wechat.UserPage, err error) {
	t, err := w.tokens.Token(ctx, message.AppID(a.AppID))
	if err != nil {
		return page, err
	}
	page, err = a.client.UsersOf(ctx, t, tag, after)
	if refused, ok := errors.AsType[*wechat.Error](err); ok && refused.TokenRefused() {
		if t, err = w.tokens.Refresh(ctx, message.AppID(a.AppID), t); err != nil {
			return page, err
		}
		page, err = a.client.UsersOf(ctx, t, tag, after)
	}
	return page, err
}

// queryBlock is how many rows of a query a worker holds: its memory is for messages.
const queryBlock = 10_000

// query asks the database of audiences. A query has no place to go on at: one that was broken off begins anew.
func (w *pod) query(ctx context.Context, c postgres.Campaign, a postgres.Audience) (into *postgres.Import, err error) {
	url := w.config.Campaigns.Database.Reveal()
	if url == "" {
		return nil, errors.New("campaigns.database is not in this worker's configuration")
	}
	err = postgres.Query{
		URL: url, SQL: c.Spec.Audience.SQL, Block: queryBlock,
		Begin: func(columns []string) (_ *postgres.Import, err error) {
			asked := slices.DeleteFunc(c.Spec.Columns(), func(name string) bool { return slices.Contains(columns, name) })
			if len(asked) > 0 {
				return nil, fmt.Errorf("the texts ask for %s, and the query has no such column", strings.Join(asked, ", "))
			}
			if err := w.store.RestartAudience(ctx, &a, columns); err != nil {
				return nil, err
			}
			into, err = w.store.NewFetch(ctx, c, a)
			return into, err
		},
		Refused: func(postgres.Newcomer, string) error { return nil }, // the audience counts them
	}.Stream(ctx)
	return into, err
}
