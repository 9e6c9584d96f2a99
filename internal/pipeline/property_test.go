package pipeline

import (
	"context"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A row is a message's row of the ledger, as far as the promises need it.
type row struct {
	outcome  outcome.Outcome
	attempt  int
	doubt    bool
	claimed  bool
	firstAge time.Duration // since its first claim
	mayLeft  bool          // a call ended sent or ambiguous
	lost     bool          // a call ended ambiguous
}

// Whatever the guards, the ledger and WeChat answer, over all the runs of a message, the promises hold.
func TestPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(message.Kinds()).Draw(t, "kind")
		policy := Policy{}
		if rapid.IntRange(0, 3).Draw(t, "policy") == 3 {
			policy = Policy{ResendCustom: time.Minute, ResendSubscribe: time.Hour, ResendLateTemplate: true}
		}
		r := &row{}
		for range rapid.IntRange(1, 12).Draw(t, "runs") {
			r.firstAge += time.Duration(rapid.SampledFrom([]int{0, 1, 60, 481, 90_000}).Draw(t, "seconds later")) * time.Second
			r.run(t, kind, policy)
			if r.outcome.Status.Terminal() {
				return
			}
		}
	})
}

// inParts is a run of who asks for the claim by himself.
func inParts(ctx context.Context, p Pipeline, a *Attempt, l Ledger) (outcome.Outcome, error) {
	if o, ended, err := p.Take(ctx, a); ended || err != nil {
		return o, err
	}
	c, err := l.Claim(context.WithoutCancel(ctx), a) // which is waited for
	if err == nil {
		a.Answer(c)
	}
	return p.Send(a, err)
}

func (r *row) run(t *rapid.T, kind message.Kind, policy Policy) {
	w := newWorld()
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	a := w.attempt(kind)
	a.Account.Policy = policy
	a.Account.TryUnknown = rapid.Bool().Draw(t, "try unknown users")
	if kind == message.Custom {
		a.Message.Fallback = fallback()
	}
	age := r.firstAge
	if !r.claimed {
		age = 0
	}
	w.claim = Claim{
		Number: 1, Attempt: r.attempt + 1, Doubt: r.doubt, Intent: time.Now(), FirstIntent: time.Now().Add(-age),
	}
	w.draw(t, a, drain)
	granted := !w.claim.Refused && w.fails["claim"] == nil

	run := New(w.deps()).Run
	if rapid.Bool().Draw(t, "in two parts") {
		run = func(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
			return inParts(ctx, New(w.deps()), a, w)
		}
	}
	o, err := run(ctx, a)

	w.checkRun(t, a, o, err)
	for i, c := range w.calls {
		result := w.results[min(i, len(w.results)-1)]
		switch {
		case r.lost && (c.api == wechat.PathCustom || c.api == wechat.PathSubscribe) && policy.ResendCustom == 0:
			t.Fatalf("%s was sent again after its answer was lost", kind)
		case r.doubt && kind == message.Template && age >= 8*time.Minute && !policy.ResendLateTemplate,
			r.doubt && kind == message.Mass && age >= 23*time.Hour:
			t.Fatalf("%s was sent again %v after WeChat may have had it", kind, age)
		}
		r.lost = r.lost || result.Class == wechat.Ambiguous
		r.mayLeft = r.mayLeft || result.Class != wechat.NotSent
	}
	if _, claimed := a.Claimed(); claimed {
		r.settle(t, a, o)
	} else if granted && w.count("claim") > 0 {
		t.Fatal("a claim was granted and is not known")
	} else if err == nil && o.Decided() && !r.doubt { // the ledger writes unknown over what is in doubt
		r.outcome = o
	}
}

// settle writes the outcome of a claimed message, as the ledger does.
func (r *row) settle(t *rapid.T, a *Attempt, o outcome.Outcome) {
	switch {
	case r.doubt && o.Status.Terminal() && o.Status != outcome.Sent && o.Status != outcome.Unknown:
		t.Fatalf("a message in doubt ended %+v", o)
	case r.doubt && a.Effects.Fallback != nil, r.doubt && a.Effects.RefundMass:
		t.Fatalf("a message in doubt had the effects %+v", a.Effects)
	case r.mayLeft && (o.Status == outcome.Failed || o.Status == outcome.Skipped || o.Status == outcome.Expired):
		t.Fatalf("a message that may have left ended %+v", o)
	case r.lost && o.Status == outcome.Parked && !a.Effects.Doubt && !r.doubt:
		t.Fatalf("a message that may have left is parked without doubt: %+v", o)
	case o.Status == outcome.Unknown && a.Effects.Fallback != nil:
		t.Fatal("a fallback for what may have arrived")
	}
	if !r.claimed {
		r.claimed, r.firstAge = true, 0
	}
	r.doubt = r.doubt || a.Effects.Doubt
	if o.Status != outcome.Parked || o.Reason == outcome.Backoff {
		r.attempt++
	}
	r.outcome = o
}

// draw makes up a world.
func (w *world) draw(t *rapid.T, a *Attempt, drain func()) {
	seldom := func(what string) bool { return rapid.IntRange(0, 19).Draw(t, what) == 13 } // small numbers are drawn more often
	w.suppressed = seldom("suppressed")
	w.window = rapid.SampledFrom([]Window{WindowOpen, WindowOpen, WindowOpen, WindowClosed, WindowUsed, WindowUnknown}).Draw(t, "window")
	if seldom("gate closed") {
		w.gateUntil = a.Now.Add(time.Minute)
	}
	if seldom("expires") {
		a.Message.ExpiresAt = a.Now.Add(time.Duration(rapid.IntRange(-1, 100).Draw(t, "in")) * time.Second)
	}
	if seldom("for later") {
		a.Message.NotBefore = a.Now.Add(time.Hour)
	}
	refusals := []error{nil, nil, nil, nil, errAway, &NoQuota{Until: a.Now.Add(time.Hour), Reason: outcome.Quota}}
	w.noQuota = rapid.SliceOfN(rapid.SampledFrom(refusals), 2, 2).Draw(t, "no quota")
	w.notReady = rapid.SliceOfN(rapid.SampledFrom([]error{nil, nil, nil, errAway}), 2, 2).Draw(t, "not ready")
	tokens := []error{nil, nil, nil, nil, errAway, &wechat.Error{API: wechat.PathStableToken, Code: 40125}}
	w.noToken = rapid.SampledFrom(tokens).Draw(t, "no token")
	w.noRefresh = rapid.SampledFrom(tokens).Draw(t, "no refresh")
	w.results = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) wechat.Result { return drawResult(t, a.Message.Kind) }), 1, 2).Draw(t, "results")

	events := []string{"suppressed", "look", "token", "looked", "reserve", "take", "claim", "call", "refresh", "spend", "withdraw", "release"}
	if seldom("a store is away") {
		w.fails[rapid.SampledFrom(events).Draw(t, "where")] = errAway
	}
	if seldom("drain") {
		at := rapid.SampledFrom(events).Draw(t, "when")
		w.before = func(event string) {
			if event == at {
				drain()
			}
		}
	}
	switch rapid.IntRange(0, 9).Draw(t, "claim") {
	case 7:
		w.claim = Claim{Refused: true}
	case 8:
		w.claim = Claim{Refused: true, Verdict: &outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Duplicate}}
	case 9:
		w.claim.Intent = w.claim.Intent.Add(-time.Minute)
	}
}

func drawResult(t *rapid.T, k message.Kind) wechat.Result {
	switch rapid.IntRange(0, 5).Draw(t, "class") {
	case 0:
		return lost
	case 1:
		return refusal(k, rapid.SampledFrom([]int{
			-1, 40003, 40241, 42010, 43004, 43101, 43117, 44007, 45009, 45011, 45015, 45028, 45047, 45065, 45066, 47003, 48001, 50005, 89504,
		}).Draw(t, "known code"))
	case 2:
		return refusal(k, rapid.SampledFrom([]int{40001, 40014, 42001}).Draw(t, "token code"))
	case 3:
		return accepted
	case 4:
		return refusal(k, rapid.IntRange(-2, 90_000).Draw(t, "any code"))
	default:
		return noDial
	}
}

// checkRun holds one run against what every run must keep.
func (w *world) checkRun(t *rapid.T, a *Attempt, o outcome.Outcome, err error) {
	if what := w.held(); what != "" {
		t.Fatalf("%s; events %v", what, w.events)
	}
	claim, call := slices.Index(w.events, "claim"), slices.Index(w.events, "call")
	reserved, settled := w.count("reserve"), w.count("withdraw")+w.count("release")
	if a.spent && settled == 0 && (a.Fate == Left || a.claim.Doubt) {
		settled++ // it counts
	}
	if w.fails["reserve"] != nil {
		reserved = 0
	}
	if a.Fate == ClaimRefused {
		settled++ // the slot is the other run's
	}
	switch {
	case err != nil && (o.Decided() || call >= 0):
		t.Fatalf("an error after a call or with an outcome: %+v, %v", o, err)
	case err == nil && !o.Decided() && a.Fate != ClaimRefused:
		t.Fatal("nothing was decided")
	case reserved > 0 && settled != 1:
		t.Fatalf("a slot was settled %d times: %v", settled, w.events)
	case call >= 0 && (claim < 0 || claim > call || w.claim.Refused):
		t.Fatalf("a call without a claim: %v", w.events)
	case call >= 0 && time.Since(w.claim.Intent) > maxClaimAge+time.Second:
		t.Fatal("a stale claim was used")
	case len(w.calls) > 2:
		t.Fatalf("%d calls in one run", len(w.calls))
	case len(w.calls) == 2 && (w.results[0].Error() == nil || w.results[0].Error().Disposition() != wechat.TokenRefresh || w.results[0].Class != wechat.NotSent):
		t.Fatalf("a second call after %v", w.results[0].Err)
	case o.Status == outcome.Sent && len(w.calls) == 0:
		t.Fatal("sent without a call")
	case o.Status == outcome.Parked && !a.Message.ExpiresAt.IsZero() && o.Until.After(a.Message.ExpiresAt):
		t.Fatalf("parked until %v, after its end", o.Until)
	case o.Status == outcome.Parked && o.Until.Before(a.Now) && a.Message.ExpiresAt.IsZero():
		t.Fatalf("parked until the past: %+v", o)
	}
}
