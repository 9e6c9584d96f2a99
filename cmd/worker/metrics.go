package main

import (
	"cmp"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/app"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/reconcile"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// watchedBy hangs the metrics on the worker's hooks.
func watchedBy(metrics *telemetry.Metrics, o app.Options) app.Options {
	o.Decided = func(a *pipeline.Attempt, o outcome.Outcome, took time.Duration) { decided(metrics, a, o, took) }
	o.Called = func(a *pipeline.Attempt, r wechat.Result) { called(metrics, a.API(), r) }
	o.Cancelled = func(account string, kind message.Kind, n int) { metrics.Cancelled(account, string(kind), n) }
	o.Claimed = func(account string, kind message.Kind, granted bool) { metrics.Claimed(account, string(kind), granted) }
	o.Webhook = func(account, result string, _ time.Duration) { metrics.Webhook(account, result) }
	o.Joined = func(j reconcile.Joined) {
		metrics.Joined(j.Account, string(j.Kind), app.HowJoined(j), j.Lag)
	}
	o.Resolved = func(l reconcile.LeftBehind, s outcome.Status) {
		metrics.Resolved(l.Account, string(l.Kind), string(s))
	}
	o.Requeued, o.Stores, o.Tokens, o.Fleet = metrics.Requeued, metrics.Stores.Watch, metrics.Tokens, metrics.Fleet
	return o
}

func decided(metrics *telemetry.Metrics, a *pipeline.Attempt, o outcome.Outcome, took time.Duration) {
	m, account := a.Message, cmp.Or(a.AccountName(), "unknown")
	metrics.Decided(account, string(m.Kind), string(m.Lane), string(o.Status), string(o.Reason), took)
	if o.ErrCode == wechat.CodeWindowClosed || o.ErrCode == wechat.CodeWindowUsed {
		metrics.WindowShut(account, o.ErrCode)
	}
}

func called(metrics *telemetry.Metrics, api string, r wechat.Result) {
	answer, code := app.AnswerOf(r)
	metrics.Called(api, r.Class.String(), answer, code, r.Elapsed)
}
