package report

import (
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
)

// A CampaignProgress is how far a campaign's last firing has come.
type CampaignProgress struct {
	client.Campaign
	Firings   int                   `json:"firings"`
	Tick      time.Time             `json:"tick,omitzero"`
	StartedAt time.Time             `json:"started_at,omitzero"`
	EndedAt   time.Time             `json:"ended_at,omitzero"`
	Now       time.Time             `json:"now"` // of the counts
	Total     int                   `json:"total"`
	Ended     int                   `json:"ended"`
	Waiting   int                   `json:"waiting"`
	Outcomes  []client.OutcomeCount `json:"outcomes"`
	PerSecond float64               `json:"per_second"`
	ETA       time.Time             `json:"eta,omitzero"`
	Audience  *client.AudienceState `json:"audience,omitempty"`
}

// ProgressOf is the progress with its rate since an earlier look, as [client.CampaignProgress.Rate] has it.
func ProgressOf(p, before client.CampaignProgress) CampaignProgress {
	v := CampaignProgress{
		Campaign: p.Campaign, Firings: p.Firings, Tick: p.Tick, StartedAt: p.StartedAt, EndedAt: p.EndedAt, Now: p.Now,
		Total: p.Total, Ended: p.Ended(), Waiting: p.Waiting, Outcomes: append([]client.OutcomeCount{}, p.Outcomes...),
	}
	if p.Audience.Source != "" {
		v.Audience = &p.Audience
	}
	v.PerSecond, v.ETA = p.Rate(before)
	return v
}
