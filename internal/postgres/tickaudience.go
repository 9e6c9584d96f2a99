package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/message"
)

// TickAudience is the audience that is fetched for the campaign's firing of a tick. It is begun by whoever asks first.
func (s *Store) TickAudience(ctx context.Context, id message.ID, tick time.Time, source string, columns []string) (Audience, error) {
	if columns == nil {
		columns = []string{}
	}
	_, err := s.pool.Exec(ctx, `INSERT INTO audience (campaign, tick, source, columns) VALUES ($1, $2, $3, $4) ON CONFLICT (campaign, tick) DO NOTHING`,
		[16]byte(id), tick, source, columns)
	if err != nil {
		return Audience{}, fmt.Errorf("begin audience: %w", err)
	}
	list, err := s.audiences(ctx, `campaign = $1 AND tick = $2`, [16]byte(id), tick)
	if err == nil && len(list) == 0 {
		err = pgx.ErrNoRows
	}
	if err != nil {
		return Audience{}, fmt.Errorf("read audience: %w", err)
	}
	return list[0], nil
}

// ReadyAudience is the audience that was fetched whole for a tick; 0: not yet.
func (s *Store) ReadyAudience(ctx context.Context, id message.ID, tick time.Time) (int32, error) {
	list, err := s.audiences(ctx, `campaign = $1 AND tick = $2 AND state = 'ready'`, [16]byte(id), tick)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[0].ID, nil
}

// BegunTick is the first tick after an instant whose audience somebody has begun to fetch; zero: none.
func (s *Store) BegunTick(ctx context.Context, id message.ID, after time.Time) (time.Time, error) {
	var tick *time.Time
	err := s.pool.QueryRow(ctx, `SELECT min(tick) FROM audience WHERE campaign = $1 AND tick > $2 AND state <> 'dropped'`, [16]byte(id), after).Scan(&tick)
	if err != nil {
		return time.Time{}, fmt.Errorf("look for an audience that is fetched: %w", err)
	}
	if tick == nil {
		return time.Time{}, nil
	}
	return *tick, nil
}

// RestartAudience empties an audience that cannot be gone on with, for another try.
func (s *Store) RestartAudience(ctx context.Context, a *Audience, columns []string) error {
	if err := s.deleteRecipients(ctx, a.ID); err != nil {
		return fmt.Errorf("restart audience: %w", err)
	}
	_, err := s.pool.Exec(ctx, `
		UPDATE audience SET columns = $2, total = 0, duplicates = 0, refused = 0, suppressed = 0, bytes = 0, lines = 0, cursor = ''
		WHERE id = $1 AND state = 'importing'`, a.ID, columns)
	if err != nil {
		return fmt.Errorf("restart audience: %w", err)
	}
	*a = Audience{ID: a.ID, Campaign: a.Campaign, Source: a.Source, Columns: columns, State: a.State, CreatedAt: a.CreatedAt}
	return nil
}

// NoteCampaign says for people why a campaign that is due does not fire yet.
func (s *Store) NoteCampaign(ctx context.Context, id message.ID, reason string) error {
	_, err := s.setFrom(ctx, id, []campaign.State{campaign.Scheduled}, campaign.Scheduled, reason, time.Time{})
	return err
}
