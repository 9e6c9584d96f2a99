package main

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

func TestWeChatOutOfOrder(t *testing.T) {
	t.Parallel()
	const n = 400
	other := shop()
	other.name, other.wechat.AppID = "other", "wx00000000000000f3"
	f := newFleet(t, shop(), other)
	fault, err := f.sim.Inject(wechattest.Fault{Kind: wechattest.Status, API: wechattest.PathTemplate, AppID: f.wechat("shop").Settings().AppID})
	if err != nil {
		t.Fatal(err)
	}
	f.start(2)
	f.enqueue(templates("shop", 0, n)...)
	f.enqueue(templates("other", n, n)...)
	f.await(60*time.Second, map[string]int{"sent": n}, "account = 'other'")
	eventually(t, 30*time.Second, "closed gate", func() bool {
		return f.number("SELECT count(*)::int FROM gate WHERE state = 'closed' AND reason = 'wechat_errors'") == 1
	})
	f.sim.Heal(fault)
	f.await(100*time.Second, map[string]int{"sent": n}, "account = 'shop'")
	f.sentOnce(2 * n)
	if calls := f.wechat("shop").Calls(wechattest.PathTemplate).Arrived; calls > 2*n {
		t.Errorf("%d calls for %d messages: the breaker held back nothing", calls, n)
	}
}
