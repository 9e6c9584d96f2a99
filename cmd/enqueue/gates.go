package main

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/hongyan-dispatch/hongyan/internal/report"
)

type gatesCommand struct{}

func (*gatesCommand) Help() string {
	return `A gate stands before each API of each account. Closed ones open at a time; broken ones (a wrong secret, an IP that is not
whitelisted, no permission) when WeChat accepts the account again. Messages wait behind them, and are not lost.`
}

// Run lists the gates that are not open.
func (c *gatesCommand) Run(ctx context.Context, s *session) error {
	store, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	gates, err := report.Shut(ctx, store)
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
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", g.Account, report.APIName(g.API), g.State, report.Clock(g.Since), report.Until(g.Until), reason)
	}
	return w.Flush()
}
