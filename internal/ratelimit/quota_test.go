package ratelimit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// bubble runs a test in simulated time with one pod over a store in memory. It begins at noon in Beijing.
func bubble(t *testing.T, claim string, l Limits, f func(*testing.T, *Quota, *memory)) {
	t.Helper()
	t.Run(claim, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(4 * time.Hour)
			m := &memory{latency: time.Millisecond}
			q := newQuota(m, "pod", fixed(l))
			keepRunning(t, q)
			f(t, q, m)
		})
	})
}

func mustTake(t *testing.T, q *Quota, lane message.Lane, wait time.Duration) *Token {
	t.Helper()
	tok, err := q.Take(t.Context(), template, lane, wait)
	if err != nil {
		t.Fatalf("Take: %v", err)
	}
	return tok
}

// counted asks WeChat, which says so.
func counted(t *testing.T, q *Quota, limit, used int64) {
	t.Helper()
	m, err := q.Mark(t.Context(), template)
	if err == nil {
		err = q.Sync(t.Context(), template, m, limit, used)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func usage(t *testing.T, q *Quota) Usage {
	t.Helper()
	u, err := q.Usage(t.Context(), template)
	if err != nil {
		t.Fatalf("Usage: %v", err)
	}
	return u
}

func TestDay(t *testing.T) {
	bubble(t, "a used up day refuses until 5 to 65 s after midnight", Limits{PerDay: 1, PerSecond: 10, Margin: 0.01, UrgentDay: 0.1},
		func(t *testing.T, q *Quota, _ *memory) {
			mustTake(t, q, message.Bulk, time.Second).Spent()
			time.Sleep(time.Second)
			began := time.Now()
			_, err := q.Take(t.Context(), template, message.Urgent, time.Second)
			after := refused(t, err, outcome.Quota).Until.Sub(message.NextDay(time.Now()))
			if after < 5*time.Second || after > 66*time.Second {
				t.Errorf("refused until %s after midnight, want 5 to 65 s", after)
			}
			if d := time.Since(began); d > 10*time.Millisecond {
				t.Errorf("waited %s to be refused", d)
			}
		})
	bubble(t, "a used up day costs no call for each message", Limits{PerDay: 1, PerSecond: 100},
		func(t *testing.T, q *Quota, m *memory) {
			mustTake(t, q, message.Bulk, time.Second).Spent()
			time.Sleep(time.Second)
			before := m.calls()
			for range 1000 {
				_, err := q.Take(t.Context(), template, message.Bulk, time.Second)
				refused(t, err, outcome.Quota)
			}
			if n := m.calls() - before; n > 2 {
				t.Errorf("%d calls for 1000 refusals", n)
			}
		})
	bubble(t, "the reserve is urgent's, the margin nobody's", Limits{PerDay: 100, PerSecond: 1000, Margin: 0.05, UrgentDay: 0.1},
		func(t *testing.T, q *Quota, _ *memory) {
			for _, c := range []struct {
				lane message.Lane
				n    int
			}{{message.Bulk, 85}, {message.Normal, 0}, {message.Urgent, 10}} {
				n := 0
				for {
					tok, err := q.Take(t.Context(), template, c.lane, time.Second)
					if err != nil {
						refused(t, err, outcome.Quota)
						break
					}
					tok.Spent()
					n++
				}
				if n != c.n {
					t.Errorf("%s got %d, want %d", c.lane, n, c.n)
				}
			}
			time.Sleep(time.Second)
			u := usage(t, q)
			if u.Used != 95 || u.Leased != 0 || u.Left != 0 || u.Limit != 100 {
				t.Errorf("got %+v, want 95 used of 100 and none left", u)
			}
		})
	bubble(t, "what nobody takes goes back within 200 ms", Limits{PerDay: 1e6, PerSecond: 1000},
		func(t *testing.T, q *Quota, _ *memory) {
			for range 50 {
				mustTake(t, q, message.Bulk, time.Second).Spent()
			}
			tok := mustTake(t, q, message.Bulk, time.Second)
			if u := usage(t, q); u.Leased < 3 {
				t.Fatalf("%d leased: no block was leased at all", u.Leased)
			}
			time.Sleep(205 * time.Millisecond)
			if u := usage(t, q); u.Leased != 1 || u.Used != 50 {
				t.Errorf("used %d, leased %d, want 50 and the one in hand", u.Used, u.Leased)
			}
			tok.Return(t.Context())
			tok.Return(t.Context())
			tok.Spent()
			time.Sleep(205 * time.Millisecond)
			if u := usage(t, q); u.Leased != 0 || u.Used != 50 {
				t.Errorf("used %d, leased %d after Return, want 50 and 0", u.Used, u.Leased)
			}
		})
	bubble(t, "the last token, given back, is taken by one that waits", Limits{PerDay: 1, PerSecond: 100},
		func(t *testing.T, q *Quota, m *memory) {
			other := newQuota(m, "other", fixed(Limits{PerDay: 1, PerSecond: 100}))
			tok := mustTake(t, other, message.Bulk, time.Second)
			keepRunning(t, other)
			time.AfterFunc(100*time.Millisecond, func() { tok.Return(context.Background()) })
			mustTake(t, q, message.Bulk, time.Second).Spent()
		})
	bubble(t, "a slow call keeps its token for as long as it takes", Limits{PerDay: 10, PerSecond: 100},
		func(t *testing.T, q *Quota, _ *memory) {
			tok := mustTake(t, q, message.Bulk, time.Second)
			time.Sleep(3 * time.Minute)
			if u := usage(t, q); u.Leased != 1 || u.Used != 0 {
				t.Errorf("used %d, leased %d, want 0 and 1", u.Used, u.Leased)
			}
			tok.Spent()
			time.Sleep(time.Second)
			if u := usage(t, q); u.Leased != 0 || u.Used != 1 {
				t.Errorf("used %d, leased %d, want 1 and 0", u.Used, u.Leased)
			}
		})
	bubble(t, "a dead pod's lease counts as used until WeChat says better", Limits{PerDay: 1000, PerSecond: 1000},
		func(t *testing.T, q *Quota, m *memory) {
			dead := newQuota(m, "dead", fixed(Limits{PerDay: 1000, PerSecond: 1000})) // it does not run
			for range 8 {
				mustTake(t, dead, message.Bulk, time.Second).Spent()
			}
			held := usage(t, q)
			time.Sleep(31 * time.Second)
			mustTake(t, q, message.Bulk, time.Second).Spent()
			time.Sleep(time.Second)
			if u := usage(t, q); u.Leased != 0 || u.Used != held.Used+held.Leased+1 {
				t.Errorf("got %+v after %+v", u, held)
			}
			counted(t, q, 0, 9)
			if u := usage(t, q); u.Used != 9 {
				t.Errorf("used %d after Sync, want WeChat's 9", u.Used)
			}
		})
	bubble(t, "a pod that was frozen does not use what was given to others meanwhile", Limits{PerDay: 1000, PerSecond: 1000},
		func(t *testing.T, q *Quota, m *memory) {
			frozen := newQuota(m, "frozen", fixed(Limits{PerDay: 1000, PerSecond: 1000}))
			for range 8 {
				mustTake(t, frozen, message.Bulk, time.Second).Spent()
			}
			if usage(t, q).Leased < 5 {
				t.Fatal("the frozen pod holds nothing")
			}
			time.Sleep(31 * time.Second)
			mustTake(t, q, message.Bulk, time.Second).Spent()
			counted(t, q, 0, 8)
			n := 9
			for ; ; n++ {
				tok, err := q.Take(t.Context(), template, message.Bulk, time.Second)
				if err != nil {
					refused(t, err, outcome.Quota)
					break
				}
				tok.Spent()
			}
			_, err := frozen.Take(t.Context(), template, message.Bulk, time.Second)
			refused(t, err, outcome.Quota)
			if n != 1000 {
				t.Errorf("%d calls of 1000", n)
			}
		})
	bubble(t, "WeChat's figures win: the larger count, its limit", Limits{PerDay: 100, PerSecond: 1000},
		func(t *testing.T, q *Quota, _ *memory) {
			mustTake(t, q, message.Bulk, time.Second).Spent()
			time.Sleep(time.Second)
			for _, c := range []struct{ limit, used, wantLimit, wantUsed, wantLeft int64 }{
				{0, 0, 100, 1, 99},
				{50, 20, 50, 20, 30},
				{200, 20, 200, 20, 180},
				{200, 0, 200, 1, 199},
				{200, 300, 200, 300, 0},
			} {
				counted(t, q, c.limit, c.used)
				if u := usage(t, q); u.Limit != c.wantLimit || u.Used != c.wantUsed || u.Left != c.wantLeft {
					t.Errorf("Sync(%d, %d) gives %+v", c.limit, c.used, u)
				}
			}
			_, err := q.Take(t.Context(), template, message.Bulk, time.Second)
			refused(t, err, outcome.Quota)
			counted(t, q, 200, 100)
			mustTake(t, q, message.Bulk, time.Second).Spent()
		})
	bubble(t, "limits that nobody set allow nothing", Limits{}, func(t *testing.T, q *Quota, _ *memory) {
		_, err := q.Take(t.Context(), template, message.Urgent, time.Second)
		refused(t, err, outcome.Pace)
	})
}

func TestMidnight(t *testing.T) {
	for _, eve := range []string{"2026-11-22", "2026-11-30", "2026-12-31", "2028-02-28", "2028-02-29"} {
		synctest.Test(t, func(t *testing.T) {
			at, err := time.ParseInLocation(time.DateOnly, eve, beijing)
			if err != nil {
				t.Fatal(err)
			}
			midnight := message.NextDay(at)
			time.Sleep(time.Until(midnight) - time.Second)
			m := &memory{latency: time.Millisecond}
			q := newQuota(m, "pod", fixed(Limits{PerDay: 5, PerSecond: 10}))
			keepRunning(t, q)
			across := mustTake(t, q, message.Bulk, time.Second)
			for range 4 {
				mustTake(t, q, message.Bulk, time.Second).Spent()
			}
			_, err = q.Take(t.Context(), template, message.Bulk, time.Second)
			refused(t, err, outcome.Quota)

			time.Sleep(time.Until(midnight) + 10*time.Millisecond)
			if err := across.Ready(t.Context()); err != nil {
				t.Fatalf("Ready after midnight: %v", err)
			}
			across.Spent()
			mustTake(t, q, message.Bulk, time.Second).Spent()
			time.Sleep(time.Second)
			u := usage(t, q)
			if !u.Day.Equal(midnight) || u.Used != 2 || u.Leased != 0 {
				t.Errorf("%s: got %+v, want 2 used of the day that began at %s", eve, u, midnight)
			}
			if old := m.core.ledger(dayOf(midnight.UnixMicro()) - 1); old.used+old.leased > 5 {
				t.Errorf("%s: the old day has %d used and %d leased of 5", eve, old.used, old.leased)
			}
		})
	}
}

func TestPace(t *testing.T) {
	bubble(t, "a slot beyond maxWait is refused at once, until it", Limits{PerDay: 100, PerSecond: 1.0 / 60},
		func(t *testing.T, q *Quota, _ *memory) {
			mustTake(t, q, message.Bulk, 0).Spent()
			began := time.Now()
			_, err := q.Take(t.Context(), template, message.Bulk, 5*time.Second)
			until := refused(t, err, outcome.Pace).Until.Sub(began)
			if until < 59*time.Second || until > 61*time.Second || time.Since(began) > 10*time.Millisecond {
				t.Errorf("refused until %s, after %s", until, time.Since(began))
			}
			time.Sleep(until)
			mustTake(t, q, message.Bulk, 0).Spent()
		})
	bubble(t, "first come, first served, urgent first", Limits{PerDay: 100, PerSecond: 4},
		func(t *testing.T, q *Quota, _ *memory) {
			mustTake(t, q, message.Bulk, 0).Spent()
			var mu sync.Mutex
			var got []string
			var wg sync.WaitGroup
			for _, who := range []struct {
				name string
				lane message.Lane
			}{{"b1", message.Bulk}, {"b2", message.Bulk}, {"n1", message.Normal}, {"u1", message.Urgent}, {"n2", message.Normal}, {"u2", message.Urgent}} {
				wg.Go(func() {
					mustTake(t, q, who.lane, 10*time.Second).Spent()
					mu.Lock()
					defer mu.Unlock()
					got = append(got, who.name)
				})
				time.Sleep(10 * time.Millisecond)
			}
			wg.Wait()
			want := "u1 u2 n1 n2 b1 b2"
			if s := strings.Join(got, " "); s != want {
				t.Errorf("served %s, want %s", s, want)
			}
		})
	bubble(t, "who leaves the line gives up the place, not the token", Limits{PerDay: 2, PerSecond: 2},
		func(t *testing.T, q *Quota, _ *memory) {
			mustTake(t, q, message.Bulk, 0).Spent()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			_, err := q.Take(ctx, template, message.Bulk, 5*time.Second)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the context's error", err)
			}
			mustTake(t, q, message.Bulk, time.Second).Spent()
		})
	bubble(t, "Ready gets a fresh slot for a stale one, without another token", Limits{PerDay: 2, PerSecond: 10},
		func(t *testing.T, q *Quota, _ *memory) {
			tok := mustTake(t, q, message.Bulk, 0)
			time.Sleep(100 * time.Millisecond)
			began := time.Now()
			if err := tok.Ready(t.Context()); err != nil || time.Since(began) != 0 {
				t.Errorf("100 ms late: %v after %s, want nothing to happen", err, time.Since(began))
			}
			time.Sleep(5 * time.Second)
			mustTake(t, q, message.Bulk, 0).Spent() // the slot of now
			began = time.Now()
			if err := tok.Ready(t.Context()); err != nil {
				t.Errorf("5 s late: %v", err)
			}
			if d := time.Since(began); d < 20*time.Millisecond || d > 150*time.Millisecond {
				t.Errorf("the fresh slot came after %s, want that of 100 ms later", d)
			}
			tok.Spent()
			time.Sleep(time.Second)
			if u := usage(t, q); u.Used != 2 {
				t.Errorf("used %d, want 2", u.Used)
			}
		})
	bubble(t, "Slow closes until the next minute, halves, and recovers by 5 % every 10 s", Limits{PerDay: 1e6, PerSecond: 100},
		func(t *testing.T, q *Quota, m *memory) {
			time.Sleep(20 * time.Second)
			tok := mustTake(t, q, message.Bulk, time.Second)
			for range 20 { // all that were in flight are refused
				if err := q.Slow(t.Context(), template); err != nil {
					t.Fatal(err)
				}
			}
			if err := tok.Ready(t.Context()); err == nil {
				t.Error("a call went out in the closed minute")
			}
			tok.Return(t.Context())
			minute := time.Now().Truncate(time.Minute).Add(time.Minute)
			other := newQuota(m, "other", fixed(Limits{PerDay: 1e6, PerSecond: 100}))
			for _, q := range []*Quota{q, other} {
				_, err := q.Take(t.Context(), template, message.Urgent, time.Second)
				if d := refused(t, err, outcome.Pace).Until.Sub(minute).Abs(); d > 5*time.Millisecond {
					t.Errorf("refused until %s beside the next minute", d)
				}
			}
			time.Sleep(time.Until(minute) + 5*time.Second)
			for _, want := range []float64{50, 55, 60} {
				if u := usage(t, q); u.PacePerSecond != want {
					t.Errorf("pace %v, want %v", u.PacePerSecond, want)
				}
				began := time.Now()
				for time.Since(began) < 10*time.Second {
					mustTake(t, q, message.Bulk, time.Second).Spent()
				}
			}
			time.Sleep(2 * time.Minute)
			if u := usage(t, q); u.PacePerSecond != 100 {
				t.Errorf("pace %v at last, want 100", u.PacePerSecond)
			}
		})
}
