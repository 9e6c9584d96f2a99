package main

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/report"
)

// foretell adds forecasts, where there is a ledger to ask what waits.
func (s *session) foretell(ctx context.Context, cfg *config.Config, views []quotaView, now time.Time) error {
	if cfg.Postgres.URL.IsZero() {
		return nil
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	stocks, err := store.Stocks(ctx, now)
	if err != nil {
		return err
	}
	for i := range views {
		v := &views[i]
		a, _ := cfg.Account(v.Account)
		v.Forecast = forecastOf(report.Waiting(stocks, v.Account, v.API), *v, limitsOf(a, v.API).UrgentDay, now)
	}
	return nil
}

// forecastOf reckons by the smaller of both counts.
func forecastOf(waiting int64, v quotaView, urgent float64, now time.Time) *report.Forecast {
	left := v.Ours.Left
	if v.WeChat != nil {
		left = min(left, v.WeChat.Left)
	}
	f := report.Foretell(waiting, left, v.Ours, urgent, now)
	return &f
}

func forecastRow(f *report.Forecast) (waiting any, done string) {
	switch {
	case f == nil:
		return "–", "–"
	case f.DoneAt.IsZero():
		return f.Waiting, "–"
	}
	return f.Waiting, f.DoneAt.Local().Format("2006-01-02 15:04 MST")
}
