package report

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
)

// CheckOptions say how a campaign is checked.
type CheckOptions struct {
	Samples int              `json:"samples"`
	TestTo  []message.OpenID `json:"test_to"`
}

// A CampaignCheck is what a check found.
type CampaignCheck struct {
	ID         message.ID               `json:"id"`
	Name       string                   `json:"name"`
	Kind       message.Kind             `json:"kind"`
	State      client.CampaignState     `json:"state"`
	Audience   string                   `json:"audience,omitempty"` // file:NAME, tag:ID, followers, sql
	Fits       bool                     `json:"fits"`
	Recipients int                      `json:"recipients"`
	Good       int                      `json:"good"`
	AtCap      int                      `json:"at_cap"`
	Closed     *int                     `json:"window_closed,omitempty"` // users whom it may not answer now; nil: not counted
	Problems   []client.Misfit          `json:"problems"`
	Notes      []string                 `json:"notes"`
	Samples    []client.Sample          `json:"samples"`
	Mass       *client.MassForecast     `json:"mass,omitempty"`
	Forecast   *client.CampaignForecast `json:"forecast,omitempty"`
	Tests      []CampaignTrial          `json:"tests,omitempty"`
}

// A CampaignTrial is a test message to a tester; one of a mass send is WeChat's preview, and has no id.
type CampaignTrial struct {
	To    message.OpenID `json:"to"`
	ID    message.ID     `json:"id,omitzero"`
	Error string         `json:"error,omitempty"`
}

// WeChat is the way to WeChat for one account. Call makes a call with the account's token; where that is refused, once more
// with a new one.
type WeChat struct {
	*wechat.Client
	Call func(context.Context, func(wechat.Token) error) error
}

// askWithin is how long a check waits for WeChat, without whose answers it can be made too.
const askWithin = 10 * time.Second

// Check checks a campaign: with what its account's configuration, its quota and WeChat say, as far as they answer. What was
// not compared stands among the notes.
func (s Source) Check(ctx context.Context, c *client.Client, of client.Campaign, w WeChat, o CheckOptions) (CampaignCheck, error) {
	options := client.CheckOptions{Samples: o.Samples, Testers: o.TestTo}
	account, known := s.Account(of.Account)
	trouble := fmt.Errorf("account %s is not in this configuration", of.Account)
	if known {
		switch of.Kind {
		case message.Mass:
			options.Mass = &account.Mass
		case message.Custom:
			options.Answerable = func(ctx context.Context, users []message.OpenID) ([]bool, error) {
				return s.answerable(ctx, of.Account, account, users, clock.Now())
			}
		}
		asking, cancel := context.WithTimeout(ctx, askWithin)
		trouble = s.ask(asking, account, of, w, &options)
		cancel()
	}
	k, err := c.CheckCampaign(ctx, of.ID.String(), options)
	if err != nil {
		return CampaignCheck{}, err
	}
	v := checkOf(k, o.TestTo)
	if trouble != nil {
		v.Notes = append(v.Notes, "not compared with WeChat: "+trouble.Error())
	}
	if known && of.Kind == message.Mass && len(k.Samples) > 0 {
		v.Tests = preview(ctx, w, k.Samples[0], o.TestTo)
	}
	return v, nil
}

// ask reads the account's templates and what is left of its quota. What it cannot read is left out.
func (s Source) ask(ctx context.Context, a Account, of client.Campaign, w WeChat, o *client.CheckOptions) error {
	api := wechat.PathOf(of.Kind)
	u, err := s.Usage(ctx, a, api)
	if err != nil {
		return err
	}
	limits := a.Limits(api)
	left := limits.PerDay - u.Used
	o.Limits = client.CampaignLimits(RoomOf(limits, left))
	if of.Kind == message.Template || of.Fallback == message.Template {
		if o.Templates, err = templates(ctx, w); err != nil {
			return err
		}
	}
	return w.Call(ctx, func(t wechat.Token) error {
		q, err := w.QuotaGet(ctx, t, api)
		if err == nil {
			o.Limits = client.CampaignLimits(RoomOf(limits, min(left, q.Remain)))
		}
		return err
	})
}

// templates are those of the account; never nil without an error.
func templates(ctx context.Context, w WeChat) (all []client.Template, err error) {
	err = w.Call(ctx, func(t wechat.Token) error {
		list, err := w.Templates(ctx, t)
		if err != nil {
			return err
		}
		all = make([]client.Template, len(list))
		for i, one := range list {
			all[i] = client.Template{ID: one.ID, Title: one.Title, Content: one.Content}
		}
		return nil
	})
	return all, err
}

// preview shows testers a mass message by WeChat's own preview, which counts for nobody's cap.
func preview(ctx context.Context, w WeChat, of client.Sample, testers []message.OpenID) (tests []CampaignTrial) {
	for _, to := range testers {
		t := CampaignTrial{To: to}
		err := w.Call(ctx, func(granted wechat.Token) error {
			_, err := w.MassPreview(ctx, granted, wechat.MassPreview{To: to}, of.Body)
			return err
		})
		if err != nil {
			t.Error = err.Error()
		}
		tests = append(tests, t)
	}
	return tests
}

func checkOf(k client.CampaignCheck, testers []message.OpenID) CampaignCheck {
	v := CampaignCheck{
		ID: k.Campaign.ID, Name: k.Campaign.Name, Kind: k.Campaign.Kind, State: k.Campaign.State, Audience: sourceOf(k), Fits: k.Fits(),
		Recipients: k.Recipients, Good: k.Good, AtCap: k.AtCap, Mass: k.Mass,
		Problems: append([]client.Misfit{}, k.Problems...), Notes: append([]string{}, k.Notes...), Samples: append([]client.Sample{}, k.Samples...),
		Forecast: k.Forecast,
	}
	if k.Closed >= 0 {
		v.Closed = &k.Closed
	}
	for i, r := range k.Tests {
		t := CampaignTrial{To: testers[i], ID: r.ID}
		if r.Err != nil {
			t.Error = r.Err.Error()
		}
		v.Tests = append(v.Tests, t)
	}
	return v
}

// sourceOf is where the campaign's audience comes from, though it is not fetched yet; empty: nobody knows.
func sourceOf(k client.CampaignCheck) string {
	from := k.Campaign.Audience
	switch {
	case from.Tag != 0:
		return fmt.Sprintf("tag:%d", from.Tag)
	case from.Followers:
		return "followers"
	case from.SQL != "":
		return "sql"
	}
	return k.Audience.Source
}
