package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Suppression is a user who refuses our messages, or those of one template.
type Suppression struct {
	Account    string // filled when read; an effect takes its message's
	OpenID     message.OpenID
	TemplateID string // empty: all messages
	ErrCode    int    // WeChat's refusal
	Active     bool   // false: an event of the user's lifted it
	Since      time.Time
}

// followOverlap is how far a follower reads back: a transaction's rows bear the time it began, and are seen when it
// commits.
const followOverlap = 30 * time.Second

// SuppressedSince reads the suppressions that changed since the instant that the last call returned; the zero Time
// reads them all. A follower sees each change at least once, lifted ones too (Active false).
func (s *Store) SuppressedSince(ctx context.Context, since time.Time) (changed []Suppression, next time.Time, err error) {
	if since.IsZero() {
		since = time.Unix(0, 0)
	}
	if err := s.pool.QueryRow(ctx, `SELECT now()`).Scan(&next); err != nil {
		return nil, time.Time{}, fmt.Errorf("read suppressions: %w", err)
	}
	rows, err := s.pool.Query(ctx, `
		SELECT a.name, s.openid, s.template_id, s.errcode, s.active, s.since
		FROM suppression s JOIN account a ON a.id = s.account WHERE s.changed_at >= $1`, since)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read suppressions: %w", err)
	}
	changed, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Suppression])
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read suppressions: %w", err)
	}
	return changed, next.Add(-followOverlap), nil
}

// IsSuppressed says whether the user refuses all our messages, or those of the template (if one is named).
func (s *Store) IsSuppressed(ctx context.Context, account string, to message.OpenID, templateID string) (bool, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return false, fmt.Errorf("look up suppression: %w", err)
	}
	var found bool
	err = s.pool.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM suppression WHERE account = $1 AND openid = $2 AND template_id IN ('', $3) AND active)`,
		id, string(to), templateID).Scan(&found)
	if err != nil {
		return false, fmt.Errorf("look up suppression: %w", err)
	}
	return found, nil
}

// Suppress notes that the user left at the given time, unless a later event of theirs says that they came back.
func (s *Store) Suppress(ctx context.Context, account string, to message.OpenID, at time.Time) error {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return fmt.Errorf("suppress: %w", err)
	}
	_, err = s.pool.Exec(ctx, `
		INSERT INTO suppression AS s (account, openid, template_id, active, reason, errcode, since)
		SELECT $1, $2, '', true, 'suppressed', 0, $3 WHERE NOT EXISTS (
			SELECT FROM inbound_last WHERE account = $1 AND openid = $2 AND trigger <> 'unsubscribe' AND at > $3)
		ON CONFLICT (account, openid, template_id) DO UPDATE SET active = true, changed_at = now(), since = greatest(s.since, excluded.since)`,
		id, string(to), at)
	if err != nil {
		return fmt.Errorf("suppress: %w", err)
	}
	return nil
}

// Unsuppress lifts every suppression of the user that is older than an event of theirs at the given time.
func (s *Store) Unsuppress(ctx context.Context, account string, to message.OpenID, at time.Time) error {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return fmt.Errorf("lift suppression: %w", err)
	}
	_, err = s.pool.Exec(ctx, `
		UPDATE suppression SET active = false, changed_at = now()
		WHERE account = $1 AND openid = $2 AND active AND since < $3`, id, string(to), at)
	if err != nil {
		return fmt.Errorf("lift suppression: %w", err)
	}
	return nil
}
