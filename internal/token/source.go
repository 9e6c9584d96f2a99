package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

var (
	// ErrBusy says that there is no token just now, and no reason to blame the account: somebody else
	// fetches one and takes long, WeChat or Redis is away. Try again later.
	ErrBusy = errors.New("no access token yet")
	// ErrStuck says that WeChat gives back the very token that it refuses, and that today's forced
	// refreshes are spent. The account needs a person.
	ErrStuck = errors.New("WeChat gives back the access token that it refused, and no forced refresh is left today")
	// ErrUnknownAccount says that the configuration has no such account.
	ErrUnknownAccount = errors.New("no such account")
)

// WeChat gives tokens; *wechat.Client does.
type WeChat interface {
	StableToken(ctx context.Context, app message.AppID, secret wechat.Secret, force bool) (wechat.Grant, error)
	LegacyToken(ctx context.Context, app message.AppID, secret wechat.Secret) (wechat.Grant, error)
}

// An Account is one whose token is kept.
type Account struct {
	AppID         message.AppID
	Secret        wechat.Secret
	WeChat        WeChat
	Legacy        bool          // use /cgi-bin/token instead of stable_token
	RefreshMargin time.Duration // renew this long before the end, or up to 30 s later. Default 270 s
	ForcedPerDay  int           // default 10, of WeChat's 20; negative: none
	ForcedGap     time.Duration // default 30 s
}

// Options shape a Source.
type Options struct {
	Pod      string // name of this process, for the lock and the log
	Accounts []Account
	Log      *slog.Logger // none by default
}

// A Source gives the tokens of its accounts. It is safe for concurrent use.
type Source struct {
	accounts map[message.AppID]*account
}

// The times of the refresh; a test makes them shorter.
type times struct {
	lock      time.Duration // life of the lock: longer than fetch
	fetch     time.Duration // of WeChat's calls and the write together
	patience  time.Duration // of a caller whose token somebody else fetches
	pollMin   time.Duration
	pollMax   time.Duration
	look      time.Duration // between two looks at Redis
	refused   time.Duration // between two calls that WeChat refuses: at most 3 a minute over all pods
	refusedTo time.Duration // at most, where WeChat says how long
	failed    time.Duration // between two calls that get no answer
	direct    time.Duration // between two calls of a pod that has no Redis
	idle      time.Duration // between two looks of Run at an account that has no token
}

var defaultTimes = times{
	lock: 10 * time.Second, fetch: 9 * time.Second, patience: 3 * time.Second,
	pollMin: 50 * time.Millisecond, pollMax: 250 * time.Millisecond, look: time.Second,
	refused: 20 * time.Second, refusedTo: 10 * time.Minute, failed: 5 * time.Second, direct: 30 * time.Second,
	idle: 30 * time.Second,
}

const (
	safety        = time.Minute      // a token is given up so long before its end
	renewJitter   = 30 * time.Second // pods of one account renew together, accounts do not
	defaultMargin = 270 * time.Second
	defaultForced = 10
	defaultGap    = 30 * time.Second
)

// New returns a Source over rdb. It panics on an account without WeChat or appsecret: the
// configuration checks them before.
func New(rdb redis.UniversalClient, o Options) *Source { return newSource(rdb, o, defaultTimes) }

func newSource(rdb redis.UniversalClient, o Options, t times) *Source {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{accounts: map[message.AppID]*account{}}
	for _, a := range o.Accounts {
		s.accounts[a.AppID] = newAccount(a, rdb, o, t)
	}
	return s
}

// Token is the account's token. It mostly reads memory; where there is no token it has one fetched, or
// waits up to 3 s for whoever fetches it. The error is a *[wechat.Error] where WeChat refuses the
// account, else wraps one of this package's.
func (s *Source) Token(ctx context.Context, app message.AppID) (wechat.Token, error) {
	a, ok := s.accounts[app]
	if !ok {
		return wechat.Token{}, fmt.Errorf("%w: %s", ErrUnknownAccount, app)
	}
	return a.current(ctx)
}

// Refresh replaces a token that WeChat refused, and does nothing but return the newer one where another
// caller did so already. Whoever is refused with that one too must not come again: it is the account's
// trouble then, not the token's. Errors are those of Token.
func (s *Source) Refresh(ctx context.Context, app message.AppID, refused wechat.Token) (wechat.Token, error) {
	a, ok := s.accounts[app]
	if !ok {
		return wechat.Token{}, fmt.Errorf("%w: %s", ErrUnknownAccount, app)
	}
	return a.replace(ctx, refused)
}

// A Standing is how an account's token stands in this process.
type Standing struct {
	Made time.Time     // by Redis' clock; zero: not known
	Left time.Duration // until it ends; 0: there is none
}

// firstMillis tells the milliseconds of a clock from a number that a process without Redis counted by itself: a generation
// is not below the clock when it is stored, see store.lua.
const firstMillis = 1e12

// Standing asks nobody.
func (s *Source) Standing(app message.AppID, now time.Time) Standing {
	a, ok := s.accounts[app]
	if !ok {
		return Standing{}
	}
	h := a.held.Load()
	if !h.good(now) {
		return Standing{}
	}
	st := Standing{Left: h.token.ExpiresAt.Sub(now)}
	if h.token.Gen > firstMillis {
		st.Made = time.UnixMilli(h.token.Gen)
	}
	return st
}

// Run renews tokens before they end, until ctx is done. Without it they are renewed when they have ended.
func (s *Source) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, a := range s.accounts { // each alone: the trouble of one is no other's
		all.Go(func() { a.keep(ctx) })
	}
	all.Wait()
	return nil
}
