package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Recipients reads a page of an audience, behind recipient n.
func (s *Store) Recipients(ctx context.Context, audience, after int32, limit int) ([]Recipient, error) {
	rows, err := s.pool.Query(ctx, `SELECT n, openid, vars FROM recipient WHERE audience = $1 AND n > $2 ORDER BY n LIMIT $3`, audience, after, limit)
	if err == nil {
		var list []Recipient
		if list, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Recipient]); err == nil {
			return list, nil
		}
	}
	return nil, fmt.Errorf("read recipients: %w", err)
}
