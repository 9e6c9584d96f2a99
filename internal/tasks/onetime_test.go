package tasks

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
)

// The time of all is ten minutes behind this machine's.
const behind = -10 * time.Minute

// timesIn is a queue of a server whose machine is ten minutes ahead, and what stands in it.
type timesIn struct {
	Place
	rdb redis.UniversalClient // tells this machine's time
}

func (q timesIn) score(t *testing.T, set string, id message.ID) time.Time {
	t.Helper()
	at, err := q.rdb.ZScore(t.Context(), q.key(set), id.String()).Result()
	if err != nil {
		t.Fatalf("%s of %s: %v", id, set, err)
	}
	return time.Unix(int64(at), 0)
}

// move takes a pending parcel into a set, as asynq would at that time.
func (q timesIn) move(t *testing.T, p *message.Parcel, state, set string, at time.Time) {
	t.Helper()
	ctx, id := t.Context(), p.ID.String()
	err := errors.Join(
		q.rdb.LRem(ctx, q.key("pending"), 0, id).Err(),
		q.rdb.HSet(ctx, q.key("t:"+id), "state", state).Err(),
		q.rdb.ZAdd(ctx, q.key(set), z(p, at)).Err(),
	)
	if state == "active" {
		err = errors.Join(err, q.rdb.LPush(ctx, q.key("active"), id).Err())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func near(at, want time.Time) bool { return at.Sub(want).Abs() <= 5*time.Second }

func TestOneTime(t *testing.T) {
	t.Parallel()
	url := devstack.Redis(t)
	plain, rdb := connect(t, url), connect(t, url)
	rdb.AddHook(OneTime{func() time.Duration { return behind }})
	list := singles(5)
	fails, due, early, lost, held := list[0], list[1], list[2], list[3], list[4]
	put(t, newEnqueuer(t, plain), list...)
	q := timesIn{placeOf(fails), plain}
	now := time.Now()
	q.move(t, due, "retry", "retry", now.Add(behind-time.Second))
	q.move(t, early, "retry", "retry", now.Add(behind+time.Minute))
	q.move(t, lost, "active", "lease", now.Add(behind-time.Minute))
	q.move(t, held, "active", "lease", now.Add(behind+20*time.Second))

	ran := make(chan string, 10)
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Queues: map[string]int{q.Queue: 1}, LogLevel: asynq.FatalLevel, DelayedTaskCheckInterval: time.Second,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	err := server.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		if id == fails.ID.String() {
			if at := q.score(t, "lease", fails.ID); !near(at, time.Now().Add(behind+30*time.Second)) {
				t.Errorf("a lease is over at %v, want 30 s from the time of all", at)
			}
			defer func() { ran <- id }()
			return errors.New("not now")
		}
		ran <- id
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 2 {
		select {
		case id := <-ran:
			seen[id] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("ran only %v", seen)
		}
	}
	server.Shutdown()
	if !seen[fails.ID.String()] || !seen[due.ID.String()] {
		t.Errorf("ran %v, want the pending task and the one that is due", seen)
	}
	for p, want := range map[*message.Parcel]time.Time{
		fails: now.Add(behind + time.Hour), early: now.Add(behind + time.Minute), lost: now.Add(behind + time.Hour),
	} {
		if at := q.score(t, "retry", p.ID); !near(at, want) {
			t.Errorf("%s goes on at %v, want %v", p.ID, at, want)
		}
	}
	if at := q.score(t, "lease", held.ID); !near(at, now.Add(behind+20*time.Second)) {
		t.Errorf("a lease that somebody holds is over at %v, want it left alone", at)
	}
	if err := rdb.ZAddXX(t.Context(), q.key("lease"), redis.Z{Score: float64(now.Add(30 * time.Second).Unix()), Member: held.ID.String()}).Err(); err != nil {
		t.Fatal(err)
	}
	if at := q.score(t, "lease", held.ID); !near(at, now.Add(behind+30*time.Second)) {
		t.Errorf("an extended lease is over at %v, want 30 s from the time of all", at)
	}
}
