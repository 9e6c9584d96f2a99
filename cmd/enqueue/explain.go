package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
)

type explainCommand struct {
	ID string `arg:"" help:"The message's id."`
}

func (*explainCommand) Help() string {
	return `Says which limit, window, gate or schedule holds the message and until when, or why it ended as it did, with the timeline. It asks
the ledger, and Redis for the window, the quota and the queue where redis.url is set; it asks WeChat nothing and changes nothing.

Examples:

  enqueue explain 0198c0de-0000-7000-8000-000000000001
  enqueue explain 0198c0de-0000-7000-8000-000000000001 --json`
}

// Run prints why the message is where it is.
func (c *explainCommand) Run(ctx context.Context, s *session) error {
	id, err := message.ParseID(c.ID)
	if err != nil {
		return refuse("%w", err)
	}
	e, err := s.explain(ctx, id)
	if err != nil {
		return ledgerError(err, id)
	}
	if s.json {
		return s.printJSON(e)
	}
	return explanationTable(s, e)
}

func explanationTable(s *session, e report.Explanation) error {
	_, _ = fmt.Fprintln(s.stdout, e.Why) // the last write tells
	if !e.Until.IsZero() {
		_, _ = fmt.Fprintln(s.stdout, "until", report.Clock(e.Until))
	}
	_, _ = fmt.Fprintln(s.stdout)
	if len(e.Checks) > 0 {
		w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
		_, _ = fmt.Fprintln(w, "CHECK\tHOLDS\t")
		for _, c := range e.Checks {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", c.Name, map[bool]string{true: "yes", false: "no"}[c.Holds], c.Text)
		}
		if err := w.Flush(); err != nil {
			return err
		}
		_, _ = fmt.Fprintln(s.stdout)
	}
	return messageTable(s, e.Message)
}

func (s *session) explain(ctx context.Context, id message.ID) (report.Explanation, error) {
	cfg, err := s.load(config.NeedPostgres)
	if err != nil {
		return report.Explanation{}, err
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return report.Explanation{}, err
	}
	defer store.Close()
	from := report.Source{
		Store: store, NoRedis: "not asked: redis.url is not set here", Accounts: len(cfg.Accounts) > 0, Account: accountsOf(cfg),
	}
	if !cfg.Redis.URL.IsZero() {
		rdb, err := tasks.Redis(cfg.Redis.URL.Reveal())
		if err != nil {
			return report.Explanation{}, refuse("%w", err)
		}
		defer rdb.Close()
		from.Redis = rdb
	}
	return from.Explain(ctx, id)
}

// accountsOf finds what reports must know of an account.
func accountsOf(cfg *config.Config) func(name string) (report.Account, bool) {
	return func(name string) (report.Account, bool) {
		a, known := cfg.Account(name)
		if !known {
			return report.Account{}, false
		}
		return accountOf(a), true
	}
}

func accountOf(a *config.Account) report.Account {
	l := a.Limits.Mass
	return report.Account{
		AppID: message.AppID(a.AppID), Window: rulesOf(a.Window), TryUnknown: a.Window.Unknown == "try", UrgentDay: a.Reserve.UrgentDay,
		Limits: func(api string) ratelimit.Limits { return limitsOf(a, api) },
		Mass: client.MassCaps{
			PerDay: int(l.PerDay), AllPerDay: int(l.AllPerDay), AllPerMonth: int(l.AllPerMonth), UserPerMonth: int(l.UserPerMonth),
			Observe: l.Mode == "observe", ListsRefused: a.Type == config.SubscriptionAccount,
		},
	}
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
