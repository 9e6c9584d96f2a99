package wechattest

import (
	"testing"
	"time"
)

func limited(l Limit) func(*Settings) {
	return func(s *Settings) { s.Limits = map[string]Limit{"template/send": l} }
}

func TestDayQuota(t *testing.T) {
	t.Run("ends with Beijing's day", func(t *testing.T) {
		b := setup(t, limited(Limit{PerDay: 2}))
		b.sim.Clock.Freeze(time.Date(2026, 11, 22, 23, 59, 59, 0, Beijing))
		for _, code := range []int{0, 0, dayQuotaReached} {
			b.want(b.post(PathTemplate, template(alice, "")), code)
		}
		b.sim.Clock.Advance(time.Second)
		b.want(b.post(PathTemplate, template(alice, "")), 0)
		days := b.shop.Calls("template/send").ByDay
		if days["2026-11-22"] != (Day{3, 2}) || days["2026-11-23"] != (Day{1, 1}) {
			t.Errorf("the witness counts %+v", days)
		}
	})
	t.Run("counts refused calls", func(t *testing.T) {
		b := setup(t)
		b.want(b.post(PathTemplate, template("oNobody", "")), badOpenID)
		b.want(b.post(PathTemplate, "{"), notJSON)
		if got := b.shop.Used(PathTemplate); got != 2 {
			t.Errorf("used %d, want 2", got)
		}
	})
	t.Run("counts only accepted calls by a switch", func(t *testing.T) {
		b := setup(t, func(s *Settings) { s.OnlyAccepted = true })
		b.want(b.post(PathTemplate, template("oNobody", "")), badOpenID)
		b.want(b.post(PathTemplate, template(alice, "")), 0)
		if got := b.shop.Used(PathTemplate); got != 1 {
			t.Errorf("used %d, want 1", got)
		}
	})
	t.Run("is told by quota/get and reset by clear_quota, 10 times a month", func(t *testing.T) {
		b := setup(t, limited(Limit{PerDay: 100}))
		_ = b.shop.SetUsed("template/send", 60)
		q := b.post(PathQuota, `{"cgi_path":"/cgi-bin/message/template/send"}`).Quota
		if q.Limit != 100 || q.Used != 60 || q.Remain != 40 {
			t.Errorf("got %+v", q)
		}
		b.want(b.post(PathQuota, `{"cgi_path":"message/template/send"}`), badCGIPath)
		for range clearsPerMonth {
			b.want(b.post(PathClearQuota, `{"appid":"`+appID+`"}`), 0)
		}
		if got := b.shop.Used(PathTemplate); got != 0 {
			t.Errorf("used %d after clearing", got)
		}
		b.want(b.post(PathClearQuota, `{"appid":"`+appID+`"}`), noClearsLeft)
		b.sim.Clock.Set(time.Date(2026, 12, 1, 0, 0, 0, 0, Beijing))
		b.want(b.post(PathClearQuota, `{"appid":"`+appID+`"}`), 0)
	})
	t.Run("may be inaccurate by the share that is set", func(t *testing.T) {
		b := setup(t, limited(Limit{PerDay: 1000}), func(s *Settings) { s.Inaccuracy = 0.01 })
		n := 0
		for b.post(PathTemplate, template(alice, "")).Errcode == 0 {
			n++
		}
		if n < 990 || n > 1010 {
			t.Errorf("the quota ended after %d calls", n)
		}
	})
}

func TestShortTermQuota(t *testing.T) {
	b := setup(t, limited(Limit{PerMinute: 3, PerSecond: 2}))
	send := func(code int) { b.Helper(); b.want(b.post(PathTemplate, template(alice, "")), code) }
	send(0)
	send(0)
	send(minuteQuotaReached) // the second
	b.sim.Clock.Advance(time.Second)
	send(0)
	send(minuteQuotaReached) // the minute
	b.sim.Clock.Advance(time.Minute)
	send(0)
	if got := b.shop.Used(PathTemplate); got != 4 {
		t.Errorf("the day counts %d, want 4", got)
	}
}

func TestTheWitnessCountsAnyWindow(t *testing.T) {
	b := setup(t)
	for _, wait := range []time.Duration{0, 400, 400, 400, 58_000, 799, 1, 120_000} {
		b.sim.Clock.Advance(wait * time.Millisecond)
		b.post(PathTemplate, template(alice, ""))
	}
	// Arrivals at 0, 400, 800, 1200, 59200, 59999, 60000, 180000 ms.
	got := b.shop.Calls(PathTemplate)
	if got.Max1s != 3 || got.Max60s != 6 || got.Arrived != 8 {
		t.Errorf("got %+v, want at most 3 in a second and 6 in 60 s", got)
	}
}
