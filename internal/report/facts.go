package report

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// An Account is what a report must know of an account's configuration.
type Account struct {
	AppID      message.AppID
	Limits     func(api string) ratelimit.Limits
	Window     window.Rules
	TryUnknown bool    // users of whom nothing is known are tried while the account is young
	UrgentDay  float64 // share of the day that only urgent messages get
	Mass       client.MassCaps
}

// A Source is what reports are made of.
type Source struct {
	Store    *postgres.Store
	Redis    redis.UniversalClient // nil: NoRedis says why it is not asked
	NoRedis  string
	Account  func(name string) (Account, bool)
	Accounts bool // there are configured accounts; one that is not among them is foreign

	NoAnswer func(error) // is told why Redis gave none, for a log: people are told it in our words. nil: nobody is
}

// facts are what is known of a message and of all that may hold it.
type facts struct {
	status  postgres.Status
	around  postgres.Around
	gates   []Gate   // shut ones that stand before it
	account *Account // nil: not in this configuration
	foreign bool     // which has others

	noRedis string // why Redis was not asked, or gave no answer
	sight   *tasks.Sight
	window  *window.View
	usage   *ratelimit.Usage
}

// patience is how long Redis may take to answer.
const patience = 5 * time.Second

// Message says how a message stands. The error wraps [postgres.ErrNotFound] where there is none.
func (s Source) Message(ctx context.Context, id message.ID) (Message, error) {
	st, err := s.Store.Status(ctx, id)
	if err != nil {
		return Message{}, err
	}
	return MessageOf(st), nil
}

// Explain asks the ledger, and Redis as far as it answers: that it does not is a fact as well. The error wraps
// [postgres.ErrNotFound] where there is no such message.
func (s Source) Explain(ctx context.Context, id message.ID) (Explanation, error) {
	f, err := s.facts(ctx, id)
	if err != nil {
		return Explanation{}, err
	}
	return explain(f), nil
}

func (s Source) facts(ctx context.Context, id message.ID) (f facts, err error) {
	if f.status, err = s.Store.Status(ctx, id); err != nil {
		return f, err
	}
	if f.around, err = s.Store.Around(ctx, f.status); err != nil {
		return f, err
	}
	all, err := Shut(ctx, s.Store)
	if err != nil {
		return f, err
	}
	m := f.status.Message
	for _, g := range all {
		if g.Account == m.Account && (g.API == "" || g.API == wechat.PathOf(m.Kind)) {
			f.gates = append(f.gates, g)
		}
	}
	a, known := s.Account(m.Account)
	if known {
		f.account = &a
	}
	f.foreign = !known && s.Accounts
	if f.status.State.Terminal() {
		return f, nil
	}
	if s.Redis == nil {
		f.noRedis = s.NoRedis
		return f, nil
	}
	f.redis(ctx, s.Redis, s.NoAnswer)
	return f, nil
}

// redis asks Redis, and notes what remains unknown where it does not answer.
func (f *facts) redis(ctx context.Context, rdb redis.UniversalClient, noAnswer func(error)) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := f.askRedis(ctx, rdb)
	if err == nil {
		return
	}
	f.noRedis = fmt.Sprintf("not known is %s: Redis %s", f.unseen(), silence(err))
	if noAnswer != nil {
		noAnswer(err)
	}
}

// unseen is what Redis was to tell and did not.
func (f *facts) unseen() string {
	var all []string
	m := f.status.Message
	if f.status.State == outcome.Accepted && f.sight == nil {
		all = append(all, "whether a queue has it")
	}
	if f.account != nil && m.Kind == message.Custom && f.window == nil {
		all = append(all, "whether the user may be answered")
	}
	if f.account != nil && f.usage == nil {
		all = append(all, "what is left of the day's calls")
	}
	return strings.Join(all, ", ")
}

// silence says why Redis told nothing, without its address and its own words, which may quote more than is anybody's business.
func silence(err error) string {
	var refused redis.Error
	var wire net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &wire) && wire.Timeout():
		return fmt.Sprintf("did not answer within %v", patience)
	case errors.As(err, &refused):
		if code, _, _ := strings.Cut(refused.Error(), " "); errorCode.MatchString(code) {
			return "refuses to answer (" + code + ")"
		}
		return "refuses to answer"
	}
	return "cannot be reached"
}

// errorCode is the first word of an error of Redis's, such as LOADING or NOAUTH.
var errorCode = regexp.MustCompile(`^[A-Z]{3,20}$`)

func (f *facts) askRedis(ctx context.Context, rdb redis.UniversalClient) error {
	m := f.status.Message
	if f.status.State == outcome.Accepted {
		seen, err := tasks.NewLookup(rdb).See(ctx, tasks.Place{Queue: tasks.QueueOf(m.Kind, m.Lane, m.Account), ID: f.status.Parcel})
		if err != nil {
			return err
		}
		f.sight = &seen
	}
	if f.account == nil {
		return nil
	}
	if m.Kind == message.Custom {
		view, err := look(ctx, rdb, *f.account, m.To, f.around.Now)
		if err != nil {
			return err
		}
		f.window = &view
	}
	usage, err := usage(ctx, rdb, *f.account, wechat.PathOf(m.Kind))
	if err != nil {
		return err
	}
	f.usage = &usage
	return nil
}

// look reads a user's window.
func look(ctx context.Context, rdb redis.UniversalClient, a Account, user message.OpenID, now time.Time) (window.View, error) {
	return window.New(rdb, func(message.AppID) window.Rules { return a.Window }).Look(ctx, a.AppID, user, now)
}

// usage reads the day of one API.
func usage(ctx context.Context, rdb redis.UniversalClient, a Account, api string) (ratelimit.Usage, error) {
	quota := ratelimit.New(rdb, "report", func(k ratelimit.Key) ratelimit.Limits { return a.Limits(k.API) })
	u, err := quota.Usage(ctx, ratelimit.Key{App: a.AppID, API: api})
	if err != nil {
		return u, fmt.Errorf("redis: %w", err)
	}
	return u, nil
}
