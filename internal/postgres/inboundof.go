package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// InboundOf reads the latest event of each trigger of many users of an account.
func (s *Store) InboundOf(ctx context.Context, account string, users []message.OpenID) ([]Inbound, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	rows, err := s.pool.Query(ctx, `SELECT openid, trigger, at FROM inbound_last WHERE account = $1 AND openid = ANY ($2::text[])`, id, users)
	if err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Inbound, error) {
		in := Inbound{Account: account}
		err := row.Scan(&in.OpenID, &in.Trigger, &in.At)
		return in, err
	})
	if err != nil {
		return nil, fmt.Errorf("read inbound events: %w", err)
	}
	return list, nil
}
