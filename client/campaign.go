package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Errors of campaigns.
var (
	// ErrNoCampaign says that no campaign has this id or name.
	ErrNoCampaign = errors.New("no such campaign")
	// ErrManyCampaigns says that several campaigns have this name.
	ErrManyCampaigns = errors.New("several campaigns have this name: give the id of one")
	// ErrState says that a campaign is not in a state for what was asked.
	ErrState = errors.New("not in this state")
	// ErrNothingToRetry says that no recipient of the last firing failed so.
	ErrNothingToRetry = errors.New("no recipient of the last firing failed so")
)

// A CampaignState is where a campaign stands.
type CampaignState string

// The states. The last three end it.
const (
	CampaignDraft     CampaignState = "draft"     // its audience may be imported
	CampaignScheduled CampaignState = "scheduled" // its next tick will fire it
	CampaignRunning   CampaignState = "running"   // a firing is on its way
	CampaignPaused    CampaignState = "paused"    // by an operator or by itself; somebody must resume it
	CampaignThrottled CampaignState = "throttled" // its account may not send now; it goes on by itself
	CampaignParked    CampaignState = "parked"    // quiet hours or a closed day; it goes on by itself
	CampaignDone      CampaignState = "done"
	CampaignCancelled CampaignState = "cancelled" // what was not sent ended as cancelled
	CampaignFailed    CampaignState = "failed"    // it cannot go on
)

// Ended says whether nothing more happens to the campaign.
func (s CampaignState) Ended() bool { return campaign.State(s).Ended() }

// A Campaign is what the ledger knows of a campaign.
type Campaign struct {
	ID        message.ID     `json:"id"`
	Name      string         `json:"name"`
	Account   string         `json:"account"`
	Kind      message.Kind   `json:"kind"`
	State     CampaignState  `json:"state"`
	Reason    string         `json:"reason,omitempty"`   // why it is paused, throttled, parked or failed
	Until     time.Time      `json:"until,omitzero"`     // throttled, parked: when it goes on; zero: not known
	NextTick  time.Time      `json:"next_tick,omitzero"` // of its schedule; zero: by hand, or never again
	CreatedAt time.Time      `json:"created_at"`
	ChangedAt time.Time      `json:"changed_at"`
	Audience  CampaignSource `json:"from,omitzero"`
	Fallback  message.Kind   `json:"-"` // of kind custom: its fallback's; empty: there is none, or a [Remote] told of it
}

// A CampaignSource says where a campaign's audience comes from: one of these, or none where a file is given later.
type CampaignSource struct {
	File      string `json:"file,omitempty"`
	Tag       int    `json:"tag,omitempty"` // of the account's followers
	Followers bool   `json:"followers,omitempty"`
	SQL       string `json:"sql,omitempty"`
}

// Pulled says that workers fetch the audience, anew for each firing.
func (s CampaignSource) Pulled() bool { return s.Tag != 0 || s.Followers || s.SQL != "" }

func campaignOf(c postgres.Campaign) Campaign {
	return Campaign{
		ID: c.ID, Name: c.Name, Account: c.Account, Kind: c.Kind, State: CampaignState(c.State), Reason: c.Reason,
		Until: c.Until, NextTick: c.NextTick, CreatedAt: c.CreatedAt, ChangedAt: c.ChangedAt, Audience: sourceOf(c.Spec),
		Fallback: fallbackKind(c.Spec),
	}
}

func fallbackKind(s *campaign.Spec) message.Kind {
	var fallback struct {
		Kind message.Kind `json:"kind"`
	}
	if s == nil || json.Unmarshal(s.Fallback, &fallback) != nil {
		return ""
	}
	return fallback.Kind
}

func sourceOf(s *campaign.Spec) CampaignSource {
	if s == nil {
		return CampaignSource{}
	}
	a := s.Audience
	return CampaignSource{File: a.File, Tag: a.Tag, Followers: a.Kind == campaign.FromFollowers, SQL: a.SQL}
}

// Campaign finds a campaign by its id, or by its name: the one that has not ended, or the youngest.
func (c *Client) Campaign(ctx context.Context, idOrName string) (Campaign, error) {
	row, err := c.campaign(ctx, idOrName)
	return campaignOf(row), err
}

func (c *Client) campaign(ctx context.Context, idOrName string) (postgres.Campaign, error) {
	if c.ledger == nil {
		return postgres.Campaign{}, ErrNoLedger
	}
	row, err := c.ledger.Campaign(ctx, idOrName)
	return row, campaignError(err)
}

// A CampaignFilter says which campaigns are meant; the zero value means all.
type CampaignFilter struct {
	Account string
	Name    string
	States  []CampaignState
	Before  message.ID // only those that stand behind it in the list, for the next page
	Limit   int        // the youngest; 0: 1000
}

// Campaigns lists campaigns, the youngest first.
func (c *Client) Campaigns(ctx context.Context, f CampaignFilter) ([]Campaign, error) {
	if c.ledger == nil {
		return nil, ErrNoLedger
	}
	filter := postgres.CampaignFilter{Account: f.Account, Name: f.Name, Before: f.Before, Limit: f.Limit}
	for _, s := range f.States {
		filter.States = append(filter.States, campaign.State(s))
	}
	rows, err := c.ledger.Campaigns(ctx, filter)
	list := make([]Campaign, len(rows))
	for i, row := range rows {
		list[i] = campaignOf(row)
	}
	return list, err
}

// PauseCampaign stops a campaign between two messages, within two seconds; reason is kept for people. What it has
// parked stays so.
func (c *Client) PauseCampaign(ctx context.Context, idOrName, reason string) (CampaignState, error) {
	return c.move(ctx, idOrName, campaign.Pause, reason)
}

// ResumeCampaign lets a paused campaign go on where it was.
func (c *Client) ResumeCampaign(ctx context.Context, idOrName string) (CampaignState, error) {
	return c.move(ctx, idOrName, campaign.Resume, "")
}

// CancelCampaign ends a campaign: what was not sent ends as cancelled.
func (c *Client) CancelCampaign(ctx context.Context, idOrName, reason string) (CampaignState, error) {
	return c.move(ctx, idOrName, campaign.Cancel, reason)
}

func (c *Client) move(ctx context.Context, idOrName string, v campaign.Verb, reason string) (CampaignState, error) {
	row, err := c.campaign(ctx, idOrName)
	if err != nil {
		return "", err
	}
	state, err := c.ledger.MoveCampaign(ctx, row.ID, v, reason)
	return CampaignState(state), campaignError(err)
}

// ExportCampaign writes a line of CSV for each message of the campaign, of all its firings, behind a line of names. It
// holds nothing in memory.
func (c *Client) ExportCampaign(ctx context.Context, idOrName string, w io.Writer) error {
	row, err := c.campaign(ctx, idOrName)
	if err != nil {
		return err
	}
	return c.ledger.ExportOutcomes(ctx, row.ID, w)
}

// campaignError makes the ledger's errors those of this package.
func campaignError(err error) error {
	switch moved, refused := errors.AsType[*campaign.MoveError](err); {
	case err == nil:
		return nil
	case refused:
		return stateError(moved)
	case errors.Is(err, postgres.ErrNoCampaign):
		return known{err, ErrNoCampaign}
	case errors.Is(err, postgres.ErrManyCampaigns):
		return known{err, ErrManyCampaigns}
	case errors.Is(err, postgres.ErrNothingToRetry):
		return ErrNothingToRetry
	case errors.Is(err, postgres.ErrFiringOpen):
		return known{err, ErrState}
	case errors.Is(err, postgres.ErrNameTaken): // of one that had ended, and would run again
		return known{fmt.Errorf("%w; wait until that one has ended", err), ErrState}
	}
	return err
}

// A known error is the ledger's, with the name under which callers ask for it.
type known struct {
	error
	as error
}

func (k known) Unwrap() []error { return []error{k.error, k.as} }

// stateError says what to do where a campaign is in another state.
func stateError(e *campaign.MoveError) error {
	remedy := map[campaign.State]string{
		campaign.Draft: "start it first", campaign.Scheduled: "it waits for its next tick", campaign.Running: "it is on its way",
		campaign.Throttled: "it goes on by itself", campaign.Parked: "it goes on by itself",
		campaign.Paused: "resume it, or cancel it", campaign.Done: "create it anew to send it again, or retry its failed ones",
		campaign.Cancelled: "create it anew", campaign.Failed: "create it anew",
	}[e.State]
	return known{fmt.Errorf("%w; %s", e, remedy), ErrState}
}
