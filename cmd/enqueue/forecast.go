package main

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A forecast says how long the day's calls and the pace make the messages wait that are here now, and no others. It
// knows no gates and no not_before: it is the earliest.
type forecast struct {
	Waiting int64     `json:"waiting"` // messages in queues and parked; those parked are counted to 100,000
	Today   int64     `json:"today"`   // of these, what the day's calls allow
	DoneAt  time.Time `json:"done_at,omitzero"`
}

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
	census, err := store.Census(ctx, now)
	if err != nil {
		return err
	}
	for i := range views {
		v := &views[i]
		a, _ := cfg.Account(v.Account)
		v.Forecast = forecastOf(waiting(census, v.Account, v.API), *v, limitsOf(a, v.API).UrgentDay, now)
	}
	return nil
}

func waiting(c postgres.Census, account, api string) (n int64) {
	for _, st := range c.Stocks {
		if st.Account == account && wechat.PathOf(st.Kind) == api {
			n += st.Queued + st.Parked
		}
	}
	return n
}

// forecastOf reckons by the smaller of both counts, without the share that is kept for urgent messages.
func forecastOf(waiting int64, v quotaView, urgent float64, now time.Time) *forecast {
	f := &forecast{Waiting: waiting}
	left := v.Ours.Left
	if v.WeChat != nil {
		left = min(left, v.WeChat.Left)
	}
	kept := int64(urgent * float64(v.Ours.Limit))
	left = max(0, left-kept)
	f.Today = min(waiting, left)
	daily := v.Ours.Limit - kept
	if waiting == 0 || v.Ours.Pace <= 0 || daily <= 0 {
		return f
	}
	begins, rest := now, waiting
	for rest > left {
		rest, left = rest-left, daily
		begins = message.NextDay(begins)
	}
	f.DoneAt = begins.Add(time.Duration(float64(rest) / v.Ours.Pace * float64(time.Second))).Truncate(time.Second)
	return f
}

func (f *forecast) row() (waiting any, done string) {
	switch {
	case f == nil:
		return "–", "–"
	case f.DoneAt.IsZero():
		return f.Waiting, "–"
	}
	return f.Waiting, f.DoneAt.Local().Format("2006-01-02 15:04 MST")
}
