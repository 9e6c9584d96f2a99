package app

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/token"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// quota is the rate limiter as the pipeline sees it.
type quota struct{ *ratelimit.Quota }

func (q quota) Take(ctx context.Context, app message.AppID, api string, lane message.Lane, maxWait time.Duration) (pipeline.QuotaToken, error) {
	t, err := q.Quota.Take(ctx, ratelimit.Key{App: app, API: api}, lane, maxWait)
	if refused, ok := errors.AsType[*ratelimit.Refused](err); ok {
		return nil, &pipeline.NoQuota{Until: clock.Of(refused.Until), Reason: refused.Reason}
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

func (q quota) Slow(ctx context.Context, app message.AppID, api string) error {
	return q.Quota.Slow(ctx, ratelimit.Key{App: app, API: api})
}

// tokens is the shared access token as the pipeline sees it: an account that WeChat leaves with a refused token, and
// no forced refresh left, is refused.
type tokens struct{ *token.Source }

func (t tokens) Refresh(ctx context.Context, app message.AppID, refused wechat.Token) (wechat.Token, error) {
	fresh, err := t.Source.Refresh(ctx, app, refused)
	if errors.Is(err, token.ErrStuck) {
		err = &wechat.Error{API: wechat.PathStableToken, Code: wechat.CodeCredential, Msg: err.Error()}
	}
	return fresh, err
}

// gates is the board as the pipeline sees it: it knows what a refusal means for an account, and confirms a spent
// quota before it closes a day.
type gates struct {
	board    *gate.Board
	accounts accounts
	tokens   *token.Source
	quota    *ratelimit.Quota
	log      *slog.Logger

	mu     sync.Mutex
	spent  map[ratelimit.Key]time.Time // until when, as WeChat confirmed it last
	asking map[ratelimit.Key]chan struct{}
}

func (g *gates) Look(ctx context.Context, account, api string, id message.ID, now time.Time) (time.Time, error) {
	shut, open, err := g.board.Look(ctx, account, api, id, now)
	if err != nil || open {
		return time.Time{}, err
	}
	return shut.Opens(now), nil
}

func (g *gates) Broken(ctx context.Context, account, api string, e *wechat.Error) {
	news, err := g.board.Break(ctx, gate.Gate{
		Account: account, API: api, Reason: string(outcome.RefusedAccount), ErrCode: e.Code, Detail: e.Msg, Since: clock.Now(),
	})
	if news { // not for each message
		g.log.Error("WeChat refuses the account; its gate is broken until that is mended",
			"account", account, "api", api, "errcode", e.Code, "errmsg", e.Msg, "rid", e.RID)
	}
	g.note(err)
}

func (g *gates) Rest(ctx context.Context, account, api string, e *wechat.Error, until time.Time) {
	g.note(g.board.Close(ctx, gate.Gate{
		Account: account, API: api, Reason: string(outcome.Pace), ErrCode: e.Code, Detail: e.Msg, Since: clock.Now(), Until: until,
	}))
}

func (g *gates) Passed(ctx context.Context, account, api string) {
	g.note(g.board.Passed(ctx, account, api))
}

func (g *gates) note(err error) {
	if err != nil {
		g.log.Error("write gate", "error", err)
	}
}

// minuteLimit is how long an API rests whose 45009 was not about the day.
const minuteLimit = time.Minute

// QuotaSpent asks WeChat whether the day's quota is used up, once for all who ask at the same time, and closes the
// gate: until the next Beijing midnight, or for a minute where calls are left.
func (g *gates) QuotaSpent(ctx context.Context, name, api string, e *wechat.Error, now time.Time) time.Time {
	a := g.accounts[name]
	k := ratelimit.Key{App: message.AppID(a.AppID), API: api}
	g.mu.Lock()
	if until := g.spent[k]; until.After(now) {
		if _, shut := g.board.At(name, api); shut { // else somebody has opened it: WeChat is asked again, and it closes again
			g.mu.Unlock()
			return until
		}
	}
	if asked, ok := g.asking[k]; ok {
		g.mu.Unlock()
		<-asked
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.spent[k]
	}
	done := make(chan struct{})
	g.asking[k] = done
	g.mu.Unlock()

	until, reason := g.confirm(ctx, a, k, e, now)
	g.note(g.board.Close(ctx, gate.Gate{
		Account: name, API: api, Reason: string(reason), ErrCode: e.Code, Detail: e.Msg, Since: now, Until: until,
	}))
	g.mu.Lock()
	defer g.mu.Unlock()
	g.spent[k] = until
	delete(g.asking, k)
	close(done)
	return until
}

func (g *gates) confirm(ctx context.Context, a *account, k ratelimit.Key, e *wechat.Error, now time.Time) (time.Time, outcome.Reason) {
	midnight := message.NextDay(now).Add(5*time.Second + rand.N(time.Minute))
	if e.Code == wechat.CodeNoMassQuota { // not counted in calls: quota/get knows nothing of it
		return midnight, outcome.Quota
	}
	mark, unmarked := g.quota.Mark(ctx, k)
	g.note(unmarked)
	t, err := g.tokens.Token(ctx, k.App)
	if err == nil {
		var answer wechat.Quota
		if answer, err = a.client.QuotaGet(ctx, t, k.API); err == nil {
			if unmarked == nil {
				g.note(g.quota.Sync(ctx, k, mark, g.accounts.dayLimit(k, answer), answer.Used))
			}
			if answer.Remain <= 0 {
				return midnight, outcome.Quota
			}
		}
	}
	if err != nil {
		g.log.Warn("confirm spent quota", "account", a.Name, "api", k.API, "error", err)
	}
	return now.Add(minuteLimit), outcome.Pace
}

func newGates(b *gate.Board, all accounts, tokens *token.Source, q *ratelimit.Quota, log *slog.Logger) *gates {
	return &gates{
		board: b, accounts: all, tokens: tokens, quota: q, log: log,
		spent: map[ratelimit.Key]time.Time{}, asking: map[ratelimit.Key]chan struct{}{},
	}
}
