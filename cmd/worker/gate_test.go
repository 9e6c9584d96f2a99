package main

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// acts reports what users did, and does it in the simulator too.
func (f *fleet) acts(account string, what client.EventType, users ...message.OpenID) {
	f.Helper()
	for _, u := range users {
		if err := f.wechat(account).Act(string(u), wechattest.Action(what)); err != nil {
			f.Fatal(err)
		}
		e := client.Event{Account: account, OpenID: u, Type: what, At: time.Now().Truncate(time.Second)}
		if err := f.producer.Event(f.Context(), e); err != nil {
			f.Fatal(err)
		}
	}
}

func TestOneAPIRefused(t *testing.T) {
	t.Parallel()
	const n = 20
	const path = wechattest.PathCustom
	a := shop()
	a.wechat.Closed = map[string]int{path: 48001}
	f := newFleet(t, a)
	f.start(3)
	f.acts("shop", client.Messaged, users(0, 2*n)...)
	var messages []message.Message
	for i := range n {
		messages = append(messages, custom("shop", i), template("shop", n+i))
	}
	f.enqueue(messages...)
	f.await(30*time.Second, map[string]int{"sent": n}, "kind = 'template'")
	f.await(30*time.Second, map[string]int{"parked gate": n}, "kind = 'custom'")
	f.gate("shop", path, "broken", "unauthorized")
	if shut := f.number("SELECT count(*)::int FROM gate WHERE api = '' AND state <> 'open'"); shut != 0 {
		t.Error("the refusal of one API shut the whole account")
	}

	refused := func() int64 { return f.wechat("shop").Calls(path).Refused[48001] }
	before, began := refused(), time.Now()
	f.aMinuteLater()
	since := f.since()
	eventually(t, 30*time.Second+comesBack, "probe", func() bool { return refused() > before })
	f.await(30*time.Second, map[string]int{"parked gate": n}, "kind = 'custom'")
	f.exec("UPDATE parked SET due_at = now()") // all may go, were the gate open
	f.enqueue(templates("shop", 2*n, 300)...)  // 3 s at the pace of 100/s: ticks of the releaser
	f.await(30*time.Second, map[string]int{"sent": n + 300}, "kind = 'template'")
	if probes, took := refused()-before, time.Since(began); probes > 1+int64(took/time.Minute) {
		t.Errorf("%d probes in %v, want one a minute", probes, took)
	}
	if got := f.since(); !got.Equal(since) {
		t.Errorf("the gate is broken since %v, want %v as before the probe", got, since)
	}

	if err := f.wechat("shop").Change(func(s *wechattest.Settings) { s.Closed = nil }); err != nil {
		t.Fatal(err)
	}
	f.opensByItself()
	f.await(30*time.Second, map[string]int{"sent": n}, "kind = 'custom'")
	f.sentOnce(2*n + 300)
}

// gate checks a gate's state, and that WeChat's words stand there.
func (f *fleet) gate(account, api, state string, words ...string) {
	f.Helper()
	var got, detail string
	var code int
	if err := f.db.QueryRow(f.Context(), `
		SELECT g.state, g.detail, g.errcode FROM gate g JOIN account a ON a.id = g.account WHERE a.name = $1 AND g.api = $2`,
		account, api).Scan(&got, &detail, &code); err != nil {
		f.Errorf("gate of %s %q: %v", account, api, err)
	}
	if got != state {
		f.Errorf("gate of %s %q: got %s (%d %s), want %s", account, api, got, code, detail, state)
	}
	for _, w := range words {
		if !strings.Contains(detail, w) {
			f.Errorf("gate of %s %q: its detail is %q, want %q in it", account, api, detail, w)
		}
	}
}

// aMinuteLater lets the minute after a refusal pass: it makes what is parked behind broken gates due, and the gates due
// for their next probe. Before, all pods must know of the refusal.
func (f *fleet) aMinuteLater() {
	f.Helper()
	f.everyPodKnows()
	f.forget("hongyan:token:*:refusal") // after a refused token call nobody makes another for 20 s
	f.exec("UPDATE parked SET due_at = now() WHERE reason = 'gate'")
	f.exec("UPDATE gate SET since = since - interval '61 s', probed_at = probed_at - interval '61 s' WHERE state = 'broken'")
}

// everyPodKnows waits for the second within which all pods know of a gate, and another.
func (f *fleet) everyPodKnows() {
	f.Helper()
	known := time.Now().Add(2 * time.Second)
	eventually(f, 5*time.Second, "second", func() bool { return time.Now().After(known) })
}

// opensByItself lets a minute pass, after which the broken gate is open, and what is parked is due.
func (f *fleet) opensByItself() {
	f.Helper()
	f.aMinuteLater()
	eventually(f, 30*time.Second+comesBack, "open gate", func() bool {
		return f.number("SELECT count(*)::int FROM gate WHERE state = 'broken'") == 0
	})
	f.everyPodKnows()
	f.exec("UPDATE parked SET due_at = now()")
}

// forget deletes keys from Redis.
func (f *fleet) forget(pattern string) {
	f.Helper()
	keys, err := f.rdb.Keys(f.Context(), pattern).Result()
	if err == nil && len(keys) > 0 {
		err = f.rdb.Del(f.Context(), keys...).Err()
	}
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fleet) since() (at time.Time) {
	f.Helper()
	if err := f.db.QueryRow(f.Context(), "SELECT since FROM gate WHERE state = 'broken'").Scan(&at); err != nil {
		f.Fatal(err)
	}
	return at
}

// keepsHouse takes the housekeeping from the workers and does none of it: their comparison of quotas, which comes at its
// own time, would tell them before WeChat refuses anything.
func (f *fleet) keepsHouse() {
	f.Helper()
	store := f.ledger()
	leads, ended := make(chan struct{}), make(chan struct{})
	led := sync.OnceFunc(func() { close(leads) }) // who loses his session leads again
	ctx, cancel := context.WithCancel(f.background())
	go func() {
		defer close(ended)
		work := func(ctx context.Context) error { led(); <-ctx.Done(); return nil }
		_ = store.Lead(ctx, "house", work, func(err error) { f.Log(err) })
	}()
	f.Cleanup(func() { cancel(); <-ended })
	<-leads
}

func TestQuotaRefused(t *testing.T) {
	t.Parallel()
	t.Run("45009 while quota/get says that calls are left shuts the API for a minute, not for the day", func(t *testing.T) {
		t.Parallel()
		nextDay(t)
		f := newFleet(t, shop())
		f.sim.MustInject(wechattest.Fault{Kind: wechattest.Errcode, Code: 45009, API: "template/send", Next: 1})
		f.start(2)
		f.enqueue(template("shop", 1))
		f.await(30*time.Second, map[string]int{"parked quota": 1}, "true")
		if late := f.number("SELECT count(*)::int FROM parked WHERE due_at > now() + interval '70 s' OR due_at < now() + interval '30 s'"); late > 0 {
			t.Error("the message is not due in a minute")
		}
		f.gate("shop", wechattest.PathTemplate, "closed")
		f.exec("UPDATE parked SET due_at = now()")
		f.exec("UPDATE gate SET until = now()")
		f.await(30*time.Second, map[string]int{"sent": 1}, "true")
	})
	t.Run("45009 with nothing left shuts the API for all workers within a second, until after midnight", func(t *testing.T) {
		t.Parallel()
		midnight := nextDay(t)
		f := newFleet(t, shop())
		f.keepsHouse()
		f.start(3)
		f.enqueue(template("shop", 0))
		f.await(30*time.Second, map[string]int{"sent": 1}, "true")
		if err := f.wechat("shop").SetUsed("template/send", 100_000); err != nil { // somebody else's
			t.Fatal(err)
		}
		f.enqueue(template("shop", 1))
		shut := "SELECT count(*)::int FROM gate WHERE state = 'closed' AND until > $1 AND until < $1 + interval '2 minutes'"
		eventually(t, 30*time.Second+comesBack, "closed gate", func() bool { return f.number(shut, midnight) == 1 })
		f.everyPodKnows()
		calls := f.wechat("shop").Calls("template/send").Arrived
		f.enqueue(templates("shop", 2, 60)...)
		f.await(30*time.Second, map[string]int{"sent": 1, "parked quota": 1, "parked gate": 60}, "true")
		if got := f.wechat("shop").Calls("template/send").Arrived; got != calls {
			t.Errorf("%d calls arrived after the gate was shut for a second", got-calls)
		}
		if early := f.number("SELECT count(*)::int FROM parked WHERE due_at <= $1", midnight); early > 0 {
			t.Errorf("%d of the parked are due before midnight", early)
		}

		f.exec("UPDATE gate SET state = 'open', until = 'epoch'") // by hand, in error: our own count knows, too
		f.everyPodKnows()
		f.enqueue(template("shop", 70))
		f.await(30*time.Second, map[string]int{"sent": 1, "parked quota": 2, "parked gate": 60}, "true")
		if got := f.wechat("shop").Calls("template/send").Arrived; got != calls {
			t.Errorf("%d calls arrived after the gate was opened by hand", got-calls)
		}
	})
}
