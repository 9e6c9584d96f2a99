package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// maxClaimAge is how long after its commit a claim may still be used. A pod that was frozen for longer may
// have been declared dead, and its claim resolved.
const maxClaimAge = 5 * time.Second

func claimed(l Ledger) Stage {
	return Stage{Name: "claimed", Run: func(_ context.Context, a *Attempt) (outcome.Outcome, error) {
		if o := worthClaiming(a); o.Decided() {
			return o, nil
		}
		// A claim that is asked for is waited for: one that is committed and not known would strand the message.
		c, err := l.Claim(a.lasting, a)
		if err != nil {
			return outcome.Outcome{}, err
		}
		a.Answer(c)
		return a.answered(), nil
	}}
}

// worthClaiming ends a message that has expired while it waited in line.
func worthClaiming(a *Attempt) outcome.Outcome {
	if !a.Message.ExpiresAt.IsZero() && expired(a.Message, clock.Now()) { // few ask for the time
		return outcome.Outcome{Status: outcome.Expired, Reason: outcome.ReasonExpired}
	}
	fault.At(fault.Taken, string(a.Message.Kind))
	return outcome.Outcome{}
}

// answered does with the ledger's answer to the claim what there is to do.
func (a *Attempt) answered() outcome.Outcome {
	switch c := &a.claim; {
	case !c.Wait.IsZero():
		return park(a.Message, outcome.Pace, c.Wait)
	case c.Refused && c.Verdict == nil:
		a.Fate = ClaimRefused
		return outcome.Outcome{}
	case c.Refused: // its key or its cap was taken by another message: give back all
		a.Fate = Refused
		return *c.Verdict
	}
	fault.At(fault.Claimed, string(a.Message.Kind))
	return outcome.Outcome{}
}

func send(d Deps) Stage {
	return Stage{Name: "send", Run: func(_ context.Context, a *Attempt) (outcome.Outcome, error) {
		// From here on the claim is held: whatever happens ends in an outcome, also while the pod drains.
		ctx := a.lasting
		if a.claim.Attempt > 1 && !a.share.may(time.Now()) {
			return a.unsentFor(stuckFor, errBudget), nil
		}
		if !a.sender {
			if err := a.enter(ctx, &a.share.wire, &d.Senders.wire); err != nil {
				return a.unsentFor(stuckFor, err), nil
			}
		}
		// The token may have been replaced while the message stood in line: with the old one it would be one more
		// refused call, which counts.
		if token, err := d.Tokens.Token(ctx, a.Account.AppID); err == nil {
			a.token = token
		}
		if err := a.quota.Ready(ctx); err != nil {
			return a.unsent(err), nil
		}
		switch o, err := a.spend(ctx, d.Windows); {
		case err != nil:
			return a.unsent(err), nil
		case o.Decided():
			a.Fate = NotSent
			return o, nil
		}
		o, r := a.call(ctx, d)
		if r.Class == wechat.NotSent && r.Error() != nil && r.Error().Disposition() == wechat.TokenRefresh {
			o = a.again(ctx, d, r.Error())
		}
		return o, nil
	}}
}

// unsent is the outcome of a claim that could not be used: the message surely did not leave.
func (a *Attempt) unsent(err error) outcome.Outcome { return a.unsentFor(time.Second, err) }

func (a *Attempt) unsentFor(wait time.Duration, err error) outcome.Outcome {
	a.Fate = NotSent
	o := park(a.Message, outcome.Pace, clock.Now().Add(jitter(wait)))
	o.ErrMsg = err.Error()
	return o
}

var errStale = errors.New("the claim is too old: this process was frozen or is overloaded")

// call makes the call and judges its result.
func (a *Attempt) call(ctx context.Context, d Deps) (outcome.Outcome, wechat.Result) {
	now := time.Now()
	// Both clocks: a suspended machine stops the monotonic one.
	if now.Sub(a.claim.Intent) > maxClaimAge || now.Round(0).Sub(a.claim.Intent.Round(0)) > maxClaimAge {
		return a.unsent(errStale), wechat.Result{}
	}
	if a.claim.Doubt && !a.mayRepeat(a.Account.Policy.WithDefaults(), a.claim.Attempt, clock.Of(now)) {
		// It waited for longer than WeChat knows its id: sent now, it might reach the user twice.
		a.Fate = NotSent
		return outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}, wechat.Result{}
	}
	if d.Health != nil {
		d.Health.Calling(a.Account.Name, a.API(), clock.Of(now))
	}
	r := a.dial(ctx)
	fault.At(fault.Answered, string(a.Message.Kind))
	if d.Observe != nil {
		d.Observe(a, r)
	}
	now = time.Now()
	a.share.came(r, a.claim.Attempt > 1, now)
	now = clock.Of(now)
	if d.Health != nil {
		if outOfOrder(r) {
			d.Health.Troubled(ctx, a.Account.Name, a.API(), r, now)
		} else {
			d.Health.Answered(a.Account.Name, a.API(), now)
		}
	}
	switch {
	case r.Class != wechat.NotSent:
		a.Fate = Left
	case r.Connected:
		a.Fate = Answered
	default:
		a.Fate = NotSent
	}
	o := a.judge(ctx, d, r, now)
	if o.Status == outcome.Sent { // also where WeChat refuses because it has the message already
		a.Fate = Left
	}
	return o, r
}

// outOfOrder says whether the result tells of WeChat's health and not of the message: no connection, no whole answer, or -1.
func outOfOrder(r wechat.Result) bool {
	e := r.Error()
	return r.Class == wechat.Ambiguous || r.Class == wechat.NotSent && e == nil || e != nil && e.Code == wechat.CodeBusy
}

func (a *Attempt) dial(ctx context.Context) wechat.Result {
	m := a.Message
	switch m.Kind {
	case message.Template:
		return a.Client.SendTemplate(ctx, a.token, m.To, m.ID.Hex(), m.Body)
	case message.Subscribe:
		return a.Client.SendSubscribe(ctx, a.token, m.To, m.Body)
	case message.Custom:
		return a.Client.SendCustom(ctx, a.token, m.To, m.Body)
	case message.Mass:
		list := m.List
		if a.claim.List != nil {
			list = a.claim.List
		}
		return a.Client.SendMass(ctx, a.token, list, m.ID.Hex(), m.Body)
	}
	panic(fmt.Sprintf("pipeline: message %s of kind %q passed decode", m.ID, m.Kind))
}

// again repeats, once, a call whose access token was refused. A refusal is class N: it is safe for every kind.
func (a *Attempt) again(ctx context.Context, d Deps, refused *wechat.Error) outcome.Outcome {
	token, err := d.Tokens.Refresh(ctx, a.Account.AppID, a.token)
	if err != nil {
		o, _ := noToken(ctx, a, d.Gates, err)
		return a.inDoubt(o)
	}
	a.token = token
	a.quota.Spent() // the refused call counts
	if o, err := a.takeQuota(ctx, d.Quota); err != nil || o.Decided() {
		a.quota = spent{}
		if err != nil {
			o, _ = storeIsAway(ctx, a, err)
		}
		return a.inDoubt(o)
	}
	if err := a.quota.Ready(ctx); err != nil {
		return a.inDoubt(a.unsent(err))
	}
	o, r := a.call(ctx, d)
	if r.Error() != nil && r.Class == wechat.NotSent && r.Error().Disposition() == wechat.TokenRefresh {
		d.Gates.Broken(ctx, a.Account.Name, "", r.Error())
	}
	return o
}

// spent is the quota token of a run that has used its own and got no other.
type spent struct{}

func (spent) Ready(context.Context) error { return nil }
func (spent) Spent()                      {}
func (spent) Return(context.Context)      {}
