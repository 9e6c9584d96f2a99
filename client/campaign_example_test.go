package client_test

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/hongyan-dispatch/hongyan/client"
)

func ExampleClient_CreateCampaign() {
	ctx := context.Background()
	c, err := client.New(ctx, client.Options{Redis: os.Getenv("HONGYAN_REDIS_URL"), Database: os.Getenv("HONGYAN_DATABASE_URL")})
	if err != nil {
		slog.Error("cannot create a campaign", "err", err)
		return
	}
	defer c.Close()
	campaign, err := c.CreateCampaign(ctx, []byte(`
name: member-day
account: shop
kind: template
template: {template_id: campaign, data: {thing1: {value: "{{.name}}，会员日满减已开启"}}}
frequency_cap: {messages: 2, per: week}
`))
	if wrong, ok := errors.AsType[*client.SpecError](err); ok {
		for _, m := range wrong.Mistakes {
			slog.Error("mend the spec", "line", m.Line, "path", m.Path, "rule", m.Rule)
		}
		return
	} else if err != nil {
		slog.Error("cannot create a campaign", "err", err)
		return
	}
	file, err := os.Open("members.csv")
	if err != nil {
		slog.Error("cannot read the audience", "err", err)
		return
	}
	defer file.Close()
	id := campaign.ID.String()
	_, err = c.ImportAudience(ctx, id, file.Name(), file, client.ImportOptions{
		Resume:   true, // where the last run of this program was killed
		Rejected: func(r client.Reject) error { slog.Warn("not taken", "line", r.Line, "reason", r.Reason); return nil },
	})
	if err != nil {
		slog.Error("run it again", "err", err)
		return
	}
	check, err := c.CheckCampaign(ctx, id, client.CheckOptions{})
	if err != nil || !check.Fits() {
		slog.Error("it does not fit", "problems", check.Problems, "err", err)
		return
	}
	if _, err := c.StartCampaign(ctx, id); err != nil {
		slog.Error("cannot start", "err", err)
	}
}

func ExampleClient_CampaignProgress() {
	ctx := context.Background()
	c, err := client.New(ctx, client.Options{Redis: os.Getenv("HONGYAN_REDIS_URL"), Database: os.Getenv("HONGYAN_DATABASE_URL")})
	if err != nil {
		return
	}
	defer c.Close()
	p, err := c.CampaignProgress(ctx, "member-day")
	if errors.Is(err, client.ErrNoCampaign) {
		slog.Error("create it first", "err", err)
		return
	}
	slog.Info("so far", "state", p.Campaign.State, "ended", p.Ended(), "total", p.Total)
	for _, o := range p.Outcomes {
		slog.Info("outcome", "status", o.Status, "reason", o.Reason, "count", o.Count)
	}
}
