package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	_ "github.com/golang-migrate/migrate/v4/database/pgx/v5" // the driver of pgx5:// URLs
	"github.com/golang-migrate/migrate/v4/source"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/sql"
)

// Migrate brings the database at url to the schema that this program was written for, and makes the partitions of
// the days around now. Several processes may call it at once: one works, the others wait. A database that is
// newer than the program is left alone, without error.
func Migrate(ctx context.Context, url string) error {
	alone, err := lockMigrations(ctx, url)
	if err != nil {
		return err
	}
	defer alone.Close(context.WithoutCancel(ctx))
	m, err := migrator(url, fmt.Sprintf("lock_timeout=%d", lockTimeout.Milliseconds()))
	if err != nil {
		return err
	}
	defer m.Close()
	stop := context.AfterFunc(ctx, func() { m.GracefulStop <- true })
	defer stop()
	have, dirty, err := m.Version()
	if err != nil && !errors.Is(err, migrate.ErrNilVersion) {
		return fmt.Errorf("read migration state: %w", err)
	}
	want, err := wanted()
	if err != nil {
		return err
	}
	if have < want || dirty {
		if err := up(ctx, m); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	s, err := Open(ctx, url, Options{Name: "hongyan migrate", MaxConns: 1, StatementTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer s.Close()
	return s.EnsurePartitions(ctx, time.Now())
}

// Times of a migration that meets work. Whoever waits for a lock on a table holds up all who come after, so a migration
// waits for a moment, gives way, and comes again.
const (
	lockTimeout   = 3 * time.Second
	givesWayFor   = 2 * time.Second
	lockedForGood = 10 * time.Minute
)

// migrationLock is the advisory lock of who migrates; the library's own is free between two tries.
const migrationLock = 0x686f6e677961

// lockMigrations waits until nobody else migrates. Closing the session ends the lock.
func lockMigrations(ctx context.Context, url string) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("open database for migration: %w", err)
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, int64(migrationLock)); err != nil {
		_ = conn.Close(context.WithoutCancel(ctx))
		return nil, fmt.Errorf("wait for who else migrates: %w", err)
	}
	return conn, nil
}

func up(ctx context.Context, m *migrate.Migrate) error {
	for deadline := time.Now().Add(lockedForGood); ; {
		err := m.Up()
		if err == nil || errors.Is(err, migrate.ErrNoChange) {
			return nil
		}
		if !heldUp(err) || time.Now().After(deadline) {
			return err
		}
		if back := takeBack(m); back != nil {
			return errors.Join(err, back)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(givesWayFor):
		}
	}
}

// heldUp says whether a migration met somebody's lock. It is one transaction, so nothing of it is there.
func heldUp(err error) bool {
	run, ok := errors.AsType[database.Error](err) // it wraps without saying so
	return ok && sqlState(run.OrigErr) == stateLockNotAvailable
}

// takeBack takes back the mark of a migration that left nothing.
func takeBack(m *migrate.Migrate) error {
	at, dirty, err := m.Version()
	if err != nil || !dirty {
		return err
	}
	src, err := migrations()
	if err != nil {
		return err
	}
	defer src.Close()
	before, err := src.Prev(at)
	if errors.Is(err, fs.ErrNotExist) {
		return m.Force(database.NilVersion)
	}
	if err != nil {
		return fmt.Errorf("read embedded migrations: %w", err)
	}
	return m.Force(int(before))
}

// MigrationState compares the database at url with this program: the number of its last migration (0: none), the
// number of ours, and whether a migration failed half way, which takes a person to mend.
func MigrationState(_ context.Context, url string) (have, want uint, dirty bool, err error) {
	m, err := migrator(url, "")
	if err != nil {
		return 0, 0, false, err
	}
	defer m.Close()
	if want, err = wanted(); err != nil {
		return 0, 0, false, err
	}
	have, dirty, err = m.Version()
	if err != nil && !errors.Is(err, migrate.ErrNilVersion) {
		return 0, want, false, fmt.Errorf("read migration state: %w", err)
	}
	return have, want, dirty, nil
}

// Migrated says whether the schema is one that this program can work on; the error says what is wrong with it. It asks in
// the store's own sessions and is cheap: for readiness probes.
func (s *Store) Migrated(ctx context.Context) error {
	want, err := wanted()
	if err != nil {
		return err
	}
	var have int64
	var dirty bool
	err = s.pool.QueryRow(ctx, `SELECT version, dirty FROM schema_migrations ORDER BY version DESC LIMIT 1`).Scan(&have, &dirty)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("the schema is empty and needs migration %d", want)
	case err != nil:
		return fmt.Errorf("read migration state: %w", err)
	case dirty:
		return fmt.Errorf("migration %d was broken off half-way", have)
	case have < int64(want):
		return fmt.Errorf("the schema is at migration %d and needs %d", have, want)
	}
	return nil
}

// migrator opens the database for migration; the parameters go into its URL.
func migrator(url, parameters string) (*migrate.Migrate, error) {
	src, err := migrations()
	if err != nil {
		return nil, err
	}
	_, rest, ok := strings.Cut(url, "://")
	if !ok {
		return nil, errors.New("read database url: want postgres://user@host/database")
	}
	if parameters != "" {
		sign := "?"
		if strings.Contains(rest, "?") {
			sign = "&"
		}
		rest += sign + parameters
	}
	m, err := migrate.NewWithSourceInstance("iofs", src, "pgx5://"+rest)
	if err != nil {
		return nil, fmt.Errorf("open database for migration: %w", err)
	}
	return m, nil
}

func migrations() (source.Driver, error) {
	src, err := iofs.New(sql.Migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("read embedded migrations: %w", err)
	}
	return src, nil
}

// wanted is the number of the last migration in this program.
func wanted() (uint, error) {
	src, err := migrations()
	if err != nil {
		return 0, err
	}
	defer src.Close()
	v, err := src.First()
	for err == nil {
		var next uint
		if next, err = src.Next(v); err == nil {
			v = next
		}
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("read embedded migrations: %w", err)
	}
	return v, nil
}
