package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/feed"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

// campaigns feeds campaigns and settles them, side by side, while this pod is the one that does.
func (w *pod) campaigns(ctx context.Context) error {
	work := func(ctx context.Context) error { // a new term begins with a new memory
		f := &feed.Feeder{
			Campaigns: &campaignRows{store: w.store, rdb: w.shared, queue: w.enqueuer}, Gates: w.board, Queue: w.enqueuer, Flows: w.accounts.flows, Log: w.log,
		}
		s := &feed.Settler{Firings: settling{w.store, w.options.Cancelled}, Log: w.log}
		var both errgroup.Group
		both.Go(func() error { return f.Run(ctx) })
		both.Go(func() error { return s.Run(ctx) })
		return both.Wait()
	}
	return w.store.Lead(ctx, "feeder", work, func(err error) { w.log.Warn("lead the feeder", "error", err) })
}

const (
	// lookAfter is how long a chunk has waited in the queue when it is looked for there.
	lookAfter = 3 * time.Second
	// What a paused campaign has parked, and is due within putOffFrom, is put off: the pause may end at any time.
	putOffFrom, putOffFor = 5 * time.Second, 30 * time.Second
)

// campaignRows are the campaigns' rows as the feeder sees them.
type campaignRows struct {
	store *postgres.Store
	rdb   redis.UniversalClient
	queue *tasks.Enqueuer
	due   rota
	open  map[int32]postgres.OpenFiring // as last read
}

func (r *campaignRows) Due(ctx context.Context, now time.Time) ([]feed.Due, error) {
	rows, err := r.due.look(ctx, r.store, now, false)
	if err != nil {
		return nil, err
	}
	list := make([]feed.Due, len(rows))
	for i, c := range rows {
		ticks, last, err := ticksOf(ctx, r.store, c, now)
		if err != nil {
			return nil, err
		}
		list[i] = feed.Due{Campaign: c.ID, Name: c.Name, Ticks: ticks, Last: last, Next: c.Spec.Schedule.Next(last)}
	}
	return list, nil
}

// fetchedFor is how long a tick waits for its audience at most: ten million followers are two days of WeChat's quota.
const fetchedFor = 48 * time.Hour

// ticksOf are the ticks that a campaign which is due is to fire, and up to when its schedule is followed then. One that
// was started by hand, and waits for its audience, has its start. A tick whose audience is being fetched comes first: by
// its schedule it may be missed before the fetch has ended.
func ticksOf(ctx context.Context, store *postgres.Store, c postgres.Campaign, now time.Time) (ticks []time.Time, last time.Time, err error) {
	if c.Spec.Schedule.IsZero() {
		return []time.Time{c.NextTick}, now, nil
	}
	if c.Spec.Audience.Pulled() {
		after := c.LastTick
		if oldest := now.Add(-fetchedFor); after.Before(oldest) {
			after = oldest
		}
		begun, err := store.BegunTick(ctx, c.ID, after)
		if err != nil {
			return nil, now, err
		}
		if !begun.IsZero() {
			return []time.Time{begun}, begun, nil
		}
	}
	return c.Spec.Schedule.Due(c.LastTick, now), now, nil
}

func (r *campaignRows) Fire(ctx context.Context, id message.ID, tick time.Time) (bool, error) {
	audience := int32(0)
	if c, err := r.store.Campaign(ctx, id.String()); err != nil {
		return false, err
	} else if c.Spec.Audience.Pulled() {
		if audience, err = r.store.ReadyAudience(ctx, id, tick); err != nil {
			return false, err
		}
		if audience == 0 {
			return false, feed.ErrNotYet
		}
	}
	_, made, err := r.store.Fire(ctx, id, tick, audience)
	if errors.Is(err, postgres.ErrNoAudience) {
		_, failed := r.store.FailCampaign(ctx, id, err.Error())
		err = errors.Join(err, failed)
	}
	return made, err
}

func (r *campaignRows) Ticked(ctx context.Context, d feed.Due) error {
	return r.store.Ticked(ctx, d.Campaign, d.Last, d.Next)
}

func (r *campaignRows) Firings(ctx context.Context) ([]feed.Firing, error) {
	rows, err := r.store.OpenFirings(ctx)
	if err != nil {
		return nil, err
	}
	r.open = make(map[int32]postgres.OpenFiring, len(rows))
	list := make([]feed.Firing, len(rows))
	for i, o := range rows {
		r.open[o.ID] = o
		c := o.Of
		list[i] = feed.Firing{
			ID: o.ID, Campaign: c.ID, Name: c.Name, Stock: feed.Stock{Account: c.Account, Kind: c.Kind},
			State: c.State, Until: c.Until, Reason: c.Reason, Weight: c.Spec.Weight, PerSecond: c.Spec.Pace,
			ChunkSize: postgres.ChunkSize, Busy: o.Busy, Canary: o.Canary, Opens: c.Spec.Calendar.Opens,
		}
		if c.Spec.Expires > 0 {
			list[i].Expires = o.StartedAt.Add(c.Spec.Expires)
		}
	}
	return list, nil
}

func (r *campaignRows) QueueChunks(ctx context.Context, firing int32, n int) ([]tasks.Chunk, error) {
	f := r.open[firing]
	list, err := r.store.QueueChunks(ctx, f, n, lookAfter)
	if f.Of.Kind == message.Mass {
		return nil, errors.Join(err, r.parts(ctx, f, list))
	}
	return chunkTasks(list), err
}

func chunkTasks(list []postgres.QueuedChunk) []tasks.Chunk {
	out := make([]tasks.Chunk, len(list))
	for i, c := range list {
		out[i] = tasks.Chunk(c)
	}
	return out
}

func (r *campaignRows) Tidy(ctx context.Context, id int32) ([]tasks.Chunk, error) {
	f := r.open[id]
	lost, err := r.lost(ctx, f)
	if err != nil {
		return nil, err
	}
	if f.Of.State == campaign.Paused {
		err = r.store.PutOffParked(ctx, f, putOffFrom, putOffFor)
	}
	if err == nil {
		_, err = r.store.FreeChunks(ctx, f)
	}
	if err == nil && f.Canary {
		_, err = r.store.CanaryDone(ctx, f)
	}
	if err != nil {
		err = fmt.Errorf("firing %d: %w", id, err)
	}
	return chunkTasks(lost), err
}

// lost makes the next runs of chunks that the queue has lost.
func (r *campaignRows) lost(ctx context.Context, f postgres.OpenFiring) ([]postgres.QueuedChunk, error) {
	long, err := r.store.LongQueued(ctx, f)
	if err != nil || len(long) == 0 {
		return nil, err
	}
	if f.Of.Kind == message.Mass { // never in a queue: whoever marked them has died
		return nil, r.parts(ctx, f, long)
	}
	gone, err := tasks.ChunksGone(ctx, r.rdb, chunkTasks(long))
	if err != nil {
		return nil, err
	}
	var lost []postgres.QueuedChunk
	for i, c := range long {
		if gone[i] {
			lost = append(lost, c)
		}
	}
	return r.store.Requeue(ctx, f, lost, lookAfter)
}

func (r *campaignRows) Hold(ctx context.Context, id message.ID, state campaign.State, reason string, until time.Time) error {
	_, err := r.store.HoldCampaign(ctx, id, state, reason, until)
	return err
}

func (r *campaignRows) Free(ctx context.Context, id message.ID) error {
	_, err := r.store.FreeCampaign(ctx, id)
	return err
}
