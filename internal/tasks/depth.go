package tasks

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Depth is what a class of queues holds, in tasks: parcels of up to 100 messages, and campaigns' chunks.
type Depth struct {
	Class     string
	Pending   int64 // wait for a worker
	Active    int64 // in work
	Scheduled int64
	Retry     int64 // come back because a fate could not be written
	Archived  int64 // given up by asynq; the reconciler enqueues them again
	Oldest    time.Duration
}

// Depths looks at every class, in two round trips whatever the queues hold. asynq's own inspector asks each queue alone.
func (l *Lookup) Depths(ctx context.Context, now time.Time) ([]Depth, error) {
	var all []Depth
	counts := map[string][]*redis.IntCmd{}
	oldest := map[string]*redis.StringCmd{}
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, queue := range Queues() {
			q := Place{Queue: queue}
			counts[queue] = []*redis.IntCmd{
				pipe.LLen(ctx, q.key("pending")), pipe.LLen(ctx, q.key("active")),
				pipe.ZCard(ctx, q.key("scheduled")), pipe.ZCard(ctx, q.key("retry")), pipe.ZCard(ctx, q.key("archived")),
			}
			oldest[queue] = pipe.LIndex(ctx, q.key("pending"), -1)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look at the queues: %w", err)
	}
	since, err := l.pendingSince(ctx, oldest)
	if err != nil {
		return nil, err
	}
	for _, c := range Classes() {
		d := Depth{Class: c.Name}
		for _, queue := range c.Queues {
			for i, to := range []*int64{&d.Pending, &d.Active, &d.Scheduled, &d.Retry, &d.Archived} {
				n, err := counts[queue][i].Result()
				if err != nil {
					return nil, fmt.Errorf("look at the queues: %w", err)
				}
				*to += n
			}
			if at, ok := since[queue]; ok {
				d.Oldest = max(d.Oldest, now.Sub(at))
			}
		}
		all = append(all, d)
	}
	return all, nil
}

// pendingSince is when the task at the head of each queue was put there.
func (l *Lookup) pendingSince(ctx context.Context, heads map[string]*redis.StringCmd) (map[string]time.Time, error) {
	asked := map[string]*redis.StringCmd{}
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for queue, head := range heads {
			if id := head.Val(); id != "" {
				asked[queue] = pipe.HGet(ctx, Place{Queue: queue}.key("t:"+id), "pending_since")
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look at the queues' heads: %w", err)
	}
	since := map[string]time.Time{}
	for queue, at := range asked { // one that was taken meanwhile has none
		if nanos, err := strconv.ParseInt(at.Val(), 10, 64); err == nil {
			since[queue] = time.Unix(0, nanos)
		}
	}
	return since, nil
}
