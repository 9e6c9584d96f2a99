package app

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/worker"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// dedupeFor is how long the same content goes to a user once.
const dedupeFor = 24 * time.Hour

// sparing leaves out who has had enough, or has this content already. What a user got stands in the ledger; a hold on
// the user keeps campaigns that reach for the same one at the same time from both counting before either has sent. One
// that is in another's hands is left to the next run.
//
// The answer gives the holds back; it is called when the run has ended.
func (c *chunks) sparing(ctx context.Context, spec *campaign.Spec, letters []worker.Letter, now time.Time) (release func(), err error) {
	app := message.AppID(c.accounts[spec.Account].AppID)
	held, err := c.users.hold(ctx, app, letters)
	if err != nil {
		return nil, err
	}
	release = func() { c.users.release(context.WithoutCancel(ctx), app, letters) }
	users := make([]message.OpenID, 0, len(letters))
	for i := range letters {
		letters[i].Later = !held[i]
		users = append(users, letters[i].To)
	}
	since := spec.Cap.Since(now)
	if dedupe := now.Add(-dedupeFor); spec.Dedupe && dedupe.Before(since) {
		since = dedupe
	}
	got, err := c.store.CampaignSends(ctx, spec.Account, users, since, spec.Dedupe)
	if err != nil {
		release()
		return nil, err
	}
	spare(spec, letters, got, now)
	return release, nil
}

// spare marks the letters that are not to be sent. It is the rule, without any store.
func spare(spec *campaign.Spec, letters []worker.Letter, got []postgres.CampaignSend, now time.Time) {
	type content struct {
		to   message.OpenID
		text string
	}
	count, seen := map[message.OpenID]int{}, map[content]bool{}
	for _, s := range got {
		if !s.At.Before(spec.Cap.Since(now)) {
			count[s.To]++
		}
		if !s.At.Before(now.Add(-dedupeFor)) {
			seen[content{s.To, s.Content}] = true
		}
	}
	for i := range letters {
		l := &letters[i]
		switch {
		case spec.Cap.Messages > 0 && count[l.To] >= spec.Cap.Messages:
			l.Skip = outcome.Outcome{Status: outcome.Skipped, Reason: outcome.FrequencyCap}
		case spec.Dedupe && seen[content{l.To, string(l.Body)}]:
			l.Skip = outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Duplicate}
		}
	}
}

// holdUser is longer than any run of a chunk.
const holdUser = time.Minute

// users are holds on users, in Redis. They lapse by themselves.
type users struct{ rdb redis.UniversalClient }

// key hides the openid: two users who share it wait for each other, and that is all.
func (users) key(app message.AppID, to message.OpenID) string {
	return "hongyan:user:{" + string(app) + "}:" + strconv.FormatUint(xxhash.Sum64String(string(to)), 36)
}

// hold takes the letters' users, each for its message, and says which it got. A message that holds its user already,
// from a run that was lost, has it still.
func (u users) hold(ctx context.Context, app message.AppID, letters []worker.Letter) ([]bool, error) {
	holders := make([]*redis.StringCmd, len(letters))
	_, _ = u.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error { // each command has its own error
		for i, l := range letters {
			pipe.SetArgs(ctx, u.key(app, l.To), l.ID.Hex(), redis.SetArgs{Mode: "NX", TTL: holdUser})
			holders[i] = pipe.Get(ctx, u.key(app, l.To))
		}
		return nil
	})
	held := make([]bool, len(letters))
	for i, l := range letters {
		holder, err := holders[i].Result()
		if err != nil {
			return nil, fmt.Errorf("hold users: %w", err)
		}
		held[i] = holder == l.ID.Hex()
	}
	return held, nil
}

// letGo removes a hold that is still ours. KEYS: the user. ARGV: the message.
var letGo = redis.NewScript(`if redis.call("GET", KEYS[1]) == ARGV[1] then return redis.call("DEL", KEYS[1]) end return 0`)

func (u users) release(ctx context.Context, app message.AppID, letters []worker.Letter) {
	_, _ = u.rdb.Pipelined(ctx, func(pipe redis.Pipeliner) error { // what stays lapses
		for _, l := range letters {
			if !l.Later {
				letGo.Eval(ctx, pipe, []string{u.key(app, l.To)}, l.ID.Hex())
			}
		}
		return nil
	})
}
