package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A keyed message asks for its key.
type keyed struct {
	account int32
	m       *message.Message
	hash    [16]byte
	// After takeKeys: who has the key, the message itself or an earlier one, and the hash of the holder's body.
	holder message.ID
	held   [16]byte
}

func (k *keyed) mine() bool { return k.holder == k.m.ID }
func (k *keyed) same() bool { return k.held == k.hash }

// verdict is what becomes of a message that was written without asking, because there was no ledger to ask.
func (k *keyed) verdict() outcome.Outcome {
	switch {
	case k.mine():
		return outcome.Outcome{}
	case k.same():
		return outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Duplicate}
	}
	return outcome.Outcome{Status: outcome.Failed, Reason: outcome.KeyConflict}
}

func (k *keyed) compare(o *keyed) int {
	if k.account != o.account {
		return int(k.account) - int(o.account)
	}
	if c := strings.Compare(k.m.Key, o.m.Key); c != 0 {
		return c
	}
	return 0
}

const (
	sqlInsertKeys = `INSERT INTO idempotency_key (account, key, id, body_hash)
		SELECT * FROM unnest($1::int4[], $2::text[], $3::uuid[], $4::bytea[])
		ON CONFLICT (account, key) DO NOTHING RETURNING id`
	sqlSelectKeys = `SELECT i.id, k.id, k.body_hash
		FROM unnest($1::int4[], $2::text[], $3::uuid[]) AS i (account, key, id)
		JOIN idempotency_key k ON k.account = i.account AND k.key = i.key`
)

// A runner runs one statement with binary parameters and results, inside the caller's transaction.
type runner func(ctx context.Context, sql string, params [][]byte, row func([][]byte)) error

// runOn is the runner of a pgx connection.
func runOn(conn *pgconn.PgConn) runner {
	return func(ctx context.Context, sql string, params [][]byte, row func([][]byte)) error {
		result := conn.ExecParams(ctx, sql, params, nil, binaryFormat, binaryFormat)
		for result.NextRow() {
			if row != nil {
				row(result.Values())
			}
		}
		_, err := result.Close()
		return err
	}
}

// takeKeys takes the keys that are free and says of the others who has them. All in key order, in which every
// transaction takes them, so that two cannot wait for each other; a key that another transaction is taking now
// is waited for. The same key twice in the list goes to the first of the list.
func takeKeys(ctx context.Context, run runner, list []*keyed) error {
	if len(list) == 0 {
		return nil
	}
	order := slices.Clone(list)
	slices.SortStableFunc(order, (*keyed).compare)
	heads := order[:0:0] // the first of each key
	for i, k := range order {
		if i == 0 || k.compare(order[i-1]) != 0 {
			heads = append(heads, k)
		}
	}
	if err := takeHeads(ctx, run, heads); err != nil {
		return err
	}
	head := 0
	for i, k := range order {
		if i > 0 && k.compare(order[i-1]) != 0 {
			head++
		}
		if h := heads[head]; h != k {
			k.holder, k.held = h.holder, h.held
		}
	}
	return nil
}

func takeHeads(ctx context.Context, run runner, heads []*keyed) error {
	byID := make(map[message.ID]*keyed, len(heads))
	for _, k := range heads {
		byID[k.m.ID] = k
		k.holder = message.ID{}
	}
	missing := heads
	// A key that refused us may be purged before we look who has it: then it is free, and we ask again.
	for try := 0; len(missing) > 0; try++ {
		if try == 5 {
			return fmt.Errorf("take keys: %d neither free nor held", len(missing))
		}
		var c columns
		c.begin(oidInt4, oidText, oidUUID, oidBytea)
		for _, k := range missing {
			c[0].int4(k.account)
			c[1].text(k.m.Key)
			c[2].uuid(k.m.ID)
			c[3].bytes(k.hash[:])
			c.row()
		}
		err := run(ctx, sqlInsertKeys, c.params(nil), func(v [][]byte) {
			if k := byID[readUUID(v[0])]; k != nil {
				k.holder, k.held = k.m.ID, k.hash
			}
		})
		if err != nil {
			return fmt.Errorf("take keys: %w", err)
		}
		if missing = withoutHolder(missing); len(missing) == 0 {
			return nil
		}
		c.begin(oidInt4, oidText, oidUUID)
		for _, k := range missing {
			c[0].int4(k.account)
			c[1].text(k.m.Key)
			c[2].uuid(k.m.ID)
			c.row()
		}
		err = run(ctx, sqlSelectKeys, c.params(nil), func(v [][]byte) {
			if k := byID[readUUID(v[0])]; k != nil {
				k.holder = readUUID(v[1])
				copy(k.held[:], v[2])
			}
		})
		if err != nil {
			return fmt.Errorf("look up keys: %w", err)
		}
		missing = withoutHolder(missing)
	}
	return nil
}

func withoutHolder(list []*keyed) []*keyed {
	var out []*keyed
	for _, k := range list {
		if k.holder.IsZero() {
			out = append(out, k)
		}
	}
	return out
}

// KeyHolder is the message that has a key, by which its producer finds it again. The error wraps [ErrNotFound] where the
// key is free, or forgotten.
func (s *Store) KeyHolder(ctx context.Context, account, key string) (message.ID, error) {
	if clean(key) != key { // no message can have it
		return message.ID{}, fmt.Errorf("look up key: %w", ErrNotFound)
	}
	number, err := s.accountID(ctx, account)
	if err != nil {
		return message.ID{}, fmt.Errorf("look up key: %w", err)
	}
	var id [16]byte
	err = s.pool.QueryRow(ctx, `SELECT id FROM idempotency_key WHERE account = $1 AND key = $2`, number, key).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return message.ID{}, fmt.Errorf("look up key: %w", err)
	}
	return id, nil
}

// PurgeKeys forgets keys taken before a time, at most limit in one call, and says how many. Keys are promised for
// at least 24 h.
func (s *Store) PurgeKeys(ctx context.Context, before time.Time, limit int) (int, error) {
	tag, err := s.pool.Exec(ctx, `
		DELETE FROM idempotency_key k USING (
			SELECT account, key FROM idempotency_key WHERE at < @before ORDER BY at LIMIT @limit FOR UPDATE SKIP LOCKED) AS old
		WHERE k.account = old.account AND k.key = old.key`, pgx.NamedArgs{"before": before, "limit": limit})
	if err != nil {
		return 0, fmt.Errorf("purge keys: %w", err)
	}
	return int(tag.RowsAffected()), nil
}
