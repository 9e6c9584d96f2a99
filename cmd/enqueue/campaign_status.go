package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rivo/uniseg"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/report"
)

type campaignStatusCommand struct {
	theCampaign
	Watch bool          `help:"Go on until it ends: redrawn on a terminal, a line for each look elsewhere."`
	Every time.Duration `help:"With --watch: how often. Default: 1s." default:"1s" placeholder:"TIME"`
}

func (*campaignStatusCommand) Help() string {
	return `Counts are those of the last firing. The rate is that since the last look, or since the firing began; the ETA is what is left at
that rate, without quiet hours and quotas to come: for those see enqueue campaign check. Ctrl-C ends the watching, not the campaign.

Examples:

  enqueue campaign status double-eleven
  enqueue campaign status double-eleven --watch`
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
	v := report.ProgressOf(p, client.CampaignProgress{})
	if s.json {
		return s.printJSON(v)
	}
	_, err = io.WriteString(s.stdout, progressText(v))
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
		v := report.ProgressOf(p, before)
		before = p
		switch {
		case s.json:
			err = s.printJSON(v)
		case screen.redraws:
			err = screen.draw(progressText(v))
		default:
			_, err = fmt.Fprintln(s.stdout, progressLine(v))
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
	s.lines = linesOn(text, columnsOf(s.w))
	_, err := io.WriteString(s.w, back+text)
	return err
}

// linesOn is how many lines a text takes on a screen, which breaks the long ones.
func linesOn(text string, columns int) (n int) {
	for line := range strings.Lines(text) {
		n += max(1, (uniseg.StringWidth(strings.TrimSuffix(line, "\n"))+columns-1)/columns)
	}
	return n
}

// progressLine is the progress in one line.
func progressLine(v report.CampaignProgress) string {
	text := fmt.Sprintf("%s %d/%d %s", standing(v.Campaign), v.Ended, v.Total, rate(v.PerSecond))
	if !v.ETA.IsZero() {
		text += ", until " + v.ETA.Local().Format("15:04:05 MST")
	}
	for _, o := range v.Outcomes {
		text += fmt.Sprintf(", %s %d", strings.TrimSpace(string(o.Status)+" "+string(o.Reason)), o.Count)
	}
	return text
}

const barWidth = 40

// progressText is the progress for people.
func progressText(v report.CampaignProgress) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s of %s  %s\n%s\n", v.Name, v.Kind, v.Account, v.ID, standing(v.Campaign))
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
	if v.Firings > 1 {
		fmt.Fprintf(&b, "firing %d: ", v.Firings)
	}
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

func rate(perSecond float64) string {
	if 0 < perSecond && perSecond < 9.95 {
		return fmt.Sprintf("%.1f/s", perSecond)
	}
	return fmt.Sprintf("%.0f/s", perSecond)
}
