package postgres

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Whatever ends a message queues one event, in the same transaction; only for accounts that have a webhook.
func TestEveryEndIsQueued(t *testing.T) {
	b := setupAlone(t)
	if err := b.store.SyncAccounts(b.ctx, []Account{{Name: "shop"}, {Name: "other"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.store.SyncWebhooks(b.ctx, map[string]bool{"shop": true, "other": false}); err != nil {
		t.Fatal(err)
	}
	c := b.committer(CommitterOptions{})
	claimed := func(m *message.Message) Claim { return b.claim(c, m, message.NewID(time.Now())) }
	ends := map[string]func(m *message.Message){
		"sent": func(m *message.Message) { b.settle(c, m, claimed(m), sent(7), Effects{}) },
		"failed": func(m *message.Message) {
			b.settle(c, m, claimed(m), outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest, ErrCode: 47003}, Effects{})
		},
		"skipped": func(m *message.Message) {
			b.verdict(c, m, message.NewID(time.Now()), outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed}, Effects{})
		},
		"expired, of a row": func(m *message.Message) {
			p := parcelOf(m)
			b.accept(p)
			b.verdict(c, m, p.ID, outcome.Outcome{Status: outcome.Expired, Reason: outcome.ReasonExpired}, Effects{})
		},
		"cancelled": func(m *message.Message) {
			b.accept(parcelOf(m))
			if _, err := b.store.Cancel(b.ctx, m.ID); err != nil {
				t.Fatal(err)
			}
		},
		"unknown, of a dead pod": func(m *message.Message) {
			m.Kind = message.Custom
			claimed(m)
			if _, err := b.store.pool.Exec(b.ctx, `UPDATE pod SET seen_at = now() - interval '1 hour'`); err != nil {
				t.Fatal(err)
			}
			_, _, err := b.store.ResolveLeftBehind(b.ctx, time.Minute, func(LeftBehind) (outcome.Outcome, string) {
				return outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}, "dead"
			})
			if err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, end := range ends {
		m := newMessage()
		end(m)
		events, err := b.store.WebhookEvents(b.ctx, "shop", time.Now().Add(time.Minute), 100)
		if err != nil {
			t.Fatal(err)
		}
		mine := slices.DeleteFunc(events, func(e WebhookEvent) bool { return e.Message != m.ID })
		if len(mine) != 1 || mine[0].Type != "message.outcome" || !strings.Contains(string(mine[0].Data), `"status":"`+strings.SplitN(name, ",", 2)[0]+`"`) {
			t.Errorf("%s: queued %+v", name, mine)
		}
	}
	parked, foreign := newMessage(), newMessage()
	foreign.Account = "other"
	b.settle(c, parked, claimed(parked), outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: time.Now().Add(time.Hour)}, Effects{})
	b.settle(c, foreign, claimed(foreign), sent(8), Effects{})
	if n := b.count(`SELECT count(*)::int FROM webhook_event WHERE message = ANY ($1)`, [][16]byte{parked.ID, foreign.ID}); n != 0 {
		t.Errorf("%d events of a parked message and of another account", n)
	}
	if n := b.count(`SELECT count(*)::int FROM webhook_event`); n != len(ends) {
		t.Errorf("%d events, want %d", n, len(ends))
	}
	// A receipt that finds its message is told as well.
	m := newMessage()
	b.settle(c, m, claimed(m), sent(99), Effects{})
	b.receive(report(m, 99, time.Now()))
	b.joinAt(time.Now().Add(time.Second))
	if n := b.count(`SELECT count(*)::int FROM webhook_event WHERE type = 'message.receipt' AND message = $1`, [16]byte(m.ID)); n != 1 {
		t.Errorf("%d events of the receipt", n)
	}
}

func TestDisabledWebhooks(t *testing.T) {
	b := setupAlone(t)
	if err := b.store.SyncAccounts(b.ctx, []Account{{Name: "shop"}}); err != nil {
		t.Fatal(err)
	}
	sync := func() {
		t.Helper()
		if err := b.store.SyncWebhooks(b.ctx, map[string]bool{"shop": true}); err != nil {
			t.Fatal(err)
		}
	}
	triggers := func() int {
		return b.count(`SELECT count(*)::int FROM pg_trigger WHERE tgrelid = 'message'::regclass AND tgname LIKE 'queue%'`)
	}
	if triggers() != 0 {
		t.Error("outcomes are queued although nobody listens")
	}
	sync()
	sync()
	if triggers() != 2 {
		t.Errorf("%d triggers, want 2", triggers())
	}
	c := b.committer(CommitterOptions{})
	end := func() {
		m := newMessage()
		b.settle(c, m, b.claim(c, m, message.NewID(time.Now())), sent(1), Effects{})
	}
	end()
	now := time.Now()
	event := b.strings(`SELECT id::text FROM webhook_event`)[0]
	since, err := b.store.WebhookFailed(b.ctx, "shop", event, now.Add(time.Minute), now, "HTTP status 500")
	if err != nil || since.Sub(now).Abs() > time.Millisecond {
		t.Fatalf("failing since %v, %v", since, err)
	}
	later, err := b.store.WebhookFailed(b.ctx, "shop", event, now.Add(time.Minute), now.Add(time.Hour), "HTTP status 500")
	if err != nil || !later.Equal(since) {
		t.Fatalf("failing since %v, %v; want %v", later, err, since)
	}
	forgotten, err := b.store.DisableWebhook(b.ctx, "shop", "it took nothing for a day", now)
	if err != nil || forgotten != 1 {
		t.Fatalf("forgot %d, %v", forgotten, err)
	}
	sync() // a worker that starts changes nothing
	end()
	state, err := b.store.WebhookState(b.ctx, "shop")
	if err != nil || state.Waiting != 0 || state.Disabled.IsZero() || state.Reason != "it took nothing for a day" {
		t.Fatalf("state %+v, %v", state, err)
	}
	if was, err := b.store.EnableWebhook(b.ctx, "shop"); err != nil || !was {
		t.Fatal(was, err)
	}
	end()
	if state, err = b.store.WebhookState(b.ctx, "shop"); err != nil || state.Waiting != 1 || !state.Disabled.IsZero() {
		t.Fatalf("state %+v, %v", state, err)
	}
	end()
	if err := b.store.ForgetWebhookEvent(b.ctx, b.strings(`SELECT id::text FROM webhook_event`)[0]); err != nil {
		t.Fatal(err)
	}
	if state, err = b.store.WebhookState(b.ctx, "shop"); err != nil || state.Waiting != 1 {
		t.Fatalf("state %+v, %v; want one of two events forgotten", state, err)
	}
	if err := b.store.WebhookTold(b.ctx, "shop", b.strings(`SELECT id::text FROM webhook_event`)); err != nil {
		t.Fatal(err)
	}
	if state, err = b.store.WebhookState(b.ctx, "shop"); err != nil || state.Waiting != 0 || !state.Failing.IsZero() {
		t.Fatalf("state %+v, %v", state, err)
	}
}
