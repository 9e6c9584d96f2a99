package main

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

const fastMass = "limits: {mass: {calls_per_day: 1000, calls_per_minute: 600}}"

func massShop() account {
	a := shop(fastMass)
	a.wechat.Limits[wechattest.PathMassSend] = wechattest.Limit{PerDay: 1000}
	a.wechat.Mass = wechattest.MassRules{RetryGap: -1}
	return a
}

// repeat is n equal messages.
func repeat(m message.Message, n int) []message.Message {
	return slices.Repeat([]message.Message{m}, n)
}

func TestMassCaps(t *testing.T) {
	t.Parallel()
	t.Run("50 messages race over three workers for a list's last slot of the month: one wins", func(t *testing.T) {
		t.Parallel()
		nextDay(t)
		f := newFleet(t, massShop())
		f.start(3)
		list := users(0, 5)
		f.enqueue(repeat(massList("shop", list, "十一月第一"), 3)...)
		f.await(40*time.Second, map[string]int{"sent": 3}, "true")
		f.enqueue(repeat(massList("shop", list, "十一月最后"), 50)...)
		f.await(60*time.Second, map[string]int{"sent": 4, "skipped mass_cap": 49}, "true")
		f.accepts(wechattest.PathMassSend, 4)
		for _, u := range list {
			if n := f.wechat("shop").MassReceived(string(u)); n != 4 {
				t.Errorf("a user got %d mass messages in the month, want 4", n)
			}
		}

		// The five have had their four; of a longer list only the others get it.
		wider := f.enqueue(massList("shop", users(0, 9), "给还没满的"))[0]
		f.await(30*time.Second, map[string]int{"sent": 1}, "id = $1", wider.ID.String())
		if n := f.number("SELECT count(*)::int FROM mass_left_out WHERE message = $1 AND reason = 'mass_cap' AND openid = ANY($2)", wider.ID.String(), list); n != 5 {
			t.Errorf("%d users are written down as left out, want 5", n)
		}
		accepted := f.sim.AllAccepts()
		if last := accepted[len(accepted)-1]; last.To != "list:4" || last.Recipients != 4 {
			t.Errorf("the last send went to %s and reached %d, want list:4 and 4", last.To, last.Recipients)
		}
	})
	t.Run("a subscription account sends once a day", func(t *testing.T) {
		t.Parallel()
		nextDay(t)
		a := club(fastMass)
		a.wechat.Limits[wechattest.PathMassSend] = wechattest.Limit{PerDay: 1000}
		f := newFleet(t, a)
		f.start(3)
		f.enqueue(repeat(massAll("club", "今日文章"), 6)...)
		f.await(60*time.Second, map[string]int{"sent": 1, "skipped mass_cap": 5}, "true")
		f.accepts(wechattest.PathMassSendAll, 1)
		if calls := f.wechat("club").Calls(wechattest.PathMassSendAll); calls.Arrived != 1 {
			t.Errorf("%d calls, want 1", calls.Arrived)
		}
	})
	t.Run("42010 rests all mass sends of the account for minutes", func(t *testing.T) {
		t.Parallel()
		nextDay(t)
		f := newFleet(t, massShop())
		f.sim.MustInject(wechattest.Fault{Kind: wechattest.Errcode, Code: 42010, API: wechattest.PathMassSend, Next: 1})
		f.start(1) // another would learn of the gate within a second
		f.enqueue(massList("shop", users(0, 3), "太快"))
		f.await(30*time.Second, map[string]int{"parked backoff": 1}, "true")
		eventually(f, 10*time.Second, "closed gate", func() bool { return f.number("SELECT count(*)::int FROM gate WHERE state = 'closed'") == 1 })
		f.enqueue(massList("shop", users(3, 3), "另一条"))
		f.await(30*time.Second, map[string]int{"parked backoff": 1, "parked gate": 1}, "true")
		if calls := f.wechat("shop").Calls(wechattest.PathMassSend); calls.Arrived != 1 {
			t.Errorf("%d calls, want 1", calls.Arrived)
		}
		if soon := f.number("SELECT count(*)::int FROM gate WHERE state = 'closed' AND errcode = 42010 AND until > now() + interval '2 minutes'"); soon != 1 {
			t.Error("no gate is closed for minutes by 42010")
		}
	})
	t.Run("45028 shuts mass sends until after midnight", func(t *testing.T) {
		t.Parallel()
		midnight := nextDay(t)
		f := newFleet(t, massShop())
		f.sim.MustInject(wechattest.Fault{Kind: wechattest.Errcode, Code: 45028, API: wechattest.PathMassSend, Next: 1})
		f.start(2)
		f.enqueue(massList("shop", users(0, 3), "群发"))
		f.await(30*time.Second, map[string]int{"parked quota": 1}, "true")
		if late := f.number("SELECT count(*)::int FROM parked WHERE due_at > $1", midnight); late != 1 {
			t.Error("the message is due before midnight")
		}
	})
}

func TestLongList(t *testing.T) {
	t.Parallel()
	nextDay(t)
	const n = 20_001
	f := newFleet(t, massShop())
	f.start(2)
	m := massList("shop", users(0, n), "双十一")
	receipt, err := f.producer.Enqueue(t.Context(), m)
	if err != nil || len(receipt.Parts) != 3 {
		t.Fatalf("got %v and parts %v, want 3 parts", err, receipt.Parts)
	}
	f.await(60*time.Second, map[string]int{"sent": 3}, "true")
	if joined := f.number("SELECT count(*)::int FROM outcomes WHERE id = $1 AND parent_id IS NULL OR parent_id = $1", receipt.ID.String()); joined != 3 {
		t.Errorf("%d rows are the first part or name it, want 3", joined)
	}
	var got []string
	reached := 0
	for _, a := range f.sim.AllAccepts() {
		got = append(got, a.ClientID)
		reached += a.Recipients
		if a.To != "list:6667" {
			t.Errorf("a part went to %s, want parts of equal size", a.To)
		}
	}
	var want []string
	for _, id := range receipt.Parts {
		want = append(want, id.Hex())
	}
	if reached != n || !slices.Equal(got, want) {
		t.Errorf("parts %v reached %d users, want %v, one after another, and %d", got, reached, want, n)
	}
}

func TestMassAnswers(t *testing.T) {
	t.Parallel()
	t.Run("a mass send whose answer was lost is sent once, and has its msg_id", func(t *testing.T) {
		t.Parallel()
		nextDay(t)
		f := newFleet(t, massShop())
		f.sim.MustInject(wechattest.Fault{Kind: wechattest.Drop, When: wechattest.After, API: wechattest.PathMassSend, Next: 1})
		f.start(2)
		f.enqueue(massList("shop", users(0, 3), "丢失的回答"))
		f.await(30*time.Second, map[string]int{"parked backoff": 1}, "true")
		f.exec("UPDATE parked SET due_at = now()")
		f.await(30*time.Second, map[string]int{"sent": 1}, "true")
		f.accepts(wechattest.PathMassSend, 1)
		if refused := f.wechat("shop").Calls(wechattest.PathMassSend).Refused; refused[45065] != 1 {
			t.Errorf("WeChat refused %v, want 45065 once", refused)
		}
		id := f.sim.AllAccepts()[0].MsgID
		if n := f.number("SELECT count(*)::int FROM outcomes WHERE wechat_msgid = $1", strconv.FormatInt(id, 10)); n != 1 {
			t.Errorf("no row has WeChat's msg_id %d", id)
		}
	})
	t.Run("a mass send that the administrator must confirm is submitted once, under its msg_id", func(t *testing.T) {
		t.Parallel()
		nextDay(t)
		a := massShop()
		a.wechat.Mass.Protected = true
		f := newFleet(t, a)
		f.wechat("shop").AddFollowers(string(user(0)), string(user(1)))
		f.start(2)
		receipt := f.enqueue(massAll("shop", "要确认的"))[0]
		f.await(30*time.Second, map[string]int{"sent": 1}, "errcode = 89505 AND wechat_msgid IS NOT NULL")
		f.accepts(wechattest.PathMassSendAll, 0) // submitted, and nobody has it yet
		s, err := f.producer.Status(t.Context(), receipt.ID)
		if err != nil || !f.wechat("shop").DecideMass(s.MsgID, true) {
			t.Fatalf("nothing waits for the administrator under %d (%v)", s.MsgID, err)
		}
		f.accepts(wechattest.PathMassSendAll, 1)
		if calls := f.wechat("shop").Calls(wechattest.PathMassSendAll); calls.Arrived != 1 {
			t.Errorf("%d calls, want 1", calls.Arrived)
		}
	})
}
