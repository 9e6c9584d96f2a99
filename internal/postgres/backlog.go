package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Backlog is what waits in a lane of an account's kind with nothing but workers and pace before it: queued, and parked
// whose time has come.
type Backlog struct {
	Account string
	Kind    message.Kind
	Lane    message.Lane
	N       int64
}

// Backlogs counts what waits, up to limit parked messages of each lane and a multiple of that of queued ones: whoever
// asks wants to know whether it is too much.
func (s *Store) Backlogs(ctx context.Context, now time.Time, limit int64) ([]Backlog, error) {
	rows, err := s.pool.Query(ctx, `
		WITH queued AS (
			SELECT account, kind, lane, sum(cardinality(ids))::int8 AS n
			FROM (SELECT account, kind, lane, ids FROM parcel ORDER BY id LIMIT @limit) AS p GROUP BY 1, 2, 3)
		SELECT a.name, k.kind::text, l.lane::text, coalesce(q.n, 0) + due.n
		FROM account a CROSS JOIN unnest(enum_range(NULL::message_kind)) AS k (kind) CROSS JOIN unnest(enum_range(NULL::message_lane)) AS l (lane)
		LEFT JOIN queued q ON q.account = a.id AND q.kind = k.kind AND q.lane = l.lane
		CROSS JOIN LATERAL (
			SELECT count(*) AS n FROM (
				SELECT FROM parked p WHERE p.account = a.id AND p.kind = k.kind AND p.lane = l.lane AND p.due_at <= @now LIMIT @limit) AS one) AS due
		WHERE coalesce(q.n, 0) + due.n > 0`, pgx.NamedArgs{"now": now, "limit": limit})
	if err != nil {
		return nil, fmt.Errorf("count backlogs: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Backlog])
	if err != nil {
		return nil, fmt.Errorf("count backlogs: %w", err)
	}
	return list, nil
}
