package main

import (
	"context"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// facts are what is known of a message and of all that may hold it.
type facts struct {
	status  postgres.Status
	around  postgres.Around
	gates   []gateView      // shut ones that stand before it
	account *config.Account // nil: not in this configuration
	foreign bool            // which has others

	noRedis string // why Redis was not asked, or gave no answer
	sight   *tasks.Sight
	window  *window.View
	usage   *ratelimit.Usage
}

// patience is how long Redis may take to answer.
const patience = 5 * time.Second

// facts asks the ledger, and Redis as far as it answers: that it does not is a fact as well.
func (s *session) facts(ctx context.Context, id message.ID) (f facts, err error) {
	cfg, err := s.load(config.NeedPostgres)
	if err != nil {
		return f, err
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return f, err
	}
	defer store.Close()
	if f.status, err = store.Status(ctx, id); err != nil {
		return f, err
	}
	if f.around, err = store.Around(ctx, f.status); err != nil {
		return f, err
	}
	all, err := shut(ctx, store)
	if err != nil {
		return f, err
	}
	m := f.status.Message
	for _, g := range all {
		if g.Account == m.Account && (g.API == "" || g.API == wechat.PathOf(m.Kind)) {
			f.gates = append(f.gates, g)
		}
	}
	f.account, _ = cfg.Account(m.Account)
	f.foreign = f.account == nil && len(cfg.Accounts) > 0
	if f.status.State.Terminal() {
		return f, nil
	}
	if cfg.Redis.URL.IsZero() {
		f.noRedis = "not asked: redis.url is not set here"
		return f, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := f.askRedis(ctx, cfg.Redis.URL.Reveal()); err != nil {
		f.noRedis = strings.Join(strings.Fields(err.Error()), " ")
	}
	return f, nil
}

func (f *facts) askRedis(ctx context.Context, url string) error {
	rdb, err := tasks.Redis(url)
	if err != nil {
		return err
	}
	defer rdb.Close()
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
	app := message.AppID(f.account.AppID)
	if m.Kind == message.Custom {
		windows := window.New(rdb, func(message.AppID) window.Rules { return rulesOf(f.account.Window) })
		view, err := windows.Look(ctx, app, m.To, f.around.Now)
		if err != nil {
			return err
		}
		f.window = &view
	}
	quota := ratelimit.New(rdb, "enqueue", func(k ratelimit.Key) ratelimit.Limits { return limitsOf(f.account, k.API) })
	usage, err := quota.Usage(ctx, ratelimit.Key{App: app, API: wechat.PathOf(m.Kind)})
	if err != nil {
		return err
	}
	f.usage = &usage
	return nil
}

// rulesOf are the rules by which workers count answers.
func rulesOf(w config.Window) window.Rules {
	rules := window.Rules{}
	for t, a := range map[window.Trigger]config.Allowance{
		window.Message: w.Message, window.Menu: w.Menu, window.Follow: w.Follow, window.Scan: w.Scan, window.Pay: w.Pay,
	} {
		rules[t] = window.Allowance{Messages: a.Messages, For: a.For, Margin: a.Margin}
	}
	return rules
}
