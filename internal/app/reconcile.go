package app

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/reconcile"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// heal looks after what faults leave behind while this pod is the one that does.
func (w *pod) heal(ctx context.Context) error {
	if !fault.Has(fault.Reconciler) {
		return nil
	}
	r := &reconcile.Reconciler{
		Store: ledgerRows{w.store}, Lookup: tasks.NewLookup(w.shared), Queue: w.enqueuer,
		Windows:   answered{window.New(w.shared, w.accounts.windowRules), w.accounts},
		Repeats:   w.accounts.repeats,
		Retention: w.config.Retention.Messages, Joined: w.options.Joined, Log: w.log,
	}
	var loops errgroup.Group
	loops.Go(func() error { return r.Watch(ctx) })
	loops.Go(func() error {
		return w.store.Lead(ctx, "reconciler", r.Run, func(err error) { w.log.Warn("lead the reconciler", "error", err) })
	})
	loops.Go(func() error { // apart: it is led by pods that have run for a while
		return w.store.Lead(ctx, "resolver", r.Resolve, func(err error) { w.log.Warn("resolve what dead workers left", "error", err) })
	})
	return loops.Wait()
}

// ledgerRows is the ledger as the reconciler sees it.
type ledgerRows struct{ *postgres.Store }

func (s ledgerRows) Outbox(ctx context.Context, after, before message.ID, age time.Duration, limit int) ([]reconcile.Waiting, error) {
	page, err := s.Store.Outbox(ctx, after, before, age, limit)
	list := make([]reconcile.Waiting, len(page))
	for i, w := range page {
		list[i] = reconcile.Waiting(w)
	}
	return list, err
}

func (s ledgerRows) Rebuild(ctx context.Context, list []reconcile.Waiting) ([]*message.Parcel, error) {
	rows := make([]postgres.Waiting, len(list))
	for i, w := range list {
		rows[i] = postgres.Waiting(w)
	}
	return s.Store.Rebuild(ctx, rows)
}

func (s ledgerRows) ResolveLeftBehind(ctx context.Context, silent time.Duration, decide func(reconcile.LeftBehind) (outcome.Outcome, string)) ([]reconcile.LeftBehind, int, error) {
	rows, batches, err := s.Store.ResolveLeftBehind(ctx, silent, func(l postgres.LeftBehind) (outcome.Outcome, string) {
		return decide(reconcile.LeftBehind(l))
	})
	list := make([]reconcile.LeftBehind, len(rows))
	for i, l := range rows {
		list[i] = reconcile.LeftBehind(l)
	}
	return list, batches, err
}

func (s ledgerRows) JoinReceipts(ctx context.Context, now time.Time, limit int) ([]reconcile.Joined, int, error) {
	rows, looked, err := s.Store.JoinReceipts(ctx, now, limit)
	list := make([]reconcile.Joined, len(rows))
	for i, j := range rows {
		list[i] = reconcile.Joined(j)
	}
	return list, looked, err
}

// answered is the window ledger, by the accounts' names. An account that is not configured has no window.
type answered struct {
	*window.Ledger
	accounts accounts
}

func (a answered) Confirm(ctx context.Context, account string, user message.OpenID, id message.ID, at time.Time) error {
	known, ok := a.accounts[account]
	if !ok {
		return nil
	}
	return a.Ledger.Confirm(ctx, message.AppID(known.AppID), user, id, at)
}

// repeats is the account's policy for messages that may have been sent. An account that is not configured has the
// default one.
func (all accounts) repeats(name string, kind message.Kind) reconcile.Repeats {
	a, ok := all[name]
	if !ok {
		a = &account{}
	}
	p := a.pipeline.Policy.WithDefaults()
	switch kind {
	case message.Template:
		if p.ResendLateTemplate {
			return reconcile.Repeats{For: reconcile.Always}
		}
		return reconcile.Repeats{For: p.TemplateWindow}
	case message.Mass:
		return reconcile.Repeats{For: p.MassWindow, After: p.MassAgain}
	case message.Custom:
		return reconcile.Repeats{For: p.ResendCustom}
	case message.Subscribe:
		return reconcile.Repeats{For: p.ResendSubscribe}
	}
	return reconcile.Repeats{}
}
