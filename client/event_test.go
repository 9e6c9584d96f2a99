package client_test

import (
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

func (b *bundle) event(typ client.EventType, at time.Time) {
	b.Helper()
	if err := b.Event(b.Context(), client.Event{Account: "shop", OpenID: "oA", Type: typ, At: at}); err != nil {
		b.Fatal(err)
	}
}

func (b *bundle) window() window.State {
	b.Helper()
	rdb, err := tasks.Redis(b.options.Redis)
	if err != nil {
		b.Fatal(err)
	}
	defer rdb.Close()
	view, err := window.New(rdb, func(message.AppID) window.Rules { return window.DefaultRules() }).
		Look(b.Context(), "wx0000000000000001", "oA", time.Now())
	if err != nil {
		b.Fatal(err)
	}
	return view.State
}

func TestEventsOpenAndCloseTheWindow(t *testing.T) {
	b := withoutLedger(t)
	now := time.Now()
	for _, step := range []struct {
		typ  client.EventType
		at   time.Time
		want window.State
	}{
		{client.Messaged, now.Add(-time.Hour), window.Open},
		{client.Unsubscribed, now.Add(-time.Minute), window.Closed},
		{client.Messaged, now.Add(-time.Hour), window.Closed}, // reported twice
		{client.Followed, now, window.Open},
	} {
		b.event(step.typ, step.at)
		if got := b.window(); got != step.want {
			t.Errorf("after %s: %s, want %s", step.typ, got, step.want)
		}
	}
}

func TestUnsubscribersAreSuppressedUntilTheyComeBack(t *testing.T) {
	b := withLedger(t)
	store, err := postgres.Open(t.Context(), b.options.Database, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Now()
	for _, step := range []struct {
		typ  client.EventType
		at   time.Time
		want bool
	}{
		{client.Messaged, now.Add(-5 * time.Hour), false},
		{client.Unsubscribed, now.Add(-4 * time.Hour), true},
		{client.Messaged, now.Add(-5 * time.Hour), true}, // late news of before
		{client.Followed, now.Add(-2 * time.Hour), false},
		{client.Unsubscribed, now.Add(-3 * time.Hour), false}, // late news of before
		{client.Unsubscribed, now.Add(-1 * time.Hour), true},
	} {
		b.event(step.typ, step.at)
		got, err := store.IsSuppressed(t.Context(), "shop", "oA", "")
		if err != nil || got != step.want {
			t.Errorf("after %s at %s: suppressed %v, %v, want %v", step.typ, step.at, got, err, step.want)
		}
	}
	seen, err := store.LastInbound(t.Context(), "shop", "oA")
	if err != nil || len(seen) != 3 {
		t.Errorf("recorded %v, %v, want three kinds of event", seen, err)
	}
}

func TestEventsAreChecked(t *testing.T) {
	for line, want := range map[string]string{
		`{"account":"shop","openid":"oA","type":"message","at":"2026-11-22T10:00:00+08:00"}`:   "",
		`{"account":"shop","openid":"oA","type":"message","at":"2026-11-22T10:00:00+08:00"} x`: "malformed JSON: something follows the object",
		`{"account":"shop","openid":"oA","type":"message","at":"2026-11-22 10:00:00"}`:         "at: want RFC 3339 with a time zone, such as 2026-12-01T09:00:00+08:00",
		`{"account":"shop","openid":"oA","type":"message","at":1764900000}`:                    "at: want RFC 3339 with a time zone, such as 2026-12-01T09:00:00+08:00",
		`{"account":"shop","openid":"oA","type":"message","at":"2999-11-22T10:00:00Z"}`:        "at: must not be in the future (got 2999-11-22T10:00:00Z)",
		`{"account":"shop","openid":"o A","type":"click","at":"2026-11-22T10:00:00Z"}`:         `openid: an openid has only letters, digits, - and _ (got ' ' at 2); type: want one of message, menu, follow, scan, pay, unsubscribe (got "click")`,
		`{"account":"shop","open_id":"oA"}`:                                                    "open_id: unknown field; want account, openid, type, at",
		`{"account":7}`:                                                                        "account: want a string (got number)",
		`{}`:                                                                                   "account: required: the account's name in the configuration, or its appid; openid: an openid has 1 to 64 characters (got 0); type: want one of message, menu, follow, scan, pay, unsubscribe (got \"\"); at: required: when it happened, WeChat's CreateTime as RFC 3339",
		`{"account":"shop","account":"shop"}`:                                                  "account: malformed JSON: duplicate key",
		`{"Account":"shop"}`:                                                                   "Account: unknown field; want account, openid, type, at",
		"{\"account\":\"\xff\"}":                                                               "malformed JSON: not UTF-8",
		`[]`:                                                                                   "want an object (got array)",
		`{"account":"shop"`:                                                                    "malformed JSON: unexpected EOF",
	} {
		e, err := client.ParseEvent([]byte(line))
		if err == nil {
			err = e.Validate(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
		}
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", line, got, want)
		}
	}
}

func TestAnEventWantsAnAppID(t *testing.T) {
	b := withoutLedger(t)
	c, err := client.New(t.Context(), client.Options{Redis: b.options.Redis})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e := client.Event{Account: "shop", OpenID: "oA", Type: client.Messaged, At: time.Now()}
	if err := c.Event(t.Context(), e); err == nil || !strings.Contains(err.Error(), "appid") {
		t.Errorf("got %v, want a word about the appid", err)
	}
	e.Account = "wx0000000000000001"
	if err := c.Event(t.Context(), e); err != nil {
		t.Error(err)
	}
	if got := b.window(); got != window.Open {
		t.Errorf("the window is %s, want open", got)
	}
}
