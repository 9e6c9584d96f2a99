package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

type gatesCommand struct{}

func (*gatesCommand) Help() string {
	return `A gate stands before each API of each account. Closed ones open at a time; broken ones (a wrong secret, an IP that is not
whitelisted, no permission) when WeChat accepts the account again. Messages wait behind them, and are not lost.`
}

// gateView is what --json writes.
type gateView struct {
	Account string    `json:"account"`
	API     string    `json:"api"` // empty: the whole account
	State   string    `json:"state"`
	Reason  string    `json:"reason,omitempty"`
	ErrCode int       `json:"errcode,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until,omitzero"`
}

// Run lists the gates that are not open.
func (c *gatesCommand) Run(ctx context.Context, s *session) error {
	store, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	gates, err := shut(ctx, store)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(gates)
	}
	if len(gates) == 0 {
		_, err := fmt.Fprintln(s.stdout, "all gates are open")
		return err
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "ACCOUNT\tAPI\tSTATE\tSINCE\tUNTIL\tREASON") // Flush tells
	for _, g := range gates {
		reason := strings.TrimSpace(g.Reason + " " + g.Detail)
		if g.ErrCode != 0 {
			reason += fmt.Sprintf(" (%d)", g.ErrCode)
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", g.Account, apiName(g.API), g.State, clock(g.Since), until(g.Until), reason)
	}
	return w.Flush()
}

// shut lists the gates that are not open.
func shut(ctx context.Context, store *postgres.Store) ([]gateView, error) {
	gates, err := store.Gates(ctx)
	if err != nil {
		return nil, err
	}
	views := []gateView{}
	for _, g := range gates {
		if g.State == postgres.GateOpen || g.State == postgres.GateClosed && !g.Until.After(time.Now()) {
			continue
		}
		views = append(views, gateView{g.Account, g.API, g.State, g.Reason, g.ErrCode, g.Detail, g.Since, g.Until})
	}
	return views, nil
}

// byHand is how long a gate stays closed that was closed without an end: until a person opens it.
var byHand = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

func until(t time.Time) string {
	if t.Equal(byHand) {
		return "opened by hand"
	}
	return clock(t)
}

// wholeAccount stands for all APIs of an account.
const wholeAccount = "all"

// apiName is how people call an API: by the kind of message where there is one.
func apiName(path string) string {
	if path == "" {
		return wholeAccount
	}
	for _, kind := range message.Kinds() {
		if wechat.PathOf(kind) == path {
			return string(kind)
		}
	}
	return path
}

// parseAPI reads what apiName writes, or a path.
func parseAPI(name string) (string, error) {
	switch {
	case name == wholeAccount:
		return "", nil
	case slices.Contains(message.Kinds(), message.Kind(name)):
		return wechat.PathOf(message.Kind(name)), nil
	case strings.HasPrefix(name, "/cgi-bin/"):
		return name, nil
	}
	return "", refuse("API %q: want template, subscribe, custom, mass, all, or a path such as %s", name, wechat.PathCustom)
}
