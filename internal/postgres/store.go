package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options tune a [Store]; the zero value is fine.
type Options struct {
	Name             string        // application_name, seen in pg_stat_activity; default hongyan
	MaxConns         int32         // of the pool; default 8
	StatementTimeout time.Duration // default 15 s
}

// A Store is a pool of sessions on the ledger's database. Its methods may be called from several goroutines.
// Unless they say otherwise their errors mean: not done, or not known to be done; trying again is safe.
type Store struct {
	pool     *pgxpool.Pool
	accounts accounts
}

// Open connects to the database at url and checks that it answers. It does not look at migrations: see [Migrate]
// and [MigrationState].
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	if o.Name == "" {
		o.Name = "hongyan"
	}
	if o.MaxConns == 0 {
		o.MaxConns = 8
	}
	if o.StatementTimeout == 0 {
		o.StatementTimeout = 15 * time.Second
	}
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read database url: %w", err) // pgx leaves the password out
	}
	cfg.MaxConns = o.MaxConns
	for k, v := range map[string]string{
		"application_name":                    o.Name,
		"timezone":                            "UTC",
		"statement_timeout":                   strconv.FormatInt(o.StatementTimeout.Milliseconds(), 10),
		"idle_in_transaction_session_timeout": "30000",
		// Plans for tables of any size and any age: statements take their rows by key, thousands of times. Statistics
		// of a partition made yesterday and still empty would say "read it all".
		"plan_cache_mode":                 "force_generic_plan",
		"enable_seqscan":                  "off",
		"enable_bitmapscan":               "off",
		"enable_hashjoin":                 "off",
		"enable_mergejoin":                "off",
		"enable_memoize":                  "off",
		"enable_material":                 "off",
		"jit":                             "off",
		"max_parallel_workers_per_gather": "0",
	} {
		cfg.ConnConfig.RuntimeParams[k] = v
	}
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return &Store{pool: pool}, nil
}

// Close ends all sessions; it waits for those in use.
func (s *Store) Close() { s.pool.Close() }

// Ping says whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("ping database: %w", err)
	}
	return nil
}

// inTx runs f in a transaction, and again after a deadlock or a serialization failure. f must start anew each
// time. Where the answer to COMMIT is lost, the error says so by not being a *pgconn.PgError.
func (s *Store) inTx(ctx context.Context, f func(pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := pgx.BeginFunc(ctx, s.pool, f)
		code := sqlState(err)
		if try == 10 || code != stateDeadlock && code != stateSerialization {
			return err
		}
		if !pause(ctx, backoff(try)) {
			return errors.Join(err, ctx.Err())
		}
	}
}

// ServerVersion is the server's version in words, and its major number.
func (s *Store) ServerVersion(ctx context.Context) (version string, major int, err error) {
	var number int
	err = s.pool.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int`).Scan(&version, &number)
	if err != nil {
		return "", 0, fmt.Errorf("read server version: %w", err)
	}
	return version, number / 10000, nil
}

// Now is what the database's clock says, which is the same for all programs.
func (s *Store) Now(ctx context.Context) (now time.Time, err error) {
	if err := s.pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return now, fmt.Errorf("ask for the time: %w", err)
	}
	return now, nil
}
