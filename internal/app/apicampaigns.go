package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/api"
	"github.com/hongyan-dispatch/hongyan/internal/campaign"
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
	if refusal := campaignRefusal(err); refusal != nil {
		return refusal
	}
	return apiError(err)
}

// campaignChanged is the error of a call that changes a campaign: whether it did is not known where the answer was lost.
func campaignChanged(err error) error {
	if refusal := campaignRefusal(err); refusal != nil {
		return refusal
	}
	return changed(err)
}

// campaignRefusal is what the client says of a campaign as the door says it; nil: it is another error, or none.
func campaignRefusal(err error) error {
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
	return nil
}

func (a apiCampaigns) Create(ctx context.Context, spec []byte) (client.Campaign, bool, error) {
	c, err := a.CreateCampaign(ctx, spec)
	if taken, ok := errors.AsType[*client.NameTakenError](err); ok && taken.Same {
		return taken.Campaign, true, nil
	}
	return c, false, campaignChanged(err)
}

func (a apiCampaigns) Campaign(ctx context.Context, id message.ID) (client.Campaign, error) {
	c, err := a.Client.Campaign(ctx, id.String())
	return c, campaignError(err)
}

func (a apiCampaigns) List(ctx context.Context, f client.CampaignFilter) ([]client.Campaign, error) {
	list, err := a.Campaigns(ctx, f)
	return list, campaignError(err)
}

func (a apiCampaigns) Progress(ctx context.Context, id message.ID) (report.CampaignProgress, error) {
	p, err := a.CampaignProgress(ctx, id.String())
	if err != nil {
		return report.CampaignProgress{}, campaignError(err)
	}
	return report.ProgressOf(p, client.CampaignProgress{}), nil
}

func (a apiCampaigns) Import(ctx context.Context, id message.ID, u api.Upload) (client.AudienceState, error) {
	into, err := a.ImportAudience(ctx, id.String(), u.Name, u.Body, client.ImportOptions{
		Resume: u.Resume, Restart: u.Restart, Format: u.Format, Encoding: u.Encoding, MaxWorkbook: u.MaxWorkbook,
		Rejected: func(r client.Reject) error { u.Rejected(r); return nil },
	})
	return into, campaignError(err)
}

func (a apiCampaigns) RollBack(ctx context.Context, id message.ID) (client.AudienceState, error) {
	gone, err := a.RollBackImport(ctx, id.String())
	return gone, campaignChanged(err)
}

func (a apiCampaigns) Move(ctx context.Context, id message.ID, v campaign.Verb, reason string) (state client.CampaignState, err error) {
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
	return state, campaignChanged(err)
}

func (a apiCampaigns) Retry(ctx context.Context, id message.ID, reasons []outcome.Reason, countOnly bool) (int, error) {
	n, err := a.RetryFailed(ctx, id.String(), client.RetryOptions{Reasons: reasons, DryRun: countOnly})
	if countOnly {
		return n, campaignError(err)
	}
	return n, campaignChanged(err)
}

func (a apiCampaigns) Export(ctx context.Context, id message.ID, w io.Writer) error {
	return campaignError(a.ExportCampaign(ctx, id.String(), w))
}

func (a apiCampaigns) Authors(ctx context.Context, c client.Campaign) ([]string, error) {
	return a.store.CampaignAuthors(ctx, c.Account, c.Name, c.ID, c.CreatedAt)
}

func (a apiCampaigns) Check(ctx context.Context, of client.Campaign, o report.CheckOptions) (report.CampaignCheck, error) {
	k, err := a.source.Check(ctx, a.Client, of, a.wechat(of.Account), o)
	return k, campaignError(err)
}

// wechat is the way to WeChat for an account, if it is configured.
func (a apiCampaigns) wechat(name string) report.WeChat {
	of, known := a.accounts[name]
	if !known {
		return report.WeChat{}
	}
	return report.WeChat{Client: of.client, Call: func(ctx context.Context, f func(wechat.Token) error) error { return a.call(ctx, of, f) }}
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
