package main

import (
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestWindow(t *testing.T) {
	t.Parallel()
	t.Run("50 answers race over three workers for the last slot: one wins, the others' fallbacks are sent once each", func(t *testing.T) {
		t.Parallel()
		const racers, withFallback = 50, 20
		a := shop()
		a.wechat.AnyWindow = false
		f := newFleet(t, a)
		f.start(3)
		f.acts("shop", client.Messaged, user(1)) // allows 5
		f.enqueue(custom("shop", 1), custom("shop", 1), custom("shop", 1), custom("shop", 1))
		f.await(30*time.Second, map[string]int{"sent": 4}, "true")

		var racing sync.WaitGroup
		for i := range 10 { // clients of their own: calls of one client that wait together travel together
			c := f.handOver()
			for j := range racers / 10 {
				m := custom("shop", 1)
				if n := i*racers/10 + j; n < withFallback {
					m.Fallback = &message.Message{Kind: message.Template, Body: json.RawMessage(`{"template_id":"order_paid","data":{"thing2":{"value":"请回复"}}}`)}
				}
				racing.Go(func() {
					if _, err := c.Enqueue(f.Context(), m); err != nil {
						t.Error(err)
					}
				})
			}
		}
		racing.Wait()
		f.await(30*time.Second, map[string]int{"sent": 5, "skipped window_used": racers - 1}, "kind = 'custom'")
		fallbacks := f.number("SELECT count(*)::int FROM message_body WHERE fallback IS NOT NULL AND id IN (SELECT id FROM message WHERE state = 'skipped')")
		if fallbacks < withFallback-1 {
			t.Errorf("%d of the skipped have a fallback, want %d or one less", fallbacks, withFallback)
		}
		f.await(30*time.Second, map[string]int{"sent": fallbacks}, "kind = 'template' AND parent_id IN (SELECT id FROM outcomes WHERE status = 'skipped')")
		f.await(time.Second, map[string]int{"sent": fallbacks}, "kind = 'template'")
		if n := f.number("SELECT count(DISTINCT parent_id)::int FROM outcomes WHERE kind = 'template'"); n != fallbacks {
			t.Errorf("the fallbacks are of %d messages, want %d", n, fallbacks)
		}
		f.accepts(wechattest.PathCustom, 5)
		f.accepts(wechattest.PathTemplate, fallbacks)
		if n := f.wechat("shop").WindowRefusals(string(user(1))); n != 0 {
			t.Errorf("WeChat refused %d answers for the window, want none tried", n)
		}
	})
	t.Run("after the loss of Redis the windows are as they were", func(t *testing.T) {
		t.Parallel()
		a := shop()
		a.wechat.AnyWindow = false
		f := newFleet(t, a)
		f.start(2)
		told := client.Event{Account: "shop", OpenID: user(1), Type: client.Messaged, At: time.Now().Truncate(time.Second)}
		f.acts("shop", client.Messaged, user(1)) // allows 5
		f.enqueue(custom("shop", 1), custom("shop", 1), custom("shop", 1))
		f.await(30*time.Second, map[string]int{"sent": 3}, "true")
		if err := f.rdb.FlushDB(f.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if err := f.producer.Event(t.Context(), told); err != nil { // again, as WeChat does: it must not begin the window anew
			t.Fatal(err)
		}
		f.enqueue(custom("shop", 1), custom("shop", 1), custom("shop", 1), custom("shop", 1), custom("shop", 2))
		f.await(60*time.Second, map[string]int{"sent": 5, "skipped window_used": 2, "skipped window_closed": 1}, "true")
		f.accepts(wechattest.PathCustom, 5)
		if n := f.wechat("shop").WindowRefusals(string(user(1))); n != 0 {
			t.Errorf("WeChat refused %d answers for the window, want none tried", n)
		}
	})
	t.Run("where WeChat knows better one call is made for each action of the user's", func(t *testing.T) {
		t.Parallel()
		const n = 10
		a := shop()
		a.wechat.AnyWindow = false
		a.wechat.Window = map[wechattest.Trigger]wechattest.Allowance{wechattest.ByMessage: {Messages: 2, For: time.Hour}} // we count five
		f := newFleet(t, a)
		f.start(2)
		refused := func(code int, want int64) {
			t.Helper()
			if got := f.wechat("shop").Calls(wechattest.PathCustom).Refused[code]; got != want {
				t.Errorf("%d calls were refused with %d, want %d", got, code, want)
			}
		}
		each := func(users, messages int) (list []message.Message) {
			for u := range users {
				for range messages {
					list = append(list, custom("shop", u))
				}
			}
			return list
		}
		for u := range n { // of this action WeChat knows nothing
			e := client.Event{Account: "shop", OpenID: user(u), Type: client.Messaged, At: time.Now().Add(-10 * time.Second).Truncate(time.Second)}
			if err := f.producer.Event(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		f.enqueue(each(n, 1)...)
		f.await(30*time.Second, map[string]int{"failed refused_recipient": n}, "true")
		f.enqueue(each(n, 4)...)
		f.await(30*time.Second, map[string]int{"failed refused_recipient": n, "skipped window_closed": 4 * n}, "true")
		refused(45015, n)

		refusedBy := time.Now() // an action counts as later where it is later by both clocks
		eventually(t, 30*time.Second, "later", func() bool { return time.Since(refusedBy) > window.Skew+2*time.Second })
		f.acts("shop", client.Messaged, users(0, n)...)
		for sent := range 3 {
			f.enqueue(each(n, 1)...)
			want := map[string]int{"failed refused_recipient": n + sent/2*n, "skipped window_closed": 4 * n, "sent": min(sent+1, 2) * n}
			f.await(30*time.Second, want, "true")
		}
		f.enqueue(each(n, 4)...)
		f.await(30*time.Second, map[string]int{
			"failed refused_recipient": 2 * n, "skipped window_closed": 4 * n, "sent": 2 * n, "skipped window_used": 4 * n,
		}, "true")
		refused(45015, n)
		refused(45047, n)
	})
	t.Run("users who did not act get no call, and their fallback once", func(t *testing.T) {
		t.Parallel()
		const n = 30
		a := shop()
		a.wechat.AnyWindow = false
		f := newFleet(t, a)
		f.start(2)
		var messages []message.Message
		for i := range n {
			m := custom("shop", i)
			m.Fallback = &message.Message{Kind: message.Template, Body: template("shop", i).Body}
			messages = append(messages, m)
		}
		f.enqueue(messages...)
		f.await(30*time.Second, map[string]int{"skipped window_closed": n}, "kind = 'custom'")
		f.await(30*time.Second, map[string]int{"sent": n}, "kind = 'template' AND parent_id IS NOT NULL")
		f.accepts(wechattest.PathTemplate, n)
		f.sentOnce(n)
		if calls := f.wechat("shop").Calls(wechattest.PathCustom); calls.Arrived != 0 {
			t.Errorf("%d calls into closed windows", calls.Arrived)
		}
	})
}

// accepts checks how many sends of one API the simulator has accepted.
func (f *fleet) accepts(api string, want int) {
	f.Helper()
	if got := f.sim.CountBy(func(a wechattest.Accept) string { return a.API })[api]; got != want {
		f.Errorf("WeChat accepted %d of %s, want %d", got, api, want)
	}
}
