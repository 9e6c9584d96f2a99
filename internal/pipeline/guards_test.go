package pipeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

var errAway = errors.New("store is away")

// The guards that stand before the claim: what they say, and that nothing was claimed or sent.
func TestGuards(t *testing.T) {
	noQuota := func(a *Attempt, wait time.Duration) error {
		return &NoQuota{Until: a.Now.Add(wait), Reason: "quota"}
	}
	for _, c := range []struct {
		name  string
		kind  message.Kind
		when  func(w *world, a *Attempt)
		want  string
		until time.Duration // of a parked message, from now
		gone  string        // what the window's slot and the quota tokens came to
	}{
		{
			"an expired message ends", message.Template,
			func(_ *world, a *Attempt) { a.Message.ExpiresAt = a.Now }, "expired expired", 0, "",
		},
		{
			"a message for later is parked until then", message.Template,
			func(_ *world, a *Attempt) { a.Message.NotBefore = a.Now.Add(time.Hour) }, "parked not_before", time.Hour, "",
		},
		{
			"a message for later is parked no longer than it lives", message.Template,
			func(_ *world, a *Attempt) {
				a.Message.NotBefore, a.Message.ExpiresAt = a.Now.Add(time.Hour), a.Now.Add(time.Minute)
			}, "parked not_before", time.Minute, "",
		},
		{
			"a user who refuses gets nothing", message.Template,
			func(w *world, _ *Attempt) { w.suppressed = true }, "skipped suppressed", 0, "",
		},
		{
			"a closed gate parks until it opens", message.Subscribe,
			func(w *world, a *Attempt) { w.gateUntil = a.Now.Add(time.Minute) }, "parked gate", time.Minute, "",
		},
		{
			"without a token the message is parked", message.Custom,
			func(w *world, _ *Attempt) { w.noToken = errAway }, "parked gate", storeAway, "",
		},
		{
			"a refused secret breaks the account's gate", message.Custom,
			func(w *world, _ *Attempt) { w.noToken = &wechat.Error{API: wechat.PathStableToken, Code: 40125} },
			"parked gate; broken shop", time.Minute, "",
		},
		{
			"an address that is not whitelisted breaks it", message.Template,
			func(w *world, _ *Attempt) { w.noToken = &wechat.Error{API: wechat.PathStableToken, Code: 40164} },
			"parked gate; broken shop", time.Minute, "",
		},
		{
			"a busy token call breaks nothing", message.Template,
			func(w *world, _ *Attempt) { w.noToken = &wechat.Error{API: wechat.PathStableToken, Code: -1} },
			"parked gate", storeAway, "",
		},
		{
			"a closed window skips", message.Custom,
			func(w *world, _ *Attempt) { w.window = WindowClosed }, "skipped window_closed", 0, "",
		},
		{
			"a closed window skips and the fallback goes", message.Custom,
			func(w *world, a *Attempt) { w.window, a.Message.Fallback = WindowClosed, fallback() },
			"skipped window_closed +fallback", 0, "",
		},
		{
			"a used window skips and the fallback goes", message.Custom,
			func(w *world, a *Attempt) { w.window, a.Message.Fallback = WindowUsed, fallback() },
			"skipped window_used +fallback", 0, "",
		},
		{
			"an unknown user counts as closed", message.Custom,
			func(w *world, _ *Attempt) { w.window = WindowUnknown }, "skipped window_closed", 0, "",
		},
		{
			"a window that cannot be read parks", message.Custom,
			func(w *world, _ *Attempt) { w.fails["looked"] = errAway }, "parked pace", storeAway, "",
		},
		{
			"without quota the slot is given back", message.Custom,
			func(w *world, a *Attempt) { w.noQuota = []error{noQuota(a, time.Hour)} }, "parked quota", time.Hour, "release",
		},
		{
			"a quota that cannot be read parks, and the slot is given back", message.Custom,
			func(w *world, _ *Attempt) { w.fails["take"] = errAway }, "parked pace", storeAway, "release",
		},
		{
			"a quota that opens after the end parks until the end", message.Template,
			func(w *world, a *Attempt) {
				a.Message.ExpiresAt = a.Now.Add(time.Minute)
				w.noQuota = []error{noQuota(a, time.Hour)}
			}, "parked quota", time.Minute, "",
		},
		{
			"a message that expires in line gives back all", message.Custom,
			func(w *world, a *Attempt) {
				a.Message.ExpiresAt = a.Now.Add(time.Second)
				w.before = sleepAt("take", 2*time.Second)
			}, "expired expired", 0, "release returned",
		},
		{
			"a key that is taken gives back all", message.Custom,
			func(w *world, _ *Attempt) {
				w.claim = Claim{Refused: true}
				w.claim.Verdict = &outcome.Outcome{Status: "skipped", Reason: "duplicate"}
			}, "skipped duplicate", 0, "release returned",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				a := w.attempt(c.kind)
				c.when(w, a)
				o, err := w.run(t, a)
				if err != nil {
					t.Fatal(err)
				}
				got := words(o, a.Effects)
				if i := slices.IndexFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "broken") }); i >= 0 {
					got += "; " + w.events[i]
				}
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
				if c.until > 0 && !o.Until.Equal(a.Now.Add(c.until)) {
					t.Errorf("parked for %v, want %v", o.Until.Sub(a.Now), c.until)
				}
				if gone := w.gone(); gone != c.gone {
					t.Errorf("the slot and the tokens: %q, want %q", gone, c.gone)
				}
				if _, claimed := a.Claimed(); claimed || len(w.calls) > 0 {
					t.Errorf("a message that a guard stopped was claimed or sent: %v", w.events)
				}
			})
		})
	}
}

// gone says what became of the window's slot and of the quota tokens.
func (w *world) gone() string {
	var words []string
	for _, name := range []string{"release", "withdraw", "spend"} {
		if w.count(name) > 0 {
			words = append(words, name)
			break
		}
	}
	return strings.TrimSpace(strings.Join(append(words, w.tokens()), " "))
}

func fallback() *message.Message {
	return &message.Message{Kind: message.Template, Body: []byte(`{"template_id":"T2"}`)}
}

// sleepAt lets time pass when something happens.
func sleepAt(event string, d time.Duration) func(string) {
	return func(e string) {
		if e == event {
			time.Sleep(d)
		}
	}
}

func TestGuardsLetThrough(t *testing.T) {
	for _, c := range []struct {
		name string
		kind message.Kind
		when func(w *world, a *Attempt)
	}{
		{
			"a message that is due within the wait", message.Template,
			func(_ *world, a *Attempt) { a.Message.NotBefore = a.Now.Add(MaxWait) },
		},
		{
			"a message that has not expired", message.Template,
			func(_ *world, a *Attempt) { a.Message.ExpiresAt = a.Now.Add(time.Minute) },
		},
		{
			"a template to a user with a closed window", message.Template,
			func(w *world, _ *Attempt) { w.window = WindowClosed },
		},
		{
			"a customer-service message to an unknown user, where the account tries", message.Custom,
			func(w *world, a *Attempt) { w.window, a.Account.TryUnknown = WindowUnknown, true },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			a := w.attempt(c.kind)
			c.when(w, a)
			if o, err := w.run(t, a); err != nil || o.Status != "sent" {
				t.Errorf("got %v, %v, want sent", o, err)
			}
		})
	}
}

// A store that decides nothing returns the parcel, and what was taken is given back.
func TestGuardsThatCannotDecideReturnTheParcel(t *testing.T) {
	for event, gone := range map[string]string{"suppressed": "", "look": "", "claim": "release returned"} {
		t.Run(event, func(t *testing.T) {
			w := newWorld()
			w.fails[event] = errAway
			if o, err := w.run(t, w.attempt(message.Custom)); !errors.Is(err, errAway) || o.Decided() {
				t.Errorf("got %v, %v, want no outcome and the store's error", o, err)
			}
			if got := w.gone(); got != gone || len(w.calls) > 0 {
				t.Errorf("the slot and the tokens: %q, want %q; %d calls", got, gone, len(w.calls))
			}
		})
	}
}

func TestDrainBeforeTheClaimReturnsTheParcel(t *testing.T) {
	for _, at := range []string{"token", "looked", "take"} {
		t.Run("while it waits for "+at, func(t *testing.T) {
			w := newWorld()
			ctx, drain := context.WithCancel(t.Context())
			w.before = func(event string) {
				if event == at {
					drain()
					w.noToken, w.fails["looked"], w.noQuota = ctx.Err(), ctx.Err(), []error{ctx.Err()}
				}
			}
			o, err := New(w.deps()).Run(ctx, w.attempt(message.Custom))
			if !errors.Is(err, context.Canceled) || o.Decided() || w.count("claim") > 0 {
				t.Errorf("got %v, %v, want the context's error and no claim", o, err)
			}
			if what := w.held(); what != "" {
				t.Error(what)
			}
		})
	}

	t.Run("while it waits for a sender", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.senders = NewSenders(1, 1)
			_ = w.senders.wire.acquire(t.Context(), message.Normal)
			ctx, drain := context.WithCancel(t.Context())
			go func() { time.Sleep(time.Second); drain() }()
			if _, err := New(w.deps()).Run(ctx, w.attempt(message.Custom)); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error", err)
			}
			w.senders.wire.release()
			if got := w.gone(); got != "release returned" || w.held() != "" {
				t.Errorf("the slot and the tokens: %q, %s", got, w.held())
			}
		})
	})
}

func TestFallback(t *testing.T) {
	w := newWorld()
	w.window = WindowClosed
	a := w.attempt(message.Custom)
	a.Message.Fallback, a.Message.ExpiresAt = fallback(), a.Now.Add(time.Hour)
	if _, err := w.run(t, a); err != nil {
		t.Fatal(err)
	}
	f, m := a.Effects.Fallback, a.Message
	switch {
	case f.ID.IsZero() || f.ID == m.ID || f.Parent != m.ID:
		t.Errorf("id %s, parent %s: want an id of its own, and the first as parent", f.ID, f.Parent)
	case f.Account != m.Account || f.To != m.To || f.Lane != m.Lane || !f.ExpiresAt.Equal(m.ExpiresAt):
		t.Errorf("got %+v, want what it leaves open from %+v", f, m)
	case f.Fallback != nil || !m.Fallback.ID.IsZero():
		t.Error("the fallback has one itself, or the message was changed")
	}
}

func TestUnderMassCap(t *testing.T) {
	later := time.Now().Add(5 * time.Second)
	for _, c := range []struct {
		name string
		caps looks
		want outcome.Status
		why  outcome.Reason
	}{
		{"a full cap ends a mass send without a claim", looks{full: true}, outcome.Skipped, outcome.MassCap},
		{"near midnight nobody knows the day: a mass send waits", looks{wait: later}, outcome.Parked, outcome.Pace},
		{"room lets it pass", looks{}, outcome.Sent, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.caps = c.caps
			o, err := w.run(t, w.attempt(message.Mass))
			if err != nil || o.Status != c.want || o.Reason != c.why {
				t.Errorf("got %v %v, %v; want %v %v", o.Status, o.Reason, err, c.want, c.why)
			}
		})
	}
	t.Run("other kinds have no mass cap", func(t *testing.T) {
		w := newWorld()
		w.caps = looks{full: true}
		if o, err := w.run(t, w.attempt(message.Template)); err != nil || o.Status != outcome.Sent {
			t.Errorf("got %v, %v; want sent", o.Status, err)
		}
	})
}
