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

// WithDefaults fills in what is zero. With a Backoff that is empty but not nil there are no second attempts, but of
// what may have left and may be repeated.
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

// attempts is how many attempts a message has.
func (p Policy) attempts() int { return len(p.Backoff) + 1 }

// pause is the wait after an attempt, counted from 1.
func (p Policy) pause(attempt int) time.Duration {
	if len(p.Backoff) == 0 {
		return jitter(time.Minute)
	}
	return jitter(p.Backoff[min(max(attempt, 1), len(p.Backoff))-1])
}

// jitter is full jitter, with a floor so that a retry is never at once.
func jitter(d time.Duration) time.Duration { return d/10 + rand.N(d-d/10+1) }

// judge turns the result of a call into the message's outcome and its consequences.
func (a *Attempt) judge(ctx context.Context, d Deps, r wechat.Result, now time.Time) outcome.Outcome {
	e := r.Error()
	if r.Class == wechat.Sent || e != nil && e.Code != wechat.CodeBusy && !accountTrouble(e.Disposition()) {
		d.Gates.Passed(ctx, a.Account.Name, a.API())
	}
	o := outcome.Outcome{Status: outcome.Sent}
	if r.Class != wechat.Sent {
		o = a.notAccepted(ctx, d, r, now)
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

// notAccepted is the outcome where WeChat did not say that it accepted the message.
func (a *Attempt) notAccepted(ctx context.Context, d Deps, r wechat.Result, now time.Time) outcome.Outcome {
	p, e := a.Account.Policy.WithDefaults(), r.Error()
	switch {
	case r.Class == wechat.Ambiguous:
		return a.ambiguous(p, now)
	case e == nil: // no connection
		return a.retry(p, p.attempts(), a.pause(p, a.claim.Doubt), now, outcome.RetriesExhausted)
	}
	return a.refused(ctx, d, p, e, now)
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

// ambiguous: the request may have reached WeChat.
func (a *Attempt) ambiguous(p Policy, now time.Time) outcome.Outcome {
	return a.repeat(p, a.pause(p, true), now)
}

// maxTemplatePause fits several attempts into the minutes in which WeChat knows a template's id.
const maxTemplatePause = time.Minute

// pause is the wait before the message's next attempt.
func (a *Attempt) pause(p Policy, doubt bool) time.Duration {
	pause := p.pause(a.claim.Attempt)
	switch {
	case doubt && a.Message.Kind == message.Template && pause > maxTemplatePause:
		return jitter(maxTemplatePause)
	case doubt && a.Message.Kind == message.Mass:
		return max(pause, p.MassAgain)
	}
	return pause
}

// repeat parks a message of which an attempt may have left until it is sent again; it ends unknown where it may not.
func (a *Attempt) repeat(p Policy, pause time.Duration, now time.Time) outcome.Outcome {
	if !a.mayRepeat(p, a.claim.Attempt+1, now.Add(pause)) {
		return outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}
	}
	a.Effects.Doubt = true
	return park(a.Message, outcome.Backoff, now.Add(pause))
}

// mayRepeat says whether a message of which an attempt may have left can be sent again at that time: while WeChat
// knows an id of ours and so sends it once, or where the account's policy takes the risk of a duplicate.
func (a *Attempt) mayRepeat(p Policy, attempt int, at time.Time) bool {
	age, counts := at.Sub(a.claim.FirstIntent), attempt <= p.attempts()
	switch a.Message.Kind {
	case message.Template:
		return age < p.TemplateWindow || p.ResendLateTemplate && counts
	case message.Mass:
		return age < p.MassWindow
	case message.Custom:
		return age < p.ResendCustom && counts
	case message.Subscribe:
		return age < p.ResendSubscribe && counts
	}
	return false
}

// retry parks the message until its next attempt, or ends it when all its attempts are made. One in doubt is bounded
// by what may be repeated, not by their number.
func (a *Attempt) retry(p Policy, attempts int, pause time.Duration, now time.Time, last outcome.Reason) outcome.Outcome {
	switch {
	case a.claim.Doubt:
		return a.repeat(p, pause, now)
	case a.claim.Attempt >= attempts:
		return outcome.Outcome{Status: outcome.Failed, Reason: last}
	}
	return park(a.Message, outcome.Backoff, now.Add(pause))
}

func accountTrouble(d wechat.Disposition) bool {
	return d == wechat.Account || d == wechat.TokenRefresh || d == wechat.QuotaReset || d == wechat.Wait
}

// refused: WeChat answered with an errcode, and surely did not send.
func (a *Attempt) refused(ctx context.Context, d Deps, p Policy, e *wechat.Error, now time.Time) outcome.Outcome {
	switch a.disposition(e) {
	case wechat.TokenRefresh: // repeated in place once; after that the account's gate is broken
		return park(a.Message, outcome.Gate, now.Add(time.Minute))
	case wechat.Backoff:
		return a.retry(p, p.attempts(), a.pause(p, a.claim.Doubt), now, outcome.RetriesExhausted)
	case wechat.QuotaReset:
		until := d.Gates.QuotaSpent(ctx, a.Account.Name, a.API(), e, now)
		return park(a.Message, outcome.Quota, until)
	case wechat.Wait:
		return a.wait(ctx, d, p, e, now)
	case wechat.Recipient:
		return a.refusedRecipient(ctx, d, e, now)
	case wechat.Account:
		d.Gates.Broken(ctx, a.Account.Name, a.API(), e)
		return park(a.Message, outcome.Gate, now.Add(time.Minute))
	case wechat.Accepted: // the earlier attempt did leave
		return outcome.Outcome{Status: outcome.Sent}
	case wechat.UnknownCode:
		return a.retry(p, p.UnknownCode, a.pause(p, a.claim.Doubt), now, outcome.RefusedRequest)
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

func (a *Attempt) wait(ctx context.Context, d Deps, p Policy, e *wechat.Error, now time.Time) outcome.Outcome {
	switch e.Code {
	case wechat.CodeMinuteQuota:
		_ = d.Quota.Slow(ctx, a.Account.AppID, a.API()) // if Redis is away, the next answer slows us again
		return park(a.Message, outcome.Pace, now.Truncate(time.Minute).Add(time.Minute+jitter(2*time.Second)))
	case wechat.CodeMassFast: // for all of the account's lists: the next would only be refused as well
		d.Gates.Rest(ctx, a.Account.Name, a.API(), e, now.Add(e.RetryAfter()))
	case wechat.CodeClientMsgIDFast: // WeChat has this clientmsgid: the next answer says what became of it
		return a.repeat(p, e.RetryAfter()+time.Second, now)
	}
	pause := e.RetryAfter() + jitter(e.RetryAfter()/4+time.Second)
	return a.retry(p, p.attempts(), pause, now, outcome.RetriesExhausted)
}

func (a *Attempt) refusedRecipient(ctx context.Context, d Deps, e *wechat.Error, now time.Time) outcome.Outcome {
	o := outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient}
	switch e.Code {
	case wechat.CodeRequireSubscribe, wechat.CodeUnsubscribed:
		a.Effects.Suppress = a.Message.To != ""
	case wechat.CodeUserRefuses: // one template, and nothing is known of the others
		a.Effects.TemplateID = TemplateID(a.Message)
		a.Effects.Suppress = a.Effects.TemplateID != ""
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
