package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Census is what the ledger holds at a moment, for operators. Where there is more of something than censusRows it
// says that many: to count millions each time would cost more than to know that they are many is worth.
type Census struct {
	Stocks   []Stock
	Workers  map[string]int // that live, by version
	Webhooks []WebhookStock
	Left     time.Duration // silence of the longest-dead worker whose claims are not resolved; 0: there is none
	Receipts int64         // that look for their message
	Rejected int64         // tasks that cannot become messages
}

// A Stock is an account's messages of one kind that have not ended.
type Stock struct {
	Account   string
	Kind      message.Kind
	Queued    int64 // accepted, in parcels that a queue holds
	QueuedFor time.Duration
	Parked    int64
	Due       int64 // of the parked
	DueFor    time.Duration
	Campaign  int64 // recipients of running campaigns who are no messages yet
}

// A WebhookStock is what an account's endpoint is still to be told.
type WebhookStock struct {
	Account  string
	Waiting  int64
	For      time.Duration
	Disabled bool
}

const (
	censusRows    = 100_000
	censusParcels = 20_000
)

// SilentAfter is the silence after which a worker counts as dead.
const SilentAfter = 15 * time.Second

// Census counts.
func (s *Store) Census(ctx context.Context, now time.Time) (Census, error) {
	var c Census
	for _, count := range []func(context.Context, *Census, time.Time) error{s.countStocks, s.countWorkers, s.countWebhooks, s.countRest} {
		if err := count(ctx, &c, now); err != nil {
			return Census{}, fmt.Errorf("census: %w", err)
		}
	}
	return c, nil
}

// Stocks counts what waits, alone.
func (s *Store) Stocks(ctx context.Context, now time.Time) ([]Stock, error) {
	var c Census
	if err := s.countStocks(ctx, &c, now); err != nil {
		return nil, fmt.Errorf("count what waits: %w", err)
	}
	return c.Stocks, nil
}

func (s *Store) countStocks(ctx context.Context, c *Census, now time.Time) error {
	rows, err := s.pool.Query(ctx, `
		WITH queued AS (
			SELECT account, kind, sum(cardinality(ids))::int8 AS n, min(created_at) AS first
			FROM (SELECT account, kind, ids, created_at FROM parcel ORDER BY id LIMIT @parcels) AS p GROUP BY 1, 2),
		campaigns AS (
			SELECT c.account, c.kind, sum(k.last - k.first + 1)::int8 AS n
			FROM firing f JOIN campaign c ON c.id = f.campaign AND c.state = 'running' JOIN chunk k ON k.firing = f.id AND k.state IN ('waiting', 'queued')
			WHERE f.ended_at IS NULL GROUP BY 1, 2)
		SELECT a.name, k.kind::text, coalesce(q.n, 0), coalesce(extract(epoch FROM now() - q.first), 0)::float8,
			parked.n, due.n, coalesce(extract(epoch FROM @now - due.first), 0)::float8, coalesce(c.n, 0)
		FROM account a CROSS JOIN unnest(enum_range(NULL::message_kind)) AS k (kind)
		LEFT JOIN queued q ON q.account = a.id AND q.kind = k.kind
		LEFT JOIN campaigns c ON c.account = a.id AND c.kind = k.kind
		CROSS JOIN LATERAL (SELECT count(*) AS n FROM (SELECT FROM parked p WHERE p.account = a.id AND p.kind = k.kind LIMIT @rows) AS one) AS parked
		CROSS JOIN LATERAL (
			SELECT count(*) AS n, min(one.due_at) AS first
			FROM unnest(enum_range(NULL::message_lane)) AS l (lane) CROSS JOIN LATERAL (
				SELECT p.due_at FROM parked p WHERE p.account = a.id AND p.kind = k.kind AND p.lane = l.lane AND p.due_at <= @now
				ORDER BY p.due_at LIMIT @rows) AS one) AS due
		WHERE q.n > 0 OR parked.n > 0 OR c.n > 0
		ORDER BY 1, 2`, pgx.NamedArgs{"now": now, "rows": censusRows, "parcels": censusParcels})
	if err != nil {
		return err
	}
	c.Stocks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Stock, error) {
		var st Stock
		var queued, due float64
		err := row.Scan(&st.Account, &st.Kind, &st.Queued, &queued, &st.Parked, &st.Due, &due, &st.Campaign)
		st.QueuedFor, st.DueFor = seconds(queued), seconds(due)
		return st, err
	})
	return err
}

func seconds(f float64) time.Duration { return time.Duration(max(0, f) * float64(time.Second)) }

func (s *Store) countWorkers(ctx context.Context, c *Census, _ time.Time) (err error) {
	c.Workers, err = s.Workers(ctx)
	return err
}

// Workers counts the workers that live, by version.
func (s *Store) Workers(ctx context.Context) (map[string]int, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT version, count(*)::int FROM pod WHERE seen_at > now() - make_interval(secs => $1) GROUP BY 1`, SilentAfter.Seconds())
	if err != nil {
		return nil, fmt.Errorf("count workers: %w", err)
	}
	byVersion := map[string]int{}
	var version string
	var n int
	if _, err = pgx.ForEachRow(rows, []any{&version, &n}, func() error { byVersion[version] = n; return nil }); err != nil {
		return nil, fmt.Errorf("count workers: %w", err)
	}
	return byVersion, nil
}

func (s *Store) countWebhooks(ctx context.Context, c *Census, _ time.Time) error {
	rows, err := s.pool.Query(ctx, `
		SELECT a.name, waiting.n, coalesce(extract(epoch FROM now() - waiting.first), 0)::float8, w.disabled_at IS NOT NULL
		FROM account a LEFT JOIN webhook_endpoint w ON w.account = a.id
		CROSS JOIN LATERAL (
			SELECT count(*) AS n, min(one.at) AS first FROM (
				SELECT e.at FROM webhook_event e WHERE e.account = a.id ORDER BY e.due_at LIMIT $1) AS one) AS waiting
		WHERE a.webhook OR w.disabled_at IS NOT NULL ORDER BY 1`, censusRows)
	if err != nil {
		return err
	}
	c.Webhooks, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (WebhookStock, error) {
		var w WebhookStock
		var waits float64
		err := row.Scan(&w.Account, &w.Waiting, &waits, &w.Disabled)
		w.For = seconds(waits)
		return w, err
	})
	return err
}

func (s *Store) countRest(ctx context.Context, c *Census, now time.Time) error {
	var left float64
	err := s.pool.QueryRow(ctx, `
		SELECT
			(SELECT coalesce(max(extract(epoch FROM now() - p.seen_at)), 0)::float8
				FROM (SELECT DISTINCT pod FROM in_flight) AS f JOIN pod p ON p.id = f.pod WHERE p.seen_at < now() - make_interval(secs => $1)),
			(SELECT count(*) FROM (SELECT FROM receipt WHERE look_at <= $2 LIMIT $3) AS one),
			(SELECT count(*) FROM (SELECT FROM rejected_task LIMIT $3) AS one)`,
		SilentAfter.Seconds(), now, censusRows).Scan(&left, &c.Receipts, &c.Rejected)
	c.Left = seconds(left)
	return err
}
