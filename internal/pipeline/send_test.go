package pipeline

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// The token is asked for twice: without one nothing is claimed, and one that was replaced meanwhile is not sent.
func TestTheWholeWay(t *testing.T) {
	for kind, want := range map[message.Kind][]string{
		message.Template: {"suppressed", "look", "token", "take", "claim", "token", "call", "passed"},
		message.Custom:   {"suppressed", "look", "token", "looked", "reserve", "take", "claim", "token", "spend", "call", "passed"},
	} {
		w := newWorld()
		o, err := w.run(t, w.attempt(kind))
		if err != nil || o.Status != outcome.Sent || o.MsgID != accepted.MsgID {
			t.Errorf("%s: got %+v, %v, want sent with WeChat's id", kind, o, err)
		}
		if !slices.Equal(w.events, want) {
			t.Errorf("%s: the way was %v, want %v", kind, w.events, want)
		}
	}
}

func TestWhatGoesOverTheWire(t *testing.T) {
	const body = `{"template_id":"T1"}`
	for _, kind := range message.Kinds() {
		w := newWorld()
		a := w.attempt(kind)
		hex := a.Message.ID.Hex()
		want := map[message.Kind]call{
			message.Template:  {wechat.PathTemplate, "first", user, nil, hex, body},
			message.Subscribe: {wechat.PathSubscribe, "first", user, nil, "", body},
			message.Custom:    {wechat.PathCustom, "first", user, nil, "", body},
			message.Mass:      {wechat.PathMassSend, "first", "", []message.OpenID{"o2", "o3"}, hex, body},
		}[kind]
		if kind == message.Mass {
			w.claim.List = want.list // o1 is at its cap
		}
		var observed []string
		d := w.deps()
		d.Observe = func(a *Attempt, r wechat.Result) { observed = append(observed, a.API()+" "+r.Class.String()) }
		if _, err := New(d).Run(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if len(w.calls) != 1 || !reflect.DeepEqual(w.calls[0], want) {
			t.Errorf("%s: got %+v, want %+v", kind, w.calls, want)
		}
		if !slices.Equal(observed, []string{wechat.PathOf(kind) + " sent"}) {
			t.Errorf("%s: observed %v", kind, observed)
		}
	}

	t.Run("a mass send to a filter has no list", func(t *testing.T) {
		w := newWorld()
		a := w.attempt(message.Mass)
		a.Message.List = nil
		if _, err := w.run(t, a); err != nil || len(w.calls) != 1 || w.calls[0].list != nil {
			t.Errorf("got %+v, %v", w.calls, err)
		}
	})
}

func TestRefusedToken(t *testing.T) {
	for _, c := range []struct {
		name  string
		when  func(w *world)
		want  string
		calls int
		gone  string
		told  string
	}{
		{
			"is refreshed, and the call repeated",
			func(w *world) { w.results = append(w.results, accepted) }, "sent", 2, "spend spent spent", "refresh, passed",
		},
		{
			"and then what WeChat says counts",
			func(w *world) { w.results = append(w.results, refusal(message.Custom, 45015)) },
			"failed refused_recipient", 2, "withdraw spent spent", "refresh, passed, windowRefused 45015",
		},
		{
			"and then an answer that is lost",
			func(w *world) { w.results = append(w.results, lost) }, "unknown in_doubt", 2, "spend spent spent", "refresh",
		},
		{
			"and then no connection",
			func(w *world) { w.results = append(w.results, noDial) }, "parked backoff", 2, "withdraw spent returned", "refresh",
		},
		{
			"twice breaks the account's gate",
			func(*world) {}, "parked gate", 2, "withdraw spent spent", "refresh, broken shop",
		},
		{
			"and no other to be had",
			func(w *world) { w.noRefresh = errAway }, "parked gate", 1, "withdraw spent", "refresh",
		},
		{
			"and the secret as well",
			func(w *world) { w.noRefresh = &wechat.Error{API: wechat.PathStableToken, Code: 40125} },
			"parked gate", 1, "withdraw spent", "refresh, broken shop",
		},
		{
			"and no quota for a second call",
			func(w *world) { w.noQuota = []error{nil, &NoQuota{Until: time.Now().Add(time.Hour), Reason: "quota"}} },
			"parked quota", 1, "withdraw spent", "refresh",
		},
		{
			"and the quota away",
			func(w *world) { w.noQuota = []error{nil, errAway} }, "parked pace", 1, "withdraw spent", "refresh",
		},
		{
			"and no room for a second call",
			func(w *world) { w.notReady = []error{nil, errAway} }, "parked pace", 1, "withdraw spent returned", "refresh",
		},
		{
			"and the claim too old by then",
			func(w *world) { w.before = sleepAt("refresh", maxClaimAge+1) }, "parked pace", 1, "withdraw spent returned", "refresh",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.results = []wechat.Result{refusal(message.Custom, 40001)}
				c.when(w)
				a := w.attempt(message.Custom)
				o, err := w.run(t, a)
				if got := words(o, a.Effects); err != nil || got != c.want || len(w.calls) != c.calls {
					t.Errorf("got %q, %v after %d calls, want %q after %d", got, err, len(w.calls), c.want, c.calls)
				}
				if got := w.gone(); got != c.gone {
					t.Errorf("the slot and the tokens: %q, want %q", got, c.gone)
				}
				if got := w.told(); got != c.told {
					t.Errorf("told %q, want %q", got, c.told)
				}
				if len(w.calls) == 2 && (w.calls[0].token != "first" || w.calls[1].token != "second") {
					t.Errorf("called with %q and %q", w.calls[0].token, w.calls[1].token)
				}
			})
		})
	}
}

func TestClaimThatIsRefused(t *testing.T) {
	w := newWorld()
	w.claim = Claim{Refused: true}
	a := w.attempt(message.Custom)
	o, err := w.run(t, a)
	if err != nil || o.Decided() || a.Fate != ClaimRefused || a.Stage != "claimed" {
		t.Errorf("got %v, %v, fate %d in %s: want handled by somebody else", o, err, a.Fate, a.Stage)
	}
	if got := w.gone(); got != "returned" || len(w.calls) > 0 {
		t.Errorf("the slot and the tokens: %q, want the slot kept for the other run and the token returned", got)
	}
}

// A claim is not used when more than 5 s went by since its commit, on the clock that stops while a machine is
// suspended or on the one that does not.
func TestStaleClaim(t *testing.T) {
	now := time.Now()
	for name, intent := range map[string]time.Time{
		"by both clocks":          now.Add(-maxClaimAge - time.Second),
		"by the wall clock":       now.Round(0).Add(-maxClaimAge - time.Second),
		"by the wall clock alone": later(now.Add(-maxClaimAge-time.Second), maxClaimAge),
		"by the monotonic clock":  later(now, -maxClaimAge-time.Second),
	} {
		for _, kind := range message.Kinds() {
			t.Run(name+"/"+string(kind), func(t *testing.T) {
				w := newWorld()
				w.claim.Intent = intent
				a := w.attempt(kind)
				o, err := w.run(t, a)
				if got := words(o, a.Effects); err != nil || got != "parked pace" || len(w.calls) > 0 {
					t.Errorf("got %q, %v after %d calls, want parked after none", got, err, len(w.calls))
				}
				if w.tokens() != "returned" || w.count("release")+w.count("withdraw") != w.count("reserve") {
					t.Errorf("the slot and the tokens: %q, want all given back", w.gone())
				}
			})
		}
	}
}

// later moves the monotonic reading of a time, and only that; there is no other way to a clock that was stopped.
func later(t time.Time, d time.Duration) time.Time {
	monotonic := (*struct {
		wall uint64
		ext  int64
	})(unsafe.Pointer(&t))
	monotonic.ext += int64(d)
	return t
}

func TestClaimThatCannotBeUsedInTime(t *testing.T) {
	t.Run("the pace is over", func(t *testing.T) {
		w := newWorld()
		w.notReady = []error{errAway}
		a := w.attempt(message.Custom)
		o, err := w.run(t, a)
		if got := words(o, a.Effects); err != nil || got != "parked pace" || w.gone() != "release returned" {
			t.Errorf("got %q, %v, %q: want parked and all given back", got, err, w.gone())
		}
	})

	t.Run("all senders are busy for too long", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.senders = NewSenders(1, 1)
			w.claim.Intent = time.Now()
			_ = w.senders.wire.acquire(t.Context(), message.Normal)
			go func() { time.Sleep(maxClaimAge + time.Second); w.senders.wire.release() }()
			a := w.attempt(message.Template)
			o, err := New(w.deps()).Run(t.Context(), a)
			synctest.Wait()
			if got := words(o, a.Effects); err != nil || got != "parked pace" || w.tokens() != "returned" || w.held() != "" {
				t.Errorf("got %q, %v, %q %q: want parked and all given back", got, err, w.gone(), w.held())
			}
		})
	})
}

// Once claimed a message is seen to its outcome, whatever ends around it; the fakes panic where the context is over.
func TestWhatIsClaimedIsFinished(t *testing.T) {
	for _, at := range []string{"take", "claim", "call", "refresh"} {
		t.Run("the context ends at "+at, func(t *testing.T) {
			for _, kind := range message.Kinds() {
				w := newWorld()
				w.results = []wechat.Result{refusal(kind, 42001), accepted}
				ctx, drain := context.WithCancel(t.Context())
				w.before = func(event string) {
					if event == at {
						drain()
					}
				}
				o, err := New(w.deps()).Run(ctx, w.attempt(kind))
				if err != nil || o.Status != outcome.Sent {
					t.Errorf("%s: got %+v, %v, want sent", kind, o, err)
				}
			}
		})
	}
}

// A slot or a word to the window ledger that is lost changes no outcome: it lapses by itself.
func TestUndoMustNotFail(t *testing.T) {
	w := newWorld()
	w.fails["withdraw"], w.fails["release"], w.fails["windowRefused"] = errAway, errAway, errAway
	for _, r := range []wechat.Result{accepted, lost, refusal(message.Custom, 45047)} {
		w.results = []wechat.Result{r}
		if o, err := w.run(t, w.attempt(message.Custom)); err != nil || !o.Status.Terminal() {
			t.Errorf("got %+v, %v, want a terminal outcome", o, err)
		}
	}
}

// Another run of the message may have given its slot back after this one looked: right before the call it is asked again.
func TestASlotThatIsLostIsNotOverrun(t *testing.T) {
	for _, c := range []struct {
		name  string
		then  Window
		doubt bool
		want  string
	}{
		{"another message has it", WindowUsed, false, "skipped window_used, a fallback"},
		{"the window has closed", WindowClosed, false, "skipped window_closed, a fallback"},
		{"an earlier attempt may have left", WindowUsed, true, "unknown in_doubt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld()
			w.windowThen, w.claim.Doubt = c.then, c.doubt
			a := w.attempt(message.Custom)
			a.Account.Policy, a.Message.Fallback = riskTaken, fallback()
			o, err := w.run(t, a)
			got := fmt.Sprintf("%s %s", o.Status, o.Reason)
			if a.Effects.Fallback != nil {
				got += ", a fallback"
			}
			if err != nil || got != c.want || len(w.calls) > 0 || a.Fate != NotSent {
				t.Errorf("got %s, %v and %d calls, want %s and none", got, err, len(w.calls), c.want)
			}
		})
	}
	t.Run("nobody can say", func(t *testing.T) {
		w := newWorld()
		w.fails["spend"] = errAway
		o, err := w.run(t, w.attempt(message.Custom))
		if err != nil || o.Status != outcome.Parked || len(w.calls) > 0 {
			t.Errorf("got %+v, %v and %d calls, want it parked", o, err, len(w.calls))
		}
	})
}
