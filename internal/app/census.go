package app

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/feed"
	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/telemetry"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Times of the census.
const (
	censusEvery  = 10 * time.Second
	censusWithin = 30 * time.Second
)

// count tells operators what the fleet has in hand, while this pod keeps house.
func (w *pod) count(ctx context.Context) error {
	tell := w.options.Fleet
	if tell == nil {
		return nil
	}
	defer tell(nil)
	queues := tasks.NewLookup(w.shared)
	tick := time.NewTicker(censusEvery)
	defer tick.Stop()
	for {
		if f, err := w.census(ctx, queues, clock.Now()); err == nil {
			tell(f)
		} else if ctx.Err() == nil { // the old count stays, and its time tells
			w.log.Warn("count what the fleet has in hand", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (w *pod) census(ctx context.Context, queues *tasks.Lookup, now time.Time) (*telemetry.Fleet, error) {
	ctx, cancel := context.WithTimeout(ctx, censusWithin)
	defer cancel()
	rows, err := w.store.Census(ctx, now)
	if err != nil {
		return nil, err
	}
	depths, err := queues.Depths(ctx, now)
	if err != nil {
		return nil, err
	}
	f := &telemetry.Fleet{
		At: now, Queues: queuesOf(depths), Gates: w.gatesOf(now), Webhooks: webhooksOf(rows.Webhooks),
		Workers: rows.Workers, Left: rows.Left, Receipts: rows.Receipts, Rejected: rows.Rejected,
	}
	pace := map[[2]string]float64{}
	for _, flow := range w.accounts.flows() {
		u, err := w.quota.Usage(ctx, ratelimit.Key{App: message.AppID(w.accounts[flow.Account].AppID), API: flow.API})
		if err != nil {
			return nil, err
		}
		pace[[2]string{flow.Account, string(flow.Kind)}] = u.PacePerSecond
		f.Quotas = append(f.Quotas, telemetry.Quota{
			Account: flow.Account, Kind: string(flow.Kind), Limit: u.Limit, Used: u.Used, Leased: u.Leased, Left: u.Left,
		})
	}
	f.Stocks = w.stocksOf(rows.Stocks, pace, now)
	return f, nil
}

func queuesOf(depths []tasks.Depth) (queues []telemetry.Queue) {
	for _, d := range depths {
		queues = append(queues, telemetry.Queue{Class: d.Class, Oldest: d.Oldest, Tasks: map[string]int64{
			"pending": d.Pending, "active": d.Active, "scheduled": d.Scheduled, "retry": d.Retry, "archived": d.Archived,
		}})
	}
	return queues
}

func webhooksOf(rows []postgres.WebhookStock) (list []telemetry.Webhooks) {
	for _, r := range rows {
		list = append(list, telemetry.Webhooks(r))
	}
	return list
}

// stocksOf has a row for every flow, so that nothing waiting is a 0 and not a gap, and for what else the ledger holds.
func (w *pod) stocksOf(rows []postgres.Stock, pace map[[2]string]float64, now time.Time) (stocks []telemetry.Stock) {
	found := map[[2]string]postgres.Stock{}
	for _, r := range rows {
		found[[2]string{r.Account, string(r.Kind)}] = r
	}
	for _, flow := range w.accounts.flows() {
		k := [2]string{flow.Account, string(flow.Kind)}
		r := found[k]
		delete(found, k)
		r.Account, r.Kind = flow.Account, flow.Kind
		s := stockOf(r)
		s.PacePerSecond = pace[k]
		if w.shut(flow, now) == gate.Open {
			s.Dispatchable = r.Queued + r.Due + r.Campaign
		}
		if s.PacePerSecond > 0 {
			s.Behind = float64(s.Dispatchable) / s.PacePerSecond
		}
		stocks = append(stocks, s)
	}
	for _, r := range found { // of accounts that this configuration does not have
		stocks = append(stocks, stockOf(r))
	}
	return stocks
}

func stockOf(r postgres.Stock) telemetry.Stock {
	return telemetry.Stock{
		Account: r.Account, Kind: string(r.Kind), Queued: r.Queued, QueuedFor: r.QueuedFor, Parked: r.Parked, Due: r.Due, DueFor: r.DueFor, Campaign: r.Campaign,
	}
}

// shut is the state of the gates that stand before a flow; the account's own counts for each of its APIs.
func (w *pod) shut(flow feed.Flow, now time.Time) gate.State {
	if s := w.stateOf(flow.Account, "", now); s != gate.Open {
		return s
	}
	return w.stateOf(flow.Account, flow.API, now)
}

func (w *pod) stateOf(account, api string, now time.Time) gate.State {
	g, shut := w.board.At(account, api)
	if !shut || g.State == gate.Closed && !now.Before(g.Until) {
		return gate.Open
	}
	return g.State
}

func (w *pod) gatesOf(now time.Time) (gates []telemetry.Gate) {
	for name, a := range w.accounts {
		if name == a.Name {
			gates = append(gates, telemetry.Gate{Account: name, API: "all", State: string(w.stateOf(name, "", now))})
		}
	}
	for _, flow := range w.accounts.flows() {
		gates = append(gates, telemetry.Gate{Account: flow.Account, API: flow.API, State: string(w.stateOf(flow.Account, flow.API, now))})
	}
	return gates
}

// tokensNow is how the access tokens stand in this pod.
func (w *pod) tokensNow() (list []telemetry.Token) {
	now := time.Now()
	for name, a := range w.accounts {
		if name != a.Name {
			continue
		}
		st := w.tokens.Standing(message.AppID(a.AppID), now)
		one := telemetry.Token{Account: name, Left: st.Left, Age: -1}
		if !st.Made.IsZero() {
			one.Age = max(0, now.Sub(st.Made))
		}
		list = append(list, one)
	}
	return list
}
