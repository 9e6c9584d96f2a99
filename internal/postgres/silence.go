package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Silence says when an account's users were last heard of (zero: never), and how many customer-service messages of the last
// two days WeChat refused because the window was closed or used up, although we thought it open.
func (s *Store) Silence(ctx context.Context, account string, now time.Time) (heard time.Time, disagreed int, err error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("look for silence: %w", err)
	}
	var at *time.Time
	err = s.pool.QueryRow(ctx, `
		SELECT (SELECT max(at) FROM inbound_last WHERE account = $1),
			(SELECT count(*) FROM message WHERE id >= $2 AND account = $1 AND kind = 'custom' AND errcode IN (45015, 45047))`,
		id, [16]byte(message.FirstID(now.Add(-48*time.Hour)))).Scan(&at, &disagreed)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("look for silence: %w", err)
	}
	if at != nil {
		heard = *at
	}
	return heard, disagreed, nil
}
