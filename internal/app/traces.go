package app

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/reconcile"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// traced hangs the traces on the hooks, behind what hangs there. Without traces the hooks stay what they are.
func (o Options) traced() Options {
	t := o.Traces
	if t == nil {
		return o
	}
	called, decided, joined, resolved := o.Called, o.Decided, o.Joined, o.Resolved
	o.Called = func(a *pipeline.Attempt, r wechat.Result) {
		if called != nil {
			called(a, r)
		}
		traceCall(t, a, r)
	}
	o.Decided = func(a *pipeline.Attempt, out outcome.Outcome, took time.Duration) {
		if decided != nil {
			decided(a, out, took)
		}
		traceRun(t, a, out)
	}
	o.Joined = func(j reconcile.Joined) {
		if joined != nil {
			joined(j)
		}
		t.Joined(j.Message, j.Account, string(j.Kind), HowJoined(j), j.Delivered, j.Lag)
	}
	o.Resolved = func(l reconcile.LeftBehind, s outcome.Status) {
		if resolved != nil {
			resolved(l, s)
		}
		if s.Terminal() {
			t.Resolved(l.ID, l.Account, string(l.Kind), string(s), l.ID.Time())
		}
	}
	return o
}

// HowJoined names how a receipt found its message, for labels: msgid, inferred, or proof that an unknown one was sent.
func HowJoined(j reconcile.Joined) string {
	switch {
	case j.Upgraded:
		return "proof"
	case j.Inferred:
		return "inferred"
	}
	return "msgid"
}

// AnswerOf names what a call was answered, for labels: what the errcode means for us, and the errcode. A call without one
// was taken, or had no whole answer.
func AnswerOf(r wechat.Result) (answer string, code int) {
	switch e := r.Error(); {
	case e != nil:
		return e.Disposition().String(), e.Code
	case r.Err != nil:
		return "no_answer", 0
	}
	return wechat.None.String(), 0
}

func traceCall(t *telemetry.Traces, a *pipeline.Attempt, r wechat.Result) {
	if !t.Samples(a.Message.ID) {
		return
	}
	now := clock.Now()
	answer, code := AnswerOf(r)
	t.Called(telemetry.Call{
		ID: a.Message.ID, Run: a.Now, API: a.API(), Class: r.Class.String(), Answer: answer, ErrCode: code, Connected: r.Connected,
		Start: now.Add(-r.Elapsed), End: now,
	})
}

func traceRun(t *telemetry.Traces, a *pipeline.Attempt, o outcome.Outcome) {
	m := a.Message
	if !t.Samples(m.ID) {
		return
	}
	claim, _ := a.Claimed()
	t.Dispatched(telemetry.Run{
		ID: m.ID, Parent: m.Parent, Account: a.AccountName(), Kind: string(m.Kind), Lane: string(m.Lane), Stage: a.Stage,
		Status: string(o.Status), Reason: string(o.Reason), Attempt: claim.Attempt, Traceparent: a.Traceparent,
		Start: a.Now, Settling: a.Settling, End: clock.Now(), Over: o.Status.Terminal(), Born: m.ID.Time(),
		Failed: o.Status == outcome.Failed || o.Status == outcome.Unknown || o.Status == outcome.Dead,
	})
}

// parcelTrace traces the ways of parcels into the queue.
func parcelTrace(t *telemetry.Traces) func(*message.Parcel) func(error) {
	if t == nil {
		return nil
	}
	return func(p *message.Parcel) (done func(error)) {
		var share []telemetry.ID
		for _, m := range p.Messages {
			if t.Samples(m.ID) {
				share = append(share, m.ID)
			}
		}
		p.Traceparent, done = t.Parcel(p.ID, share, p.Account, string(p.Kind), string(p.Lane), len(p.Messages))
		return done
	}
}

func requestTrace(t *telemetry.Traces) api.Trace {
	if t == nil {
		return nil
	}
	return t.Request
}

// traced traces the messages of receipts that are no refusals.
func (e apiEnqueuer) traced(ctx context.Context, list []message.Message, receipts []client.Receipt, start time.Time) []client.Receipt {
	if e.traces != nil {
		for i, r := range receipts {
			e.accepted(ctx, &list[i], r, start)
		}
	}
	return receipts
}

// accepted traces a message that was accepted, each of its parts. A duplicate has been, by another request.
func (e apiEnqueuer) accepted(ctx context.Context, m *message.Message, r client.Receipt, start time.Time) {
	if e.traces == nil || r.Err != nil || r.Duplicate {
		return
	}
	ids := r.Parts
	if len(ids) == 0 {
		ids = []message.ID{r.ID}
	}
	for _, id := range ids {
		e.traces.Accepted(ctx, id, m.Account, string(m.Kind), string(m.Lane), start)
	}
}
