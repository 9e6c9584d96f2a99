package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/token"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

type gateCommands struct {
	Open  gateOpenCommand  `cmd:"" help:"Open a gate, whatever closed it."`
	Close gateCloseCommand `cmd:"" help:"Close a gate: its messages wait."`
}

type gateOpenCommand struct {
	Account string `arg:"" help:"The account's name or appid."`
	API     string `arg:"" help:"template, subscribe, custom, mass, all (the account's own gate), or WeChat's path."`
}

func (*gateOpenCommand) Help() string {
	return `Workers know within a second. What waits behind the gate, or for a quota, is due at once and goes at the account's pace.
A broken gate that is opened before its cause is mended breaks again.

Example:

  enqueue gate open shop template`
}

// Run opens the gate.
func (c *gateOpenCommand) Run(ctx context.Context, s *session) error {
	store, name, api, err := s.gate(ctx, c.Account, c.API)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := s.forgive(ctx, name, api); err != nil { // first: the old refusal would break the open gate again
		return err
	}
	opened, err := store.OpenGate(ctx, name, api, time.Time{})
	if err != nil {
		return err
	}
	due, err := report.BringForward(ctx, store, name, api)
	if err != nil {
		return fmt.Errorf("%s %s is open, but: %w", name, report.APIName(api), err)
	}
	word := "opened"
	if !opened {
		word = "was open:"
	}
	return s.print(map[string]any{"account": name, "api": api, "state": postgres.GateOpen, "changed": opened, "due": due},
		"%s %s %s; %d messages that waited are due now", word, name, report.APIName(api), due)
}

// forgive lets workers ask for an access token at once that WeChat has just refused.
func (s *session) forgive(ctx context.Context, name, api string) error {
	cfg, err := s.load()
	if err != nil || api != "" {
		return err
	}
	a, known := cfg.Account(name)
	if !known || cfg.Redis.URL.IsZero() || a.Secret.IsZero() {
		return nil // somebody else's configuration has them: the refusal lapses within 20 s
	}
	rdb, err := tasks.Redis(cfg.Redis.URL.Reveal())
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	defer rdb.Close()
	return token.Forgive(ctx, rdb, message.AppID(a.AppID), wechat.NewSecret(a.Secret.Reveal()))
}

type gateCloseCommand struct {
	Account string  `arg:"" help:"The account's name or appid."`
	API     string  `arg:"" help:"template, subscribe, custom, mass, all (the account's own gate), or WeChat's path."`
	Until   instant `help:"When it opens by itself: RFC 3339, or from now such as +2h. Without it, when you open it." placeholder:"TIME"`
	Reason  string  `help:"Why, for whoever finds it closed." placeholder:"TEXT" default:"by hand"`
}

func (*gateCloseCommand) Help() string {
	return `Examples:

  enqueue gate close shop custom --until +2h --reason 'complaints about the greeting'
  enqueue gate close shop all`
}

// Run closes the gate.
func (c *gateCloseCommand) Run(ctx context.Context, s *session) error {
	now := time.Now()
	ends := c.Until.after(now)
	switch {
	case ends.IsZero():
		ends = report.ByHand
	case !ends.After(now):
		return refuse("--until: must be in the future, got %s", ends.Format(time.RFC3339))
	}
	store, name, api, err := s.gate(ctx, c.Account, c.API)
	if err != nil {
		return err
	}
	defer store.Close()
	err = store.CloseGate(ctx, postgres.Gate{
		Account: name, API: api, State: postgres.GateClosed, Reason: postgres.ByOperator, Detail: c.Reason, Until: ends,
	})
	if err != nil {
		return err
	}
	gates, err := report.Shut(ctx, store)
	if err != nil {
		return err
	}
	for _, g := range gates {
		if g.Account == name && g.API == api {
			return s.print(g, "closed %s %s until %s", name, report.APIName(api), report.Until(g.Until))
		}
	}
	return fmt.Errorf("%s %s: somebody opened the gate meanwhile", name, report.APIName(api))
}

// gate opens the ledger for the gate of an account and an API.
func (s *session) gate(ctx context.Context, accountName, apiName string) (store *postgres.Store, name, api string, err error) {
	if api, err = report.ParseAPI(apiName); err != nil {
		return nil, "", "", refuse("%w", err)
	}
	cfg, err := s.load(config.NeedPostgres)
	if err != nil {
		return nil, "", "", err
	}
	name = accountName
	if len(cfg.Accounts) > 0 {
		a, err := account(cfg, accountName)
		if err != nil {
			return nil, "", "", err
		}
		name = a.Name
	}
	store, err = s.ledger(ctx)
	return store, name, api, err
}
