package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// ErrNoCampaign says that no campaign has this id or name.
var ErrNoCampaign = errors.New("no such campaign")

// ErrManyCampaigns says that several campaigns have this name.
var ErrManyCampaigns = errors.New("several campaigns have this name: give the id of one")

// ErrNameTaken says that a campaign that has not ended has the name.
var ErrNameTaken = errors.New("a campaign that has not ended has this name")

// ErrNoAudience says that a campaign has no audience that is ready.
var ErrNoAudience = errors.New("the campaign has no audience that is ready")

// A Campaign is a row of campaign.
type Campaign struct {
	ID        message.ID
	Name      string
	Account   string
	Kind      message.Kind
	Spec      *campaign.Spec
	State     campaign.State
	Reason    string
	Until     time.Time // throttled, parked: when it goes on; zero: not known
	LastTick  time.Time // the schedule was followed up to here; zero: not yet
	NextTick  time.Time // zero: none
	CreatedAt time.Time
	ChangedAt time.Time
}

// CreateCampaign writes a campaign down as a draft. Its audience comes later. The id is the caller's, so that the
// call may be repeated. The error wraps [ErrNameTaken] where another has the name that has not ended.
func (s *Store) CreateCampaign(ctx context.Context, spec *campaign.Spec, id message.ID) error {
	account, err := s.accountID(ctx, spec.Account)
	if err != nil {
		return fmt.Errorf("create campaign: %w", err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("create campaign: %w", err)
	}
	_, err = s.pool.Exec(ctx, `INSERT INTO campaign (id, name, account, kind, spec) VALUES (@id, @name, @account, @kind::text::message_kind, @spec)
		ON CONFLICT (id) DO NOTHING`, pgx.NamedArgs{
		"id": [16]byte(id), "name": spec.Name, "account": account, "kind": string(spec.Kind), "spec": text,
	})
	if err != nil {
		return fmt.Errorf("create campaign: %w", nameTaken(err))
	}
	return nil
}

// nameTaken is ErrNameTaken where the index of living campaigns' names has refused a row.
func nameTaken(err error) error {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok && refused.ConstraintName == "campaign_alive_name" {
		return ErrNameTaken
	}
	return err
}

// campaignColumns are those that scanCampaign reads, of alias c.
const campaignColumns = `c.id, c.name, c.account, c.kind::text, c.spec, c.state, c.reason, c.until, c.last_tick, c.next_tick, c.created_at, c.changed_at`

func (s *Store) scanCampaign(ctx context.Context) func(pgx.CollectableRow) (Campaign, error) {
	return func(row pgx.CollectableRow) (c Campaign, err error) {
		var id [16]byte
		var account int32
		var spec []byte
		var next *time.Time
		err = row.Scan(&id, &c.Name, &account, &c.Kind, &spec, &c.State, &c.Reason, &c.Until, &c.LastTick, &next, &c.CreatedAt, &c.ChangedAt)
		if err != nil {
			return c, err
		}
		c.ID, c.Until, c.LastTick = id, notEpoch(c.Until), notEpoch(c.LastTick)
		if next != nil {
			c.NextTick = *next
		}
		c.Spec = new(campaign.Spec)
		if err := json.Unmarshal(spec, c.Spec); err != nil {
			return c, fmt.Errorf("read spec of campaign %s: %w", c.ID, err)
		}
		c.Account, err = s.accountName(ctx, account)
		return c, err
	}
}

// notEpoch is the time, or zero where the ledger says "not yet".
func notEpoch(t time.Time) time.Time {
	if t.Unix() == 0 {
		return time.Time{}
	}
	return t
}

// Campaign finds a campaign by its id, or else by its name: the one that has not ended, or the youngest.
func (s *Store) Campaign(ctx context.Context, idOrName string) (Campaign, error) {
	if id, err := message.ParseID(idOrName); err == nil {
		list, err := s.campaigns(ctx, `WHERE c.id = $1`, [16]byte(id))
		if err == nil && len(list) == 0 {
			err = fmt.Errorf("%w: %s", ErrNoCampaign, id)
		}
		if err != nil {
			return Campaign{}, err
		}
		return list[0], nil
	}
	const enough = 20
	list, err := s.campaigns(ctx, `WHERE c.name = $1 ORDER BY c.created_at DESC, c.id DESC LIMIT $2`, idOrName, enough)
	if err != nil {
		return Campaign{}, err
	}
	return named(idOrName, list)
}

// named is the campaign that a name means.
func named(name string, list []Campaign) (Campaign, error) {
	alive := slices.DeleteFunc(slices.Clone(list), func(c Campaign) bool { return c.State.Ended() })
	switch {
	case len(alive) == 1:
		return alive[0], nil
	case len(list) == 0:
		return Campaign{}, fmt.Errorf("%w: %s", ErrNoCampaign, name)
	case len(alive) == 0:
		return list[0], nil
	}
	ids := make([]string, len(list))
	for i, c := range list {
		ids[i] = fmt.Sprintf("%s (%s)", c.ID, c.State)
	}
	return Campaign{}, fmt.Errorf("%s: %w: %s", name, ErrManyCampaigns, strings.Join(ids, ", "))
}

// A CampaignFilter says which campaigns are meant; the zero value means all.
type CampaignFilter struct {
	Account string
	Name    string
	States  []campaign.State
	Before  message.ID // only those that stand behind it in the list
	Limit   int        // the youngest; 0: 1000
}

// Campaigns lists campaigns, the youngest first.
func (s *Store) Campaigns(ctx context.Context, f CampaignFilter) ([]Campaign, error) {
	if f.Limit == 0 {
		f.Limit = 1000
	}
	if len(f.States) == 0 {
		f.States = campaign.States()
	}
	return s.campaigns(ctx, `WHERE c.state = ANY ($1) AND ($2 = '' OR c.account IN (SELECT id FROM account WHERE $2 IN (name, appid)))
		AND ($3 = '' OR c.name = $3) AND ($4::uuid = '00000000-0000-0000-0000-000000000000' OR (c.created_at, c.id) < (SELECT created_at, id FROM campaign WHERE id = $4))
		ORDER BY c.created_at DESC, c.id DESC LIMIT $5`, stateTexts(f.States), f.Account, f.Name, [16]byte(f.Before), f.Limit)
}

func stateTexts(states []campaign.State) []string {
	texts := make([]string, len(states))
	for i, s := range states {
		texts[i] = string(s)
	}
	return texts
}

func (s *Store) campaigns(ctx context.Context, rest string, args ...any) ([]Campaign, error) {
	rows, err := s.pool.Query(ctx, `SELECT `+campaignColumns+` FROM campaign c `+rest, args...)
	if err == nil {
		var list []Campaign
		if list, err = pgx.CollectRows(rows, s.scanCampaign(ctx)); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("read campaigns: %w", err)
}

// MoveCampaign pauses, resumes or cancels a campaign; the reason is kept for people. The error is a
// [*campaign.MoveError] where its state does not allow that.
func (s *Store) MoveCampaign(ctx context.Context, id message.ID, v campaign.Verb, reason string) (campaign.State, error) {
	var state campaign.State
	err := s.inTx(ctx, func(tx pgx.Tx) (err error) {
		state, err = moveCampaign(ctx, tx, id, v, reason)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%s campaign: %w", v, err)
	}
	return state, nil
}

func moveCampaign(ctx context.Context, tx pgx.Tx, id message.ID, v campaign.Verb, reason string) (campaign.State, error) {
	state, err := lockCampaign(ctx, tx, id)
	if err != nil {
		return "", err
	}
	if err := v.Allowed(state); err != nil {
		return "", err
	}
	switch v {
	case campaign.Pause:
		return campaign.Paused, setCampaign(ctx, tx, id, campaign.Paused, reason)
	case campaign.Cancel:
		if _, err := tx.Exec(ctx, `UPDATE campaign SET next_tick = NULL WHERE id = $1`, [16]byte(id)); err != nil {
			return "", err
		}
		return campaign.Cancelled, setCampaign(ctx, tx, id, campaign.Cancelled, reason)
	case campaign.Resume:
		return resumeCampaign(ctx, tx, id)
	}
	return "", fmt.Errorf("%q is a mistake of the caller", v)
}

// resumeCampaign lets a paused campaign go on where it was: with its open firing, or waiting for its next tick. A
// canary that was sent has been looked at; one that was paused before is still to come.
func resumeCampaign(ctx context.Context, tx pgx.Tx, id message.ID) (campaign.State, error) {
	var open bool
	if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM firing WHERE campaign = $1 AND ended_at IS NULL)`, [16]byte(id)).Scan(&open); err != nil {
		return "", err
	}
	if !open {
		return campaign.Scheduled, setCampaign(ctx, tx, id, campaign.Scheduled, "")
	}
	_, err := tx.Exec(ctx, `
		UPDATE firing f SET canary = false FROM campaign c JOIN chunk k ON k.no = 0
		WHERE c.id = $1 AND f.campaign = c.id AND f.ended_at IS NULL AND f.canary AND k.firing = f.id AND (k.state = 'done' OR k.state = 'settling' AND c.kind <> 'mass')`, [16]byte(id))
	if err != nil {
		return "", err
	}
	return campaign.Running, setCampaign(ctx, tx, id, campaign.Running, "")
}

// lockCampaign holds the campaign's row until the transaction ends, and says how it stands.
func lockCampaign(ctx context.Context, tx pgx.Tx, id message.ID) (state campaign.State, err error) {
	err = tx.QueryRow(ctx, `SELECT state FROM campaign WHERE id = $1 FOR UPDATE`, [16]byte(id)).Scan(&state)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("%w: %s", ErrNoCampaign, id)
	}
	return state, err
}

func setCampaign(ctx context.Context, tx pgx.Tx, id message.ID, state campaign.State, reason string) error {
	_, err := tx.Exec(ctx, `UPDATE campaign SET state = $2, reason = $3, until = 'epoch', changed_at = now() WHERE id = $1`,
		[16]byte(id), string(state), reason)
	return err
}

// HoldCampaign makes a campaign wait by itself, throttled or parked, until a time; one that waits already gets the
// new reason and time. A campaign that is not on its way stays as it is, and the answer is false.
func (s *Store) HoldCampaign(ctx context.Context, id message.ID, state campaign.State, reason string, until time.Time) (bool, error) {
	return s.setFrom(ctx, id, []campaign.State{campaign.Running, campaign.Throttled, campaign.Parked}, state, reason, until)
}

// FreeCampaign lets a throttled or parked campaign run.
func (s *Store) FreeCampaign(ctx context.Context, id message.ID) (bool, error) {
	return s.setFrom(ctx, id, []campaign.State{campaign.Throttled, campaign.Parked}, campaign.Running, "", time.Time{})
}

// FailCampaign ends a campaign that cannot go on.
func (s *Store) FailCampaign(ctx context.Context, id message.ID, reason string) (bool, error) {
	alive := slices.DeleteFunc(campaign.States(), campaign.State.Ended)
	return s.setFrom(ctx, id, alive, campaign.Failed, reason, time.Time{})
}

func (s *Store) setFrom(ctx context.Context, id message.ID, from []campaign.State, to campaign.State, reason string, until time.Time) (bool, error) {
	if until.IsZero() {
		until = time.Unix(0, 0)
	}
	tag, err := s.pool.Exec(ctx, `
		UPDATE campaign SET state = @to, reason = @reason, until = @until, changed_at = now()
		WHERE id = @id AND state = ANY (@from) AND (state, reason, until) IS DISTINCT FROM (@to::text, @reason::text, @until::timestamptz)`, pgx.NamedArgs{
		"id": [16]byte(id), "from": stateTexts(from), "to": string(to), "reason": reason, "until": until,
	})
	if err != nil {
		return false, fmt.Errorf("make campaign %s: %w", to, err)
	}
	return tag.RowsAffected() > 0, nil
}
