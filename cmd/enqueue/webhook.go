package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/report"
)

type webhookCommands struct {
	Status webhookStatusCommand `cmd:"" help:"Say how the endpoints of accounts' webhooks do."`
	Enable webhookEnableCommand `cmd:"" help:"Let an endpoint go on that was disabled."`
}

type webhookStatusCommand struct{}

func (*webhookStatusCommand) Help() string {
	return `An endpoint that took nothing for a day, or answered 410, is disabled: nothing more is queued for it until it is enabled.`
}

// webhookView is what --json writes.
type webhookView struct {
	Account  string    `json:"account"`
	State    string    `json:"state"` // well, failing, disabled, none
	Waiting  int64     `json:"waiting"`
	Oldest   time.Time `json:"oldest,omitzero"`
	Failing  time.Time `json:"failing_since,omitzero"`
	Disabled time.Time `json:"disabled_at,omitzero"`
	Reason   string    `json:"reason,omitempty"`
}

// Run lists the endpoints of the configured accounts.
func (c *webhookStatusCommand) Run(ctx context.Context, s *session) error {
	cfg, err := s.load(config.NeedPostgres, config.NeedAccounts)
	if err != nil {
		return err
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	views := []webhookView{}
	for _, a := range cfg.Accounts {
		state, err := store.WebhookState(ctx, a.Name)
		if err != nil {
			return err
		}
		views = append(views, webhookViewOf(state, a.Webhook.URL != ""))
	}
	if s.json {
		return s.printJSON(views)
	}
	for _, v := range views {
		line := fmt.Sprintf("%s: %s, %d events wait", v.Account, v.State, v.Waiting)
		if !v.Oldest.IsZero() {
			line += ", the oldest since " + report.Clock(v.Oldest)
		}
		if v.Reason != "" {
			line += "; " + v.Reason
		}
		if _, err := fmt.Fprintln(s.stdout, line); err != nil {
			return err
		}
	}
	return nil
}

func webhookViewOf(w postgres.WebhookState, configured bool) webhookView {
	v := webhookView{w.Account, "well", w.Waiting, w.Oldest, w.Failing, w.Disabled, w.Reason}
	switch {
	case !w.Disabled.IsZero():
		v.State = "disabled"
	case !w.Failing.IsZero():
		v.State = "failing"
	case !configured:
		v.State = "none"
	}
	return v
}

type webhookEnableCommand struct {
	Account string `arg:"" help:"The account's name or appid."`
}

// Run enables the account's endpoint.
func (c *webhookEnableCommand) Run(ctx context.Context, s *session) error {
	cfg, err := s.load(config.NeedPostgres, config.NeedAccounts)
	if err != nil {
		return err
	}
	a, err := account(cfg, c.Account)
	if err != nil {
		return err
	}
	if a.Webhook.URL == "" {
		return refuse("%s: accounts[].webhook.url is not configured", a.Name)
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	was, err := store.EnableWebhook(ctx, a.Name)
	if err != nil {
		return err
	}
	word := "enabled"
	if !was {
		word = "was not disabled:"
	}
	return s.print(map[string]any{"account": a.Name, "changed": was}, "%s the webhook of %s", word, a.Name)
}
