package tasks

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Sight is what Redis shows of a parcel.
type Sight struct {
	State  string    // asynq's word: pending, active, scheduled, retry, archived or completed; empty: it is not there
	Next   time.Time // scheduled, retry: when it goes on
	Queued int64     // parcels that wait in its queue, itself among them if it is pending
}

// See looks at one parcel and its queue, for people to read.
func (l *Lookup) See(ctx context.Context, p Place) (Sight, error) {
	var state *redis.StringCmd
	var queued *redis.IntCmd
	next := map[string]*redis.FloatCmd{}
	_, err := l.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		state, queued = pipe.HGet(ctx, p.task(), "state"), pipe.LLen(ctx, p.key("pending"))
		for _, of := range []string{"scheduled", "retry"} {
			next[of] = pipe.ZScore(ctx, p.key(of), p.ID.String())
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return Sight{}, fmt.Errorf("look up a parcel: %w", err)
	}
	if err := queued.Err(); err != nil { // the first error may be that of an absent parcel
		return Sight{}, fmt.Errorf("look up a parcel: %w", err)
	}
	s := Sight{State: state.Val(), Queued: queued.Val()}
	if at, waits := next[s.State]; waits && at.Err() == nil {
		s.Next = time.Unix(int64(at.Val()), 0)
	}
	return s, nil
}
