package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A SpecError is everything that is wrong with a campaign's spec, with the line of each mistake.
type SpecError struct{ Mistakes []SpecMistake }

// A SpecMistake is one of them.
type SpecMistake struct {
	Line   int    // 0 where no line can be named
	Path   string // such as pace.per_second; empty for the whole
	Rule   string // what is wrong
	Remedy string // what to do; empty where the rule says it
}

// Error has a line for each mistake.
func (e *SpecError) Error() string {
	all := campaign.Error{}
	for _, m := range e.Mistakes {
		all.Findings = append(all.Findings, campaign.Finding(m))
	}
	return all.Error()
}

func specError(err error) error {
	found, ok := errors.AsType[*campaign.Error](err)
	if !ok {
		return err
	}
	e := &SpecError{}
	for _, f := range found.Findings {
		e.Mistakes = append(e.Mistakes, SpecMistake(f))
	}
	return e
}

// CreateCampaign writes a campaign down as a draft. spec is the text that docs/campaigns.md describes, YAML or JSON; what
// is wrong with it is told by a [*SpecError], and nothing is written then.
func (c *Client) CreateCampaign(ctx context.Context, spec []byte) (Campaign, error) {
	if c.ledger == nil {
		return Campaign{}, ErrNoLedger
	}
	s, err := campaign.ParseSpec(spec)
	if err != nil {
		return Campaign{}, specError(err)
	}
	account, err := c.account(s.Account)
	if err != nil {
		return Campaign{}, err
	}
	s.Account = account.Name
	switch other, err := c.ledger.Campaign(ctx, s.Name); {
	case err == nil && !other.State.Ended():
		return Campaign{}, nameTaken(s, other)
	case errors.Is(err, postgres.ErrManyCampaigns):
		return Campaign{}, nameTaken(s, other)
	case err != nil && !errors.Is(err, postgres.ErrNoCampaign):
		return Campaign{}, err
	}
	now, err := c.ledger.Now(ctx)
	if err != nil {
		return Campaign{}, err
	}
	id := message.NewID(now)
	err = c.ledger.CreateCampaign(ctx, s, id)
	if errors.Is(err, postgres.ErrNameTaken) { // a moment ago
		other, err := c.ledger.Campaign(ctx, s.Name)
		if err != nil && !errors.Is(err, postgres.ErrManyCampaigns) && !errors.Is(err, postgres.ErrNoCampaign) {
			return Campaign{}, err
		}
		return Campaign{}, nameTaken(s, other)
	}
	if err != nil {
		return Campaign{}, err
	}
	return c.Campaign(ctx, id.String())
}

// A NameTakenError says that a campaign that has not ended has the name. It is a [*SpecError], too.
type NameTakenError struct {
	SpecError
	Campaign Campaign // the one that has it; zero where it has just ended
	Same     bool     // it was made of the same spec: whoever lost the answer finds it here
}

// Unwrap makes a spec's error of it.
func (e *NameTakenError) Unwrap() error { return &e.SpecError }

func nameTaken(s *campaign.Spec, other postgres.Campaign) *NameTakenError {
	e := &NameTakenError{SpecError: SpecError{[]SpecMistake{{
		Path: "name", Rule: fmt.Sprintf("%q is the name of a campaign that has not ended", s.Name), Remedy: "choose another, or cancel that one",
	}}}}
	if other.Spec == nil {
		return e
	}
	e.Campaign = campaignOf(other)
	e.Same = reflect.DeepEqual(jsonOf(s), jsonOf(other.Spec))
	return e
}

// jsonOf is a spec without the order of its keys, which Postgres does not keep.
func jsonOf(s *campaign.Spec) (v any) {
	text, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(text, &v)
	}
	if err != nil {
		panic("client: a spec is no JSON: " + err.Error())
	}
	return v
}

// A NotReadyError says why a campaign cannot start, and what to do.
type NotReadyError struct{ Why, Remedy string }

func (e *NotReadyError) Error() string { return e.Why + "; " + e.Remedy }

// StartCampaign starts a draft: without a schedule it fires at once, with one it waits for its next tick. The error is a
// [*NotReadyError] where it has no audience yet, or one without the columns that its texts ask for.
func (c *Client) StartCampaign(ctx context.Context, idOrName string) (CampaignState, error) {
	row, err := c.campaign(ctx, idOrName)
	if err != nil {
		return "", err
	}
	if err := campaign.Start.Allowed(row.State); err != nil {
		return "", campaignError(err)
	}
	audiences, err := c.ledger.Audiences(ctx, row.ID)
	if err != nil {
		return "", err
	}
	if err := ready(row.Spec, youngest(audiences)); err != nil {
		return "", err
	}
	now, err := c.ledger.Now(ctx) // not this machine's: schedules are kept by one clock
	if err != nil {
		return "", err
	}
	next := row.Spec.Schedule.Next(now)
	if row.Spec.Schedule.Past(now) {
		return "", timePast(row.Spec)
	}
	if next.IsZero() && row.Spec.Audience.Pulled() { // it fires when its audience is fetched
		next = now
	}
	state, err := c.ledger.StartCampaign(ctx, row.ID, now, next)
	if errors.Is(err, postgres.ErrNoAudience) {
		return "", ready(row.Spec, nil)
	}
	return CampaignState(state), campaignError(err)
}

func timePast(s *campaign.Spec) *NotReadyError {
	return &NotReadyError{fmt.Sprintf("its time, %s, is past", s.Schedule.At.Format(time.RFC3339)), "create it anew with a later one"}
}

// ready says why a campaign cannot start over its youngest audience.
func ready(s *campaign.Spec, a *postgres.Audience) error {
	const importIt = "import one: enqueue campaign import, or POST it over HTTP"
	switch {
	case s.Audience.Pulled():
		return nil // by the workers, for each firing
	case a == nil:
		return &NotReadyError{"it has no audience", importIt}
	case a.State != "ready":
		return &NotReadyError{
			fmt.Sprintf("its audience %s is not imported whole: %d recipients so far", a.Source, a.Total), "go on with the import, or roll it back and begin anew",
		}
	case s.Kind == message.Mass && a.Total == 1:
		return &NotReadyError{"its audience is one user, and a mass send goes to 2 or more", "import another"}
	case a.Total == 0:
		return &NotReadyError{"its audience " + a.Source + " is empty", "import another"}
	}
	if missing := missingColumns(s, a.Columns); len(missing) > 0 {
		return &NotReadyError{
			fmt.Sprintf("its texts ask for %s, and its audience has no such column; it has %s", strings.Join(missing, ", "), columnsText(a.Columns)),
			"import one that has",
		}
	}
	return nil
}

func missingColumns(s *campaign.Spec, columns []string) []string {
	return slices.DeleteFunc(s.Columns(), func(name string) bool { return slices.Contains(columns, name) })
}

func columnsText(columns []string) string {
	return strings.Join(append([]string{"openid"}, columns...), ", ")
}
