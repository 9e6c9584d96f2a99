package client

import (
	"context"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// An OutcomeCount is how many messages of a firing have this outcome.
type OutcomeCount struct {
	Status outcome.Status `json:"status"`
	Reason outcome.Reason `json:"reason,omitempty"` // empty where the status says all
	Count  int            `json:"count"`
}

// CampaignProgress is how far a campaign's last firing has come.
type CampaignProgress struct {
	Campaign  Campaign
	Tick      time.Time // of the firing; zero: it has not fired yet
	StartedAt time.Time
	EndedAt   time.Time // zero: it has not
	Now       time.Time // of the counts
	Firings   int       // so far
	Total     int       // messages: one for each recipient, or for each part of a mass list
	Waiting   int       // those that nobody has begun with
	Outcomes  []OutcomeCount
	Audience  AudienceState // the youngest
}

// Ended counts the messages that have ended.
func (p CampaignProgress) Ended() int {
	n := 0
	for _, o := range p.Outcomes {
		if o.Status.Terminal() {
			n += o.Count
		}
	}
	return n
}

// Rate is how many messages end in a second since an earlier look at the firing; since it began where before is the zero
// value, and of all of it where it has ended. eta is when the rest will have ended at that rate, without quiet hours and
// quotas to come; zero: it does not run, or not a message has ended.
func (p CampaignProgress) Rate(before CampaignProgress) (perSecond float64, eta time.Time) {
	from, to, ended := before.Now, p.Now, p.Ended()
	since := ended - before.Ended()
	if from.IsZero() {
		from = p.StartedAt
	}
	if !p.EndedAt.IsZero() {
		from, to, since = p.StartedAt, p.EndedAt, ended
	}
	if took := to.Sub(from).Seconds(); took > 0 && !p.StartedAt.IsZero() {
		perSecond = float64(since) / took
	}
	if perSecond > 0 && p.EndedAt.IsZero() && p.Campaign.State == CampaignRunning {
		eta = p.Now.Add(time.Duration(float64(p.Total-ended) / perSecond * float64(time.Second)))
	}
	return perSecond, eta
}

// CampaignProgress counts what became of the last firing; it costs the same at any size.
func (c *Client) CampaignProgress(ctx context.Context, idOrName string) (CampaignProgress, error) {
	if c.ledger == nil {
		return CampaignProgress{}, ErrNoLedger
	}
	p, err := c.ledger.CampaignProgress(ctx, idOrName)
	if err != nil {
		return CampaignProgress{}, campaignError(err)
	}
	audiences, err := c.ledger.Audiences(ctx, p.Campaign.ID)
	if err != nil {
		return CampaignProgress{}, err
	}
	return progressOf(p, audiences), nil
}

func progressOf(p postgres.Progress, audiences []postgres.Audience) CampaignProgress {
	out := CampaignProgress{
		Campaign: campaignOf(p.Campaign), Tick: p.Firing.Tick, StartedAt: p.Firing.StartedAt, EndedAt: p.EndedAt, Now: p.Now,
		Firings: p.Firings, Total: p.Total, Waiting: p.Waiting,
	}
	for _, o := range postgres.SortedTally(p.Outcomes) {
		status, reason, _ := strings.Cut(o, " ")
		out.Outcomes = append(out.Outcomes, OutcomeCount{outcome.Status(status), outcome.Reason(reason), p.Outcomes[o]})
	}
	if a := youngest(audiences); a != nil {
		out.Audience = audienceState(*a)
	}
	return out
}

// RetryOptions says which messages of the last firing are sent again; the zero value means those that failed.
type RetryOptions struct {
	Reasons []outcome.Reason // only those that failed so
	DryRun  bool             // count only
}

// RetryFailed makes a new firing of those recipients of the last one whose messages failed: these surely did not
// arrive. It says how many there are.
func (c *Client) RetryFailed(ctx context.Context, idOrName string, o RetryOptions) (int, error) {
	row, err := c.campaign(ctx, idOrName)
	if err != nil {
		return 0, err
	}
	var reasons []string
	for _, r := range o.Reasons {
		reasons = append(reasons, string(r))
	}
	states := []string{string(outcome.Failed)}
	if o.DryRun {
		n, err := c.ledger.CountFailed(ctx, row.ID, states, reasons)
		return n, campaignError(err)
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return 0, err
	}
	f, err := c.ledger.RetryFailed(ctx, row.ID, states, reasons, now)
	return int(f.Total), campaignError(err)
}
