package report

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A Quota is how an account's day stands at one API, by our own count.
type Quota struct {
	Day    string  `json:"day"`
	Limit  int64   `json:"limit"`
	Used   int64   `json:"used"`
	Leased int64   `json:"leased"`
	Left   int64   `json:"left"`
	Pace   float64 `json:"per_second"`
}

// QuotaOf is the quota as the counters know it.
func QuotaOf(u ratelimit.Usage) Quota {
	return Quota{Day: u.Day.Format(time.DateOnly), Limit: u.Limit, Used: u.Used, Leased: u.Leased, Left: u.Left, Pace: u.PacePerSecond}
}

// Usage reads the day of one API of an account.
func (s Source) Usage(ctx context.Context, a Account, api string) (ratelimit.Usage, error) {
	return usage(ctx, s.Redis, a, api)
}

// Window reads whether a user may be answered.
func (s Source) Window(ctx context.Context, a Account, user message.OpenID, now time.Time) (window.View, error) {
	return look(ctx, s.Redis, a, user, now)
}

// answerable says which of some users the account may answer now, as a worker would: by what Redis knows, and what the
// ledger has heard.
func (s Source) answerable(ctx context.Context, name string, a Account, users []message.OpenID, now time.Time) ([]bool, error) {
	events, err := s.Store.InboundOf(ctx, name, users)
	if err != nil {
		return nil, err
	}
	var heard []window.Note
	for _, e := range events {
		n := window.Note{AppID: a.AppID, OpenID: e.OpenID, At: e.At}
		if e.Trigger != postgres.TriggerLeft {
			if n.Trigger, err = window.ParseTrigger(e.Trigger); err != nil {
				continue // opens nothing
			}
		}
		heard = append(heard, n)
	}
	states, err := window.New(s.Redis, func(message.AppID) window.Rules { return a.Window }).States(ctx, a.AppID, users, heard, now)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	may := make([]bool, len(users))
	for i, state := range states {
		may[i] = state == window.Open || state == window.UnknownUser && a.TryUnknown
	}
	return may, nil
}

// Room is what an account's quota leaves to campaigns.
type Room struct {
	LeftToday int64 // of today's calls
	PerDay    int64
	Reserve   int64 // of a day's calls, kept for urgent messages
	PerSecond float64
}

// RoomOf is the room behind the limits, where so many of today's calls are left.
func RoomOf(l ratelimit.Limits, left int64) Room {
	margin := int64(math.Ceil(l.Margin * float64(l.PerDay)))
	return Room{
		LeftToday: left - margin, PerDay: l.PerDay - margin, Reserve: int64(l.UrgentDay * float64(l.PerDay)),
		PerSecond: l.PerSecond * (1 - l.UrgentPace),
	}
}

// UsedUpAt is when the day's calls will be used up, if they go on as they went today; zero: not before the day ends.
func UsedUpAt(u ratelimit.Usage, now time.Time) time.Time {
	if u.Left == 0 {
		return now
	}
	passed := now.Sub(u.Day)
	if u.Used <= 0 || passed <= 0 {
		return time.Time{}
	}
	left := time.Duration(float64(passed) * float64(u.Left+u.Leased) / float64(u.Used))
	if at := now.Add(left); left > 0 && at.Before(message.NextDay(now)) {
		return at
	}
	return time.Time{}
}
