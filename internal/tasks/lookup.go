package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Place is where Redis keeps a parcel.
type Place struct {
	Queue string
	ID    message.ID
}

func (p Place) key(part string) string { return "asynq:{" + p.Queue + "}:" + part }
func (p Place) task() string           { return p.key("t:" + p.ID.String()) }

// A Lookup looks after the parcels in Redis. It reads asynq's own keys, and mends what asynq cannot.
type Lookup struct {
	rdb  redis.UniversalClient
	mark string // of the last look, as Redis should still know it
}

// NewLookup makes a Lookup on a client, which stays the caller's to close. It is one goroutine's.
func NewLookup(rdb redis.UniversalClient) *Lookup { return &Lookup{rdb: rdb} }

// Gone says of each place whether its parcel will never run again by itself: it is not there, is archived, is kept as
// completed, or is an active entry without a payload, which asynq makes of a parcel whose data were evicted.
func (l *Lookup) Gone(ctx context.Context, places []Place) ([]bool, error) {
	gone := make([]bool, len(places))
	states := make([]*redis.StringCmd, len(places))
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, p := range places {
			states[i] = pipe.HGet(ctx, p.task(), "state")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("look up parcels: %w", err)
	}
	var active []int
	for i, s := range states {
		switch state, err := s.Result(); {
		case err != nil && !errors.Is(err, redis.Nil):
			return nil, fmt.Errorf("look up parcels: %w", err)
		case state == "active":
			active = append(active, i)
		default:
			gone[i] = state == "" || state == "archived" || state == "completed"
		}
	}
	if len(active) == 0 {
		return gone, nil
	}
	payloads := make([]*redis.BoolCmd, len(active))
	_, err = l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for n, i := range active {
			payloads[n] = pipe.HExists(ctx, places[i].task(), "msg")
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up active parcels: %w", err)
	}
	for n, i := range active {
		gone[i] = !payloads[n].Val()
	}
	return gone, nil
}

// forget removes what is left of a parcel that is gone, so that its id is free. It looks again: the parcel may have
// come to life since.
//
// KEYS: task, archived, completed, active, lease. ARGV: the parcel's id. Returns 1 if the id was freed.
var forget = redis.NewScript(`
local state = redis.call("HGET", KEYS[1], "state")
if not state then return 0 end
if state ~= "archived" and state ~= "completed" and redis.call("HEXISTS", KEYS[1], "msg") == 1 then return 0 end
redis.call("ZREM", KEYS[2], ARGV[1])
redis.call("ZREM", KEYS[3], ARGV[1])
redis.call("LREM", KEYS[4], 0, ARGV[1])
redis.call("ZREM", KEYS[5], ARGV[1])
return redis.call("DEL", KEYS[1])`)

// Forget frees the ids of parcels that are gone, so that they can be enqueued again.
func (l *Lookup) Forget(ctx context.Context, places []Place) error {
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, p := range places {
			forget.Eval(ctx, pipe, []string{p.task(), p.key("archived"), p.key("completed"), p.key("active"), p.key("lease")}, p.ID.String())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("free the ids of parcels that are gone: %w", err)
	}
	return nil
}

// lease gives every active task a lease that has none.
//
// KEYS: active, lease. ARGV: when the lease is over. Returns how many were given.
var lease = redis.NewScript(`
local given = 0
for _, id in ipairs(redis.call("LRANGE", KEYS[1], 0, -1)) do
	given = given + redis.call("ZADD", KEYS[2], "NX", ARGV[1], id)
end
return given`)

// Lease gives a lease to active tasks that have none, and says to how many. asynq takes a task and its lease in one
// step, but one that has lost its lease (hibiken/asynq#1144) it never takes again. The new one is over at once: where
// somebody works on the task it is extended, and where nobody does the task comes back like any other.
func (l *Lookup) Lease(ctx context.Context, now time.Time) (int64, error) {
	given := make([]*redis.Cmd, 0, len(Queues()))
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, queue := range Queues() {
			q := Place{Queue: queue}
			given = append(given, lease.Eval(ctx, pipe, []string{q.key("active"), q.key("lease")}, now.Unix()))
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("give leases: %w", err)
	}
	var n int64
	for _, g := range given {
		one, _ := g.Int64() // an integer, as the pipeline had no error
		n += one
	}
	return n, nil
}

const (
	markKey = "hongyan:reconcile:mark"
	markTTL = 24 * time.Hour
)

// Forgot says whether Redis has forgotten something since the last call: it was wiped, or has gone back to an earlier
// state. The first call says yes. Each call leaves a mark that the next one looks for.
func (l *Lookup) Forgot(ctx context.Context) (bool, error) {
	next := message.NewID(time.Now()).String()
	had, err := l.rdb.SetArgs(ctx, markKey, next, redis.SetArgs{Get: true, TTL: markTTL}).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, fmt.Errorf("look for our mark: %w", err)
	}
	forgot := l.mark == "" || had != l.mark
	l.mark = next
	return forgot, nil
}
