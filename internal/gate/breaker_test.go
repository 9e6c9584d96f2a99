package gate_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/message"
)

// calls makes good and bad calls of the account, now, and says whether the gate was closed.
func calls(t *testing.T, b *gate.Breaker, account string, good, bad int) (closed bool) {
	t.Helper()
	for range good + bad {
		b.Calling(account, api, time.Now())
	}
	for range good {
		b.Answered(account, api, time.Now())
	}
	for range bad {
		trips, err := b.Failed(t.Context(), account, api, "timeout", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		closed = closed || trips
	}
	return closed
}

func TestBreaker(t *testing.T) {
	t.Run("trips at half of twenty calls, at five where none was answered, and not before", func(t *testing.T) {
		for _, c := range []struct {
			good, bad int
			trips     bool
		}{{0, 4, false}, {0, 5, true}, {1, 18, false}, {1, 19, true}, {10, 10, true}, {11, 10, false}, {1000, 400, false}} {
			synctest.Test(t, func(t *testing.T) {
				b := gate.NewBreaker(gate.NewBoard(newStore()))
				if got := calls(t, b, "shop", c.good, c.bad); got != c.trips {
					t.Errorf("%d good and %d bad calls: closed is %v, want %v", c.good, c.bad, got, c.trips)
				}
			})
		}
	})
	t.Run("failures of long ago do not count", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := gate.NewBreaker(gate.NewBoard(newStore()))
			calls(t, b, "shop", 1, 15)
			time.Sleep(10 * time.Second)
			if calls(t, b, "shop", 1, 15) {
				t.Error("closed")
			}
		})
	})
	t.Run("closes the gate for all pods, of this account alone, and it opens by itself", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			shared := newStore()
			mine, others := gate.NewBoard(shared), gate.NewBoard(shared)
			calls(t, gate.NewBreaker(mine), "shop", 0, 20)
			if open(t, mine, message.ID{}) || open(t, others, message.ID{}) {
				t.Error("the gate is open")
			}
			if _, ok, _ := others.Look(t.Context(), "store", api, message.ID{}, time.Now()); !ok {
				t.Error("the other account's gate is closed")
			}
			time.Sleep(5 * time.Second)
			if !open(t, mine, message.ID{}) {
				t.Error("the gate is still closed")
			}
		})
	})
	t.Run("rests longer each time that the probe fails, up to a minute, and no longer than WeChat is away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			board := gate.NewBoard(newStore())
			b := gate.NewBreaker(board)
			ctx, stop := context.WithCancel(t.Context())
			start := time.Now()
			back := start.Add(10 * time.Minute)
			var probes atomic.Int32
			go func() {
				_ = b.Run(ctx, func(context.Context, string) error {
					probes.Add(1)
					if time.Now().Before(back) {
						return errors.New("away")
					}
					return nil
				}, func(err error) { t.Error(err) })
			}()
			calls(t, b, "shop", 0, 20)
			for time.Since(start) < 11*time.Minute {
				time.Sleep(time.Second)
				if now := time.Now(); now.Before(back) && open(t, board, message.ID{}) {
					t.Fatalf("open after %v, while WeChat is away", time.Since(start))
				}
			}
			if !open(t, board, message.ID{}) {
				t.Error("still closed a minute after WeChat came back")
			}
			if n := probes.Load(); n < 10 || n > 20 {
				t.Errorf("%d probes in ten minutes", n)
			}
			stop()
			synctest.Wait()
		})
	})
	t.Run("leaves a gate alone that is closed for longer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			board := gate.NewBoard(newStore())
			midnight := time.Now().Add(8 * time.Hour)
			if err := board.Close(t.Context(), gate.Gate{Account: "shop", API: api, Reason: "quota", Until: midnight}); err != nil {
				t.Fatal(err)
			}
			calls(t, gate.NewBreaker(board), "shop", 0, 20)
			if g, _ := board.At("shop", api); g.Reason != "quota" || !g.Until.Equal(midnight) {
				t.Errorf("the gate is closed for %s until %v", g.Reason, g.Until)
			}
		})
	})
}
