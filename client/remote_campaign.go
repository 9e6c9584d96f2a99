package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// remoteError makes of a problem the error that a [Client] would give.
func remoteError(err error) error {
	p, ok := errors.AsType[*Problem](err)
	if !ok {
		return err
	}
	switch {
	case p.Status == http.StatusNotFound:
		return known{p, ErrNoCampaign}
	case p.Status != http.StatusConflict:
	case strings.HasSuffix(p.Type, "problem-not-ready"):
		return &NotReadyError{p.Detail, p.Remedy}
	case strings.HasSuffix(p.Type, "problem-other-audience"):
		return known{p, ErrOtherInput}
	case strings.HasSuffix(p.Type, "problem-nothing-to-retry"):
		return ErrNothingToRetry
	case strings.HasSuffix(p.Type, "problem-state"):
		return known{p, ErrState}
	}
	return err
}

// CreateCampaign writes a campaign down as a draft, as [Client.CreateCampaign] does. Where the draft is there already,
// made of the same spec, it is that one.
func (r *Remote) CreateCampaign(ctx context.Context, spec []byte) (Campaign, error) {
	var c Campaign
	err := r.doAs(ctx, http.MethodPost, "/v1/campaigns", "application/yaml", spec, &c) // and so JSON
	if p, ok := errors.AsType[*Problem](err); ok && p.Status == http.StatusBadRequest && len(p.Errors) > 0 {
		wrong := &SpecError{}
		for _, f := range p.Errors {
			wrong.Mistakes = append(wrong.Mistakes, SpecMistake{Path: f.Path, Rule: f.Rule})
		}
		return Campaign{}, wrong
	}
	return c, err
}

// Campaign finds a campaign by its id, or by its name: the one that has not ended, or the youngest.
func (r *Remote) Campaign(ctx context.Context, idOrName string) (Campaign, error) {
	if id, err := message.ParseID(idOrName); err == nil {
		var c Campaign
		err := r.do(ctx, http.MethodGet, "/v1/campaigns/"+id.String(), nil, &c)
		return c, remoteError(err)
	}
	list, err := r.Campaigns(ctx, CampaignFilter{Name: idOrName})
	if err != nil {
		return Campaign{}, err
	}
	var alive []Campaign
	for _, c := range list {
		if !c.State.Ended() {
			alive = append(alive, c)
		}
	}
	switch {
	case len(alive) == 1:
		return alive[0], nil
	case len(list) == 0:
		return Campaign{}, fmt.Errorf("%w: %s", ErrNoCampaign, idOrName)
	case len(alive) == 0:
		return list[0], nil
	}
	return Campaign{}, fmt.Errorf("%s: %w", idOrName, ErrManyCampaigns)
}

// campaign is the path of a campaign.
func (r *Remote) campaign(ctx context.Context, idOrName string) (string, error) {
	id, err := message.ParseID(idOrName)
	if err != nil {
		c, err := r.Campaign(ctx, idOrName)
		if err != nil {
			return "", err
		}
		id = c.ID
	}
	return "/v1/campaigns/" + id.String(), nil
}

// Campaigns lists the campaigns that the key may read, the youngest first.
func (r *Remote) Campaigns(ctx context.Context, f CampaignFilter) ([]Campaign, error) {
	q := url.Values{"limit": {"1000"}}
	for name, value := range map[string]string{"account": f.Account, "name": f.Name} {
		if value != "" {
			q.Set(name, value)
		}
	}
	states := make([]string, len(f.States))
	for i, s := range f.States {
		states[i] = string(s)
	}
	if len(states) > 0 {
		q.Set("state", strings.Join(states, ","))
	}
	if !f.Before.IsZero() {
		q.Set("before", f.Before.String())
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(min(f.Limit, 1000)))
	}
	var a struct {
		Campaigns []Campaign `json:"campaigns"`
	}
	err := r.do(ctx, http.MethodGet, "/v1/campaigns?"+q.Encode(), nil, &a)
	return a.Campaigns, err
}

// CampaignProgress counts what became of the last firing.
func (r *Remote) CampaignProgress(ctx context.Context, idOrName string) (CampaignProgress, error) {
	path, err := r.campaign(ctx, idOrName)
	if err != nil {
		return CampaignProgress{}, err
	}
	var a struct {
		Campaign
		Firings  int            `json:"firings"`
		Tick     time.Time      `json:"tick"`
		Started  time.Time      `json:"started_at"`
		Ended    time.Time      `json:"ended_at"`
		Now      time.Time      `json:"now"`
		Total    int            `json:"total"`
		Waiting  int            `json:"waiting"`
		Outcomes []OutcomeCount `json:"outcomes"`
		Audience AudienceState  `json:"audience"`
	}
	if err := r.do(ctx, http.MethodGet, path, nil, &a); err != nil {
		return CampaignProgress{}, remoteError(err)
	}
	return CampaignProgress{
		Campaign: a.Campaign, Tick: a.Tick, StartedAt: a.Started, EndedAt: a.Ended, Now: a.Now, Firings: a.Firings,
		Total: a.Total, Waiting: a.Waiting, Outcomes: a.Outcomes, Audience: a.Audience,
	}, nil
}

// ImportAudience uploads a file, as [Client.ImportAudience] reads it. It is not repeated by itself: where it broke off, which
// [ErrBrokenOff] says, call it again with Resume and the file from its beginning. Rejected is told of the first 100 rows,
// and Progress once, both at the end; MaxWorkbook is the server's.
func (r *Remote) ImportAudience(ctx context.Context, idOrName, name string, file io.Reader, o ImportOptions) (AudienceState, error) {
	path, err := r.campaign(ctx, idOrName)
	if err != nil {
		return AudienceState{}, err
	}
	q := url.Values{"name": {filepath.Base(name)}}
	for key, value := range map[string]string{"format": o.Format, "encoding": o.Encoding} {
		if value != "" {
			q.Set(key, value)
		}
	}
	for key, set := range map[string]bool{"resume": o.Resume, "restart": o.Restart} {
		if set {
			q.Set(key, "true")
		}
	}
	res, err := r.send(ctx, http.MethodPost, path+"/audience?"+q.Encode(), "application/octet-stream", io.NopCloser(file)) // the caller closes it
	if err != nil {
		return AudienceState{}, fmt.Errorf("%w: %w", ErrBrokenOff, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return AudienceState{}, r.importError(ctx, path, problemOf(res))
	}
	var a struct {
		AudienceState
		Rejects []Reject `json:"rejects"`
	}
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return AudienceState{}, fmt.Errorf("%w: %w", ErrBrokenOff, err)
	}
	if o.Progress != nil {
		o.Progress(a.AudienceState)
	}
	for _, bad := range a.Rejects {
		if o.Rejected == nil {
			break
		}
		if err := o.Rejected(bad); err != nil {
			return a.AudienceState, err
		}
	}
	return a.AudienceState, nil
}

func (r *Remote) importError(ctx context.Context, path string, p *Problem) error {
	switch {
	case strings.HasSuffix(p.Type, "problem-audience-there"):
		c, err := r.CampaignProgress(ctx, strings.TrimPrefix(path, "/v1/campaigns/"))
		if err != nil {
			return p
		}
		return &AudienceThereError{c.Audience}
	case p.Status == http.StatusBadRequest:
		return known{p, ErrNotAudience}
	case p.passing():
		return known{p, ErrBrokenOff}
	}
	return remoteError(p)
}

// RollBackImport forgets what was imported of an audience that is not whole, and says how many recipients that was.
func (r *Remote) RollBackImport(ctx context.Context, idOrName string) (AudienceState, error) {
	var a struct {
		RolledBack int `json:"rolled_back"`
	}
	err := r.patient().post(ctx, idOrName, "/audience/rollback", nil, &a)
	return AudienceState{Recipients: a.RolledBack}, err
}

// CheckCampaign looks before the start. Templates, limits and caps are those that the server knows; what it cannot know
// stands among the notes.
func (r *Remote) CheckCampaign(ctx context.Context, idOrName string, o CheckOptions) (CampaignCheck, error) {
	body := map[string]any{}
	if o.Samples > 0 {
		body["samples"] = o.Samples
	}
	if len(o.Testers) > 0 {
		body["test_to"] = o.Testers
	}
	var a struct {
		ID         message.ID        `json:"id"`
		Name       string            `json:"name"`
		Problems   []Misfit          `json:"problems"`
		Notes      []string          `json:"notes"`
		Samples    []Sample          `json:"samples"`
		Recipients int               `json:"recipients"`
		Good       int               `json:"good"`
		AtCap      int               `json:"at_cap"`
		Closed     *int              `json:"window_closed"`
		Mass       *MassForecast     `json:"mass"`
		Forecast   *CampaignForecast `json:"forecast"`
		Tests      []struct {
			ID    message.ID `json:"id"`
			Error string     `json:"error"`
		} `json:"tests"`
	}
	path, err := r.campaign(ctx, idOrName)
	if err != nil {
		return CampaignCheck{}, err
	}
	text, err := json.Marshal(body)
	if err == nil && len(o.Testers) > 0 {
		err = r.once(ctx, http.MethodPost, path+"/check", typeJSON, text, &a) // a second try would send the tests again
	} else if err == nil {
		err = r.patient().do(ctx, http.MethodPost, path+"/check", text, &a) // it renders every message
	}
	if err != nil {
		return CampaignCheck{}, remoteError(err)
	}
	p, err := r.CampaignProgress(ctx, a.ID.String())
	if err != nil {
		return CampaignCheck{}, err
	}
	out := CampaignCheck{
		Campaign: p.Campaign, Audience: p.Audience, Problems: a.Problems, Notes: a.Notes, Samples: a.Samples,
		Recipients: a.Recipients, Good: a.Good, AtCap: a.AtCap, Closed: -1, Forecast: a.Forecast, Mass: a.Mass,
	}
	if a.Closed != nil {
		out.Closed = *a.Closed
	}
	for _, t := range a.Tests {
		receipt := Receipt{ID: t.ID, Durability: InPostgres}
		if t.Error != "" {
			receipt.Err = errors.New(t.Error)
		}
		out.Tests = append(out.Tests, receipt)
	}
	return out, nil
}

// post does something to a campaign.
func (r *Remote) post(ctx context.Context, idOrName, verb string, body, into any) error {
	path, err := r.campaign(ctx, idOrName)
	if err != nil {
		return err
	}
	var text []byte
	if body != nil {
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return remoteError(r.do(ctx, http.MethodPost, path+verb, text, into))
}

func (r *Remote) move(ctx context.Context, idOrName, verb, reason string) (CampaignState, error) {
	var body any
	if reason != "" {
		body = map[string]string{"reason": reason}
	}
	var a struct {
		State CampaignState `json:"state"`
	}
	err := r.post(ctx, idOrName, verb, body, &a)
	return a.State, err
}

// StartCampaign starts a draft. After an error that was none of the server's words it may have started: the next call
// says so by [ErrState].
func (r *Remote) StartCampaign(ctx context.Context, idOrName string) (CampaignState, error) {
	return r.move(ctx, idOrName, "/start", "")
}

// PauseCampaign stops a campaign between two messages, within two seconds; reason is kept for people.
func (r *Remote) PauseCampaign(ctx context.Context, idOrName, reason string) (CampaignState, error) {
	return r.move(ctx, idOrName, "/pause", reason)
}

// ResumeCampaign lets a paused campaign go on where it was.
func (r *Remote) ResumeCampaign(ctx context.Context, idOrName string) (CampaignState, error) {
	return r.move(ctx, idOrName, "/resume", "")
}

// CancelCampaign ends a campaign: what was not sent ends as cancelled.
func (r *Remote) CancelCampaign(ctx context.Context, idOrName, reason string) (CampaignState, error) {
	return r.move(ctx, idOrName, "/cancel", reason)
}

// RetryFailed makes a new firing of those recipients of the last one whose messages failed, and says how many there are.
// It is tried once: after an error see the campaign's progress.
func (r *Remote) RetryFailed(ctx context.Context, idOrName string, o RetryOptions) (int, error) {
	path, err := r.campaign(ctx, idOrName)
	if err != nil {
		return 0, err
	}
	body, err := json.Marshal(struct {
		Reasons []outcome.Reason `json:"reasons,omitempty"`
		DryRun  bool             `json:"dry_run"`
	}{o.Reasons, o.DryRun})
	if err != nil {
		return 0, err
	}
	var a struct {
		Recipients int `json:"recipients"`
	}
	err = r.once(ctx, http.MethodPost, path+"/retry-failed", typeJSON, body, &a)
	return a.Recipients, remoteError(err)
}

// ExportCampaign writes a line of CSV for each message of the campaign, of all its firings, behind a line of names. After
// an error what was written is not whole.
func (r *Remote) ExportCampaign(ctx context.Context, idOrName string, w io.Writer) error {
	path, err := r.campaign(ctx, idOrName)
	if err != nil {
		return err
	}
	res, err := r.send(ctx, http.MethodGet, path+"/outcomes", "", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return remoteError(problemOf(res))
	}
	_, err = io.Copy(w, res.Body)
	return err
}
