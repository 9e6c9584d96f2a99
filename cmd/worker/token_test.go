package main

import (
	"slices"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

func TestTokenUnderLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		claim   string
		code    int // that the old token answers
		trouble func(*wechattest.Account)
	}{
		{"a token that expires under load is fetched anew once by three workers", 42001, (*wechattest.Account).ExpireTokens},
		{"a token that a stranger replaced is fetched anew once by three workers", 40001, (*wechattest.Account).KickTokens},
	} {
		t.Run(c.claim, func(t *testing.T) {
			t.Parallel()
			const n = 600
			f := newFleet(t, shop("limits: {template: {per_day: 100000, per_second: 150}}"))
			f.sim.SetLatency(wechattest.Latency{Min: 20 * time.Millisecond, Max: 60 * time.Millisecond})
			f.start(3)
			f.enqueue(templates("shop", 0, n)...)
			eventually(t, 30*time.Second, "load", func() bool { return f.wechat("shop").Calls("template/send").Accepted > n/4 })
			before := f.wechat("shop").Calls("stable_token").Arrived
			c.trouble(f.wechat("shop"))
			f.await(60*time.Second, map[string]int{"sent": n}, "true")

			refused := f.wechat("shop").Calls("template/send").Refused
			if fetched := f.wechat("shop").Calls("stable_token").Arrived - before; fetched != 1 {
				t.Errorf("%d token calls, want 1 (sends refused: %v)", fetched, refused)
			}
			if n := refused[c.code]; n == 0 || n > 3*senders {
				t.Errorf("WeChat refused %v, want some with %d, and not more than were on the wire", refused, c.code)
			}
			if _, forced := f.wechat("shop").TokenCounts(); forced != 0 {
				t.Errorf("%d forced refreshes, want none", forced)
			}
			if before != 1 {
				t.Errorf("%d token calls of three workers that start together, want 1", before)
			}
			f.sentOnce(n)
			t.Logf("refused: %v", refused)
		})
	}
}

// sentOnce checks that the simulator accepted n sends, of n users.
func (f *fleet) sentOnce(n int) {
	f.Helper()
	twice := 0
	counts := f.sim.CountBy(wechattest.ByOpenID)
	for _, times := range counts {
		if times > 1 {
			twice++
		}
	}
	if len(counts) != n || twice > 0 {
		f.Errorf("%d users got a message and %d of them got several, want %d and 0", len(counts), twice, n)
	}
}

func TestWrongSecret(t *testing.T) {
	t.Parallel()
	const n, pace = 400, 100
	good := shop("limits: {template: {per_day: 100000, per_second: 100}}", exact)
	bad := shop()
	bad.name, bad.wechat.AppID = "club", club().wechat.AppID
	bad.secret = "canary-secret-of-the-club-was-old"
	f := newFleet(t, good, bad)
	f.start(3)
	begin := time.Now()
	for i := range n / 20 { // both accounts' messages arrive side by side
		f.enqueue(append(templates("shop", 20*i, 20), templates("club", 20*i, 20)...)...)
	}
	f.await(40*time.Second, map[string]int{"sent": n}, "account = 'shop'")
	took := time.Since(begin)
	f.await(20*time.Second, map[string]int{"parked gate": n}, "account = 'club'")

	sent := f.sim.AllAccepts()
	var seconds []time.Duration // for as many messages as should go in one
	for i := pace; i < len(sent); i++ {
		seconds = append(seconds, sent[i].At.Sub(sent[i-pace].At))
	}
	slices.Sort(seconds)
	usual := seconds[len(seconds)/2] // a machine that stands still now and then does not count
	if usual > 1700*time.Millisecond {
		t.Errorf("the good account sent %d messages in %v; its pace is %d/s", pace, usual, pace)
	}
	calls := f.wechat("club").Calls("stable_token")
	if calls.Max60s > 3 {
		t.Errorf("%d token calls in %v with a wrong secret, want at most 3 a minute", calls.Max60s, took)
	}
	f.gate("club", "", "broken", "invalid")
	if shut := f.number("SELECT count(*)::int FROM gate g JOIN account a ON a.id = g.account WHERE a.name = 'shop'"); shut != 0 {
		t.Error("the good account has a gate")
	}
	t.Logf("good account: %d messages in %v; bad account: %d token calls", pace, usual, calls.Arrived)
}

func TestAddressNotWhitelisted(t *testing.T) {
	t.Parallel()
	const n = 60
	a := shop()
	a.wechat.Whitelist = []string{"203.0.113.7"}
	f := newFleet(t, a)
	f.start(2)
	f.enqueue(templates("shop", 0, n)...)
	f.await(30*time.Second, map[string]int{"parked gate": n}, "true")
	f.gate("shop", "", "broken", "127.0.0.1")
	if arrived := f.wechat("shop").Calls("template/send").Arrived; arrived != 0 {
		t.Errorf("%d sends arrived without a token", arrived)
	}
	if err := f.wechat("shop").Change(func(s *wechattest.Settings) { s.Whitelist = nil }); err != nil {
		t.Fatal(err)
	}
	f.opensByItself()
	f.await(30*time.Second, map[string]int{"sent": n}, "true")
	f.sentOnce(n)
}
