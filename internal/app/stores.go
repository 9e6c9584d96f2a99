package app

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/feed"
	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// gateStore is the gate table as the board sees it.
type gateStore struct{ *postgres.Store }

func (s gateStore) Gates(ctx context.Context) ([]gate.Gate, error) {
	rows, err := s.Store.Gates(ctx)
	if err != nil {
		return nil, err
	}
	shut := make([]gate.Gate, 0, len(rows))
	for _, r := range rows {
		if r.State == postgres.GateOpen {
			continue
		}
		shut = append(shut, gate.Gate{
			Account: r.Account, API: r.API, State: gate.State(r.State), Reason: r.Reason,
			ErrCode: r.ErrCode, Detail: r.Detail, Since: r.Since, Until: r.Until, Probe: r.Probe,
		})
	}
	return shut, nil
}

func (s gateStore) SetGate(ctx context.Context, g gate.Gate) error {
	return s.CloseGate(ctx, postgres.Gate{
		Account: g.Account, API: g.API, State: string(g.State), Reason: g.Reason,
		ErrCode: g.ErrCode, Detail: g.Detail, Until: g.Until, Probe: g.Probe,
	})
}

func (s gateStore) OpenGate(ctx context.Context, account, api string) error {
	return s.MendGate(ctx, account, api)
}

// releaseStore is the parked list as the releaser sees it.
type releaseStore struct{ *postgres.Store }

func (s releaseStore) Due(ctx context.Context, now time.Time) ([]feed.Stock, error) {
	rows, err := s.Store.Due(ctx, now)
	due := make([]feed.Stock, len(rows))
	for i, r := range rows {
		due[i] = feed.Stock(r)
	}
	return due, err
}

func (s releaseStore) Release(ctx context.Context, budgets []feed.Budget, now time.Time) ([]*message.Parcel, error) {
	wanted := make([]postgres.Budget, len(budgets))
	for i, b := range budgets {
		wanted[i] = postgres.Budget{Account: b.Account, Kind: b.Kind, N: b.N}
	}
	return s.Store.Release(ctx, wanted, now)
}
