package main

import (
	"context"
	"fmt"
	"text/tabwriter"

	"github.com/hongyan-dispatch/hongyan/client"
)

type campaignListCommand struct {
	Account string   `help:"Only those of this account." placeholder:"NAME"`
	State   []string `help:"Only those in these states: draft, scheduled, running, paused, throttled, parked, done, cancelled, failed." enum:"draft,scheduled,running,paused,throttled,parked,done,cancelled,failed" placeholder:"STATE"`
	Limit   int      `help:"At most so many. Default: 50." default:"50" placeholder:"N"`
}

func (*campaignListCommand) Help() string {
	return `Examples:

  enqueue campaign list
  enqueue campaign list --state running,paused --json`
}

// Run lists campaigns.
func (c *campaignListCommand) Run(ctx context.Context, s *session) error {
	if c.Limit < 1 {
		return refuse("--limit: want 1 or more, got %d", c.Limit)
	}
	e, _, err := s.campaigns(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	filter := client.CampaignFilter{Account: c.Account, Limit: c.Limit}
	for _, state := range c.State {
		filter.States = append(filter.States, client.CampaignState(state))
	}
	list, err := e.Campaigns(ctx, filter)
	if err != nil {
		return err
	}
	if s.json {
		return s.printJSON(append([]client.Campaign{}, list...))
	}
	if len(list) == 0 {
		_, err := fmt.Fprintln(s.stdout, "no campaigns")
		return err
	}
	w := tabwriter.NewWriter(s.stdout, 0, 0, 2, ' ', 0)
	for _, one := range list {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", one.ID, one.Name, one.Account, one.Kind, standing(one)) // Flush tells
	}
	return w.Flush()
}
