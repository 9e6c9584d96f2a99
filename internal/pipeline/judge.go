package pipeline

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Policy is what to do with results that are not final. The zero value has the defaults.
type Policy struct {
	Backoff        []time.Duration // waits between attempts, each with full jitter; 1 s, 10 s, 1 min, 10 min
	UnknownCode    int             // attempts at a code that WeChat does not document; 2
	TemplateWindow time.Duration   // after the first attempt a template is repeated with its id; 8 min of WeChat's 10
	MassWindow     time.Duration   // likewise a mass send; 23 h of WeChat's 24
	MassAgain      time.Duration   // WeChat wants a minute between equal clientmsgids (45066); 61 s

	// Where WeChat takes no id of ours and nobody can know whether a message left, it is sent again within this
	// time of its first attempt, at the risk of a duplicate. Zero, the default: never.
	ResendCustom, ResendSubscribe time.Duration
	ResendLateTemplate            bool // templates: also after WeChat's dedupe window
}

// WithDefaults fills in what is zero.
func (p Policy) WithDefaults() Policy {
	if p.Backoff == nil {
		p.Backoff = []time.Duration{time.Second, 10 * time.Second, time.Minute, 10 * time.Minute}
	}
	for _, d := range []struct {
		at  *time.Duration
		def time.Duration
	}{{&p.TemplateWindow, 8 * time.Minute}, {&p.MassWindow, 23 * time.Hour}, {&p.MassAgain, 61 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.def
		}
	}
	if p.UnknownCode == 0 {
		p.UnknownCode = 2
	}
	return p
}

// judge turns the result of a call into the message's outcome and its consequences.
func (a *Attempt) judge(ctx context.Context, d Deps, r wechat.Result, now time.Time) outcome.Outcome {
	e := r.Error()
	if e == nil || !accountTrouble(e.Disposition()) {
		if r.Class == wechat.Sent || e != nil && e.Code != wechat.CodeBusy {
			d.Gates.Passed(ctx, a.Account.Name, a.API())
		}
	}
	var o outcome.Outcome
	switch {
	case r.Class == wechat.Sent:
		o = outcome.Outcome{Status: outcome.Sent}
	case r.Class == wechat.Ambiguous:
		o = a.ambiguous(a.Account.Policy, now)
	case e == nil: // no connection
		o = a.retry(a.Account.Policy, len(a.Account.Policy.Backoff)+1, now, outcome.RetriesExhausted)
	default:
		o = a.refused(ctx, d, e, now)
	}
	o.MsgID, o.DataID = r.MsgID, r.DataID
	if e != nil {
		o.ErrCode, o.ErrMsg, o.RID = e.Code, e.Msg, e.RID
	} else if r.Err != nil {
		o.ErrMsg = r.Err.Error()
	}
	if r.Class != wechat.NotSent {
		return o
	}
	return a.inDoubt(o)
}

// inDoubt keeps the promise of a message that an earlier attempt may have sent: it ends only sent or unknown.
func (a *Attempt) inDoubt(o outcome.Outcome) outcome.Outcome {
	switch {
	case a.claim.Doubt && o.Status.Terminal() && o.Status != outcome.Sent:
		o.Status, o.Reason = outcome.Unknown, outcome.InDoubt
		a.Effects.Fallback = nil
	case a.Message.Kind == message.Mass && o.Status.Terminal() && o.Status != outcome.Sent:
		a.Effects.RefundMass = true
	}
	return o
}

// ambiguous: the request may have reached WeChat. It is repeated only where an id of ours makes that harmless.
func (a *Attempt) ambiguous(p Policy, now time.Time) outcome.Outcome {
	first := a.claim.FirstIntent
	switch {
	case a.Message.Kind == message.Template && (now.Sub(first) < p.TemplateWindow || p.ResendLateTemplate):
		a.Effects.Doubt = true
		return park(a.Message, outcome.Backoff, now.Add(jitter(p.Backoff[0])))
	case a.Message.Kind == message.Mass && now.Sub(first) < p.MassWindow:
		a.Effects.Doubt = true
		return park(a.Message, outcome.Backoff, now.Add(p.MassAgain))
	case a.Message.Kind == message.Custom && now.Sub(first) < p.ResendCustom,
		a.Message.Kind == message.Subscribe && now.Sub(first) < p.ResendSubscribe:
		return a.retry(p, len(p.Backoff)+1, now, outcome.RetriesExhausted)
	default:
		return outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}
	}
}

// retry parks the message until its next attempt, or ends it when all its attempts are made.
func (a *Attempt) retry(p Policy, attempts int, now time.Time, last outcome.Reason) outcome.Outcome {
	n := a.claim.Attempt
	if a.claim.Doubt {
		// Its attempts are bounded by WeChat's dedupe window, not by their number.
		window := p.TemplateWindow
		if a.Message.Kind == message.Mass {
			window = p.MassWindow
		}
		if now.Sub(a.claim.FirstIntent) >= window {
			return outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}
		}
		attempts, n = len(p.Backoff)+1, min(n, len(p.Backoff))
	}
	if n >= attempts {
		return outcome.Outcome{Status: outcome.Failed, Reason: last}
	}
	return park(a.Message, outcome.Backoff, now.Add(jitter(p.Backoff[min(n, len(p.Backoff))-1])))
}

// jitter is full jitter, with a floor so that a retry is never at once.
func jitter(d time.Duration) time.Duration { return d/10 + rand.N(d-d/10) }

func accountTrouble(d wechat.Disposition) bool {
	return d == wechat.Account || d == wechat.TokenRefresh || d == wechat.QuotaReset || d == wechat.Wait
}

// refused: WeChat answered with an errcode, and surely did not send.
func (a *Attempt) refused(ctx context.Context, d Deps, e *wechat.Error, now time.Time) outcome.Outcome {
	attempts := len(a.Account.Policy.Backoff) + 1
	switch a.disposition(e) {
	case wechat.TokenRefresh: // repeated in place once; after that the account's gate is broken
		return park(a.Message, outcome.Gate, now.Add(time.Minute))
	case wechat.Backoff:
		return a.retry(a.Account.Policy, attempts, now, outcome.RetriesExhausted)
	case wechat.QuotaReset:
		until := d.Gates.QuotaSpent(ctx, a.Account.Name, a.API(), e, now)
		return park(a.Message, outcome.Quota, until)
	case wechat.Wait:
		return a.wait(ctx, d, e, now)
	case wechat.Recipient:
		return a.refusedRecipient(ctx, d, e, now)
	case wechat.Account:
		d.Gates.Broken(ctx, a.Account.Name, a.API(), e)
		return park(a.Message, outcome.Gate, now.Add(time.Minute))
	case wechat.Accepted: // the earlier attempt did leave
		return outcome.Outcome{Status: outcome.Sent}
	case wechat.UnknownCode:
		return a.retry(a.Account.Policy, a.Account.Policy.UnknownCode, now, outcome.RefusedRequest)
	default:
		return outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest}
	}
}

// disposition is the code's reading for this message: after an attempt that may have left, "duplicate" says that it did.
func (a *Attempt) disposition(e *wechat.Error) wechat.Disposition {
	if a.claim.Doubt {
		return e.DispositionInDoubt()
	}
	return e.Disposition()
}

func (a *Attempt) wait(ctx context.Context, d Deps, e *wechat.Error, now time.Time) outcome.Outcome {
	switch e.Code {
	case wechat.CodeMinuteQuota:
		_ = d.Quota.Slow(ctx, a.Account.AppID, a.API()) // if Redis is away, the next answer slows us again
		return park(a.Message, outcome.Pace, now.Truncate(time.Minute).Add(time.Minute+jitter(2*time.Second)))
	case wechat.CodeClientMsgIDFast:
		a.Effects.Doubt = true // WeChat has this clientmsgid: the next answer says what became of it
		return park(a.Message, outcome.Backoff, now.Add(e.RetryAfter()+time.Second))
	}
	o := a.retry(a.Account.Policy, len(a.Account.Policy.Backoff)+1, now, outcome.RetriesExhausted)
	if o.Status == outcome.Parked {
		o = park(a.Message, outcome.Backoff, now.Add(e.RetryAfter()+jitter(e.RetryAfter()/4+time.Second)))
	}
	return o
}

func (a *Attempt) refusedRecipient(ctx context.Context, d Deps, e *wechat.Error, now time.Time) outcome.Outcome {
	o := outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient}
	switch e.Code {
	case wechat.CodeRequireSubscribe, wechat.CodeUnsubscribed:
		a.Effects.Suppress = true
	case wechat.CodeUserRefuses:
		a.Effects.Suppress, a.Effects.TemplateID = true, TemplateID(a.Message)
	case wechat.CodeWindowClosed, wechat.CodeWindowUsed:
		// The last word is WeChat's: the ledger is corrected, or it would ask again with the next message.
		_ = d.Windows.Refused(ctx, a.Account.AppID, a.Message.To, e.Code, now)
		return a.insteadOf(o)
	}
	return o
}

// TemplateID is the template that a message is made from; empty for kinds without one.
func TemplateID(m *message.Message) string {
	if m.Kind != message.Template && m.Kind != message.Subscribe {
		return ""
	}
	var body struct {
		TemplateID string `json:"template_id"`
	}
	_ = json.Unmarshal(m.Body, &body) // was validated at enqueue
	return body.TemplateID
}
