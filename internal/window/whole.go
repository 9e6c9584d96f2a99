package window

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Whole says whether all that counts of the user is in the ledger. It is not where Redis is younger than the longest
// allowance, for it was lost or is new, and the user's record was not made again since; see [Ledger.Restore].
func (l *Ledger) Whole(ctx context.Context, app message.AppID, openid message.OpenID, now time.Time) (bool, error) {
	var began *redis.StringCmd
	var restored *redis.IntCmd
	_, err := l.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.SetNX(ctx, sinceKey(app), now.Unix(), 0) // after a loss, a new age begins with the first who asks
		began = p.Get(ctx, sinceKey(app))
		restored = p.Exists(ctx, restoredKey(app, openid))
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("look whether the window's ledger is whole: %w", err)
	}
	since, err := began.Int64()
	if err != nil {
		return false, fmt.Errorf("read the age of the window's ledger: %w", err)
	}
	return restored.Val() > 0 || now.Unix()-since >= l.lives(app), nil
}

// An Answer is a message of ours that reached the user, or may have.
type Answer struct {
	ID message.ID
	At time.Time
}

// Restore makes the user's record again from what is kept elsewhere. What is in the ledger already stays.
func (l *Ledger) Restore(ctx context.Context, app message.AppID, openid message.OpenID, heard []Note, answers []Answer, now time.Time) error {
	var err error
	if len(heard) > 0 {
		err = l.Heard(ctx, heard, now)
	}
	for _, a := range answers {
		err = errors.Join(err, l.Confirm(ctx, app, openid, a.ID, a.At))
	}
	if err != nil {
		return err
	}
	if err := l.rdb.Set(ctx, restoredKey(app, openid), 1, time.Duration(l.lives(app))*time.Second).Err(); err != nil {
		return fmt.Errorf("restore window: %w", err)
	}
	return nil
}

// Longest is how far back a user's actions and our answers count.
func (l *Ledger) Longest(app message.AppID) time.Duration {
	return time.Duration(l.rules(app).terms().longest()) * time.Second
}

// sinceKey holds since when nothing of the account's was lost.
func sinceKey(app message.AppID) string { return "hongyan:window:{" + string(app) + "}:since" }

func restoredKey(app message.AppID, openid message.OpenID) string {
	return key(app, openid) + ":restored"
}
