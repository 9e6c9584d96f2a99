package token

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
)

// An account is one account's token in this process.
type account struct {
	Account
	times
	shelf shelf
	pod   string
	log   *slog.Logger

	held    atomic.Pointer[held]
	looking atomic.Bool  // one caller at a time looks at Redis for all
	suspect atomic.Int64 // tokens up to this generation were refused and are being replaced

	mu     sync.Mutex
	flight *flight   // the refresh of this process, at most one
	denied denial    // what the last flight found
	direct time.Time // last call without Redis; the flight's alone
}

// held is a token in memory; a new one with each look.
type held struct {
	token  wechat.Token
	lookAt time.Time // ask Redis again then
	due    time.Time // renew then
}

func (h *held) good(now time.Time) bool { return h != nil && now.Before(h.token.ExpiresAt) }

// A flight is one attempt to get a token, whose end several callers wait for.
type flight struct {
	done chan struct{}
	err  error
}

// A denial spares Redis while it says the same to everybody.
type denial struct {
	err   error
	until time.Time
}

// nobody is what suspect holds while no token is: generations are never negative.
const nobody = -1

func newAccount(c Account, rdb redis.UniversalClient, o Options, t times) *account {
	if c.WeChat == nil || c.Secret.IsZero() {
		panic("token: an account without WeChat or appsecret: " + string(c.AppID))
	}
	if c.RefreshMargin <= 0 {
		c.RefreshMargin = defaultMargin
	}
	if c.ForcedPerDay == 0 {
		c.ForcedPerDay = defaultForced
	}
	if c.ForcedGap <= 0 {
		c.ForcedGap = defaultGap
	}
	seal, err := newSealer(c.AppID, c.Secret)
	if err != nil {
		panic("token: " + err.Error()) // the key lengths are constants
	}
	a := &account{Account: c, times: t, pod: o.Pod, log: o.Log.With("account", string(c.AppID))}
	a.shelf = shelf{rdb, keysOf(c.AppID, seal.name), seal}
	a.suspect.Store(nobody)
	return a
}

// A want is why a token is wanted.
type want struct {
	refused wechat.Token // one that WeChat refused; zero: none was
	ifDue   bool         // there is a token; renew it if its time has come
}

// current returns the token in memory while it is good and nobody doubts it.
func (a *account) current(ctx context.Context) (wechat.Token, error) {
	now := time.Now()
	if h := a.held.Load(); h.good(now) && h.token.Gen > a.suspect.Load() {
		if now.Before(h.lookAt) || !a.looking.CompareAndSwap(false, true) {
			return h.token, nil
		}
		a.look(ctx)
		a.looking.Store(false)
		if h = a.held.Load(); h.good(now) {
			return h.token, nil
		}
	}
	return a.obtain(ctx, want{})
}

func (a *account) replace(ctx context.Context, refused wechat.Token) (wechat.Token, error) {
	if t, ok := a.newer(refused); ok {
		return t, nil
	}
	return a.obtain(ctx, want{refused: refused})
}

// newer returns the token in memory if it is good and not the refused one or older.
func (a *account) newer(refused wechat.Token) (wechat.Token, bool) {
	h := a.held.Load()
	if !h.good(time.Now()) {
		return wechat.Token{}, false
	}
	// Not the generation alone: after a loss of Redis the refused token may come back with a higher one, and
	// while Redis is away nobody counts.
	ok := refused.Value.IsZero() || h.token.Gen >= refused.Gen && !h.token.Value.Equal(refused.Value)
	return h.token, ok
}

// obtain makes a flight or waits for the one under way, until there is a token that will do. Who makes
// the flight ends it even if his context is done: others wait for it, and the lock is his.
func (a *account) obtain(ctx context.Context, w want) (wechat.Token, error) {
	giveUp := time.NewTimer(a.patience)
	defer giveUp.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return wechat.Token{}, err
		}
		f, mine, denied := a.join()
		switch {
		case denied != nil:
			return wechat.Token{}, denied
		case mine:
			f.err = a.refresh(context.WithoutCancel(ctx), w)
			a.land(f)
		default:
			select {
			case <-f.done:
			case <-ctx.Done():
				return wechat.Token{}, ctx.Err()
			case <-giveUp.C:
				return wechat.Token{}, fmt.Errorf("%w: this process is fetching it", ErrBusy)
			}
		}
		if t, ok := a.newer(w.refused); ok {
			return t, nil
		}
		if f.err != nil {
			return wechat.Token{}, f.err
		}
	}
}

func (a *account) join() (f *flight, mine bool, denied error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.flight != nil {
		return a.flight, false, nil
	}
	if time.Now().Before(a.denied.until) {
		return nil, false, a.denied.err
	}
	a.flight = &flight{done: make(chan struct{})}
	return a.flight, true, nil
}

func (a *account) land(f *flight) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flight = nil
	close(f.done)
}

// deny remembers for a moment what Redis remembers for all pods until until.
func (a *account) deny(err error, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if next := time.Now().Add(a.times.look); until.After(next) {
		until = next
	}
	a.denied = denial{err, until}
}

// look takes over what Redis has. A Redis that is away changes nothing: the token in memory is good to
// its end.
func (a *account) look(ctx context.Context) {
	v, err := a.shelf.see(ctx, wish{})
	if err != nil {
		a.log.Debug("token kept from memory", "error", err)
	}
	a.adopt(v)
}

// adopt takes over a stored token, unless the one in memory is newer: Redis may have been rewound.
func (a *account) adopt(v view) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	next := held{v.token, now.Add(a.times.look), v.due}
	if h := a.held.Load(); h.good(now) && (v.token.Value.IsZero() || v.gen < h.token.Gen) {
		next.token, next.due = h.token, h.due
	}
	if !next.token.Value.IsZero() {
		a.held.Store(&next)
	}
}

func (a *account) hold(t wechat.Token, due time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held.Store(&held{t, time.Now().Add(a.times.look), due})
	a.denied = denial{}
}

// keep renews the token before it ends. It gets a first one, but leaves an account that is refused to
// those who ask for its token.
func (a *account) keep(ctx context.Context) {
	_, _ = a.current(ctx) // logged where it failed
	for {
		wait := a.idle
		if h := a.held.Load(); h.good(time.Now()) {
			wait = max(time.Until(h.due), a.times.look)
		}
		if !sleep(ctx, wait) {
			return
		}
		if a.held.Load().good(time.Now()) {
			_, _ = a.obtain(ctx, want{ifDue: true})
		} else {
			a.look(ctx)
		}
	}
}

func (a *account) pause(ctx context.Context) bool {
	return sleep(ctx, a.pollMin+rand.N(a.pollMax-a.pollMin+1))
}

// sleep says whether it slept to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
