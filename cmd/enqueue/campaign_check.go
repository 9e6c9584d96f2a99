package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

type campaignCheckCommand struct {
	theCampaign
	Samples int              `help:"How many rendered messages to show. Default: 5." default:"5" placeholder:"N"`
	TestTo  []message.OpenID `help:"Send a test message to each of these users; as ordinary messages, with the values of the first recipients." placeholder:"OPENID"`
}

func (*campaignCheckCommand) Help() string {
	return `Renders the message of every recipient, holds it against the rules and against the template's own definition at WeChat, and says
when the campaign would be done, started now or at the next time of its schedule, with the day's quota, its pace and its calendar.
Nothing is sent but to testers. The exit code is 1 where it does not fit.

Examples:

  enqueue campaign check double-eleven
  enqueue campaign check double-eleven --test-to oABC,oDEF`
}

// Run checks the campaign.
func (c *campaignCheckCommand) Run(ctx context.Context, s *session) error {
	if c.Samples < 1 || c.Samples > 100 {
		return refuse("--samples: want 1 to 100, got %d", c.Samples)
	}
	for _, to := range c.TestTo {
		if err := to.Check(); err != nil {
			return refuse("--test-to: %w", err)
		}
	}
	e, cfg, err := s.campaigns(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	found, err := e.Campaign(ctx, c.ID)
	if err != nil {
		return campaignError(c.ID, err)
	}
	v, err := s.check(ctx, e, cfg, found, report.CheckOptions{Samples: c.Samples, TestTo: c.TestTo})
	if err != nil {
		return campaignError(c.ID, err)
	}
	if found.Audience.SQL != "" && cfg.Campaigns.Database.IsZero() {
		v.Notes = append(v.Notes, "campaigns.database is not in this configuration; without it in theirs, the workers cannot fetch its audience")
	}
	if s.json {
		err = s.printJSON(v)
	} else {
		_, err = io.WriteString(s.stdout, checkText(v))
	}
	if err == nil && !v.Fits {
		err = fmt.Errorf("campaign %s does not fit: %s", v.Name, count(len(v.Problems), "problem"))
	}
	return err
}

// check asks the ledger, Redis and WeChat.
func (s *session) check(ctx context.Context, e *client.Client, cfg *config.Config, of client.Campaign, o report.CheckOptions) (report.CampaignCheck, error) {
	rdb, err := tasks.Redis(cfg.Redis.URL.Reveal())
	if err != nil {
		return report.CampaignCheck{}, refuse("%w", err)
	}
	defer rdb.Close()
	store, err := s.ledger(ctx)
	if err != nil {
		return report.CampaignCheck{}, err
	}
	defer store.Close()
	from := report.Source{Store: store, Redis: rdb, Account: accountsOf(cfg)}
	var way report.WeChat
	if a, known := cfg.Account(of.Account); known {
		caller := newCaller(a, rdb)
		way = report.WeChat{Client: caller.wechat, Call: caller.call}
	}
	return from.Check(ctx, e, of, way, o)
}

// checkText is the check for people.
func checkText(v report.CampaignCheck) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  %s\n", v.Name, v.ID)
	if v.Kind != message.Mass && v.Recipients > 0 && len(v.Samples) > 0 {
		fmt.Fprintf(&b, "rendered %d messages, of which %d may be sent\n", v.Recipients, v.Good)
	}
	for _, one := range v.Samples {
		fmt.Fprintf(&b, "\n  %s:\n    %s\n", addressee(v, one), one.Body)
		if len(one.Fallback) > 0 {
			fmt.Fprintf(&b, "    or %s\n", one.Fallback)
		}
		for _, p := range one.Problems {
			fmt.Fprintf(&b, "    ! %s\n", p)
		}
	}
	b.WriteByte('\n')
	if v.AtCap > 0 {
		fmt.Fprintf(&b, "caps: %s had enough and will be left out\n", count(v.AtCap, "user"))
	}
	if v.Closed != nil {
		fmt.Fprintf(&b, "windows: %d of %s may not be answered now, and get no message, or its fallback\n", *v.Closed, count(v.Recipients, "user"))
	}
	massText(&b, v)
	forecastText(&b, v)
	for _, t := range v.Tests {
		if t.Error != "" {
			fmt.Fprintf(&b, "test to %s: %s\n", t.To, t.Error)
		} else if t.ID.IsZero() {
			fmt.Fprintf(&b, "shown to %s\n", t.To)
		} else {
			fmt.Fprintf(&b, "test to %s: %s\n", t.To, t.ID)
		}
	}
	for _, n := range v.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, p := range v.Problems {
		fmt.Fprintf(&b, "problem: %s", p.What)
		if p.Count > 0 {
			fmt.Fprintf(&b, " (%s; the first: %v)", count(p.Count, "recipient"), p.First)
		}
		b.WriteByte('\n')
	}
	if v.Fits && v.State != client.CampaignDraft {
		fmt.Fprintf(&b, "it fits; it is %s\n", v.State)
	} else if v.Fits {
		fmt.Fprintf(&b, "it fits; next: enqueue campaign start %s\n", v.Name)
	}
	return b.String()
}

// addressee says whom a sample is for.
func addressee(v report.CampaignCheck, one client.Sample) string {
	tag, tagged := strings.CutPrefix(v.Audience, "tag:")
	switch {
	case v.Kind == message.Mass && one.OpenID != "":
		return fmt.Sprintf("to a list of %s, the first of them %s", count(v.Recipients, "user"), one.OpenID)
	case one.OpenID != "":
		return fmt.Sprintf("to recipient %d, %s", one.N, one.OpenID)
	case tagged:
		return "to everybody with tag " + tag
	case v.Audience == "followers":
		return "to all followers"
	}
	return "to everybody in its audience"
}

// massText says what the caps of mass sends make of it.
func massText(b *bytes.Buffer, v report.CampaignCheck) {
	m := v.Mass
	if m == nil {
		return
	}
	fmt.Fprintf(b, "goes in %s", count(m.Messages, "mass message"))
	if m.Users > 0 {
		fmt.Fprintf(b, ", to %s", count(m.Users, "user"))
	}
	switch {
	case m.Cap == "":
		fmt.Fprintf(b, "; the account's caps allow it at %s\n", beijingTime(m.At))
	case m.Allowed.IsZero():
		fmt.Fprintf(b, "; the account's cap %s never allows it\n", m.Cap)
	default:
		fmt.Fprintf(b, "; the account's cap %s allows it from %s on\n", m.Cap, beijingTime(m.Allowed))
	}
}

// forecastText says when it would be done, all by Beijing's clock: the days are WeChat's.
func forecastText(b *bytes.Buffer, v report.CampaignCheck) {
	f := v.Forecast
	if f == nil {
		return
	}
	fmt.Fprintf(b, "needs %s; left today %d", count(int(f.Needs), "call"), f.LeftToday)
	if !f.Start.IsZero() {
		fmt.Fprintf(b, ", on each later day %d", f.PerDay)
	}
	if f.Reserve > 0 {
		fmt.Fprintf(b, ", of which %d are kept for urgent messages", f.Reserve)
	}
	b.WriteByte('\n')
	for _, d := range f.Days {
		fmt.Fprintf(b, "  %s  %9d from %s to %s\n", message.Beijing(d.Day).Format(time.DateOnly), d.Messages, beijingMinute(d.From), beijingMinute(d.To))
	}
	start := "now"
	if !f.Start.IsZero() {
		start = "at " + message.Beijing(f.Start).Format(time.DateTime)
	}
	if !f.Done.IsZero() {
		fmt.Fprintf(b, "started %s, it is done at %s\n", start, beijingTime(f.Done))
	}
}

func beijingMinute(t time.Time) string { return message.Beijing(t).Format("15:04") }

// beijingTime is a time for people, by WeChat's clock.
func beijingTime(t time.Time) string {
	return message.Beijing(t).Format(time.DateTime) + ", Beijing time"
}
