package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// audiences fetches, for each firing, the audiences that WeChat or a query gives, while this pod is the one that does.
// The row of the audience is the tick's own, each page moves its cursor: whoever comes after a death goes on there.
func (w *pod) audiences(ctx context.Context) error {
	work := func(ctx context.Context) error {
		p := &puller{pod: w, after: map[message.ID]time.Time{}, busy: map[message.ID]bool{}}
		return p.run(ctx)
	}
	return w.store.Lead(ctx, "audiences", work, func(err error) { w.log.Warn("lead the fetching of audiences", "error", err) })
}

const (
	pullEvery = time.Second
	// pullAgain is how long a fetch that failed waits.
	pullAgain = 30 * time.Second
)

// A puller fetches audiences, those of different campaigns side by side.
type puller struct {
	*pod

	mu    sync.Mutex
	busy  map[message.ID]bool
	after map[message.ID]time.Time // not before: a fetch has failed
}

func (p *puller) run(ctx context.Context) error {
	var pulls sync.WaitGroup
	defer pulls.Wait()
	tick := time.NewTicker(pullEvery)
	defer tick.Stop()
	for {
		now := clock.Now()
		due, err := p.store.DueCampaigns(ctx, now)
		if err != nil && ctx.Err() == nil {
			p.log.Warn("look for audiences to fetch", "error", err)
		}
		for _, c := range due {
			if c.Spec.Audience.Pulled() && p.begins(c.ID, now) {
				pulls.Go(func() { p.pull(ctx, c, now) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// begins says whether a campaign's turn is now, and takes it.
func (p *puller) begins(id message.ID, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy[id] || now.Before(p.after[id]) {
		return false
	}
	p.busy[id] = true
	return true
}

// pull fetches what the campaign's due ticks lack. What goes wrong is told in the campaign's status, and tried again.
func (p *puller) pull(ctx context.Context, c postgres.Campaign, now time.Time) {
	again := time.Time{}
	ticks, _, err := ticksOf(ctx, p.store, c, now)
	if err != nil && ctx.Err() == nil {
		p.log.Warn("look for audiences to fetch", "campaign", c.ID, "error", err)
	}
	for _, tick := range ticks {
		err := p.fetch(ctx, c, tick)
		if err == nil || ctx.Err() != nil {
			continue
		}
		again = retryPull(err, clock.Now())
		p.log.Warn("fetch an audience", "campaign", c.ID, "name", c.Name, "error", err, "again_at", again)
		reason := fmt.Sprintf("its audience cannot be fetched: %v; tried again at %s", err, again.Format(time.RFC3339))
		if err := p.store.NoteCampaign(ctx, c.ID, reason); err != nil && ctx.Err() == nil {
			p.log.Warn("fetch an audience", "campaign", c.ID, "error", err)
		}
		break
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, c.ID)
	p.after[c.ID] = again
}

// retryPull says when a fetch is tried again: soon, or when WeChat's day begins where it refused for the day's quota.
func retryPull(err error, now time.Time) time.Time {
	if refused, ok := errors.AsType[*wechat.Error](err); ok && refused.Disposition() == wechat.QuotaReset {
		return message.NextDay(now)
	}
	return now.Add(pullAgain)
}

// fetch makes the audience of a tick ready.
func (p *puller) fetch(ctx context.Context, c postgres.Campaign, tick time.Time) error {
	a, err := p.store.TickAudience(ctx, c.ID, tick, c.Spec.Audience.String(), nil)
	if err != nil || a.State != "importing" {
		return err
	}
	if c.Spec.Filtered() { // WeChat has the list
		return p.store.FinishFiltered(ctx, &a)
	}
	if c.Spec.Audience.Kind == campaign.FromSQL {
		err = p.query(ctx, c, &a)
	} else {
		err = p.list(ctx, c, &a)
	}
	if err != nil {
		return err
	}
	return p.store.FinishAudience(ctx, &a)
}

// list fetches the followers, or those of a tag.
func (p *puller) list(ctx context.Context, c postgres.Campaign, a *postgres.Audience) error {
	account, known := p.accounts[c.Account]
	if !known {
		return fmt.Errorf("account %q is not in this worker's configuration", c.Account)
	}
	into, err := p.store.NewImport(ctx, c, *a)
	if err != nil {
		return err
	}
	err = into.Pull(ctx, func(ctx context.Context, cursor string) ([]message.OpenID, string, error) {
		page, err := p.usersOf(ctx, account, c.Spec.Audience.Tag, message.OpenID(cursor))
		return page.Users, string(page.Next), err
	}, nil)
	*a = into.Audience
	return err
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

// query asks the database of audiences. A query has no place to go on at: one that was broken off begins anew.
func (p *puller) query(ctx context.Context, c postgres.Campaign, a *postgres.Audience) error {
	url := p.config.Campaigns.Database.Reveal()
	if url == "" {
		return errors.New("campaigns.database is not in this worker's configuration")
	}
	var into *postgres.Import
	err := postgres.Query{
		URL: url, SQL: c.Spec.Audience.SQL,
		Begin: func(columns []string) (_ *postgres.Import, err error) {
			asked := slices.DeleteFunc(c.Spec.Columns(), func(name string) bool { return slices.Contains(columns, name) })
			if len(asked) > 0 {
				return nil, fmt.Errorf("the texts ask for %s, and the query has no such column", strings.Join(asked, ", "))
			}
			if err := p.store.RestartAudience(ctx, a, columns); err != nil {
				return nil, err
			}
			into, err = p.store.NewImport(ctx, c, *a)
			return into, err
		},
		Refused: func(postgres.Newcomer, string) error { return nil }, // the audience counts them
	}.Stream(ctx)
	if into != nil {
		*a = into.Audience
	}
	return err
}
