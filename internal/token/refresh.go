package token

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
)

// refresh sees to it that memory holds a token as wanted: one that another pod fetched, or one fetched
// under the lock. While another pod has the lock it looks again and again, for as long as patience lasts.
func (a *account) refresh(ctx context.Context, w want) error {
	if !w.refused.Value.IsZero() {
		a.suspect.Store(w.refused.Gen)
		defer a.suspect.Store(nobody)
	}
	wish := wish{owner: a.pod + "/" + rand.Text(), beyond: w.refused.Gen, ifDue: w.ifDue, lockFor: a.times.lock}
	if w.ifDue {
		wish.beyond = math.MaxInt32 << 20 // above every generation, and exact in Lua
	}
	for end := time.Now().Add(a.patience); ; {
		v, err := a.shelf.see(ctx, wish)
		if err != nil {
			return a.withoutRedis(ctx, w, err)
		}
		a.adopt(v)
		if v.locked {
			return a.fetch(ctx, w, v, wish.owner)
		}
		if _, ok := a.newer(w.refused); ok && (!w.ifDue || time.Now().Before(v.due)) {
			return nil
		}
		switch {
		case v.refusal != "":
			err := decode(v.refusal)
			a.deny(err, v.refusedTo)
			return err
		case v.gen > wish.beyond && v.token.Value.Equal(w.refused.Value):
			wish.beyond = v.gen // what lies there is the refused one again, or does not open
			continue
		case time.Now().After(end) || !a.pause(ctx):
			return fmt.Errorf("%w: another pod is fetching it", ErrBusy)
		}
	}
}

// fetch asks WeChat and stores the answer; the lock is ours for a while.
func (a *account) fetch(ctx context.Context, w want, v view, owner string) error {
	ctx, cancel := context.WithTimeout(ctx, a.times.fetch)
	defer cancel()
	start := time.Now() // WeChat counts from within the call
	g, err := a.ask(ctx)
	forced := false
	if err == nil && !w.refused.Value.IsZero() && g.Token.Equal(w.refused.Value) {
		forced, start = true, time.Now()
		g, err = a.askByForce(ctx, w.refused)
	}
	if err != nil {
		return a.fail(ctx, err, owner)
	}
	token, due := a.plan(g, start)
	gen, err := a.shelf.store(ctx, entry{
		owner: owner, read: v.gen, token: g.Token, lives: time.Until(token.ExpiresAt), due: time.Until(due),
		beyond: w.refused.Gen, same: v.token.Value.Equal(g.Token) && !v.token.Value.IsZero(),
	})
	switch {
	case err != nil: // Redis went away meanwhile: the token is good all the same, for this pod
		token.Gen = max(v.gen, w.refused.Gen)
		a.hold(token, due)
		a.log.Warn("token not shared", "error", err)
		return nil
	case gen == 0:
		return a.outrun(ctx, w)
	}
	token.Gen = gen
	a.hold(token, due)
	a.log.Info("token refreshed", "pod", a.pod, "generation", gen, "forced", forced, "expires_in", g.ExpiresIn.String())
	return nil
}

// outrun is for a pod that took so long that the lock went to another: what that one wrote counts.
func (a *account) outrun(ctx context.Context, w want) error {
	a.look(ctx)
	if _, ok := a.newer(w.refused); ok {
		return nil
	}
	return fmt.Errorf("%w: fetched too late to be kept", ErrBusy)
}

func (a *account) ask(ctx context.Context) (wechat.Grant, error) {
	if a.Legacy {
		return a.WeChat.LegacyToken(ctx, a.AppID, a.Secret)
	}
	return a.WeChat.StableToken(ctx, a.AppID, a.Secret, false)
}

// askByForce is for a token that WeChat refuses and gives out again.
func (a *account) askByForce(ctx context.Context, refused wechat.Token) (wechat.Grant, error) {
	if a.Legacy {
		return wechat.Grant{}, errors.New("a new token is the refused one")
	}
	switch n, err := a.shelf.force(ctx, a.ForcedPerDay, a.ForcedGap); {
	case err != nil:
		return wechat.Grant{}, err
	case n == forceTooSoon:
		return wechat.Grant{}, errors.New("it is too soon for another forced refresh")
	case n == forceSpent:
		return wechat.Grant{}, ErrStuck
	}
	g, err := a.WeChat.StableToken(ctx, a.AppID, a.Secret, true)
	if err == nil && g.Token.Equal(refused.Value) {
		err = errors.New("WeChat did not refresh by force")
	}
	return g, err
}

// plan says how long a token is used and when it is renewed. Every time counts from the start of the
// call; tokens of a short life are used for half of it.
func (a *account) plan(g wechat.Grant, start time.Time) (t wechat.Token, due time.Time) {
	end := start.Add(g.ExpiresIn)
	due = end.Add(mathrand.N(renewJitter) - a.RefreshMargin)
	if g.ExpiresIn <= a.RefreshMargin {
		due = start.Add(g.ExpiresIn / 4)
	}
	return wechat.Token{Value: g.Token, ExpiresAt: end.Add(-min(safety, g.ExpiresIn/2))}, due
}

// withoutRedis asks WeChat directly, now and then: in normal mode that harms no other pod. With the
// older call it would.
func (a *account) withoutRedis(ctx context.Context, w want, cause error) error {
	now := time.Now()
	if a.Legacy || w.ifDue || !a.direct.IsZero() && now.Sub(a.direct) < a.times.direct {
		return fmt.Errorf("%w: %w", ErrBusy, cause)
	}
	a.direct = now
	ctx, cancel := context.WithTimeout(ctx, a.times.fetch)
	defer cancel()
	g, err := a.ask(ctx)
	if err != nil {
		_, err = a.judge(err)
		a.log.Warn("token not refreshed", "error", err)
		return err
	}
	if g.Token.Equal(w.refused.Value) && !g.Token.IsZero() {
		return fmt.Errorf("%w: WeChat gives the refused one, and force needs Redis: %w", ErrBusy, cause)
	}
	t, due := a.plan(g, now)
	if t.Gen = w.refused.Gen; a.held.Load() != nil {
		t.Gen = max(t.Gen, a.held.Load().token.Gen)
	}
	a.hold(t, due)
	a.log.Warn("token fetched without Redis", "pod", a.pod, "error", cause)
	return nil
}

// fail makes of a failed call what the caller gets, and what all pods get for a while.
func (a *account) fail(ctx context.Context, cause error, owner string) error {
	pause, err := a.judge(cause)
	a.log.Warn("token not refreshed", "pod", a.pod, "error", err)
	if storing := a.shelf.refuse(context.WithoutCancel(ctx), owner, encode(err), pause); storing != nil {
		a.log.Warn("refusal not shared", "error", storing)
	}
	a.deny(err, time.Now().Add(pause))
	return err
}

// judge tells what blames the account from what passes.
func (a *account) judge(cause error) (pause time.Duration, judged error) {
	if errors.Is(cause, ErrStuck) {
		return a.refused, ErrStuck
	}
	if e, ok := errors.AsType[*wechat.Error](cause); ok {
		switch e.Disposition() {
		case wechat.Backoff, wechat.UnknownCode:
		default:
			return min(max(e.RetryAfter(), a.refused), a.refusedTo), e
		}
	}
	// %v: who asks for a *wechat.Error must not find one that only says busy.
	return a.failed, fmt.Errorf("%w: %v", ErrBusy, cause) //nolint:errorlint // see above
}

// A refusal is an error as Redis keeps it.
type refusal struct {
	Stuck bool   `json:"stuck,omitempty"`
	Busy  string `json:"busy,omitempty"`
	API   string `json:"api,omitempty"`
	Code  int    `json:"code,omitempty"`
	Msg   string `json:"msg,omitempty"`
	RID   string `json:"rid,omitempty"`
}

func encode(err error) string {
	var r refusal
	if e, ok := errors.AsType[*wechat.Error](err); ok {
		r = refusal{API: e.API, Code: e.Code, Msg: e.Msg, RID: e.RID}
	} else if r.Stuck = errors.Is(err, ErrStuck); !r.Stuck {
		r.Busy = err.Error()
	}
	text, _ := json.Marshal(r) // plain strings never fail
	return string(text)
}

func decode(text string) error {
	var r refusal
	switch err := json.Unmarshal([]byte(text), &r); {
	case err != nil:
		return fmt.Errorf("%w: the last call failed", ErrBusy)
	case r.Stuck:
		return ErrStuck
	case r.Code != 0:
		return &wechat.Error{API: r.API, Code: r.Code, Msg: r.Msg, RID: r.RID}
	default:
		return fmt.Errorf("%w%s", ErrBusy, trimBusy(r.Busy))
	}
}

// trimBusy takes off what ErrBusy says already.
func trimBusy(text string) string {
	if rest := len(ErrBusy.Error()); len(text) > rest && text[:rest] == ErrBusy.Error() {
		return text[rest:]
	}
	return ": " + text
}
