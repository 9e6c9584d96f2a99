package window

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Careful is the ledger for those who can make a record again: it takes nothing from one that may have lost something, and
// says so ([Verdict].Lost). That is any record where Redis has started again, and perhaps gone back to an earlier
// moment, or where Redis is younger than the longest allowance, for it was lost or is new; until the record was made again.
func (l *Ledger) Careful() *Ledger {
	careful := *l
	careful.careful = true
	return &careful
}

// An Answer is a message of ours that reached the user, or may have.
type Answer struct {
	ID message.ID
	At time.Time
}

// Restore makes the user's record again from what is kept elsewhere, as of the start of Redis that [Verdict].Lost told.
// It must be read after Lost was told. Of several readings the answers of the first count, and none of a reading for an
// earlier start; what the user did counts from any, and what is in the ledger already stays.
func (l *Ledger) Restore(ctx context.Context, app message.AppID, openid message.OpenID, lost string, heard []Note, answers []Answer, now time.Time) error {
	args := []any{lost, l.lives(app), len(heard)}
	for _, n := range heard {
		field, err := n.field()
		if err != nil {
			return fmt.Errorf("restore window: %w", err)
		}
		args = append(args, field, dated(n.At, now))
	}
	for _, a := range answers {
		args = append(args, a.ID[:], a.At.Unix())
	}
	if err := restoreScript.Run(ctx, l.rdb, []string{key(app, openid), restoredKey(app, openid)}, args...).Err(); err != nil {
		return fmt.Errorf("restore window: %w", err)
	}
	return nil
}

// Longest is how far back a user's actions and our answers count.
func (l *Ledger) Longest(app message.AppID) time.Duration {
	return time.Duration(l.rules(app).terms().longest()) * time.Second
}

// startKey holds the start of Redis since which nothing of the account's was lost, and when that was first seen.
func startKey(app message.AppID) string { return "hongyan:window:{" + string(app) + "}:start" }

// restoredKey holds the start of Redis since which the user's record was made again.
func restoredKey(app message.AppID, openid message.OpenID) string {
	return key(app, openid) + ":restored"
}
