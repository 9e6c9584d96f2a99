package wechattest

import (
	"sync"
	"sync/atomic"
	"time"
)

// A token is one access_token that was given out. Its value and account never change.
type token struct {
	value   string
	account *Account
	expires atomic.Int64 // 42001 from then on, in nanoseconds
	dead    atomic.Int64 // superseded: 40001 from then on; 0 while it is not
	broken  atomic.Bool  // 40001, though the token calls still give it out
}

func (t *token) at(now time.Time) *refusal {
	n := now.UnixNano()
	switch dead := t.dead.Load(); {
	case t.broken.Load(), dead != 0 && n >= dead:
		return refuse(badCredential)
	case n >= t.expires.Load():
		return refuse(tokenExpired)
	default:
		return nil
	}
}

func (t *token) left(now time.Time) time.Duration {
	return time.Duration(t.expires.Load() - now.UnixNano())
}

// die makes the token invalid at the time at, if it is not so earlier.
func (t *token) die(at time.Time) {
	if t == nil {
		return
	}
	if d := t.dead.Load(); d == 0 || d > at.UnixNano() {
		t.dead.Store(at.UnixNano())
	}
}

// tokens are an account's tokens. Those of the two token calls live apart.
type tokens struct {
	mu                 sync.Mutex
	stable, oldStable  *token
	legacy, oldLegacy  *token
	generation         int64
	forced             time.Time // the last forced refresh that did something
	forcedOn           day
	forcedToday        int
	renewed, renewedBy int64 // how many tokens were made: by stable_token, of them forced
}

// giveLegacy is GET /cgi-bin/token: always a new token; the one before lives on for 5 minutes, older ones
// die at once (/doc/service/api/base/api_getaccesstoken).
func (ts *tokens) giveLegacy(a *Account, now time.Time) *token {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.oldLegacy.die(now)
	ts.legacy.die(now.Add(tokenOverlap))
	ts.oldLegacy, ts.legacy = ts.legacy, ts.issue(a, now)
	return ts.legacy
}

// giveStable is POST /cgi-bin/stable_token (/doc/service/api/base/api_getstableaccesstoken). Normal mode
// gives the same token until its last 5 minutes; the old one then lives to its own end. Forced mode kills
// the old one at once, at most every 30 s and 20 times a day.
func (ts *tokens) giveStable(a *Account, force bool, now time.Time) (*token, *refusal) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if force && now.Sub(ts.forced) >= forceGap {
		if d := dayOf(now); d != ts.forcedOn {
			ts.forcedOn, ts.forcedToday = d, 0
		}
		if ts.forcedToday >= forcesPerDay {
			return nil, refuse(dayQuotaReached)
		}
		ts.forcedToday++
		ts.renewedBy++
		ts.forced = now
		ts.replace(a, now)
		return ts.stable, nil
	}
	switch {
	case ts.stable == nil || ts.stable.left(now) <= 0:
		ts.stable = ts.issue(a, now)
		ts.renewed++
	case ts.stable.left(now) < tokenOverlap:
		ts.oldStable, ts.stable = ts.stable, ts.issue(a, now)
		ts.renewed++
	}
	return ts.stable, nil
}

// replace kills the stable tokens and makes a new one.
func (ts *tokens) replace(a *Account, now time.Time) {
	ts.oldStable.die(now)
	ts.stable.die(now)
	ts.oldStable, ts.stable = nil, ts.issue(a, now)
	ts.renewed++
}

func (ts *tokens) issue(a *Account, now time.Time) *token {
	ts.generation++
	t := &token{value: a.sim.newTokenValue(ts.generation), account: a}
	t.expires.Store(now.Add(tokenLife).UnixNano())
	a.sim.tokens.Store(t.value, t)
	return t
}

// Token gives a valid access token without a call, for tests that are not about tokens.
func (a *Account) Token() string {
	t, r := a.tokens.giveStable(a, false, a.sim.Clock.Now())
	if r != nil {
		return ""
	}
	return t.value
}

// ExpireTokens ends the life of every current token of the account now: calls answer 42001 and the next
// token call gives a new one.
func (a *Account) ExpireTokens() {
	ts, now := &a.tokens, a.sim.Clock.Now().UnixNano()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range []*token{ts.stable, ts.oldStable, ts.legacy, ts.oldLegacy} {
		if t != nil && t.expires.Load() > now {
			t.expires.Store(now)
		}
	}
}

// KickTokens is what a stranger's forced refresh and new legacy token do: the tokens of the account answer
// 40001 at once, and normal mode gives the stranger's new one.
func (a *Account) KickTokens() {
	ts, now := &a.tokens, a.sim.Clock.Now()
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.replace(a, now)
	ts.oldLegacy.die(now)
	ts.legacy.die(now)
	ts.oldLegacy, ts.legacy = nil, ts.issue(a, now)
}

// BreakToken makes the current stable token answer 40001, while normal mode goes on giving it out: only a
// forced refresh helps.
func (a *Account) BreakToken() {
	ts := &a.tokens
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.stable != nil {
		ts.stable.broken.Store(true)
	}
}

// TokenCounts says how many stable tokens were made, and how many of them by force.
func (a *Account) TokenCounts() (made, forced int64) {
	a.tokens.mu.Lock()
	defer a.tokens.mu.Unlock()
	return a.tokens.renewed, a.tokens.renewedBy
}
