package ratelimit

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestRedisAway(t *testing.T) {
	bubble(t, "Take tells the error and does not storm", Limits{PerDay: 1e6, PerSecond: 100},
		func(t *testing.T, q *Quota, m *memory) {
			lost := errors.New("connection refused")
			m.fail(lost)
			calls := 0
			for range 1000 {
				began := time.Now()
				_, err := q.Take(t.Context(), template, message.Bulk, time.Second)
				if !errors.Is(err, lost) {
					t.Fatalf("got %v, want the store's error", err)
				}
				if time.Since(began) > 0 {
					calls++
				}
			}
			if calls > 10 {
				t.Errorf("%d calls for 1000 messages", calls)
			}
			m.fail(nil)
			time.Sleep(time.Second)
			mustTake(t, q, message.Bulk, time.Second).Spent()
		})
	bubble(t, "a silent Redis holds nobody up beyond maxWait", Limits{PerDay: 1e6, PerSecond: 100},
		func(t *testing.T, q *Quota, m *memory) {
			m.slowDown(20 * time.Second)
			for _, c := range []struct{ wait, want time.Duration }{{0, answerWait}, {time.Second, time.Second}} {
				began := time.Now()
				_, err := q.Take(t.Context(), template, message.Bulk, c.wait)
				if !errors.Is(err, ErrNoAnswer) || time.Since(began) != c.want {
					t.Errorf("got %v after %s, want no answer after %s", err, time.Since(began), c.want)
				}
			}
			time.Sleep(time.Minute)
		})
	t.Run("a key that Redis forgot opens when WeChat was asked, once over all pods", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(16*time.Hour - time.Minute) // a minute before midnight
			m := &memory{latency: time.Millisecond}
			var asked atomic.Int64
			var fail error
			rebuild := WithRebuild(func(context.Context, Key) (int64, int64, error) {
				asked.Add(1)
				time.Sleep(200 * time.Millisecond)
				return 1000, 882, fail
			})
			var all []*Quota
			for range 3 {
				q := newQuota(m, "pod", fixed(Limits{PerDay: 1e6, PerSecond: 100}), rebuild)
				keepRunning(t, q)
				all = append(all, q)
			}
			fail = errors.New("45009")
			_, err := all[0].Take(t.Context(), template, message.Bulk, time.Second)
			if !errors.Is(err, ErrUnknown) || !errors.Is(err, fail) {
				t.Errorf("got %v, want unknown, because 45009", err)
			}
			fail = nil
			asked.Store(0)
			time.Sleep(2 * time.Second)
			var mu sync.Mutex
			got := 0
			var wg sync.WaitGroup
			for _, q := range all {
				for range 5 {
					wg.Go(func() {
						tok, err := q.Take(t.Context(), template, message.Bulk, 2*time.Second)
						if err == nil {
							mu.Lock()
							defer mu.Unlock()
							got++
							tok.Spent()
						}
					})
				}
			}
			wg.Wait()
			if got != 2 || asked.Load() != 1 {
				t.Errorf("%d calls and WeChat asked %d times, want 2 of the 118 that are left, for the others are withheld, and once", got, asked.Load())
			}
			time.Sleep(time.Second)
			// The next day begins at zero: Redis was not lost, there is just no ledger yet.
			time.Sleep(time.Minute)
			mustTake(t, all[1], message.Bulk, time.Second).Spent()
			if asked.Load() != 2 {
				t.Errorf("WeChat was asked %d times, want twice: once more before the others came free", asked.Load())
			}
		})
	})
}
