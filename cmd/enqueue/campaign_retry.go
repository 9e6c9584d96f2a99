package main

import (
	"context"
	"slices"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

type campaignRetryCommand struct {
	theCampaign
	Reason []string `help:"Only those that failed for these reasons, such as refused_request or retries_exhausted." placeholder:"REASON"`
	DryRun bool     `help:"Count them only."`
}

func (*campaignRetryCommand) Help() string {
	return `When the last firing has ended, takes those of its recipients whose messages are failed: these surely did not arrive. Messages that
are unknown, which may have, and those whose fallback may have arrived, are left alone. Each gets a new message in a new firing, which the status then shows; a campaign that was done runs again.

Examples:

  enqueue campaign retry-failed double-eleven --dry-run
  enqueue campaign retry-failed double-eleven --reason retries_exhausted`
}

// Run makes the new firing.
func (c *campaignRetryCommand) Run(ctx context.Context, s *session) error {
	options := client.RetryOptions{DryRun: c.DryRun}
	for _, r := range c.Reason {
		if !slices.Contains(outcome.Reasons(), outcome.Reason(r)) {
			return refuse("--reason %s: no reason of a message; see the list in docs/operations.md", r)
		}
		options.Reasons = append(options.Reasons, outcome.Reason(r))
	}
	e, _, err := s.campaigns(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	n, err := e.RetryFailed(ctx, c.ID, options)
	if err != nil {
		return campaignError(c.ID, err)
	}
	view := map[string]any{"recipients": n, "started": !c.DryRun}
	if c.DryRun {
		return s.print(view, "%s would be sent to again", count(n, "recipient"))
	}
	return s.print(view, "a new firing goes to %s", count(n, "recipient"))
}
