package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/config"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/report"
	"github.com/hongyan-dispatch/hongyan/internal/token"
	"github.com/hongyan-dispatch/hongyan/internal/wechat"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// apiCampaigns are the client's campaigns as the door knows them.
type apiCampaigns struct {
	*client.Client
	store    *postgres.Store
	source   report.Source
	accounts accounts
	tokens   *token.Source
}

func (s *server) apiCampaigns(source report.Source, all accounts, log *slog.Logger) apiCampaigns {
	host, _ := os.Hostname()
	tokens := newTokens(s.rdb, fmt.Sprintf("server@%s/%d", host, os.Getpid()), all, log)
	return apiCampaigns{s.producer, s.store, source, all, tokens}
}

// campaignError is an error of the client's as the door knows it.
func campaignError(err error) error {
	if spec, ok := errors.AsType[*client.SpecError](err); ok {
		var list []campaign.Finding
		for _, m := range spec.Mistakes {
			list = append(list, campaign.Finding(m))
		}
		return api.FindingsOf(list)
	}
	if there, ok := errors.AsType[*client.AudienceThereError](err); ok {
		return &api.Standing{Kind: api.AudienceThere, Why: there.Error(), Remedy: "say resume=true or restart=true"}
	}
	if ready, ok := errors.AsType[*client.NotReadyError](err); ok {
		return &api.Standing{Kind: api.NotReady, Why: ready.Why, Remedy: ready.Remedy}
	}
	switch {
	case errors.Is(err, client.ErrNoCampaign):
		return fmt.Errorf("%w: %w", api.ErrNotFound, err)
	case errors.Is(err, client.ErrOtherInput):
		return &api.Standing{Kind: api.OtherAudience, Why: err.Error(), Remedy: "post the file that it began with, under the same name, or say restart=true"}
	case errors.Is(err, postgres.ErrImportMoved):
		return &api.Standing{Kind: api.WrongState, Why: err.Error(), Remedy: "see how far it is (GET the campaign); where it stands still, go on with resume=true"}
	case errors.Is(err, client.ErrState):
		return &api.Standing{Kind: api.WrongState, Why: err.Error()}
	case errors.Is(err, client.ErrNothingToRetry):
		return &api.Standing{Kind: api.NothingToRetry, Why: err.Error()}
	case errors.Is(err, client.ErrNotAudience):
		return fmt.Errorf("%w: %w", api.ErrUnreadable, err)
	}
	return apiError(err)
}

func apiCampaign(c client.Campaign) api.Campaign {
	return api.Campaign{
		ID: c.ID, Name: c.Name, Account: c.Account, Kind: c.Kind, State: campaign.State(c.State), Reason: c.Reason, Until: c.Until,
		NextTick: c.NextTick, Created: c.CreatedAt, Changed: c.ChangedAt, From: api.CampaignSource(c.Audience),
	}
}

func (a apiCampaigns) Create(ctx context.Context, spec []byte) (api.Campaign, bool, error) {
	c, err := a.CreateCampaign(ctx, spec)
	if taken, ok := errors.AsType[*client.NameTakenError](err); ok && taken.Same {
		return apiCampaign(taken.Campaign), true, nil
	}
	return apiCampaign(c), false, campaignError(err)
}

func (a apiCampaigns) Campaign(ctx context.Context, id message.ID) (api.Campaign, error) {
	c, err := a.Client.Campaign(ctx, id.String())
	return apiCampaign(c), campaignError(err)
}

func (a apiCampaigns) List(ctx context.Context, f api.CampaignFilter) ([]api.Campaign, error) {
	filter := client.CampaignFilter{Account: f.Account, Name: f.Name, Before: f.Before, Limit: f.Limit}
	for _, s := range f.States {
		filter.States = append(filter.States, client.CampaignState(s))
	}
	rows, err := a.Campaigns(ctx, filter)
	list := make([]api.Campaign, len(rows))
	for i, c := range rows {
		list[i] = apiCampaign(c)
	}
	return list, campaignError(err)
}

func (a apiCampaigns) Progress(ctx context.Context, id message.ID) (api.CampaignProgress, error) {
	p, err := a.CampaignProgress(ctx, id.String())
	if err != nil {
		return api.CampaignProgress{}, campaignError(err)
	}
	v := api.CampaignProgress{
		Campaign: apiCampaign(p.Campaign), Firings: p.Firings, Tick: p.Tick, Started: p.StartedAt, Finished: p.EndedAt, Now: p.Now,
		Total: p.Total, Ended: p.Ended(), Waiting: p.Waiting, Outcomes: []api.OutcomeCount{},
	}
	for _, o := range p.Outcomes {
		v.Outcomes = append(v.Outcomes, api.OutcomeCount(o))
	}
	v.PerSecond, v.ETA = p.Rate(client.CampaignProgress{})
	if p.Audience.Source != "" {
		audience := api.Audience(p.Audience)
		v.Audience = &audience
	}
	return v, nil
}

func (a apiCampaigns) Import(ctx context.Context, id message.ID, u api.Upload) (api.Audience, error) {
	into, err := a.ImportAudience(ctx, id.String(), u.Name, u.Body, client.ImportOptions{
		Resume: u.Resume, Restart: u.Restart, Format: u.Format, Encoding: u.Encoding, MaxWorkbook: u.MaxWorkbook,
		Rejected: func(r client.Reject) error { u.Rejected(api.Reject(r)); return nil },
	})
	return api.Audience(into), campaignError(err)
}

func (a apiCampaigns) RollBack(ctx context.Context, id message.ID) (api.Audience, error) {
	gone, err := a.RollBackImport(ctx, id.String())
	return api.Audience(gone), campaignError(err)
}

func (a apiCampaigns) Move(ctx context.Context, id message.ID, v campaign.Verb, reason string) (campaign.State, error) {
	var state client.CampaignState
	var err error
	switch v {
	case campaign.Start:
		state, err = a.StartCampaign(ctx, id.String())
	case campaign.Pause:
		state, err = a.PauseCampaign(ctx, id.String(), reason)
	case campaign.Resume:
		state, err = a.ResumeCampaign(ctx, id.String())
	case campaign.Cancel:
		state, err = a.CancelCampaign(ctx, id.String(), reason)
	}
	return campaign.State(state), campaignError(err)
}

func (a apiCampaigns) Retry(ctx context.Context, id message.ID, reasons []outcome.Reason, countOnly bool) (int, error) {
	n, err := a.RetryFailed(ctx, id.String(), client.RetryOptions{Reasons: reasons, DryRun: countOnly})
	return n, campaignError(err)
}

func (a apiCampaigns) Export(ctx context.Context, id message.ID, w io.Writer) error {
	return campaignError(a.ExportCampaign(ctx, id.String(), w))
}

func (a apiCampaigns) Authors(ctx context.Context, c api.Campaign) ([]string, error) {
	return a.store.CampaignAuthors(ctx, c.Account, c.Name, c.ID, c.Created)
}

// askWithin is how long a check waits for WeChat, without whose answers it can be made too.
const askWithin = 10 * time.Second

func (a apiCampaigns) Check(ctx context.Context, of api.Campaign, o api.CheckOptions) (api.CampaignCheck, error) {
	options := client.CheckOptions{Samples: o.Samples, Testers: o.TestTo}
	account, known := a.accounts[of.Account]
	trouble := fmt.Errorf("account %s is not in this server's configuration", of.Account)
	if known {
		if of.Kind == message.Mass {
			options.Mass = massCapsOf(account)
		}
		asking, cancel := context.WithTimeout(ctx, askWithin)
		trouble = a.ask(asking, account, of.Kind, &options)
		cancel()
	}
	k, err := a.CheckCampaign(ctx, of.ID.String(), options)
	if err != nil {
		return api.CampaignCheck{}, campaignError(err)
	}
	v := apiCheck(k, o.TestTo)
	if trouble != nil {
		v.Notes = append(v.Notes, "not compared with WeChat: "+trouble.Error())
	}
	if known && of.Kind == message.Mass && len(k.Samples) > 0 { // WeChat's own preview, which counts for nobody's cap
		for _, to := range o.TestTo {
			t := api.CampaignTrial{To: to}
			err := a.call(ctx, account, func(granted wechat.Token) error {
				_, err := account.client.MassPreview(ctx, granted, wechat.MassPreview{To: to}, k.Samples[0].Body)
				return err
			})
			if err != nil {
				t.Error = err.Error()
			}
			v.Tests = append(v.Tests, t)
		}
	}
	return v, nil
}

func massCapsOf(a *account) *client.MassCaps {
	c := a.caps
	return &client.MassCaps{
		PerDay: c.PerDay, AllPerDay: c.AllPerDay, AllPerMonth: c.AllPerMonth, UserPerMonth: c.UserPerMonth, Observe: c.Observe,
		ListsRefused: a.Type == config.SubscriptionAccount,
	}
}

// ask reads the account's templates and what is left of its quota. What it cannot read is left out.
func (a apiCampaigns) ask(ctx context.Context, of *account, kind message.Kind, o *client.CheckOptions) error {
	reported, _ := a.accounts.reported(of.Name)
	path := wechat.PathOf(kind)
	u, err := a.source.Usage(ctx, reported, path)
	if err != nil {
		return err
	}
	limits := reported.Limits(path)
	left := limits.PerDay - u.Used
	o.Limits = client.CampaignLimits(report.RoomOf(limits, left))
	if kind == message.Template {
		err := a.call(ctx, of, func(t wechat.Token) error {
			list, err := of.client.Templates(ctx, t)
			if err == nil {
				o.Templates = []client.Template{}
			}
			for _, one := range list {
				o.Templates = append(o.Templates, client.Template{ID: one.ID, Title: one.Title, Content: one.Content})
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return a.call(ctx, of, func(t wechat.Token) error {
		q, err := of.client.QuotaGet(ctx, t, path)
		if err == nil {
			o.Limits = client.CampaignLimits(report.RoomOf(limits, min(left, q.Remain)))
		}
		return err
	})
}

// call makes a call with the account's token; where WeChat refuses the token, once more with a new one.
func (a apiCampaigns) call(ctx context.Context, of *account, f func(wechat.Token) error) error {
	app := message.AppID(of.AppID)
	t, err := a.tokens.Token(ctx, app)
	if err != nil {
		return fmt.Errorf("access token: %w", err)
	}
	err = f(t)
	if refused, ok := errors.AsType[*wechat.Error](err); ok && refused.TokenRefused() {
		if t, err = a.tokens.Refresh(ctx, app, t); err != nil {
			return fmt.Errorf("access token: %w", err)
		}
		err = f(t)
	}
	return err
}

func apiCheck(k client.CampaignCheck, testers []message.OpenID) api.CampaignCheck {
	v := api.CampaignCheck{
		ID: k.Campaign.ID, Name: k.Campaign.Name, Fits: k.Fits(), Recipients: k.Recipients, Good: k.Good, AtCap: k.AtCap,
		Problems: []api.Misfit{}, Notes: append([]string{}, k.Notes...), Samples: []api.Sample{},
	}
	for _, p := range k.Problems {
		v.Problems = append(v.Problems, api.Misfit(p))
	}
	for _, s := range k.Samples {
		v.Samples = append(v.Samples, api.Sample(s))
	}
	if f := k.Forecast; f != nil {
		v.Forecast = &api.Forecast{Needs: f.Needs, LeftToday: f.LeftToday, Reserve: f.Reserve, Today: f.Today, Done: f.Done, Days: []api.ForecastDay{}}
		for _, d := range f.Days {
			v.Forecast.Days = append(v.Forecast.Days, api.ForecastDay(d))
		}
	}
	for i, r := range k.Tests {
		t := api.CampaignTrial{To: testers[i], ID: r.ID}
		if r.Err != nil {
			t.Error = r.Err.Error()
		}
		v.Tests = append(v.Tests, t)
	}
	return v
}
