package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/message"
)

// ChunkSize is how many recipients travel as one task. Task, fence and tally cost some 600 µs, which is 3 µs for each of 200 recipients
// and 1 µs for each of 500; what a dead worker leaves in doubt is what it had claimed, whatever the size.
const ChunkSize = 500

// A Firing is one run of a campaign over an audience.
type Firing struct {
	ID        int32
	Campaign  message.ID
	Tick      time.Time
	Audience  int32
	StartedAt time.Time // the time in its messages' ids
	Total     int32
}

// StartCampaign starts a draft by hand. Without a schedule it fires at once, at the tick now; with one, whose next
// tick the caller knows, it waits for that.
func (s *Store) StartCampaign(ctx context.Context, id message.ID, now, next time.Time) (campaign.State, error) {
	var state campaign.State
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		from, err := lockCampaign(ctx, tx, id)
		if err != nil {
			return err
		}
		if err := campaign.Start.Allowed(from); err != nil {
			return err
		}
		state = campaign.Scheduled
		if next.IsZero() {
			state = campaign.Running
			if _, _, err := fire(ctx, tx, id, now, 0); err != nil {
				return err
			}
		} else if _, err := tx.Exec(ctx, `UPDATE campaign SET last_tick = $2, next_tick = $3 WHERE id = $1`, [16]byte(id), now, next); err != nil {
			return err
		}
		return setCampaign(ctx, tx, id, state, "")
	})
	if err != nil {
		return "", fmt.Errorf("start campaign: %w", err)
	}
	return state, nil
}

// Fire makes the campaign's firing of a tick, with all its chunks, over this audience (0: the youngest that is
// ready), unless it is there: then made is false. The caller's schedule goes on at next.
func (s *Store) Fire(ctx context.Context, id message.ID, tick time.Time, audience int32) (f Firing, made bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) (err error) {
		state, err := lockCampaign(ctx, tx, id)
		if err != nil {
			return err
		}
		if state.Ended() || state == campaign.Draft {
			return fmt.Errorf("a campaign that is %s does not fire", state)
		}
		f, made, err = fire(ctx, tx, id, tick, audience)
		if err == nil && made && state == campaign.Scheduled {
			err = setCampaign(ctx, tx, id, campaign.Running, "")
		}
		return err
	})
	if err != nil {
		return f, false, fmt.Errorf("fire campaign: %w", err)
	}
	return f, made, nil
}

// fire inserts the firing and its chunks. The first is as long as the canary, if there is one.
func fire(ctx context.Context, tx pgx.Tx, id message.ID, tick time.Time, audience int32) (Firing, bool, error) {
	f := Firing{Campaign: id, Tick: tick}
	if audience == 0 {
		err := tx.QueryRow(ctx, `SELECT id FROM audience WHERE campaign = $1 AND state = 'ready' AND source NOT LIKE 'retry:%' ORDER BY id DESC LIMIT 1`,
			[16]byte(id)).Scan(&audience)
		if errors.Is(err, pgx.ErrNoRows) {
			return f, false, ErrNoAudience
		}
		if err != nil {
			return f, false, err
		}
	}
	var canary int32
	err := tx.QueryRow(ctx, `
		INSERT INTO firing (campaign, tick, audience, total, canary)
		SELECT c.id, @tick, a.id, a.total, coalesce((c.spec ->> 'canary')::int4, 0) BETWEEN 1 AND a.total - 1
		FROM campaign c JOIN audience a ON a.campaign = c.id
		WHERE c.id = @campaign AND a.id = @audience AND a.state = 'ready'
		ON CONFLICT (campaign, tick) DO NOTHING
		RETURNING id, audience, started_at, total,
			CASE WHEN canary THEN (SELECT (spec ->> 'canary')::int4 FROM campaign WHERE id = @campaign) ELSE 0 END`, pgx.NamedArgs{
		"campaign": [16]byte(id), "tick": tick, "audience": audience,
	}).Scan(&f.ID, &f.Audience, &f.StartedAt, &f.Total, &canary)
	if errors.Is(err, pgx.ErrNoRows) {
		return f, false, nil // somebody else's scheduler was quicker
	}
	if err != nil {
		return f, false, err
	}
	var kind message.Kind
	if err := tx.QueryRow(ctx, `SELECT kind::text FROM campaign WHERE id = $1`, [16]byte(id)).Scan(&kind); err != nil {
		return f, false, err
	}
	if kind == message.Mass {
		return f, true, cutMass(ctx, tx, f, canary)
	}
	return f, true, cut(ctx, tx, f, canary)
}

// cutMass makes a chunk of each part of a mass send, by WeChat's bounds of a list. One to a tag or to everybody has one
// part, of total 1.
func cutMass(ctx context.Context, tx pgx.Tx, f Firing, canary int32) error {
	if canary > 0 && f.Total-canary < mass.MinList {
		canary = 0
	}
	var no, first, last []int32
	add := func(n, size int32) {
		from := int32(1)
		if len(last) > 0 {
			from = last[len(last)-1] + 1
		}
		no, first, last = append(no, n), append(first, from), append(last, from+size-1)
	}
	if canary > 0 {
		add(0, canary)
	} else if _, err := tx.Exec(ctx, `UPDATE firing SET canary = false WHERE id = $1`, f.ID); err != nil {
		return err
	}
	sizes := mass.Parts(int(f.Total - canary))
	if len(sizes) == 0 && f.Total > 0 {
		sizes = []int{int(f.Total)}
	}
	for i, size := range sizes {
		add(int32(i+1), int32(size))
	}
	_, err := tx.Exec(ctx, `INSERT INTO chunk (firing, no, first, last) SELECT $1, * FROM unnest($2::int4[], $3::int4[], $4::int4[])`, f.ID, no, first, last)
	return err
}

// cut makes the chunks of a firing.
func cut(ctx context.Context, tx pgx.Tx, f Firing, canary int32) error {
	if canary > 0 {
		if _, err := tx.Exec(ctx, `INSERT INTO chunk (firing, no, first, last) VALUES ($1, 0, 1, $2)`, f.ID, canary); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO chunk (firing, no, first, last)
		SELECT @firing, no, @skip + (no - 1) * @size + 1, least(@skip + no * @size, @total)
		FROM generate_series(1, (@total::int4 - @skip::int4 + @size::int4 - 1) / @size) AS no`, pgx.NamedArgs{
		"firing": f.ID, "skip": canary, "size": int32(ChunkSize), "total": f.Total,
	})
	return err
}

// DueAtOnce is how many campaigns one look at those that are due shows.
const DueAtOnce = 100

// A DueFilter says which due campaigns are meant; the zero value means all.
type DueFilter struct {
	Pulled bool         // only those whose audience workers fetch
	Behind []message.ID // these come last, in this order
}

// mayFire are the states of campaigns that fire at their next tick.
const mayFire = `('scheduled', 'running', 'throttled', 'parked')`

// DueCampaigns lists campaigns whose next tick has come and which may fire, [DueAtOnce] at most. A paused one waits; its
// catch-up policy decides when it is resumed.
func (s *Store) DueCampaigns(ctx context.Context, now time.Time, f DueFilter) ([]Campaign, error) {
	behind := make([][16]byte, len(f.Behind))
	for i, id := range f.Behind {
		behind[i] = id
	}
	return s.campaigns(ctx, `WHERE c.next_tick <= $1 AND c.state IN `+mayFire+` AND (NOT $2 OR c.spec -> 'audience' ->> 'kind' IN ('tag', 'followers', 'sql'))
		ORDER BY coalesce(array_position($3::uuid[], c.id), 0), c.next_tick LIMIT $4`, now, f.Pulled, behind, DueAtOnce)
}

// MayFire says which of these campaigns fire at their next tick: they are no drafts, not paused, and not at their end.
func (s *Store) MayFire(ctx context.Context, ids []message.ID) (map[message.ID]bool, error) {
	list := make([][16]byte, len(ids))
	for i, id := range ids {
		list[i] = id
	}
	rows, err := s.pool.Query(ctx, `SELECT id FROM campaign WHERE id = ANY ($1) AND state IN `+mayFire, list)
	may := make(map[message.ID]bool, len(ids))
	if err == nil {
		var id [16]byte
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error { may[id] = true; return nil })
	}
	if err != nil {
		return nil, fmt.Errorf("read states of campaigns: %w", err)
	}
	return may, nil
}

// Ticked says that the schedule was followed up to last, and when it goes on (zero: never). It takes effect only where
// nobody else has followed it further.
func (s *Store) Ticked(ctx context.Context, id message.ID, last, next time.Time) error {
	var at *time.Time
	if !next.IsZero() {
		at = &next
	}
	if _, err := s.pool.Exec(ctx, `UPDATE campaign SET last_tick = $2, next_tick = $3 WHERE id = $1 AND last_tick < $2 AND next_tick IS NOT NULL`,
		[16]byte(id), last, at); err != nil {
		return fmt.Errorf("move schedule of campaign: %w", err)
	}
	return nil
}

// FiringOf reads a firing with its campaign and the columns of its audience.
func (s *Store) FiringOf(ctx context.Context, id int32) (f Firing, c Campaign, columns []string, err error) {
	return s.firingOf(ctx, s.pool, id)
}

func (s *Store) firingOf(ctx context.Context, q querier, id int32) (f Firing, c Campaign, columns []string, err error) {
	rows, err := q.Query(ctx, `
		SELECT `+campaignColumns+`, f.id, f.tick, f.audience, f.started_at, f.total, a.columns
		FROM firing f JOIN campaign c ON c.id = f.campaign JOIN audience a ON a.id = f.audience WHERE f.id = $1`, id)
	if err == nil {
		of := s.scanCampaign(ctx)
		c, err = pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (Campaign, error) {
			return of(leading{row, []any{&f.ID, &f.Tick, &f.Audience, &f.StartedAt, &f.Total, &columns}})
		})
	}
	if err != nil {
		return f, c, nil, fmt.Errorf("read firing %d: %w", id, err)
	}
	f.Campaign = c.ID
	return f, c, columns, nil
}
