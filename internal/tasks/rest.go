package tasks

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Rest is a hook for the client given to asynq.NewServerFromRedisClient, and for no other. For each task asynq asks a
// class's queues one by one, in a random order: of the bulk queues nearly all are empty while a campaign fills one, and
// each question is a round trip. A bulk queue that had nothing is not asked again for restFor. What comes into it meanwhile
// may lose a slot to the others' tasks that falls free in that time, and where the others run empty as well, a poll's wait
// comes on top: less than half a second in all, where slots are free.
type Rest struct {
	mu    sync.Mutex
	until map[string]time.Time // by the key of the queue
}

// restFor is no longer than an idle server sleeps at least: one that has slept asks all its queues.
const restFor = 100 * time.Millisecond

var _ redis.Hook = (*Rest)(nil)

// DialHook changes nothing.
func (*Rest) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook answers for the queues that rest.
func (r *Rest) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		queue := takesFrom(cmd.Args())
		if queue == "" {
			return next(ctx, cmd)
		}
		if r.rests(queue, time.Now()) {
			return redis.Nil
		}
		err := next(ctx, cmd)
		if errors.Is(err, redis.Nil) {
			r.rest(queue, time.Now().Add(restFor))
		}
		return err
	}
}

// ProcessPipelineHook changes nothing: asynq takes tasks one by one.
func (*Rest) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *Rest) rests(queue string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return now.Before(r.until[queue])
}

func (r *Rest) rest(queue string, until time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.until == nil {
		r.until = map[string]time.Time{}
	}
	r.until[queue] = until
}

// takesFrom is the key of the bulk queue from which the command would take a task; empty: it is another command.
func takesFrom(args []any) string {
	if len(args) < 3+len(take) || args[2] != len(take) || !slices.EqualFunc(take, args[3:3+len(take)], endsIn) {
		return ""
	}
	if key, _ := args[3].(string); strings.HasPrefix(key, "asynq:{"+bulkPrefix) {
		return key
	}
	return ""
}
