package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

type campaignCreateCommand struct {
	Spec     string `arg:"" help:"What is sent, to whom and when (YAML or JSON); - is standard input."`
	Audience string `help:"Its audience, imported at once: CSV, JSON Lines or Excel. Default: the file that the spec names, beside it." placeholder:"FILE"`
	Rejects  string `help:"Where refused rows of the audience go. Default: FILE.rejects.jsonl." placeholder:"PATH"`
}

func (*campaignCreateCommand) Help() string {
	return `The spec is described in docs/campaigns.md; what is wrong with it is told with its line, and nothing is written then. Nothing is
sent before enqueue campaign start. An audience of a tag, of all followers or of a query is fetched by the workers at each firing.

Examples:

  enqueue campaign create campaign.yaml --audience audience.csv
  enqueue campaign create campaign.yaml --json`
}

// maxSpec bounds a spec.
const maxSpec = 1 << 20

// Run creates the campaign.
func (c *campaignCreateCommand) Run(ctx context.Context, s *session) error {
	text, err := s.readAll("SPEC", c.Spec, maxSpec)
	if err != nil {
		return err
	}
	e, _, err := s.campaigns(ctx)
	if err != nil {
		return err
	}
	defer e.Close()
	flags := importFlags{Rejects: c.Rejects}
	var audience *fileImport
	if c.Audience != "" { // one that is not there costs no campaign
		if audience, err = openImport(s, c.Audience, flags); err != nil {
			return err
		}
	}
	created, err := e.CreateCampaign(ctx, text)
	if err != nil {
		if audience != nil {
			_, err = audience.close(err)
		}
		return err
	}
	view := struct {
		ID       message.ID            `json:"id"`
		Name     string                `json:"name"`
		Audience *client.AudienceState `json:"audience,omitempty"`
	}{ID: created.ID, Name: created.Name}
	if audience == nil && created.Audience.File != "" {
		audience, err = openImport(s, besides(c.Spec, created.Audience.File), flags)
	}
	if audience != nil {
		var a client.AudienceState
		a, err = s.importFile(ctx, e, created.ID, audience)
		view.Audience = &a
	}
	if err != nil {
		return fmt.Errorf("%w; the campaign is written as %s, without its audience: go on with enqueue campaign import %[2]s FILE", err, created.ID)
	}
	next := "next: enqueue campaign check " + created.Name
	if audience == nil && !created.Audience.Pulled() {
		next = "next: enqueue campaign import " + created.Name + " FILE"
	}
	line := fmt.Sprintf("created %s (%s)", created.ID, created.Name)
	if view.Audience != nil {
		line += " for " + count(view.Audience.Recipients, "recipient")
	}
	return s.print(view, "%s; %s", line, next)
}

// besides is a file that another names, from where that one lies.
func besides(spec, file string) string {
	if spec == "-" || filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(filepath.Dir(spec), file)
}
