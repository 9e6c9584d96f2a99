package app

import (
	"context"
	"errors"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

// windows is the window ledger as the pipeline sees it. Where Redis was lost or has started again, a user's record is made
// again from Postgres before the user is answered or refused.
type windows struct {
	*window.Ledger
	store    *postgres.Store
	accounts accounts
}

func (w windows) Reserve(ctx context.Context, app message.AppID, user message.OpenID, id message.ID, now time.Time) (pipeline.Window, error) {
	return w.ask(ctx, w.Ledger.Reserve, app, user, id, now)
}

func (w windows) Spend(ctx context.Context, app message.AppID, user message.OpenID, id message.ID, now time.Time) (pipeline.Window, error) {
	return w.ask(ctx, w.Ledger.Spend, app, user, id, now)
}

// asks is a question to the window ledger.
type asks func(ctx context.Context, app message.AppID, user message.OpenID, id message.ID, now time.Time) (window.Verdict, error)

func (w windows) ask(ctx context.Context, may asks, app message.AppID, user message.OpenID, id message.ID, now time.Time) (pipeline.Window, error) {
	v, err := may(ctx, app, user, id, now)
	for tries := 1; err == nil && v.Lost != ""; tries++ {
		if tries > 2 {
			return pipeline.WindowClosed, errors.New("redis starts again and again: nobody knows how often the user was answered")
		}
		if err = w.restore(ctx, app, user, v.Lost, now); err == nil {
			v, err = may(ctx, app, user, id, now)
		}
	}
	if err != nil {
		return pipeline.WindowClosed, err
	}
	switch v.State {
	case window.Open:
		return pipeline.WindowOpen, nil
	case window.Used:
		return pipeline.WindowUsed, nil
	case window.UnknownUser:
		return pipeline.WindowUnknown, nil
	default:
		return pipeline.WindowClosed, nil
	}
}

func (w windows) restore(ctx context.Context, app message.AppID, user message.OpenID, lost string, now time.Time) error {
	a, ok := w.accounts[string(app)]
	if !ok {
		return nil
	}
	events, err := w.store.LastInbound(ctx, a.Name, user)
	if err != nil {
		return err
	}
	var heard []window.Note
	since := now
	for _, e := range events {
		n := window.Note{AppID: app, OpenID: user, At: e.At}
		if e.Trigger != postgres.TriggerLeft {
			if n.Trigger, err = window.ParseTrigger(e.Trigger); err != nil {
				continue // opens nothing
			}
			if e.At.Before(since) {
				since = e.At
			}
		}
		heard = append(heard, n)
	}
	if oldest := now.Add(-w.Longest(app)); since.Before(oldest) {
		since = oldest
	}
	var answers []window.Answer
	if len(heard) > 0 {
		// A little more: the clocks of WeChat and Postgres differ.
		list, err := w.store.AnsweredSince(ctx, a.Name, user, since.Add(-window.Skew))
		if err != nil {
			return err
		}
		for _, one := range list {
			answers = append(answers, window.Answer(one))
		}
	}
	return w.Restore(ctx, app, user, lost, heard, answers, now)
}
