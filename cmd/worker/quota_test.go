package main

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

const exact = "reserve: {urgent_day: 0, urgent_pace: 0, margin: 0}"

func TestDailyQuota(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claim       string
		wechat      int64 // WeChat's limit
		used        int64 // by another program
		ours        string
		send, limit int
	}{
		{"three workers use the day's quota up and no more", 400, 0, "400", 600, 400},
		{"a limit of ours is kept below WeChat's", 100_000, 0, "120", 180, 120},
		{"WeChat's limit is kept below ours, and what another program has used of it", 300, 180, "100000", 180, 120},
		{"50 messages race over three workers for the day's last call: one wins", 100, 99, "100000", 50, 1},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			midnight := nextDay(t)
			a := shop("limits: {template: {per_day: "+c.ours+", per_second: 200}}", exact)
			a.wechat.Limits["template/send"] = wechattest.Limit{PerDay: c.wechat}
			f := newFleet(t, a)
			if err := f.wechat("shop").SetUsed("template/send", c.used); err != nil {
				t.Fatal(err)
			}
			f.start(3)
			f.enqueue(templates("shop", 0, c.send)...)
			var got map[string]int
			eventually(t, 60*time.Second+comesBack, "fate of all", func() bool {
				got = f.outcomes("true")
				return got["sent"]+got["parked quota"] == c.send
			})

			calls := f.wechat("shop").Calls("template/send")
			unused := int64(c.limit) - calls.Accepted // each worker may have a token left, when the others find none any more
			if calls.Arrived > int64(c.limit) || unused > max(int64(c.limit)/100, 3) || calls.Accepted == 0 {
				t.Errorf("WeChat counts %d calls and %d sends, want at most %d and nearly as many", calls.Arrived, calls.Accepted, c.limit)
			}
			if len(calls.Refused) > 0 {
				t.Errorf("WeChat refused %v, want nothing refused", calls.Refused)
			}
			if got["sent"] != int(calls.Accepted) {
				t.Errorf("got outcomes %v, want %d sent", got, calls.Accepted)
			}
			if early := f.number("SELECT count(*)::int FROM parked WHERE due_at <= $1 OR due_at > $1 + interval '2 minutes'", midnight); early > 0 {
				t.Errorf("%d of the parked are not due shortly after %v", early, midnight)
			}
			t.Logf("sent %d of %d, quota %d", calls.Accepted, c.send, c.limit)
		})
	}
}

// TestPace needs a whole minute: WeChat counts by the minute.
func TestPace(t *testing.T) {
	t.Parallel()
	const pace, seconds = 50, 64
	f := newFleet(t, shop("limits: {template: {per_day: 100000, per_second: 50}}", exact)) // nothing kept back
	f.start(3)
	stall := stallOf(t)
	messages := templates("shop", 0, pace*seconds)
	for i := range messages {
		if i%10 == 0 {
			messages[i].Lane = message.Urgent
		}
	}
	f.enqueue(messages...)
	f.await(100*time.Second, map[string]int{"sent": len(messages)}, "true")

	calls := f.wechat("shop").Calls("template/send")
	// A call leaves within 250 ms of its slot. What comes on top is the way here: a test process that did not
	// run for a while sees calls bunched that came one by one.
	burst := 250*time.Millisecond + stall()
	if limit := int64(pace + pace*burst.Seconds() + 1); calls.Max1s > limit {
		t.Errorf("%d calls in one second, want at most %d (pace %d, burst %v)", calls.Max1s, limit, pace, burst)
	}
	if calls.Max60s > 60*pace {
		t.Errorf("%d calls in 60 s, want at most %d", calls.Max60s, 60*pace)
	}
	if calls.Max60s < 60*pace*70/100 { // two of three workers would make 67 %; a machine with three times the work it can do, 75 %
		t.Errorf("%d calls in the busiest 60 s: the pace of %d/s is not used", calls.Max60s, pace)
	}
	t.Logf("at most %d calls in 1 s and %d in 60 s, stalled for at most %v", calls.Max1s, calls.Max60s, stall())
}

// stallOf measures the longest time for which this process did not run when it could have.
func stallOf(t *testing.T) func() time.Duration {
	const nap = 5 * time.Millisecond
	stop, worst := make(chan struct{}), make(chan time.Duration, 1)
	worst <- 0
	go func() {
		tick := time.NewTicker(nap)
		defer tick.Stop()
		last := time.Now()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				now := time.Now()
				worst <- max(<-worst, now.Sub(last)-nap)
				last = now
			}
		}
	}()
	t.Cleanup(func() { close(stop) })
	return func() time.Duration {
		w := <-worst
		worst <- w
		return w
	}
}
