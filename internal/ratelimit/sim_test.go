package ratelimit

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// wire counts as WeChat does: by the instants at which calls arrive.
type wire struct {
	mu    sync.Mutex
	calls []time.Time
}

func (w *wire) call() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, time.Now())
}

// most is the largest number of calls in any window of d.
func (w *wire) most(d time.Duration) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	slices.SortFunc(w.calls, time.Time.Compare)
	most, first := 0, 0
	for i, at := range w.calls {
		for at.Sub(w.calls[first]) > d {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// pods makes n Quotas over one store.
func pods(t *testing.T, s store, n int, l Limits, o ...Option) []*Quota {
	t.Helper()
	var all []*Quota
	for range n {
		q := newQuota(s, "pod", fixed(l), o...)
		keepRunning(t, q)
		all = append(all, q)
	}
	return all
}

// send is one sender: it takes, claims for up to jitter, and calls. It ends with ctx.
func send(ctx context.Context, q *Quota, lane message.Lane, w *wire, jitter, api time.Duration) {
	for ctx.Err() == nil {
		tok, err := q.Take(ctx, template, lane, 2*time.Second)
		if err != nil {
			time.Sleep(time.Second)
			continue
		}
		time.Sleep(rand.N(jitter))
		if tok.Ready(ctx) != nil {
			tok.Return(ctx)
			continue
		}
		w.call()
		tok.Spent()
		time.Sleep(api)
	}
}

func TestThreePodsKeepThePaceAndUseIt(t *testing.T) {
	for _, c := range []struct {
		claim  string
		limits Limits
		lanes  []message.Lane
		jitter time.Duration
		atMost int     // in 60 s
		least  float64 // share of what the lanes may use
	}{
		{"200/s, bulk alone, nothing reserved", Limits{PerSecond: 200}, []message.Lane{message.Bulk}, 5 * time.Millisecond, 12000, 0.98},
		{"200/s, bulk alone leaves the reserved fifth", Limits{PerSecond: 200, UrgentPace: 0.2}, []message.Lane{message.Bulk}, 5 * time.Millisecond, 9600, 0.98},
		{"200/s, urgent and bulk together use all", Limits{PerSecond: 200, UrgentPace: 0.2}, []message.Lane{message.Bulk, message.Urgent}, 5 * time.Millisecond, 12000, 0.98},
		{"200/s, claims of up to 300 ms make slots stale", Limits{PerSecond: 200}, []message.Lane{message.Bulk}, 300 * time.Millisecond, 12000, 0},
		{"1/s", Limits{PerSecond: 1}, []message.Lane{message.Bulk}, 5 * time.Millisecond, 60, 0.95},
		{"5 a minute", Limits{PerSecond: 5.0 / 60}, []message.Lane{message.Bulk, message.Urgent}, 5 * time.Millisecond, 5, 0.95},
		{"1000/s", Limits{PerSecond: 1000, UrgentPace: 0.2}, []message.Lane{message.Bulk, message.Urgent}, 5 * time.Millisecond, 60000, 0.95},
	} {
		t.Run(c.claim, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const lasts = 75 * time.Second
				c.limits.PerDay = 1 << 40
				ctx, cancel := context.WithTimeout(t.Context(), lasts)
				defer cancel()
				var w wire
				var senders sync.WaitGroup
				for _, q := range pods(t, &memory{latency: 600 * time.Microsecond}, 3, c.limits) {
					for _, lane := range c.lanes {
						for range 64 {
							senders.Go(func() { send(ctx, q, lane, &w, c.jitter, 20*time.Millisecond) })
						}
					}
				}
				senders.Wait()

				minute, second := w.most(time.Minute), w.most(time.Second)
				t.Logf("%d calls, at most %d in 60 s and %d in 1 s", len(w.calls), minute, second)
				if minute > c.atMost {
					t.Errorf("%d calls in 60 s, want at most %d", minute, c.atMost)
				}
				if most := int(max(c.limits.PerSecond*1.25, 2)); second > most {
					t.Errorf("%d calls in 1 s, want at most %d", second, most)
				}
				if got := float64(len(w.calls)) / (float64(c.atMost) * lasts.Minutes()); got < c.least {
					t.Errorf("used %.3f of the pace, want %.2f", got, c.least)
				}
			})
		})
	}
}

func TestPodsThatDieLoseLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lasts, quota = 75 * time.Second, 14500
		limits := Limits{PerDay: quota, PerSecond: 200}
		m := &memory{latency: time.Millisecond}
		var w wire
		var senders sync.WaitGroup
		ctx, cancel := context.WithTimeout(t.Context(), lasts)
		defer cancel()
		// Three pods; every 0.7 s one is killed with what it holds, and another begins.
		var kills []context.CancelFunc
		begin := func() {
			life, kill := context.WithCancel(ctx)
			kills = append(kills, kill)
			q := newQuota(m, "pod", fixed(limits))
			// It does not Run: what is killed gives nothing back.
			for range 64 {
				senders.Go(func() { send(life, q, message.Bulk, &w, 5*time.Millisecond, 20*time.Millisecond) })
			}
		}
		for range 3 {
			begin()
		}
		for n := 0; ctx.Err() == nil; n++ {
			time.Sleep(700 * time.Millisecond)
			kills[n]()
			begin()
		}
		senders.Wait()
		for _, kill := range kills {
			kill()
		}
		if n := w.most(time.Minute); n > 12000 {
			t.Errorf("%d calls in 60 s", n)
		}
		got := float64(len(w.calls)) / min(quota, 200*lasts.Seconds())
		t.Logf("%d pods died; %d calls, %.3f of what was allowed", len(kills)-3, len(w.calls), got)
		if len(w.calls) > quota || got < 0.95 {
			t.Errorf("%d calls, %.3f of what was allowed", len(w.calls), got)
		}
	})
}

func TestRedisClockIsSet(t *testing.T) {
	for _, by := range []time.Duration{2 * time.Minute, -2 * time.Minute, -3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(4 * time.Hour)
			m := &memory{latency: time.Millisecond}
			var w wire
			var senders sync.WaitGroup
			ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
			defer cancel()
			for _, q := range pods(t, m, 3, Limits{PerDay: 1e6, PerSecond: 200}) {
				for range 64 {
					senders.Go(func() { send(ctx, q, message.Bulk, &w, 5*time.Millisecond, 20*time.Millisecond) })
				}
			}
			time.Sleep(30 * time.Second)
			m.stepClock(by)
			senders.Wait()
			n := w.most(time.Minute)
			t.Logf("by %s: %d calls in 60 s", by, n)
			if n > 12000+2*50 {
				t.Errorf("by %s: %d calls in 60 s, more than a burst beyond 12000", by, n)
			}
			if n < 12000*90/100 {
				t.Errorf("by %s: %d calls in 60 s, a stall of %.1f s", by, n, float64(12000-n)/200)
			}
		})
	}
}

func TestUrgentDoesNotWaitBehindBulk(t *testing.T) {
	for _, fifth := range []float64{0, 0.2} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var w wire
			var senders sync.WaitGroup
			all := pods(t, &memory{latency: time.Millisecond}, 3, Limits{PerDay: 1e6, PerSecond: 200, UrgentPace: fifth})
			for _, q := range all {
				for range 64 {
					senders.Go(func() { send(ctx, q, message.Bulk, &w, 5*time.Millisecond, 20*time.Millisecond) })
				}
			}
			var waits []time.Duration
			for i := 0; ctx.Err() == nil; i++ {
				time.Sleep(rand.N(100 * time.Millisecond))
				began := time.Now()
				tok, err := all[i%3].Take(ctx, template, message.Urgent, 2*time.Second)
				if err != nil {
					continue
				}
				w.call()
				tok.Spent()
				waits = append(waits, time.Since(began))
			}
			senders.Wait()
			slices.Sort(waits)
			p50, p99 := waits[len(waits)/2], waits[len(waits)*99/100]
			t.Logf("reserved %.1f: urgent waits p50 %s, p99 %s, max %s", fifth, p50, p99, waits[len(waits)-1])
			if fifth > 0 && p99 > 50*time.Millisecond {
				t.Errorf("p99 %s, want at most 50 ms", p99)
			}
			if n := w.most(time.Minute); n > 12000 {
				t.Errorf("%d calls in 60 s", n)
			}
		})
	}
}

func TestTheDayIsUsedToTheLastToken(t *testing.T) {
	for _, quota := range []int64{1, 10, 100, 3000} {
		synctest.Test(t, func(t *testing.T) {
			var w wire
			var senders sync.WaitGroup
			for _, q := range pods(t, &memory{latency: time.Millisecond}, 3, Limits{PerDay: quota, PerSecond: 1000}) {
				for range 64 {
					senders.Go(func() {
						for {
							tok, err := q.Take(t.Context(), template, message.Bulk, 2*time.Second)
							if r, ok := errors.AsType[*Refused](err); ok && r.Reason == outcome.Quota {
								return
							} else if err != nil {
								t.Errorf("Take: %v", err)
								return
							}
							time.Sleep(rand.N(5 * time.Millisecond))
							if rand.N(10) == 0 {
								tok.Return(t.Context()) // no connection
								continue
							}
							w.call()
							tok.Spent()
							time.Sleep(rand.N(30 * time.Millisecond))
						}
					})
				}
			}
			senders.Wait()
			if got := int64(len(w.calls)); got > quota || float64(got) < 0.99*float64(quota) {
				t.Errorf("%d calls of %d", got, quota)
			}
		})
	}
}
