package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// An AudienceState is how far an audience's import has come.
type AudienceState struct {
	Source     string    `json:"source"` // file:NAME, tag:ID, followers, sql; empty: there is no audience
	State      string    `json:"state"`  // importing, ready
	Columns    []string  `json:"columns"`
	Recipients int       `json:"recipients"`
	Duplicates int       `json:"duplicates"` // dropped: the openid stood above
	Refused    int       `json:"refused"`    // lines that name nobody, or not as they should
	Suppressed int       `json:"suppressed"` // dropped: they refuse such messages
	Lines      int64     `json:"lines"`
	Bytes      int64     `json:"bytes"` // of the input that were read
	Since      time.Time `json:"since,omitzero"`
}

func audienceState(a postgres.Audience) AudienceState {
	return AudienceState{
		Source: a.Source, State: a.State, Columns: a.Columns, Recipients: int(a.Total), Duplicates: int(a.Duplicates), Refused: int(a.Refused),
		Suppressed: int(a.Suppressed), Lines: a.Lines, Bytes: a.Bytes, Since: a.CreatedAt,
	}
}

// youngest is the audience that counts: of those that are no retries, the last.
func youngest(list []postgres.Audience) *postgres.Audience {
	i := slices.IndexFunc(list, func(a postgres.Audience) bool { return a.State != "dropped" && !a.Retry() })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// ImportOptions say how an audience is imported; the zero value imports the first.
type ImportOptions struct {
	// Resume goes on with an import that was killed: behind the last row that is there. Restart rolls it back whole, or
	// replaces an audience that is ready, once the new one is. Without either the error is an [*AudienceThereError].
	Resume, Restart bool
	// Format is csv, jsonl or xlsx, Encoding utf-8 or gb18030; empty: found out by the name and the content.
	Format, Encoding string
	// MaxWorkbook bounds the bytes of an Excel file, which is held whole; 0: 256 MiB.
	MaxWorkbook int64
	// Progress is told after each block of rows, which are committed then.
	Progress func(AudienceState)
	// Rejected is told of each row that was not taken: refused lines, and people who refuse such messages. An error ends
	// the import.
	Rejected func(Reject) error
}

// A Reject is a row that was not taken.
type Reject struct {
	Line   int64          `json:"line"`
	OpenID message.OpenID `json:"openid,omitempty"` // empty where the row has none
	Reason string         `json:"reason"`
}

// An AudienceThereError says that a campaign has an audience, or a part of one, and that the caller is to choose.
type AudienceThereError struct{ Audience AudienceState }

func (e *AudienceThereError) Error() string {
	a := e.Audience
	if a.State == "ready" {
		return fmt.Sprintf("the campaign has an audience of %d recipients from %s; restart replaces it", a.Recipients, a.Source)
	}
	return fmt.Sprintf("an import of %s stands at %d recipients, line %d; resume goes on behind them, restart rolls it back and begins anew",
		a.Source, a.Recipients, a.Lines)
}

// ErrOtherInput says that an import is to be resumed with another input than it began with.
var ErrOtherInput = errors.New("this is not what the import began with; restart rolls it back and begins anew")

// ErrBrokenOff says that the import over HTTP broke off; what is committed of it stays, for resume or restart.
var ErrBrokenOff = errors.New("the import broke off; go on with resume, or roll it back")

// ErrNotAudience says that a file cannot be read as an audience.
var ErrNotAudience = errors.New("not an audience")

// An importing is one call of an import.
type importing struct {
	ledger *postgres.Store
	row    postgres.Campaign
	o      ImportOptions
	old    []postgres.Audience // to be dropped once the new one is ready
	into   *postgres.Import
}

// startImport finds out what there is of the campaign's audience and what is to become of it. done: the audience is
// whole already.
func (c *Client) startImport(ctx context.Context, idOrName, source string, columns []string, o ImportOptions) (i *importing, done bool, err error) {
	row, err := c.campaign(ctx, idOrName)
	if err != nil {
		return nil, false, err
	}
	if row.State != campaign.Draft {
		return nil, false, known{fmt.Errorf("the campaign is %s; the audience of a draft alone can be imported: create it anew", row.State), ErrState}
	}
	if missing := missingColumns(row.Spec, columns); len(missing) > 0 {
		return nil, false, &NotReadyError{
			fmt.Sprintf("the campaign's texts ask for %s, and %s has only %s", strings.Join(missing, ", "), source, columnsText(columns)), "add the column, or mend the text and create the campaign anew",
		}
	}
	all, err := c.ledger.Audiences(ctx, row.ID)
	if err != nil {
		return nil, false, err
	}
	i = &importing{ledger: c.ledger, row: row, o: o}
	there := youngest(all)
	switch {
	case there != nil && o.Restart:
		i.old = slices.DeleteFunc(all, func(a postgres.Audience) bool { return a.State == "dropped" })
	case there != nil && !o.Resume:
		return nil, false, &AudienceThereError{audienceState(*there)}
	case there != nil && (there.Source != source || !slices.Equal(there.Columns, columns)):
		return nil, false, fmt.Errorf("%s: %w", there.Source, ErrOtherInput)
	case there != nil && there.State == "ready":
		i.into = &postgres.Import{Audience: *there}
		return i, true, nil
	case there != nil:
		i.into, err = c.ledger.NewImport(ctx, row, *there)
		return i, false, err
	}
	fresh, err := c.ledger.BeginAudience(ctx, row.ID, source, columns)
	if err == nil {
		i.into, err = c.ledger.NewImport(ctx, row, fresh)
	}
	return i, false, err
}

// add writes a block.
func (i *importing) add(ctx context.Context, block []postgres.Newcomer, position func(*postgres.Audience)) error {
	dropped, err := i.into.Add(ctx, block, position)
	if err != nil {
		return err
	}
	for _, d := range dropped {
		if d.Of > 0 || i.o.Rejected == nil {
			continue
		}
		if err := i.o.Rejected(Reject{d.Line, d.OpenID, d.Reason()}); err != nil {
			return err
		}
	}
	i.o.tell(i.into.Audience)
	return nil
}

// finish makes the audience ready, and forgets those that it replaces.
func (i *importing) finish(ctx context.Context) (AudienceState, error) {
	a := &i.into.Audience
	if err := i.ledger.FinishAudience(ctx, a); err != nil {
		return audienceState(*a), err
	}
	for _, old := range i.old {
		if err := i.ledger.DropAudience(ctx, old.ID); err != nil {
			return audienceState(*a), err
		}
	}
	return audienceState(*a), nil
}

// RollBackImport forgets what was imported of an audience that is not whole, and says how much that was.
func (c *Client) RollBackImport(ctx context.Context, idOrName string) (AudienceState, error) {
	row, err := c.campaign(ctx, idOrName)
	if err != nil {
		return AudienceState{}, err
	}
	all, err := c.ledger.Audiences(ctx, row.ID)
	if err != nil {
		return AudienceState{}, err
	}
	there := youngest(all)
	if row.State != campaign.Draft || there == nil || there.State != "importing" { // workers go on with what they fetch
		return AudienceState{}, &NotReadyError{"no import of it was broken off", "see its status"}
	}
	return audienceState(*there), c.ledger.DropAudience(ctx, there.ID)
}

// A PullPage reads a page of openids from a list, behind a cursor; an empty next is the list's end.
type PullPage func(ctx context.Context, cursor string) (users []message.OpenID, next string, err error)

// PullAudience imports an audience that comes in pages, such as an account's followers ("followers") or those of a tag
// ("tag:102"): that is its source. A pull that was killed is resumed behind its last page.
func (c *Client) PullAudience(ctx context.Context, idOrName, source string, page PullPage, o ImportOptions) (AudienceState, error) {
	i, done, err := c.startImport(ctx, idOrName, source, []string{}, o)
	if err != nil || done {
		return stateOf(i), err
	}
	if err := i.into.Pull(ctx, page, o.tell); err != nil {
		return stateOf(i), err
	}
	return i.finish(ctx)
}

// QueryAudience imports what a query gives, of another Postgres too: a column openid, and the columns that the texts ask
// for. A query has no place to go on at: where it was killed, it begins anew.
func (c *Client) QueryAudience(ctx context.Context, idOrName, database, query string, o ImportOptions) (AudienceState, error) {
	if o.Resume {
		o.Resume, o.Restart = false, true
	}
	var i *importing
	q := postgres.Query{
		URL: database, SQL: query,
		Begin: func(columns []string) (*postgres.Import, error) {
			var err error
			if i, _, err = c.startImport(ctx, idOrName, campaign.FromSQL, columns, o); err != nil {
				return nil, err
			}
			return i.into, nil
		},
		Refused: func(r postgres.Newcomer, reason string) error {
			if o.Rejected == nil {
				return nil
			}
			return o.Rejected(Reject{r.Line, r.OpenID, reason})
		},
		Told: o.tell,
	}
	if err := q.Stream(ctx); err != nil {
		return stateOf(i), err
	}
	return i.finish(ctx)
}

func (o ImportOptions) tell(a postgres.Audience) {
	if o.Progress != nil {
		o.Progress(audienceState(a))
	}
}

func stateOf(i *importing) AudienceState {
	if i == nil || i.into == nil {
		return AudienceState{}
	}
	return audienceState(i.into.Audience)
}
