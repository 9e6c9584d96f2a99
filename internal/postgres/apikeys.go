package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/message"
)

// An APIKey is a key of the HTTP API.
type APIKey struct {
	ID        string
	Name      string // who holds it
	Hash      []byte // SHA-256 of the secret
	Scopes    []string
	PerSecond float64 // 0: any number
	Created   time.Time
	Expires   time.Time // zero: never
	Revoked   time.Time // zero: not
	Used      time.Time // zero: never
}

// Live says whether the key opens anything at an instant.
func (k APIKey) Live(now time.Time) bool {
	return k.Revoked.IsZero() && (k.Expires.IsZero() || k.Expires.After(now))
}

// ErrTooManyKeys says that a name has two live keys already.
var ErrTooManyKeys = errors.New("the name has two live keys already; revoke one of them first")

// liveKeys is how many keys of one name may live side by side.
const liveKeys = 2

// CreateAPIKey writes a key down. The error is [ErrTooManyKeys] where its name has two that live.
func (s *Store) CreateAPIKey(ctx context.Context, k APIKey, by AuditEntry) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `LOCK TABLE api_key IN SHARE ROW EXCLUSIVE MODE`); err != nil {
			return err
		}
		var n int
		err := tx.QueryRow(ctx, `
			SELECT count(*) FROM api_key WHERE name = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())`, k.Name).Scan(&n)
		if err != nil {
			return err
		}
		if n >= liveKeys {
			return ErrTooManyKeys
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO api_key (id, name, hash, scopes, per_second, expires_at) VALUES (@id, @name, @hash, @scopes, @per_second, @expires)`,
			pgx.NamedArgs{"id": k.ID, "name": k.Name, "hash": k.Hash, "scopes": k.Scopes, "per_second": k.PerSecond, "expires": timeOrNil(k.Expires)})
		if err != nil {
			return err
		}
		return insertAudit(ctx, tx, []AuditEntry{by})
	})
	if err != nil {
		return fmt.Errorf("write API key: %w", err)
	}
	return nil
}

// APIKeys reads all keys, those that live no more among them; there are few.
func (s *Store) APIKeys(ctx context.Context) ([]APIKey, error) {
	rows, err := s.pool.Query(ctx, `
		SELECT id, name, hash, scopes, per_second, created_at, coalesce(expires_at, 'epoch'), coalesce(revoked_at, 'epoch'), coalesce(used_at, 'epoch')
		FROM api_key ORDER BY name, created_at`)
	if err != nil {
		return nil, fmt.Errorf("read API keys: %w", err)
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (APIKey, error) {
		k, err := pgx.RowToStructByPos[APIKey](row)
		for _, t := range []*time.Time{&k.Expires, &k.Revoked, &k.Used} {
			if t.Unix() == 0 {
				*t = time.Time{}
			}
		}
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("read API keys: %w", err)
	}
	return keys, nil
}

// RevokeAPIKey ends a key, and says whether it lived. Servers know within seconds.
func (s *Store) RevokeAPIKey(ctx context.Context, id string, by AuditEntry) (known, lived bool, err error) {
	err = s.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE api_key SET revoked_at = now() WHERE id = $1 AND revoked_at IS NULL`, id)
		if err != nil {
			return err
		}
		if lived = tag.RowsAffected() > 0; lived {
			known = true
			return insertAudit(ctx, tx, []AuditEntry{by})
		}
		return tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM api_key WHERE id = $1)`, id).Scan(&known)
	})
	if err != nil {
		return false, false, fmt.Errorf("revoke API key: %w", err)
	}
	return known, lived, nil
}

// An AuditEntry says who did what.
type AuditEntry struct {
	At      time.Time
	Key     string // the key's id; empty: the command line
	Name    string // who holds it
	Action  string
	Account string
	Target  string
	N       int64
	Detail  string
	Address string
}

// Audit appends entries, and notes that their keys were used, as those are that used names besides.
func (s *Store) Audit(ctx context.Context, entries []AuditEntry, used []string) error {
	err := s.inTx(ctx, func(tx pgx.Tx) error {
		if err := insertAudit(ctx, tx, entries); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE api_key SET used_at = now() WHERE id = ANY ($1::text[])`, used)
		return err
	})
	if err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

func insertAudit(ctx context.Context, tx pgx.Tx, entries []AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	rows := make([][]any, len(entries))
	for i, e := range entries {
		rows[i] = []any{e.At, e.Key, clean(e.Name), e.Action, clean(e.Account), clean(e.Target), e.N, clean(e.Detail), e.Address}
	}
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"api_audit"},
		[]string{"at", "key", "name", "action", "account", "target", "n", "detail", "address"}, pgx.CopyFromRows(rows))
	return err
}

// timeOrNil is the parameter for a time that may be absent.
func timeOrNil(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t
}

// CampaignAuthors are the names of the keys that created a campaign of that name since it can have been, or imported an
// audience of it. As long as the audit log is kept it forgets none, and may name one too many.
func (s *Store) CampaignAuthors(ctx context.Context, account, name string, id message.ID, created time.Time) ([]string, error) {
	const clocks = 10 * time.Minute // may stand apart so far
	rows, err := s.pool.Query(ctx, `
		SELECT DISTINCT name FROM api_audit WHERE at >= $1 AND account = $2
			AND (action = 'campaign create' AND target = $3 OR action = 'campaign import' AND target = $4)`, created.Add(-clocks), account, name, id.String())
	if err == nil {
		var names []string
		if names, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
			return names, nil
		}
	}
	return nil, fmt.Errorf("read campaign authors: %w", err)
}
