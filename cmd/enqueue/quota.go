package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

type quotaCommand struct {
	Account string `help:"Only this account." placeholder:"NAME"`
}

func (*quotaCommand) Help() string {
	return `Ours is what Hongyan counted today, in Beijing, and has lent to its workers; WeChat's is what openapi/quota/get answers, exact
to about 1 %. With a ledger it also says how many messages wait, and when the last of them can have gone at the earliest: by the day's calls, without
the share of urgent ones, and by the pace.

Example:

  enqueue quota --account shop --json`
}

// quotaView is what --json writes.
type quotaView struct {
	Account  string       `json:"account"`
	API      string       `json:"api"`
	Ours     report.Quota `json:"ours"`
	WeChat   *wechatView  `json:"wechat,omitempty"`
	Forecast *forecast    `json:"forecast,omitempty"` // where there is a ledger
	Error    string       `json:"error,omitempty"`    // why WeChat gave no answer
}

type wechatView struct {
	Limit       int64 `json:"limit"`
	Used        int64 `json:"used"`
	Left        int64 `json:"left"`
	RateCalls   int64 `json:"rate_calls,omitempty"`
	RateSeconds int64 `json:"rate_seconds,omitempty"`
}

// Run prints a table of the accounts' APIs.
func (c *quotaCommand) Run(ctx context.Context, s *session) error {
	cfg, err := s.load(config.NeedRedis, config.NeedAccounts)
	if err != nil {
		return err
	}
	accounts := cfg.Accounts
	if c.Account != "" {
		a, err := account(cfg, c.Account)
		if err != nil {
			return err
		}
		accounts = []config.Account{*a}
	}
	rdb, err := tasks.Redis(cfg.Redis.URL.Reveal())
	if err != nil {
		return refuse("%w", err)
	}
	defer rdb.Close()
	var views []quotaView
	var troubles []string
	for i := range accounts {
		of, err := quotasOf(ctx, &accounts[i], rdb)
		if err != nil {
			return err
		}
		views = append(views, of...)
		if last := of[len(of)-1]; last.Error != "" {
			troubles = append(troubles, last.Error)
		}
	}
	if err := s.foretell(ctx, cfg, views, time.Now()); err != nil {
		return err
	}
	if s.json {
		err = s.printJSON(views)
	} else {
		err = quotaTable(s, views)
	}
	if err == nil && troubles != nil {
		err = errors.New(strings.Join(troubles, "; "))
	}
	return err
}

// quotasOf asks Redis, and WeChat until it refuses.
func quotasOf(ctx context.Context, a *config.Account, rdb redis.UniversalClient) ([]quotaView, error) {
	caller := newCaller(a, rdb)
	quota := ratelimit.New(rdb, "enqueue", func(k ratelimit.Key) ratelimit.Limits { return limitsOf(a, k.API) })
	var views []quotaView
	trouble := ""
	for _, kind := range kindsOf(a) {
		api := wechat.PathOf(kind)
		u, err := quota.Usage(ctx, ratelimit.Key{App: message.AppID(a.AppID), API: api})
		if err != nil {
			return nil, fmt.Errorf("redis: %w", err)
		}
		v := quotaView{Account: a.Name, API: api, Ours: report.QuotaOf(u)}
		if trouble == "" {
			v.WeChat, err = askQuota(ctx, caller, api)
			if err != nil {
				trouble = err.Error()
			}
		}
		v.Error = trouble
		views = append(views, v)
	}
	return views, nil
}

func askQuota(ctx context.Context, c *caller, api string) (*wechatView, error) {
	var q wechat.Quota
	err := c.call(ctx, func(t wechat.Token) (err error) {
		q, err = c.wechat.QuotaGet(ctx, t, api)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &wechatView{q.DailyLimit, q.Used, q.Remain, q.Rate.Calls, int64(q.Rate.Per / time.Second)}, nil
}

// kindsOf are the kinds of message that an account may send: templates and notices are of service accounts.
func kindsOf(a *config.Account) []message.Kind {
	if a.Type == config.SubscriptionAccount {
		return []message.Kind{message.Custom, message.Mass}
	}
	return message.Kinds()
}

// limitsOf are the limits by which workers count.
func limitsOf(a *config.Account, api string) ratelimit.Limits {
	of := map[string]config.APILimit{
		wechat.PathOf(message.Template):  a.Limits.Template,
		wechat.PathOf(message.Subscribe): a.Limits.Subscribe,
		wechat.PathOf(message.Custom):    a.Limits.Custom,
	}
	l, ok := of[api]
	if !ok { // mass calls are few and counted exactly
		return ratelimit.Limits{PerDay: a.Limits.Mass.CallsPerDay, PerSecond: float64(a.Limits.Mass.CallsPerMinute) / 60}
	}
	return ratelimit.Limits{
		PerDay: l.PerDay, PerSecond: l.PerSecond,
		UrgentDay: a.Reserve.UrgentDay, UrgentPace: a.Reserve.UrgentPace, Margin: a.Reserve.Margin,
	}
}

func quotaTable(s *session, views []quotaView) error {
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(w, "ACCOUNT\tAPI\tUSED\tLENT\tLEFT\tLIMIT\tPER SECOND\tWECHAT USED\tLEFT\tLIMIT\tWAITING\tDONE BY\t") // Flush tells
	for _, v := range views {
		theirs := "–\t–\t–"
		if q := v.WeChat; q != nil {
			theirs = fmt.Sprintf("%d\t%d\t%d", q.Used, q.Left, q.Limit)
		}
		o := v.Ours
		waits, done := v.Forecast.row()
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%v\t%s\t\n", v.Account, report.APIName(v.API), o.Used, o.Leased, o.Left, o.Limit, report.Rate(o.Pace), theirs, waits, done)
	}
	return w.Flush()
}
