package app

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/feed"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/message"
)

// lead releases due messages while this pod is the one that does.
func (w *pod) lead(ctx context.Context) error {
	releaser := &feed.Releaser{
		Store: releaseStore{w.store}, Gates: w.board, Queue: w.enqueuer, Flows: w.accounts.flows, Log: w.log,
	}
	return w.store.Lead(ctx, "releaser", releaser.Run, func(err error) { w.log.Warn("lead the releaser", "error", err) })
}

// Times of the housekeeping, which one pod does at a time.
const (
	houseEvery   = time.Minute
	syncEvery    = time.Hour
	syncFrom     = 0.8    // of a day's quota: from there on it is compared each minute
	purgeRows    = 10_000 // of keys, in one statement
	houseTimeout = 50 * time.Second
)

// keepHouse makes partitions ahead, forgets what is old, gives back caps that a dead process left, compares our
// count of each quota with WeChat's, and counts what the fleet has in hand.
func (w *pod) keepHouse(ctx context.Context) error {
	synced := map[ratelimit.Key]time.Time{}
	tidy := func(ctx context.Context) error {
		tick := time.NewTicker(houseEvery)
		defer tick.Stop()
		for {
			bounded, cancel := context.WithTimeout(ctx, houseTimeout)
			w.tidy(bounded, clock.Now())
			w.syncQuotas(bounded, time.Now(), synced)
			cancel()
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
	work := func(ctx context.Context) error {
		var both errgroup.Group
		both.Go(func() error { return tidy(ctx) })
		both.Go(func() error { return w.count(ctx) }) // apart: tidying may take long
		return both.Wait()
	}
	return w.store.Lead(ctx, "house", work, func(err error) { w.log.Warn("lead the housekeeping", "error", err) })
}

func (w *pod) tidy(ctx context.Context, now time.Time) {
	note := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			w.log.Warn(what, "error", err)
		}
	}
	note("make partitions", w.store.EnsurePartitions(ctx, now))
	dropped, err := w.store.DropExpired(ctx, now, w.config.Retention.Messages)
	note("drop expired days", err)
	if len(dropped) > 0 {
		w.log.Info("days are over their retention and gone", "days", dropped)
	}
	_, err = w.store.PurgeKeys(ctx, now.Add(-w.config.Retention.Keys), purgeRows)
	note("purge idempotency keys", err)
	note("ask about mass sends", w.askAboutMass(ctx, now))
	left, err := w.store.RefundableMass(ctx)
	note("look for mass caps to give back", err)
	for _, id := range left {
		_, err := w.store.RefundMass(ctx, id)
		note("give back mass caps", err)
	}
}

// syncQuotas asks WeChat for its counts: hourly, and each minute of a day whose quota is nearly used. What others
// use of the account shows only there. Both times are this machine's, which nothing puts back.
func (w *pod) syncQuotas(ctx context.Context, now time.Time, synced map[ratelimit.Key]time.Time) {
	for _, flow := range w.accounts.flows() {
		a := w.accounts[flow.Account]
		k := ratelimit.Key{App: message.AppID(a.AppID), API: flow.API}
		usage, err := w.quota.Usage(ctx, k)
		if err != nil || !usage.Known { // nothing was sent by it yet, or not since Redis started
			continue
		}
		if now.Sub(synced[k]) < syncEvery && float64(usage.Used) < syncFrom*float64(usage.Limit) {
			continue
		}
		if err := w.syncQuota(ctx, k); err != nil {
			w.log.Warn("compare quota with WeChat's", "account", a.Name, "api", k.API, "error", err)
			continue
		}
		synced[k] = now
	}
}

func (w *pod) syncQuota(ctx context.Context, k ratelimit.Key) error {
	mark, err := w.quota.Mark(ctx, k)
	if err != nil {
		return err
	}
	limit, used, err := w.usedToday(ctx, k)
	if err != nil {
		return err
	}
	return w.quota.Sync(ctx, k, mark, limit, used)
}
