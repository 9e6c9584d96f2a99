package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// campaignRoutes are the operations of campaigns.
func (h *Handler) campaignRoutes() []route {
	move := func(v campaign.Verb) func(*call) error { return func(c *call) error { return h.moveCampaign(c, v) } }
	return []route{
		{"createCampaign", "POST", "/v1/campaigns", h.createCampaign},
		{"listCampaigns", "GET", "/v1/campaigns", h.listCampaigns},
		{"getCampaign", "GET", "/v1/campaigns/{id}", h.getCampaign},
		{"importAudience", "POST", "/v1/campaigns/{id}/audience", h.importAudience},
		{"rollBackAudience", "POST", "/v1/campaigns/{id}/audience/rollback", h.rollBackAudience},
		{"checkCampaign", "POST", "/v1/campaigns/{id}/check", h.checkCampaign},
		{"startCampaign", "POST", "/v1/campaigns/{id}/start", h.startCampaign},
		{"pauseCampaign", "POST", "/v1/campaigns/{id}/pause", move(campaign.Pause)},
		{"resumeCampaign", "POST", "/v1/campaigns/{id}/resume", move(campaign.Resume)},
		{"cancelCampaign", "POST", "/v1/campaigns/{id}/cancel", move(campaign.Cancel)},
		{"retryFailed", "POST", "/v1/campaigns/{id}/retry-failed", h.retryFailed},
		{"exportOutcomes", "GET", "/v1/campaigns/{id}/outcomes", h.exportOutcomes},
	}
}

// campaign is the one in the path, if the key may do the action with it. Who may not even read it is not told of it.
func (h *Handler) campaign(c *call, action Action) (client.Campaign, error) {
	id, err := c.id()
	if err != nil {
		return client.Campaign{}, err
	}
	found, err := h.options.Campaigns.Campaign(c.ctx(), id)
	switch {
	case err != nil:
	case c.key.May(found.Account, found.Kind, action):
	case c.key.May(found.Account, found.Kind, Read):
		err = forbidden(fmt.Sprintf("the key may read %s campaigns of %s, and not %s them", found.Kind, found.Account, action))
	default:
		err = ErrNotFound
	}
	return found, err
}

// standing is the problem of what a campaign does not allow now.
func standing(err error) error {
	if s, ok := errors.AsType[*Standing](err); ok {
		return trouble(http.StatusConflict, s.Kind, "The campaign does not allow it now", s.Why, s.Remedy)
	}
	return refused(err)
}

// maxSpec bounds a campaign's spec.
const maxSpec = 1 << 20

// specType says whether the body is JSON or YAML, which one parser reads.
func (c *call) specType() error {
	given, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err == nil && slices.Contains([]string{typeJSON, "application/yaml", "application/x-yaml", "text/yaml"}, given) && c.r.Header.Get("Content-Encoding") == "" {
		return nil
	}
	return unsupported("Content-Type "+quote(c.r.Header.Get("Content-Type")), "send Content-Type: "+typeJSON+" or application/yaml, not packed")
}

func (h *Handler) createCampaign(c *call) error {
	if err := c.specType(); err != nil {
		return err
	}
	text, err := h.read(c, maxSpec, "a spec holds texts and rules; upload its audience to /v1/campaigns/ID/audience")
	if err != nil {
		return err
	}
	spec, err := campaign.ParseSpec(text)
	if wrong, ok := errors.AsType[*campaign.Error](err); ok {
		return invalid(few(FindingsOf(wrong.Findings)))
	} else if err != nil {
		return malformed(err.Error(), "")
	}
	if bad := h.forbidsSpec(c.key, spec); bad != nil {
		p := forbidden(bad.Error())
		p.Errors = bad
		return p
	}
	if err := h.audit.now(c.ctx(), c.entry(createdCampaign, spec.Account, spec.Name, string(spec.Kind), 1)); err != nil {
		return err
	}
	made, duplicate, err := h.options.Campaigns.Create(c.ctx(), text)
	if err != nil {
		return standing(err)
	}
	status := http.StatusCreated
	if duplicate {
		status = http.StatusOK
	}
	c.w.Header().Set("Location", "/v1/campaigns/"+made.ID.String())
	write(c.w, status, struct {
		client.Campaign
		Duplicate bool `json:"duplicate"`
	}{made, duplicate})
	return nil
}

// What the audit log calls the doings of which the approval of a mass campaign asks.
const (
	createdCampaign = "campaign create"
	importedInto    = "campaign import"
)

// FindingsOf are a spec's findings as the door tells of them.
func FindingsOf(list []campaign.Finding) message.Invalid {
	found := make(message.Invalid, len(list))
	for i, f := range list {
		rule := f.Rule
		if f.Remedy != "" {
			rule += "; " + f.Remedy
		}
		if f.Line > 0 {
			rule += " (line " + strconv.Itoa(f.Line) + ")"
		}
		found[i] = message.FieldError{Path: f.Path, Rule: rule}
	}
	return found
}

// forbidsSpec says what of a spec the key does not allow, and gives its account the name that the ledger uses.
func (h *Handler) forbidsSpec(k *holder, s *campaign.Spec) message.Invalid {
	name, known := h.options.Accounts.Name(s.Account)
	if !known || !k.knows(name) {
		return message.Invalid{{Path: "account", Rule: "want an account that this key is for", Got: quote(s.Account)}}
	}
	s.Account = name
	var fallback struct {
		Kind message.Kind `json:"kind"`
	}
	if len(s.Fallback) > 0 {
		_ = json.Unmarshal(s.Fallback, &fallback) // it was parsed
	}
	switch {
	case !k.May(name, s.Kind, Enqueue):
		return message.Invalid{{Path: "kind", Rule: fmt.Sprintf("the key may not enqueue %s messages for %s", s.Kind, name)}}
	case fallback.Kind != "" && !k.May(name, fallback.Kind, Enqueue):
		return message.Invalid{{Path: "fallback.kind", Rule: fmt.Sprintf("the key may not enqueue %s messages for %s", fallback.Kind, name)}}
	case s.Audience.SQL != "" && !k.May(name, s.Kind, Admin): // it reads what the operator's database has, whosever it is
		return message.Invalid{{Path: "audience.sql", Rule: "a query of the operator's database takes the scope admin; upload the audience instead"}}
	}
	return nil
}

// Bounds of a list of campaigns.
const (
	shownCampaigns = 50
	maxCampaigns   = 1000
)

func (h *Handler) listCampaigns(c *call) error {
	f := client.CampaignFilter{Name: c.r.FormValue("name"), Limit: shownCampaigns}
	if account := c.r.FormValue("account"); account != "" {
		name, known := h.options.Accounts.Name(account)
		if !known || !c.key.knows(name) {
			return notFound("no account of that name is known to this key")
		}
		if len(c.key.kindsFor(name, Read)) == 0 {
			return forbidden("the key may not read of " + name)
		}
		f.Account = name
	}
	if text := c.r.FormValue("state"); text != "" {
		for one := range strings.SplitSeq(text, ",") {
			if !slices.Contains(campaign.States(), campaign.State(one)) {
				return malformed("state: "+quote(one)+" is no state", fmt.Sprintf("want some of %v, with commas between them", campaign.States()))
			}
			f.States = append(f.States, client.CampaignState(one))
		}
	}
	if text := c.r.FormValue("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxCampaigns {
			return malformed(fmt.Sprintf("limit: want 1 to %d", maxCampaigns), "")
		}
		f.Limit = n
	}
	if text := c.r.FormValue("before"); text != "" {
		id, err := message.ParseID(text)
		if err != nil {
			return malformed("before: "+err.Error(), "give the id of the last campaign of the page before")
		}
		f.Before = id
	}
	list, err := h.visibleCampaigns(c, f)
	if err != nil {
		return err
	}
	write(c.w, http.StatusOK, struct {
		Campaigns []client.Campaign `json:"campaigns"`
	}{list})
	return nil
}

// visibleCampaigns are those that the key may read, the youngest first.
func (h *Handler) visibleCampaigns(c *call, f client.CampaignFilter) ([]client.Campaign, error) {
	visible, limit := []client.Campaign{}, f.Limit
	f.Limit = max(limit, 200)
	for {
		page, err := h.options.Campaigns.List(c.ctx(), f)
		if err != nil {
			return nil, err
		}
		for _, one := range page {
			if c.key.May(one.Account, one.Kind, Read) {
				if visible = append(visible, one); len(visible) == limit {
					return visible, nil
				}
			}
		}
		if len(page) < f.Limit {
			return visible, nil
		}
		f.Before = page[len(page)-1].ID
	}
}

func (h *Handler) getCampaign(c *call) error {
	found, err := h.campaign(c, Read)
	if err != nil {
		return err
	}
	p, err := h.options.Campaigns.Progress(c.ctx(), found.ID)
	if err != nil {
		return err
	}
	write(c.w, http.StatusOK, p)
	return nil
}

// startCampaign starts a draft. Where the account's mass sends want a second key, the start is its word: by then text and
// audience are what they will be.
func (h *Handler) startCampaign(c *call) error {
	found, err := h.campaign(c, Enqueue)
	if err != nil {
		return err
	}
	if found.Kind == message.Mass && h.options.Accounts.WantsApproval(found.Account) {
		if !c.key.May(found.Account, message.Mass, Admin) {
			return forbidden("mass sends of " + found.Account + " want a second key: the start of this campaign takes the scopes enqueue and admin of mass")
		}
		authors, err := h.options.Campaigns.Authors(c.ctx(), found)
		if err != nil {
			return err
		}
		if slices.Contains(authors, c.key.Name) {
			return forbidden("the holder of the key that created the campaign, or imported its audience, cannot start it: somebody else must")
		}
	}
	return h.move(c, found, campaign.Start, "")
}

func (h *Handler) moveCampaign(c *call, v campaign.Verb) error {
	found, err := h.campaign(c, Enqueue)
	if err != nil {
		return err
	}
	var wanted struct {
		Reason string `json:"reason"`
	}
	if v != campaign.Resume {
		if err := h.readSmall(c, &wanted); err != nil {
			return err
		}
	}
	switch {
	case len(wanted.Reason) > 500:
		return invalid(message.Invalid{{Path: "reason", Rule: "at most 500 bytes"}})
	case wanted.Reason == "":
		wanted.Reason = "by API"
	}
	return h.move(c, found, v, wanted.Reason)
}

func (h *Handler) move(c *call, found client.Campaign, v campaign.Verb, reason string) error {
	if err := h.audit.now(c.ctx(), c.entry("campaign "+string(v), found.Account, found.ID.String(), reason, 1)); err != nil {
		return err
	}
	state, err := h.options.Campaigns.Move(context.WithoutCancel(c.ctx()), found.ID, v, reason)
	if err != nil {
		return standing(err)
	}
	write(c.w, http.StatusOK, struct {
		ID    message.ID           `json:"id"`
		Name  string               `json:"name"`
		State client.CampaignState `json:"state"`
	}{found.ID, found.Name, state})
	return nil
}

func (h *Handler) retryFailed(c *call) error {
	found, err := h.campaign(c, Replay)
	if err != nil {
		return err
	}
	var wanted struct {
		Reasons []outcome.Reason `json:"reasons"`
		DryRun  bool             `json:"dry_run"`
	}
	if err := h.readSmall(c, &wanted); err != nil {
		return err
	}
	for i, r := range wanted.Reasons {
		if !slices.Contains(outcome.Reasons(), r) {
			return invalid(message.Invalid{{Path: fmt.Sprintf("reasons[%d]", i), Rule: "want a reason that a message fails for, such as retries_exhausted", Got: quote(string(r))}})
		}
	}
	if !wanted.DryRun {
		if err := h.audit.now(c.ctx(), c.entry("campaign retry", found.Account, found.ID.String(), "", 1)); err != nil {
			return err
		}
	}
	n, err := h.options.Campaigns.Retry(context.WithoutCancel(c.ctx()), found.ID, wanted.Reasons, wanted.DryRun)
	if err != nil {
		return standing(err)
	}
	write(c.w, http.StatusOK, struct {
		Recipients int  `json:"recipients"`
		Started    bool `json:"started"`
	}{n, !wanted.DryRun})
	return nil
}
