package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/report"
)

type campaignCommands struct {
	Create campaignCreateCommand `cmd:"" help:"Write a campaign down as a draft."`
	Import campaignImportCommand `cmd:"" help:"Import its audience: a file, a tag, the followers, a query."`
	Check  campaignCheckCommand  `cmd:"" help:"Look before the start: every message, samples, a test, the forecast."`
	Start  campaignStartCommand  `cmd:"" help:"Start a draft: now, or by its schedule."`
	Status campaignStatusCommand `cmd:"" help:"Say how far a campaign has come; --watch goes on saying it."`
	List   campaignListCommand   `cmd:"" help:"List campaigns, the youngest first."`
	Pause  campaignPauseCommand  `cmd:"" help:"Stop a campaign, until it is resumed."`
	Resume campaignResumeCommand `cmd:"" help:"Let a paused campaign go on where it was."`
	Cancel campaignCancelCommand `cmd:"" help:"End a campaign: what was not sent ends as cancelled."`
	Retry  campaignRetryCommand  `cmd:"" name:"retry-failed" help:"Send again to those whose messages failed."`
	Export campaignExportCommand `cmd:"" help:"Write what became of each recipient, as CSV."`
}

// theCampaign is the argument of most commands.
type theCampaign struct {
	ID string `arg:"" help:"The campaign's id, or its name: that of the one that has not ended, or of the youngest."`
}

// campaigns opens the client for a command about campaigns, which stand in the ledger.
func (s *session) campaigns(ctx context.Context) (*client.Client, *config.Config, error) {
	if _, err := s.load(config.NeedRedis, config.NeedPostgres); err != nil {
		return nil, nil, err
	}
	return s.enqueuer(ctx)
}

// onCampaign does one thing to a campaign and says how it stands then.
func (s *session) onCampaign(ctx context.Context, id string, do func(*client.Client) (client.CampaignState, error)) error {
	c, _, err := s.campaigns(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	found, err := c.Campaign(ctx, id)
	if err != nil {
		return campaignError(id, err)
	}
	state, err := do(c)
	if err != nil {
		return campaignError(id, err)
	}
	view := map[string]any{"id": found.ID, "name": found.Name, "state": state}
	return s.print(view, "%s is %s", found.Name, state)
}

// campaignError says which campaign an error is about, and that the user can mend it where he can.
func campaignError(id string, err error) error {
	if errors.Is(err, client.ErrManyCampaigns) {
		return badInput{err}
	}
	if err != nil && !strings.Contains(err.Error(), id) {
		return fmt.Errorf("campaign %s: %w", id, err)
	}
	return err
}

type campaignStartCommand struct{ theCampaign }

func (*campaignStartCommand) Help() string {
	return `Without a schedule it goes to its audience at once; with one it waits for its next tick. A campaign without an audience that is
ready, or whose audience lacks a column of its texts, does not start. See enqueue campaign check before.

Example:

  enqueue campaign start double-eleven`
}

// Run starts the campaign.
func (c *campaignStartCommand) Run(ctx context.Context, s *session) error {
	return s.onCampaign(ctx, c.ID, func(e *client.Client) (client.CampaignState, error) { return e.StartCampaign(ctx, c.ID) })
}

type campaignPauseCommand struct {
	theCampaign
	Reason string `help:"Why, for whoever finds it paused." placeholder:"TEXT" default:"by hand"`
}

func (*campaignPauseCommand) Help() string {
	return `Nothing new is sent two seconds later. What the campaign has parked stays so until it is resumed.

Example:

  enqueue campaign pause double-eleven --reason 'the price is wrong'`
}

// Run pauses the campaign.
func (c *campaignPauseCommand) Run(ctx context.Context, s *session) error {
	return s.onCampaign(ctx, c.ID, func(e *client.Client) (client.CampaignState, error) { return e.PauseCampaign(ctx, c.ID, c.Reason) })
}

type campaignResumeCommand struct{ theCampaign }

func (*campaignResumeCommand) Help() string {
	return `It goes on with the recipients that are no messages yet; nobody is sent to twice. A campaign that paused by itself says why in its
status. A canary counts as looked at.

Example:

  enqueue campaign resume double-eleven`
}

// Run resumes the campaign.
func (c *campaignResumeCommand) Run(ctx context.Context, s *session) error {
	return s.onCampaign(ctx, c.ID, func(e *client.Client) (client.CampaignState, error) { return e.ResumeCampaign(ctx, c.ID) })
}

type campaignCancelCommand struct {
	theCampaign
	Reason string `help:"Why, for whoever asks." placeholder:"TEXT" default:"by hand"`
}

func (*campaignCancelCommand) Help() string {
	return `Cannot be undone. What is on its way to WeChat ends as it ends; everything else as cancelled. Articles and videos of a mass send
that went out can be deleted: enqueue mass delete.

Example:

  enqueue campaign cancel double-eleven --reason 'sold out'`
}

// Run cancels the campaign.
func (c *campaignCancelCommand) Run(ctx context.Context, s *session) error {
	return s.onCampaign(ctx, c.ID, func(e *client.Client) (client.CampaignState, error) { return e.CancelCampaign(ctx, c.ID, c.Reason) })
}

// standing is how a campaign stands, in words.
func standing(c client.Campaign) string {
	text := string(c.State)
	switch {
	case !c.Until.IsZero():
		text += " until " + report.Until(c.Until)
	case c.State == client.CampaignScheduled && !c.NextTick.IsZero():
		text += " for " + report.Clock(c.NextTick)
	}
	if c.Reason != "" {
		text += ": " + c.Reason
	}
	return text
}
