package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A WebhookEvent is what an account's endpoint is to be told.
type WebhookEvent struct {
	ID      string // the webhook-id
	Type    string // message.outcome or message.receipt
	Message message.ID
	At      time.Time
	Tries   int
	Data    json.RawMessage // the message's row of the view outcomes, as it is now; null where it is gone
}

// SyncWebhooks writes down which of the configured accounts have a webhook. One that was disabled stays so.
func (s *Store) SyncWebhooks(ctx context.Context, wanted map[string]bool) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE account IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			if _, err := tx.Exec(ctx, `
				UPDATE account a SET webhook = i.wanted
				FROM (SELECT $2 AND NOT EXISTS (SELECT FROM webhook_endpoint w JOIN account a ON a.id = w.account WHERE a.name = $1 AND w.disabled_at IS NOT NULL) AS wanted) AS i
				WHERE a.name = $1 AND a.webhook <> i.wanted`, name, wanted[name]); err != nil {
				return err
			}
		}
		return syncWebhooks(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("write webhooks: %w", err)
	}
	return nil
}

// syncWebhooks makes the triggers that queue outcomes, or drops them: dispatch pays for them only where somebody listens.
func syncWebhooks(ctx context.Context, tx pgx.Tx) error {
	var wanted, there bool
	err := tx.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM account WHERE webhook),
			EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'message'::regclass AND tgname = 'queue_ended')`).Scan(&wanted, &there)
	if err != nil || wanted == there {
		return err
	}
	statements := []string{`DROP TRIGGER IF EXISTS queue_ended ON message`, `DROP TRIGGER IF EXISTS queue_born ON message`}
	if wanted {
		statements = append(statements,
			`CREATE TRIGGER queue_ended AFTER UPDATE ON message REFERENCING NEW TABLE AS ended FOR EACH STATEMENT EXECUTE FUNCTION queue_outcomes()`,
			`CREATE TRIGGER queue_born AFTER INSERT ON message REFERENCING NEW TABLE AS ended FOR EACH STATEMENT EXECUTE FUNCTION queue_outcomes()`)
	}
	for _, sql := range statements {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("triggers of webhooks: %w", err)
		}
	}
	return nil
}

// WebhookEvents reads what the account's endpoint is to be told now, oldest first. One process at a time delivers an
// account's.
func (s *Store) WebhookEvents(ctx context.Context, account string, now time.Time, limit int) ([]WebhookEvent, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("read webhook events: %w", err)
	}
	rows, err := s.pool.Query(ctx, `
		SELECT e.id::text, e.type, e.message, e.at, e.tries, coalesce((SELECT to_json(o) FROM outcomes o WHERE o.id = e.message), 'null')
		FROM webhook_event e JOIN account a ON a.id = e.account AND a.webhook
		WHERE e.account = $1 AND e.due_at <= $2 ORDER BY e.due_at LIMIT $3`, id, now, limit)
	if err != nil {
		return nil, fmt.Errorf("read webhook events: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (WebhookEvent, error) {
		var e WebhookEvent
		var of [16]byte
		err := row.Scan(&e.ID, &e.Type, &of, &e.At, &e.Tries, &e.Data)
		e.Message = of
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("read webhook events: %w", err)
	}
	return list, nil
}

// WebhookTold forgets events that the endpoint has taken, and that it was failing.
func (s *Store) WebhookTold(ctx context.Context, account string, ids []string) error {
	id, err := s.accountID(ctx, account)
	if err == nil {
		b := &pgx.Batch{}
		b.Queue(`DELETE FROM webhook_event WHERE id = ANY ($1::text[]::uuid[])`, ids)
		b.Queue(`DELETE FROM webhook_endpoint WHERE account = $1 AND disabled_at IS NULL`, id)
		err = s.pool.SendBatch(ctx, b).Close()
	}
	if err != nil {
		return fmt.Errorf("forget webhook events: %w", err)
	}
	return nil
}

// WebhookFailed sets an event's next try, and notes since when the endpoint fails.
func (s *Store) WebhookFailed(ctx context.Context, account, event string, again, now time.Time, reason string) (since time.Time, err error) {
	id, err := s.accountID(ctx, account)
	if err == nil {
		b := &pgx.Batch{}
		b.Queue(`UPDATE webhook_event SET tries = least(tries + 1, 1000), due_at = $2 WHERE id = $1::text::uuid`, event, again)
		b.Queue(`
			INSERT INTO webhook_endpoint AS w (account, failing_since, reason) VALUES ($1, $2, $3)
			ON CONFLICT (account) DO UPDATE SET failing_since = coalesce(w.failing_since, excluded.failing_since), reason = excluded.reason
			RETURNING failing_since`, id, now, clean(reason)).QueryRow(func(row pgx.Row) error { return row.Scan(&since) })
		err = s.pool.SendBatch(ctx, b).Close()
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("note a failed webhook: %w", err)
	}
	return since, nil
}

// ForgetWebhookEvent drops an event that the endpoint will not take.
func (s *Store) ForgetWebhookEvent(ctx context.Context, id string) error {
	if _, err := s.pool.Exec(ctx, `DELETE FROM webhook_event WHERE id = $1::text::uuid`, id); err != nil {
		return fmt.Errorf("forget a webhook event: %w", err)
	}
	return nil
}

// DisableWebhook stops the account's events: those that wait are forgotten, and no more are queued until it is enabled.
func (s *Store) DisableWebhook(ctx context.Context, account, reason string, now time.Time) (forgotten int64, err error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return 0, fmt.Errorf("disable webhook: %w", err)
	}
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `UPDATE account SET webhook = false WHERE id = $1`, id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			INSERT INTO webhook_endpoint (account, failing_since, disabled_at, reason) VALUES ($1, $2, $2, $3)
			ON CONFLICT (account) DO UPDATE SET disabled_at = excluded.disabled_at, reason = excluded.reason`, id, now, clean(reason)); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM webhook_event WHERE account = $1`, id)
		forgotten = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("disable webhook: %w", err)
	}
	return forgotten, nil
}

// EnableWebhook lets the account's events be queued again, and says whether its endpoint was disabled.
func (s *Store) EnableWebhook(ctx context.Context, account string) (bool, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return false, fmt.Errorf("enable webhook: %w", err)
	}
	var was bool
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM webhook_endpoint WHERE account = $1 AND disabled_at IS NOT NULL`, id)
		if was = tag.RowsAffected() > 0; err != nil || !was {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE account SET webhook = true WHERE id = $1`, id); err != nil {
			return err
		}
		return syncWebhooks(ctx, tx)
	})
	if err != nil {
		return false, fmt.Errorf("enable webhook: %w", err)
	}
	return was, nil
}

// A WebhookState is how an account's endpoint does.
type WebhookState struct {
	Account  string
	Waiting  int64
	Oldest   time.Time // of those that wait
	Failing  time.Time // since when; zero: it does not
	Disabled time.Time // zero: it is not
	Reason   string
}

// WebhookState tells how the account's endpoint does.
func (s *Store) WebhookState(ctx context.Context, account string) (WebhookState, error) {
	id, err := s.accountID(ctx, account)
	if err != nil {
		return WebhookState{}, fmt.Errorf("read webhook: %w", err)
	}
	state := WebhookState{Account: account}
	var oldest, failing, disabled *time.Time
	var reason *string
	err = s.pool.QueryRow(ctx, `
		SELECT count(e.id), min(e.at), w.failing_since, w.disabled_at, w.reason
		FROM account a LEFT JOIN webhook_event e ON e.account = a.id LEFT JOIN webhook_endpoint w ON w.account = a.id
		WHERE a.id = $1 GROUP BY w.failing_since, w.disabled_at, w.reason`, id).Scan(&state.Waiting, &oldest, &failing, &disabled, &reason)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return WebhookState{}, fmt.Errorf("read webhook: %w", err)
	}
	for _, t := range []struct {
		from *time.Time
		to   *time.Time
	}{{oldest, &state.Oldest}, {failing, &state.Failing}, {disabled, &state.Disabled}} {
		if t.from != nil {
			*t.to = *t.from
		}
	}
	if reason != nil {
		state.Reason = *reason
	}
	return state, nil
}
