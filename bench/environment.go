package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
)

// environment is the servers of a benchmark and the stub.
type environment struct {
	stack *devstack.Stack
	rdb   redis.UniversalClient
	db    *pgxpool.Pool
	stub  *child
	url   string // of the stub
	dir   string
	flags flags

	program string       // of worker processes; empty: this one
	without fault.Safety // what worker processes do without; needs a program that was built for it
}

func start(ctx context.Context) (*environment, error) {
	stack, err := devstack.Start(ctx, devstack.Options{
		Redis: true, Postgres: true, RedisAppendOnly: true, Log: os.Stderr,
		// As one would run it for such loads: the defaults make it write pages out and checkpoint all the time.
		PostgresSettings: map[string]string{"shared_buffers": "512MB", "max_wal_size": "8GB"},
	})
	if err != nil {
		return nil, err
	}
	e := &environment{stack: stack}
	if err := e.open(ctx); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *environment) open(ctx context.Context) (err error) {
	if e.dir, err = os.MkdirTemp("", "hongyan-bench-"); err != nil {
		return err
	}
	if err := postgres.Migrate(ctx, e.stack.DatabaseURL()); err != nil {
		return err
	}
	if e.rdb, err = tasks.Redis(e.stack.RedisURL()); err != nil {
		return err
	}
	if e.db, err = pgxpool.New(ctx, e.stack.DatabaseURL()); err != nil {
		return err
	}
	if _, err := e.db.Exec(ctx, `CREATE TABLE bench_outcome (
		campaign_id int4, n int4, openid text, errcode int4, msgid int8, at timestamptz, PRIMARY KEY (campaign_id, n))`); err != nil {
		return err
	}
	if e.stub, err = spawn("stub"); err != nil {
		return err
	}
	e.url, err = e.stub.line()
	return err
}

func (e *environment) close() {
	if e.stub != nil {
		e.stub.stop()
	}
	if e.db != nil {
		e.db.Close()
	}
	if e.rdb != nil {
		_ = e.rdb.Close()
	}
	_ = e.stack.Close()
	_ = os.RemoveAll(e.dir)
}

// reset empties the stores and the stub's count, and sets the API's latency.
func (e *environment) reset(ctx context.Context, latency time.Duration) error {
	if err := e.rdb.FlushAll(ctx).Err(); err != nil {
		return err
	}
	rows, err := e.db.Query(ctx, `SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
		AND NOT relispartition AND relname NOT IN ('account', 'schema_migrations')`)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	if _, err := e.db.Exec(ctx, "TRUNCATE "+strings.Join(tables, ", ")+" CASCADE"); err != nil {
		return err
	}
	if _, err := e.db.Exec(ctx, "CHECKPOINT"); err != nil {
		return err
	}
	_, err = e.ask("?latency=" + latency.String())
	return err
}

// accepted is how many messages the stub has taken.
func (e *environment) accepted() (int, error) { return e.ask("") }

func (e *environment) ask(query string) (int, error) {
	reply, err := http.Get(e.url + "/stub" + query)
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

// waitFor waits until the stub has taken n messages and count says that their outcomes are written.
func (e *environment) waitFor(ctx context.Context, n int, count string) error {
	start := time.Now()
	for {
		got, err := e.accepted()
		if err != nil {
			return err
		}
		if got >= n {
			var rows int
			if err := e.db.QueryRow(ctx, count).Scan(&rows); err != nil {
				return err
			}
			if rows >= n {
				if got > n || rows > n {
					return fmt.Errorf("%d messages, but the stub took %d and there are %d outcomes", n, got, rows)
				}
				return nil
			}
		}
		if time.Since(start) > 3*time.Minute {
			return fmt.Errorf("after 3 minutes the stub has %d of %d messages", got, n)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(nextLook(time.Since(start), got, n)):
		}
	}
}

// nextLook is when to look again: half of what is left at the rate so far. A run takes seconds, and each question costs the
// stub's time and ours.
func nextLook(since time.Duration, got, n int) time.Duration {
	left := time.Duration(float64(since) * float64(n-got) / float64(max(got, 1)))
	return min(max(left/2, 10*time.Millisecond), 250*time.Millisecond)
}

// usage is the CPU time of all processes: the parts of a message's cost.
func (e *environment) usage(others ...int) map[string]time.Duration {
	u := map[string]time.Duration{
		"redis":    cpuOf(e.stack.Redis().PID()),
		"postgres": cpuOf(e.stack.Postgres().PID()),
		"stub":     cpuOf(e.stub.pid()),
		"enqueuer": cpuOfOne(os.Getpid()),
	}
	for _, pid := range others {
		u["worker"] += cpuOf(pid)
	}
	return u
}

// configuration writes the file that Hongyan's processes run with.
func (e *environment) configuration(senders int, perSecond int) (string, error) {
	path := filepath.Join(e.dir, "hongyan.yaml")
	text := fmt.Sprintf(`redis: {url: %q}
postgres: {url: %q}
worker: {senders: %d}
log: {level: warn}
accounts:
  - name: shop
    appid: wx0000000000000001
    secret: 0123456789abcdef0123456789abcdef
    type: service
    base_url: %s
    limits: {template: {per_day: 1000000000, per_second: %d}}
`, e.stack.RedisURL(), e.stack.DatabaseURL(), senders, e.url, perSecond)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
