package window

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/message"
)

// States says of many users of an account what Reserve would answer now, in one round trip, and takes nothing. heard is
// what is kept of them elsewhere: it counts beside what is in the ledger, which may have been lost.
func (l *Ledger) States(ctx context.Context, app message.AppID, users []message.OpenID, heard []Note, now time.Time) ([]State, error) {
	found := make([]*redis.MapStringStringCmd, len(users))
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, user := range users {
			found[i] = p.HGetAll(ctx, key(app, user))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at %d windows: %w", len(users), err)
	}
	records := make([]*record, len(users))
	of := make(map[message.OpenID]*record, len(users))
	for i, user := range users {
		if records[i], err = recordOf(found[i].Val()); err != nil {
			return nil, fmt.Errorf("look at window: %w", err)
		}
		of[user] = records[i]
	}
	for _, n := range heard {
		if r := of[n.OpenID]; r != nil {
			r.hear(n.Trigger, dated(n.At, now))
		}
	}
	ts, states := l.rules(app).terms(), make([]State, len(users))
	for i, r := range records {
		states[i] = r.view(now.Unix(), ts).State
	}
	return states, nil
}

// hear notes an event, as Redis does by raise.lua.
func (r *record) hear(t Trigger, at int64) {
	if t == "" {
		r.unsubscribed = max(r.unsubscribed, at)
	} else if i := t.place(); i >= 0 {
		r.events[i] = max(r.events[i], at)
	}
}
