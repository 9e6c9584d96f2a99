package app

import (
	"math"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/feed"
	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

// account is one configured Official Account with the client of its host.
type account struct {
	config.Account
	client   *wechat.Client
	pipeline pipeline.Account
	caps     mass.Caps
}

// accounts finds them by name and by AppID. It does not change after it was made.
type accounts map[string]*account

// spareConns are connections beside the senders', for tokens and quotas.
const spareConns = 8

func newAccounts(c *config.Config) accounts {
	all := make(accounts, 2*len(c.Accounts))
	transport := wechat.NewHTTP(wechat.HTTPConfig{MaxConns: c.Worker.Senders + spareConns})
	for _, configured := range c.Accounts {
		a := &account{
			Account: configured,
			client: wechat.New(wechat.Config{
				BaseURL:           configured.BaseURL,
				Transport:         transport,
				MinusOneAmbiguous: configured.Policy.MinusOne == "ambiguous",
			}),
			pipeline: pipeline.Account{
				Name:       configured.Name,
				AppID:      message.AppID(configured.AppID),
				Type:       message.AccountType(configured.Type),
				TryUnknown: configured.Window.Unknown == "try",
				Policy:     policy(configured.Policy),
			},
			caps: capsOf(configured.Limits.Mass),
		}
		all[a.Name], all[a.AppID] = a, a
	}
	return all
}

// Account finds an account for the handler.
func (all accounts) Account(nameOrAppID string) (*pipeline.Account, pipeline.WeChat, bool) {
	a, ok := all[nameOrAppID]
	if !ok {
		return nil, nil, false
	}
	return &a.pipeline, a.client, true
}

// rows are the accounts for the ledger.
func (all accounts) rows() []postgres.Account {
	var rows []postgres.Account
	for name, a := range all {
		if name == a.Name {
			rows = append(rows, postgres.Account{Name: a.Name, AppID: message.AppID(a.AppID)})
		}
	}
	return rows
}

func policy(p config.Policy) pipeline.Policy {
	resend := func(choice string) time.Duration {
		switch choice {
		case config.Resend:
			return math.MaxInt64
		case config.ResendIfYounger:
			return p.ResendYoungerThan
		default:
			return 0
		}
	}
	return pipeline.Policy{
		Backoff:            p.RetryAfter,
		UnknownCode:        p.UnknownCodeAttempts,
		ResendCustom:       resend(p.CustomAmbiguous),
		ResendSubscribe:    resend(p.SubscribeAmbiguous),
		ResendLateTemplate: p.TemplateAmbiguousLate == config.Resend,
	}.WithDefaults()
}

func capsOf(l config.MassLimit) mass.Caps {
	return mass.Caps{
		PerDay: int(l.PerDay), AllPerDay: int(l.AllPerDay), AllPerMonth: int(l.AllPerMonth), UserPerMonth: int(l.UserPerMonth),
		Observe: l.Mode == "observe",
	}
}

// limits are the quota and the pace of one API of an account. The margin and the shares kept for urgent
// messages are of sends by the thousand; mass calls are few and counted exactly.
func (all accounts) limits(k ratelimit.Key) ratelimit.Limits {
	a, ok := all[string(k.App)]
	if !ok {
		return ratelimit.Limits{}
	}
	if k.API == wechat.PathOf(message.Mass) {
		return ratelimit.Limits{
			PerDay:    a.Limits.Mass.CallsPerDay,
			PerSecond: float64(a.Limits.Mass.CallsPerMinute) / 60,
		}
	}
	l := a.limitOf(k.API)
	return ratelimit.Limits{
		PerDay: l.PerDay, PerSecond: l.PerSecond,
		UrgentDay: a.Reserve.UrgentDay, UrgentPace: a.Reserve.UrgentPace, Margin: a.Reserve.Margin,
	}
}

// dayLimit is a day's limit where WeChat has told its own. The configured one is kept where WeChat allows more: it may
// be an operator's own.
func (all accounts) dayLimit(k ratelimit.Key, q wechat.Quota) int64 {
	return min(q.DailyLimit, all.limits(k).PerDay)
}

func (a *account) limitOf(api string) config.APILimit {
	switch api {
	case wechat.PathOf(message.Template):
		return a.Limits.Template
	case wechat.PathOf(message.Subscribe):
		return a.Limits.Subscribe
	default:
		return a.Limits.Custom
	}
}

// flows are what the releaser feeds: each account's kinds, at the pace of their APIs.
func (all accounts) flows() []feed.Flow {
	var flows []feed.Flow
	for name, a := range all {
		if name != a.Name {
			continue // found by its AppID
		}
		for _, kind := range message.Kinds() {
			api := wechat.PathOf(kind)
			pace := all.limits(ratelimit.Key{App: message.AppID(a.AppID), API: api}).PerSecond
			flows = append(flows, feed.Flow{Account: a.Name, Kind: kind, API: api, PerSecond: pace})
		}
	}
	return flows
}

func (all accounts) windowRules(app message.AppID) window.Rules {
	a, ok := all[string(app)]
	if !ok {
		return window.DefaultRules()
	}
	w := a.Window
	rules := window.Rules{}
	for trigger, allowance := range map[window.Trigger]config.Allowance{
		window.Message: w.Message, window.Menu: w.Menu, window.Follow: w.Follow, window.Scan: w.Scan, window.Pay: w.Pay,
	} {
		rules[trigger] = window.Allowance{Messages: allowance.Messages, For: allowance.For, Margin: allowance.Margin}
	}
	return rules
}
