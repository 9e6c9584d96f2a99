package ratelimit

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// weChatsCount rebuilds by what arrived; the answer takes so long.
func weChatsCount(w *wire, quota int, takes time.Duration) Option {
	return WithRebuild(func(context.Context, Key) (limit, used int64, err error) {
		w.mu.Lock()
		used = int64(len(w.calls))
		w.mu.Unlock()
		time.Sleep(takes)
		return int64(quota), used, nil
	})
}

// useUp is one sender, whose calls take so long, until the day's quota is spent.
func useUp(t *testing.T, q *Quota, w *wire, takes func() time.Duration) {
	for {
		tok, err := q.Take(t.Context(), template, message.Bulk, 2*time.Second)
		if r, ok := errors.AsType[*Refused](err); ok && r.Reason == outcome.Quota {
			return
		} else if err != nil {
			time.Sleep(time.Second)
			continue
		}
		time.Sleep(takes())
		w.call()
		tok.Spent()
	}
}

func goneBy(w *wire, calls int) {
	for w.most(time.Hour) < calls {
		time.Sleep(time.Millisecond)
	}
}

// A Redis that starts again without its last second: it has not heard of what pods spent and leased in it, nor of a pod
// that began in it.
func TestRedisSetBackUsesADayToItsEndAndNoFurther(t *testing.T) {
	const senders = 16 // of a pod
	for _, c := range []struct {
		quota, cut int           // the calls of the day, and those before the cut
		way        time.Duration // to Redis and back for a while: clients dial again and again
		left       int           // at most, of the day
	}{
		{480, 100, time.Millisecond, 0},
		{480, 460, time.Millisecond, 0},
		{5000, 1500, time.Millisecond, 0},
		{20, 12, time.Millisecond, 0},
		{480, 300, 400 * time.Millisecond, 0},
		{12_000, 100, time.Millisecond, 100}, // it is counted again while calls are made
	} {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{latency: time.Millisecond}
			var w wire
			var wg sync.WaitGroup
			begin := func(n int) {
				for _, q := range pods(t, m, n, Limits{PerDay: 1, PerSecond: 200}, weChatsCount(&w, c.quota, 300*time.Millisecond)) {
					for range senders {
						wg.Go(func() { useUp(t, q, &w, func() time.Duration { return rand.N(30 * time.Millisecond) }) })
					}
				}
			}
			begin(2)
			goneBy(&w, c.cut/2)
			old := m.remember()
			begin(1)
			goneBy(&w, c.cut)
			m.slowDown(c.way)
			time.Sleep(c.way / 4)
			m.setBack(old)
			time.Sleep(2 * c.way)
			m.slowDown(time.Millisecond)
			wg.Wait()
			if n := len(w.calls); n > c.quota || n < c.quota-c.left {
				t.Errorf("set back after %d: %d calls of %d", c.cut, n, c.quota)
			}
		})
	}
}

func TestARebuildIsCountedAgain(t *testing.T) {
	for _, c := range []struct {
		claim string
		at    time.Duration // the restart, before midnight
		fails time.Duration // to count again, since the restart
		look  time.Duration // since the restart
		used  int64         // then: WeChat counts one more each time
	}{
		{"before what is withheld comes free", time.Hour, 0, leaseFor - time.Second, 802},
		{"again and again where it fails", time.Hour, 40 * time.Second, 3 * time.Minute, 802},
		{"but not for ever", time.Hour, 2 * time.Minute, 3 * time.Minute, 801},
		{"for the same day, not the next", recountAfter + 350*time.Millisecond, 0, 3 * time.Minute, 0},
		{"nor the next for the day before", recountAfter + 50*time.Millisecond, 0, 3 * time.Minute, 0},
	} {
		t.Run(c.claim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(16*time.Hour - c.at)
				restarted := time.Now()
				m := &memory{latency: time.Millisecond}
				used := int64(800)
				counts := WithRebuild(func(context.Context, Key) (int64, int64, error) {
					if since := time.Since(restarted); since > time.Second && since < c.fails {
						return 0, 0, errors.New("45009")
					}
					used++
					time.Sleep(200 * time.Millisecond)
					return 1000, used, nil
				})
				q := pods(t, m, 1, Limits{PerDay: 1, PerSecond: 100}, counts)[0]
				mustTake(t, q, message.Bulk, time.Second).Return(t.Context())
				time.Sleep(time.Until(restarted.Add(c.look)))
				if u := usage(t, q); u.Used != c.used {
					t.Errorf("used %d, want %d", u.Used, c.used)
				}
			})
		})
	}
}

// Pods have many tokens in hand where calls are slow. A Redis that starts again with all it had still knows of them.
func TestARestartThatLosesNothingOverrunsNoDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const quota = 2000
		m := &memory{latency: time.Millisecond}
		var w wire
		var wg sync.WaitGroup
		for i, q := range pods(t, m, 3, Limits{PerDay: quota, PerSecond: 1000}, weChatsCount(&w, quota, 0)) {
			takes := 30 * time.Millisecond
			if i < 2 {
				takes = 4 * time.Second
			}
			for range 250 {
				wg.Go(func() { useUp(t, q, &w, func() time.Duration { return takes }) })
			}
		}
		goneBy(&w, 300)
		m.setBack(m.remember())
		wg.Wait()
		if n := len(w.calls); n > quota {
			t.Errorf("%d calls of %d", n, quota)
		}
	})
}

func TestRedisSetBackLearnsWhatWasSpentSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, beijing).UnixMicro()
	day := dayOf(now)
	open, _ := Limits{PerSecond: 1e6}.intervals()
	ask := func(c *core, seq, spent, acked, held int64) grant {
		g, err := c.lease(now, day, request{
			holder: "pod", seq: seq, spent: spent, acked: acked, held: held, want: 10,
			perDay: 1000, open: open.Nanoseconds(), rebuilt: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	var lived, setBack, forgot core
	for _, c := range []*core{&lived, &setBack} {
		ask(c, 1, 0, 0, 0)
	}
	ask(&lived, 2, 10, 0, 0)
	ask(&lived, 3, 20, 10, 0) // of which setBack, a replica that lagged, and forgot never heard
	for _, c := range []struct {
		claim string
		core  *core
		used  int64
	}{
		{"lived through it", &lived, 30},
		{"was set back", &setBack, 30},
		{"forgot all: only what was not answered yet", &forgot, 10},
	} {
		ask(c.core, 4, 30, 20, 0)
		if u, _ := c.core.usage(now, day); u.used != c.used {
			t.Errorf("%s: used %d, want %d", c.claim, u.used, c.used)
		}
	}
}

func TestWeChatsCountNeverLowersALedgerThatIsWhole(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, beijing).UnixMicro()
	var c core
	for _, told := range []int64{900, 800} { // its counters are exact to a percent or so
		c.known = false
		if err := c.sync(now, dayOf(now), count{limit: 1000, used: told, rebuilt: true}); err != nil {
			t.Fatal(err)
		}
	}
	if u, _ := c.usage(now, dayOf(now)); u.used != 900 {
		t.Errorf("used %d, want 900", u.used)
	}
}

func TestAPodOutlivesARestart(t *testing.T) {
	counts := WithRebuild(func(context.Context, Key) (limit, used int64, err error) { return 1000, 1, nil })

	t.Run("and ends without an error where nobody asked since", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{latency: time.Millisecond}
			q := pods(t, m, 1, Limits{PerDay: 1000, PerSecond: 100}, counts)[0] // whose Run is seen to end well
			mustTake(t, q, message.Bulk, time.Second).Spent()
			time.Sleep(time.Second)
			m.setBack(m.remember())
		})
	})

	t.Run("and its report of what it had refuses nobody", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			m := &memory{latency: time.Millisecond}
			q := pods(t, m, 1, Limits{PerDay: 1000, PerSecond: 100}, counts)[0]
			slow := mustTake(t, q, message.Bulk, time.Second)
			time.Sleep(time.Second)
			m.setBack(m.remember())
			slow.Spent()
			time.Sleep(keepEvery + 10*time.Millisecond) // it was reported just now
			mustTake(t, q, message.Bulk, time.Second).Spent()
		})
	})
}

// A pod goes on with the old master for a while, after the new one has asked WeChat.
func TestAPodTellsWhenItWasAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := Limits{PerDay: 1000, PerSecond: 100}
		m := &memory{latency: time.Millisecond}
		q := pods(t, m, 1, limits)[0]
		calls := func(n int) {
			for range n {
				mustTake(t, q, message.Bulk, time.Second).Spent()
			}
			time.Sleep(time.Second)
		}
		calls(3)
		promoted := &memory{core: m.remember()}
		promoted.core.known = false
		now := time.Now().UnixMicro()
		if err := promoted.core.sync(now, dayOf(now), count{limit: 1000, used: 3, rebuilt: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		calls(4) // by the old one
		m.setBack(promoted.core)
		m.core.known = true
		calls(5)
		if u := usage(t, q); u.Used != 3+4+5 {
			t.Errorf("used %d, want all 12", u.Used)
		}
	})
}

// What a pod was answered before the rebuild WeChat had counted then; what another master answered it since, nobody has.
func TestWhatAnotherMasterAnsweredIsBooked(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, beijing).UnixMicro()
	open, _ := Limits{PerSecond: 1e6}.intervals()
	for _, c := range []struct {
		claim string
		known bool          // has the new master heard of the pod
		heard time.Duration // its last answer, since the rebuild
		used  int64
	}{
		{"answered before the rebuild", true, -time.Second, 100 + 10},
		{"answered by another master since", true, time.Second / 2, 100 + 40},
		{"never heard of, answered before", false, -time.Second, 100 + 10},
		{"never heard of, answered by another since", false, time.Second / 2, 100 + 80},
	} {
		var m core
		m.known = true
		report := func(at, seq, spent, acked int64, heard time.Duration) {
			_, err := m.lease(at, dayOf(at), request{
				holder: "pod", seq: seq, spent: spent, acked: acked, heard: now + heard.Microseconds(), perDay: 1000, open: open.Nanoseconds(),
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if c.known {
			report(now-1, 1, 40, 0, 0)
		}
		m.known = false
		if err := m.sync(now, dayOf(now), count{limit: 1000, used: 100, rebuilt: true}); err != nil {
			t.Fatal(err)
		}
		report(now+1e6, 2, 80, 70, c.heard)
		if u, _ := m.usage(now+1e6, dayOf(now)); u.used != c.used {
			t.Errorf("%s: used %d, want %d", c.claim, u.used, c.used)
		}
	}
}
