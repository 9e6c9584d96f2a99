package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

type campaignStatusCommand struct {
	theCampaign
	Watch bool          `help:"Go on until it ends: redrawn on a terminal, a line for each look elsewhere."`
	Every time.Duration `help:"With --watch: how often." default:"1s" placeholder:"TIME"`
}

func (*campaignStatusCommand) Help() string {
	return `Counts are those of the last firing. The rate is that since the last look, or since the firing began; the ETA is what is left at
that rate, without quiet hours and quotas to come: for those see enqueue campaign check. Ctrl-C ends the watching, not the campaign.

Examples:

  enqueue campaign status double-eleven
  enqueue campaign status double-eleven --watch`
}

// A progressView is what --json writes.
type progressView struct {
	campaignView
	Firings   int           `json:"firings"`
	Tick      time.Time     `json:"tick,omitzero"`
	StartedAt time.Time     `json:"started_at,omitzero"`
	EndedAt   time.Time     `json:"ended_at,omitzero"`
	Total     int           `json:"total"`
	Ended     int           `json:"ended"`
	Waiting   int           `json:"waiting"`
	Outcomes  []tallyView   `json:"outcomes"`
	PerSecond float64       `json:"per_second"`
	ETA       time.Time     `json:"eta,omitzero"`
	Audience  *audienceView `json:"audience,omitempty"`
}

type tallyView struct {
	Status outcome.Status `json:"status"`
	Reason outcome.Reason `json:"reason,omitempty"`
	Count  int            `json:"count"`
}

// An audienceView is what --json writes of an audience.
type audienceView struct {
	Source     string   `json:"source"`
	State      string   `json:"state"`
	Columns    []string `json:"columns"`
	Recipients int      `json:"recipients"`
	Duplicates int      `json:"duplicates"`
	Refused    int      `json:"refused"`
	Suppressed int      `json:"suppressed"`
	Lines      int64    `json:"lines"`
}

// viewOfProgress is the progress with its rate since an earlier look, as [client.CampaignProgress.Rate] has it.
func viewOfProgress(p, before client.CampaignProgress) progressView {
	v := progressView{
		campaignView: viewOfCampaign(p.Campaign), Firings: p.Firings, Tick: p.Tick, StartedAt: p.StartedAt, EndedAt: p.EndedAt,
		Total: p.Total, Ended: p.Ended(), Waiting: p.Waiting, Outcomes: []tallyView{},
	}
	for _, o := range p.Outcomes {
		v.Outcomes = append(v.Outcomes, tallyView(o))
	}
	if a := p.Audience; a.Source != "" {
		v.Audience = &audienceView{a.Source, a.State, a.Columns, a.Recipients, a.Duplicates, a.Refused, a.Suppressed, a.Lines}
	}
	v.PerSecond, v.ETA = p.Rate(before)
	return v
}

// Run prints the progress, once or until the campaign ends.
func (c *campaignStatusCommand) Run(ctx context.Context, s *session) error {
	if c.Every < 100*time.Millisecond {
		return refuse("--every: want 100ms or more, got %v", c.Every)
	}
	e, _, err := s.campaigns(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	if c.Watch {
		return c.watch(ctx, s, e)
	}
	p, err := e.CampaignProgress(ctx, c.ID)
	if err != nil {
		return campaignError(c.ID, err)
	}
	v := viewOfProgress(p, client.CampaignProgress{})
	if s.json {
		return s.printJSON(v)
	}
	_, err = io.WriteString(s.stdout, v.String())
	return err
}

// watch shows the progress until nothing more happens. What Ctrl-C ends is the watching.
func (c *campaignStatusCommand) watch(ctx context.Context, s *session, e *client.Client) error {
	screen := &screen{w: s.stdout, redraws: !s.json && isTerminal(s.stdout)}
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	var before client.CampaignProgress
	for {
		p, err := e.CampaignProgress(ctx, c.ID)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return campaignError(c.ID, err)
		}
		v := viewOfProgress(p, before)
		before = p
		switch {
		case s.json:
			err = s.printJSON(v)
		case screen.redraws:
			err = screen.draw(v.String())
		default:
			_, err = fmt.Fprintln(s.stdout, v.line())
		}
		if err != nil || v.State.Ended() && (!v.EndedAt.IsZero() || v.StartedAt.IsZero()) {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// A screen is a terminal on which a text is drawn over the last.
type screen struct {
	w       io.Writer
	redraws bool
	lines   int
}

func (s *screen) draw(text string) error {
	back := ""
	if s.lines > 0 {
		back = fmt.Sprintf("\x1b[%dA\r\x1b[J", s.lines) // up, and clear to the end
	}
	s.lines = strings.Count(text, "\n")
	_, err := io.WriteString(s.w, back+text)
	return err
}

// line is the progress in one line.
func (v progressView) line() string {
	text := fmt.Sprintf("%s %d/%d %s", v.standing(), v.Ended, v.Total, rate(v.PerSecond))
	if !v.ETA.IsZero() {
		text += ", until " + v.ETA.Local().Format("15:04:05")
	}
	for _, o := range v.Outcomes {
		text += fmt.Sprintf(", %s %d", strings.TrimSpace(string(o.Status)+" "+string(o.Reason)), o.Count)
	}
	return text
}

const barWidth = 40

// String is the progress for people.
func (v progressView) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s of %s  %s\n%s\n", v.Name, v.Kind, v.Account, v.ID, v.standing())
	if a := v.Audience; a != nil {
		fmt.Fprintf(&b, "audience %s, %s: %s", a.Source, a.State, count(a.Recipients, "recipient"))
		if a.Duplicates > 0 {
			b.WriteString(", " + count(a.Duplicates, "duplicate"))
		}
		if a.Refused > 0 {
			fmt.Fprintf(&b, ", %d refused", a.Refused)
		}
		if a.Suppressed > 0 {
			fmt.Fprintf(&b, ", %d suppressed", a.Suppressed)
		}
		b.WriteByte('\n')
	}
	if v.StartedAt.IsZero() {
		return b.String()
	}
	share := 0.0
	if v.Total > 0 {
		share = float64(v.Ended) / float64(v.Total)
	}
	full := int(share * barWidth)
	fmt.Fprintf(&b, "[%s%s] %5.1f %%  %d of %d, %d not begun\n", strings.Repeat("█", full), strings.Repeat("░", barWidth-full), 100*share, v.Ended, v.Total, v.Waiting)
	fmt.Fprintf(&b, "%s since %s", rate(v.PerSecond), report.Clock(v.StartedAt))
	switch {
	case !v.EndedAt.IsZero():
		fmt.Fprintf(&b, ", ended %s", report.Clock(v.EndedAt))
	case !v.ETA.IsZero():
		fmt.Fprintf(&b, ", until about %s", report.Clock(v.ETA))
	}
	b.WriteByte('\n')
	for _, o := range v.Outcomes {
		fmt.Fprintf(&b, "  %9d  %s\n", o.Count, strings.TrimSpace(string(o.Status)+" "+string(o.Reason)))
	}
	return b.String()
}

func rate(perSecond float64) string { return fmt.Sprintf("%.0f/s", perSecond) }
