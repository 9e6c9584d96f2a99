package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

type campaignCheckCommand struct {
	theCampaign
	Samples int              `help:"How many rendered messages to show." default:"5" placeholder:"N"`
	TestTo  []message.OpenID `help:"Send a test message to each of these users; as ordinary messages, with the values of the first recipients." placeholder:"OPENID"`
}

func (*campaignCheckCommand) Help() string {
	return `Renders the message of every recipient, holds it against the rules and against the template's own definition at WeChat, and says
when the campaign would be done with today's quota, its pace and its calendar. Nothing is sent but to testers. The exit code is 1
where it does not fit.

Examples:

  enqueue campaign check double-eleven
  enqueue campaign check double-eleven --test-to oABC,oDEF`
}

// A checkView is what --json writes.
type checkView struct {
	ID         message.ID    `json:"id"`
	Name       string        `json:"name"`
	Fits       bool          `json:"fits"`
	Recipients int           `json:"recipients"`
	Good       int           `json:"good"`
	AtCap      int           `json:"at_cap"`
	Problems   []problemView `json:"problems"`
	Notes      []string      `json:"notes,omitempty"`
	Samples    []sampleView  `json:"samples"`
	Forecast   *forecastView `json:"forecast,omitempty"`
	Tests      []testView    `json:"tests,omitempty"`
}

type problemView struct {
	What  string  `json:"what"`
	Count int     `json:"count,omitempty"`
	First []int32 `json:"first,omitempty"`
}

type sampleView struct {
	N        int32           `json:"n"`
	OpenID   message.OpenID  `json:"openid"`
	Body     json.RawMessage `json:"body"`
	Problems []string        `json:"problems,omitempty"`
}

type forecastView struct {
	Needs     int64             `json:"needs"`
	LeftToday int64             `json:"left_today"`
	Reserve   int64             `json:"reserve"`
	Today     bool              `json:"today"`
	Done      time.Time         `json:"done,omitzero"`
	Days      []forecastDayView `json:"days"`
}

type forecastDayView struct {
	Day      time.Time `json:"day"`
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Messages int64     `json:"messages"`
}

type testView struct {
	To    message.OpenID `json:"to"`
	ID    message.ID     `json:"id,omitzero"`
	Error string         `json:"error,omitempty"`
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
	o := client.CheckOptions{Samples: c.Samples, Testers: c.TestTo}
	if found.Kind == message.Mass {
		o.Mass = massCapsOf(cfg, found.Account)
	}
	trouble := s.askWeChat(ctx, cfg, found, &o)
	k, err := e.CheckCampaign(ctx, found.ID.String(), o)
	if err != nil {
		return campaignError(c.ID, err)
	}
	v := viewOfCheck(k, c.TestTo)
	if found.Kind == message.Mass && len(c.TestTo) > 0 {
		if v.Tests, err = s.previewMass(ctx, found.Account, k.Samples, c.TestTo); err != nil {
			return err
		}
	}
	if trouble != nil {
		v.Notes = append(v.Notes, "not compared with WeChat: "+trouble.Error())
	}
	if s.json {
		err = s.printJSON(v)
	} else {
		_, err = io.WriteString(s.stdout, v.String())
	}
	if err == nil && !v.Fits {
		err = fmt.Errorf("campaign %s does not fit: %s", k.Campaign.Name, count(len(v.Problems), "problem"))
	}
	return err
}

func massCapsOf(cfg *config.Config, name string) *client.MassCaps {
	a, err := account(cfg, name)
	if err != nil {
		return nil
	}
	l := a.Limits.Mass
	return &client.MassCaps{
		PerDay: int(l.PerDay), AllPerDay: int(l.AllPerDay), AllPerMonth: int(l.AllPerMonth), UserPerMonth: int(l.UserPerMonth),
		Observe: l.Mode == "observe", ListsRefused: a.Type == config.SubscriptionAccount,
	}
}

// previewMass shows testers a mass message by WeChat's own preview, which counts for nobody's cap.
func (s *session) previewMass(ctx context.Context, name string, samples []client.Sample, testers []message.OpenID) ([]testView, error) {
	if len(samples) == 0 {
		return nil, nil
	}
	caller, _, err := s.caller(name)
	if err != nil {
		return nil, err
	}
	defer caller.Close()
	var views []testView
	for _, to := range testers {
		v := testView{To: to}
		err := caller.call(ctx, func(t wechat.Token) error {
			_, err := caller.wechat.MassPreview(ctx, t, wechat.MassPreview{To: to}, samples[0].Body)
			return err
		})
		if err != nil {
			v.Error = err.Error()
		}
		views = append(views, v)
	}
	return views, nil
}

// askWeChat reads the account's templates and what is left of its quota. What it cannot read is left out.
func (s *session) askWeChat(ctx context.Context, cfg *config.Config, of client.Campaign, o *client.CheckOptions) error {
	a, err := account(cfg, of.Account)
	if err != nil {
		return err
	}
	caller, _, err := s.caller(of.Account)
	if err != nil {
		return err
	}
	defer caller.Close()
	api := wechat.PathOf(of.Kind)
	limits := limitsOf(a, api)
	quota := ratelimit.New(caller.rdb, "enqueue", func(ratelimit.Key) ratelimit.Limits { return limits })
	u, err := quota.Usage(ctx, ratelimit.Key{App: message.AppID(a.AppID), API: api})
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	left := limits.PerDay - u.Used
	o.Limits = client.CampaignLimits(report.RoomOf(limits, left))
	if of.Kind == message.Template {
		err = caller.call(ctx, func(t wechat.Token) error {
			list, err := caller.wechat.Templates(ctx, t)
			o.Templates = []client.Template{}
			for _, one := range list {
				o.Templates = append(o.Templates, client.Template{ID: one.ID, Title: one.Title, Content: one.Content})
			}
			return err
		})
		if err != nil {
			o.Templates = nil
			return err
		}
	}
	q, err := askQuota(ctx, caller, api)
	if err != nil {
		return err
	}
	o.Limits = client.CampaignLimits(report.RoomOf(limits, min(left, q.Left)))
	return nil
}

func viewOfCheck(k client.CampaignCheck, testers []message.OpenID) checkView {
	v := checkView{
		ID: k.Campaign.ID, Name: k.Campaign.Name, Fits: k.Fits(), Recipients: k.Recipients, Good: k.Good, AtCap: k.AtCap,
		Problems: []problemView{}, Notes: k.Notes, Samples: []sampleView{},
	}
	for _, p := range k.Problems {
		v.Problems = append(v.Problems, problemView(p))
	}
	for _, one := range k.Samples {
		v.Samples = append(v.Samples, sampleView(one))
	}
	if f := k.Forecast; f != nil {
		v.Forecast = &forecastView{Needs: f.Needs, LeftToday: f.LeftToday, Reserve: f.Reserve, Today: f.Today, Done: f.Done, Days: []forecastDayView{}}
		for _, d := range f.Days {
			v.Forecast.Days = append(v.Forecast.Days, forecastDayView(d))
		}
	}
	for i, r := range k.Tests {
		t := testView{To: testers[i], ID: r.ID}
		if r.Err != nil {
			t.Error = r.Err.Error()
		}
		v.Tests = append(v.Tests, t)
	}
	return v
}

// String is the check for people.
func (v checkView) String() string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s  %s\n", v.Name, v.ID)
	if v.Recipients > 0 && len(v.Samples) > 0 {
		fmt.Fprintf(&b, "rendered %d messages, of which %d may be sent\n", v.Recipients, v.Good)
	}
	for _, one := range v.Samples {
		fmt.Fprintf(&b, "\n  to recipient %d, %s:\n    %s\n", one.N, one.OpenID, one.Body)
		for _, p := range one.Problems {
			fmt.Fprintf(&b, "    ! %s\n", p)
		}
	}
	b.WriteByte('\n')
	if v.AtCap > 0 {
		fmt.Fprintf(&b, "caps: %s had enough and will be left out\n", count(v.AtCap, "user"))
	}
	if f := v.Forecast; f != nil {
		fmt.Fprintf(&b, "needs %d; left today %d, of which %d are kept for urgent messages\n", f.Needs, f.LeftToday, f.Reserve)
		for _, d := range f.Days {
			fmt.Fprintf(&b, "  %s  %9d from %s to %s\n", message.Beijing(d.Day).Format(time.DateOnly), d.Messages, minute(d.From), minute(d.To))
		}
		if !f.Done.IsZero() {
			fmt.Fprintf(&b, "started now, it is done at %s\n", report.Clock(f.Done))
		}
	}
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
	if v.Fits {
		fmt.Fprintf(&b, "it fits; next: enqueue campaign start %s\n", v.Name)
	}
	return b.String()
}

func minute(t time.Time) string { return t.Local().Format("15:04") }
