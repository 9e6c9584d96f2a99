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
