package ratelimit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// three makes three pods over one Redis, each with its own connections.
func three(t *testing.T, l Limits, o ...Option) []*Quota {
	t.Helper()
	url, err := redis.ParseURL(devstack.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	var all []*Quota
	for _, name := range []string{"a", "b", "c"} {
		rdb := redis.NewClient(url)
		t.Cleanup(func() { _ = rdb.Close() })
		q := New(rdb, name, fixed(l), o...)
		keepRunning(t, q)
		all = append(all, q)
	}
	return all
}

func TestOneOfFiftyGetsTheLastToken(t *testing.T) {
	t.Parallel()
	for _, lane := range message.Lanes() {
		all := three(t, Limits{PerDay: 1, PerSecond: 1000, Margin: 0.01, UrgentDay: 0.1, UrgentPace: 0.2})
		var won atomic.Int64
		var wg sync.WaitGroup
		start := make(chan struct{})
		for i := range 50 {
			wg.Go(func() {
				<-start
				tok, err := all[i%3].Take(t.Context(), template, lane, time.Second)
				if err == nil {
					won.Add(1)
					tok.Spent()
					return
				}
				if r, ok := errors.AsType[*Refused](err); !ok || r.Reason != outcome.Quota {
					t.Errorf("a loser hears %v", err)
				}
			})
		}
		close(start)
		wg.Wait()
		if won.Load() != 1 {
			t.Errorf("%s: %d of 50 won the last token", lane, won.Load())
		}
	}
}

func TestThreePodsUseTheWholeDayAndNoMore(t *testing.T) {
	t.Parallel()
	const quota, few = 2000, 200 // Takes that find Redis late: each of the 96 once or twice, where the machine stands still
	var calls, late atomic.Int64
	var wg sync.WaitGroup
	for _, q := range three(t, Limits{PerDay: quota, PerSecond: 2000}) {
		for i := range 32 {
			wg.Go(func() {
				lane := message.Lanes()[i%3]
				for {
					tok, err := q.Take(t.Context(), template, lane, 2*time.Second)
					if r, ok := errors.AsType[*Refused](err); ok && r.Reason == outcome.Quota {
						return
					} else if ok || errors.Is(err, ErrNoAnswer) && late.Add(1) < few {
						continue
					} else if err != nil {
						t.Errorf("Take: %v", err)
						return
					}
					if err := tok.Ready(t.Context()); err != nil {
						tok.Return(t.Context())
						continue
					}
					calls.Add(1)
					tok.Spent()
				}
			})
		}
	}
	wg.Wait()
	if n := calls.Load(); n > quota || n < quota*99/100 {
		t.Errorf("%d calls, want 99 to 100 %% of %d", n, quota)
	}
}

func TestThePaceHoldsOnTheWallClock(t *testing.T) {
	t.Parallel()
	const perSecond = 200
	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
	defer cancel()
	var w wire
	var wg sync.WaitGroup
	for _, q := range three(t, Limits{PerDay: 1e6, PerSecond: perSecond}) {
		for range 16 {
			wg.Go(func() { send(ctx, q, message.Bulk, &w, 2*time.Millisecond, 5*time.Millisecond) })
		}
	}
	wg.Wait()
	t.Logf("%d calls, at most %d in 1 s", len(w.calls), w.most(time.Second))
	if n := w.most(time.Second); n > perSecond*5/4 {
		t.Errorf("%d calls in 1 s, want at most %d", n, perSecond*5/4)
	}
}

func TestMidnightInRedis(t *testing.T) {
	t.Parallel()
	rdb := connect(t)
	// The test's Redis lives in 2028, some seconds before the leap day ends.
	ends := time.Date(2028, 3, 1, 0, 0, 0, 0, beijing)
	began := time.Now()
	clock := func() int64 { return ends.Add(-5*time.Second + time.Since(began)).UnixMicro() }
	l := Limits{PerDay: 3, PerSecond: 100}
	q := newQuota(&redisStore{rdb: rdb, clock: clock}, "pod", fixed(l))
	keepRunning(t, q)
	for range 3 {
		mustTake(t, q, message.Bulk, time.Second).Spent()
	}
	_, err := q.Take(t.Context(), template, message.Bulk, 0)
	until := refused(t, err, outcome.Quota).Until
	if d := until.Sub(began); d < 10*time.Second || d > 71*time.Second {
		t.Errorf("refused for %s, want 5 to 65 s after midnight", d)
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		tok, err := q.Take(t.Context(), template, message.Bulk, time.Second)
		if err == nil {
			tok.Spent()
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the new day did not open: %v", err)
		}
	}
	if now := clock(); now < ends.UnixMicro() {
		t.Errorf("a fourth call went out %s before midnight", micros(ends.UnixMicro()-now))
	}
	for day, want := range map[string]string{"20280229": "3", "20280301": "0"} {
		key := "hongyan:quota:{" + string(template.App) + "}:" + template.API + ":" + day
		used, err := rdb.HGet(t.Context(), key, "used").Result()
		ttl := rdb.TTL(t.Context(), key).Val()
		if err != nil || used != want && day == "20280229" || ttl < 48*time.Hour || ttl > 72*time.Hour {
			t.Errorf("%s: used %s, %v, expires in %s", day, used, err, ttl)
		}
	}
}

func TestEveryKeyExpiresAndAnAccountsKeysShareASlot(t *testing.T) {
	t.Parallel()
	rdb := connect(t)
	q := New(rdb, "pod", fixed(Limits{PerDay: 10, PerSecond: 10}))
	mustTake(t, q, message.Urgent, time.Second).Spent()
	counted(t, q, 10, 1)
	if err := q.Slow(t.Context(), Key{App: template.App, API: "/another"}); err != nil {
		t.Fatal(err)
	}
	names, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil || len(names) != 4 {
		t.Fatalf("keys %q, %v", names, err)
	}
	slots := map[int64]bool{}
	for _, name := range names {
		slots[rdb.ClusterKeySlot(t.Context(), name).Val()] = true
		if ttl := rdb.TTL(t.Context(), name).Val(); ttl <= 0 || ttl > 72*time.Hour {
			t.Errorf("%s expires in %s", name, ttl)
		}
	}
	if len(slots) > 1 {
		t.Errorf("%q lie in %d slots", names, len(slots))
	}
}

func TestRedisThatLosesAllIsRebuilt(t *testing.T) {
	t.Parallel()
	rdb := connect(t)
	var sent atomic.Int64
	q := New(rdb, "pod", fixed(Limits{PerDay: 300, PerSecond: 1e5}), WithRebuild(
		func(context.Context, Key) (int64, int64, error) { return 300, sent.Load(), nil }))
	keepRunning(t, q)
	for late := 0; ; {
		tok, err := q.Take(t.Context(), template, message.Bulk, time.Second)
		if errors.Is(err, ErrNoAnswer) && late < 10 {
			late++
			continue
		}
		if err != nil {
			refused(t, err, outcome.Pace) // the last 46 are withheld for 30 s
			break
		}
		tok.Spent()
		if sent.Add(1) == 150 {
			if err := rdb.FlushDB(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	// What was spent since the last report may be counted twice: we stop early rather than late.
	if n := sent.Load(); n > 300 || n < 300-maxBlock {
		t.Errorf("%d calls of 300", n)
	}
}

func TestFrozenRedisHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	stack, err := devstack.Start(t.Context(), devstack.Options{Redis: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stack.Close() })
	if stack.Redis() == nil {
		t.Fatal("this test needs a Redis of its own: unset HONGYAN_REDIS_URL")
	}
	o, err := redis.ParseURL(stack.RedisURL())
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	q := New(rdb, "pod", fixed(Limits{PerDay: 100, PerSecond: 1e4}))
	keepRunning(t, q)
	mustTake(t, q, message.Bulk, time.Second).Spent()

	if err := stack.Redis().Freeze(); err != nil {
		t.Fatal(err)
	}
	shortest := time.Minute // of those that waited for an answer: a test process that did not run for a while waits longer
	for range 20 {
		began := time.Now()
		tok, err := q.Take(t.Context(), template, message.Bulk, 100*time.Millisecond)
		if err == nil {
			tok.Spent() // was at hand
		} else if errors.Is(err, ErrNoAnswer) {
			shortest = min(shortest, time.Since(began))
		}
	}
	if shortest > time.Second {
		t.Errorf("a frozen Redis held Take up for %s", shortest)
	}
	if err := stack.Redis().Thaw(); err != nil {
		t.Fatal(err)
	}
	used := int64(0)
	for deadline := time.Now().Add(10 * time.Second); used == 0; {
		if tok, err := q.Take(t.Context(), template, message.Bulk, time.Second); err == nil {
			tok.Spent()
			used++
		} else if time.Now().After(deadline) {
			t.Fatalf("nothing goes after the thaw: %v", err)
		}
	}
}
