package devstack

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
)

// The servers of this test process. They are package state because a test binary has no other place
// that all its tests share.
var shared struct {
	mu              sync.Mutex
	redis, postgres *Stack
	templates       map[uintptr]string // by migrate function
}

// Main runs a package's tests and stops the servers they used; call it as the body of TestMain.
func Main(m *testing.M) { os.Exit(Run(m)) }

// Run is Main for a TestMain that has more to do before it exits with the code.
func Run(m *testing.M) (code int) {
	code = m.Run()
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, "devstack:", err)
		code = max(code, 1)
	}
	return code
}

func closeShared() error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var errs []error
	if s := shared.postgres; s != nil {
		if s.postgres == nil { // somebody else's server: leave nothing behind
			for _, name := range shared.templates {
				errs = append(errs, dropDatabase(context.Background(), s.databaseURL, name))
			}
		}
		errs = append(errs, s.Close())
	}
	if s := shared.redis; s != nil {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// Redis gives a test an empty Redis database of its own, as redis://…/N. It is flushed when the test ends.
func Redis(tb testing.TB) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	stack, err := sharedStack(ctx, &shared.redis, Options{Redis: true, sharedRedis: true})
	if err != nil {
		tb.Fatal(err)
	}
	taken, give, err := takeRedisDatabase(ctx, stack.redisURL)
	if err != nil {
		tb.Fatalf("devstack: take a Redis database: %v", err)
	}
	tb.Cleanup(func() {
		if err := give(); err != nil {
			tb.Logf("devstack: give back a Redis database: %v", err)
		}
	})
	return taken
}

// Postgres gives a test a database of its own, dropped when the test ends: a copy of one on which migrate
// ran once in this process, or an empty one where migrate is nil. migrate must close its connections.
// It is told from others by its code, so pass a function, not closures that differ in what they hold.
func Postgres(tb testing.TB, migrate func(ctx context.Context, url string) error) string {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	stack, err := sharedStack(ctx, &shared.postgres, Options{Postgres: true, NoFsync: true})
	if err != nil {
		tb.Fatal(err)
	}
	template := "template0"
	if migrate != nil {
		if template, err = templateOf(ctx, stack.databaseURL, migrate); err != nil {
			tb.Fatalf("devstack: prepare template database: %v", err)
		}
	}
	name := "hongyan_test_" + strings.ToLower(rand.Text())
	if err := createDatabase(ctx, stack.databaseURL, name, template); err != nil {
		tb.Fatalf("devstack: create test database: %v", err)
	}
	tb.Cleanup(func() {
		if err := dropDatabase(context.Background(), stack.databaseURL, name); err != nil {
			tb.Logf("devstack: drop test database: %v", err)
		}
	})
	return withDatabase(stack.databaseURL, name)
}

func sharedStack(ctx context.Context, stack **Stack, o Options) (*Stack, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if *stack == nil {
		s, err := Start(ctx, o)
		if err != nil {
			return nil, err
		}
		*stack = s
	}
	return *stack, nil
}

// claimKey marks database n as taken. The mark stands in database 0, which no test gets, and lapses in
// case its owner died: other test processes may share a server that the environment names.
func claimKey(n int) string { return "hongyan:devstack:taken:" + strconv.Itoa(n) }

const claimFor = time.Hour

func takeRedisDatabase(ctx context.Context, server string) (taken string, give func() error, err error) {
	opt, err := redis.ParseURL(server)
	if err != nil {
		return "", nil, err
	}
	opt.DB = 0
	registry := redis.NewClient(opt)
	defer registry.Close()
	config, err := registry.ConfigGet(ctx, "databases").Result()
	if err != nil {
		return "", nil, err
	}
	count, err := strconv.Atoi(config["databases"])
	if err != nil {
		return "", nil, fmt.Errorf("number of databases: %w", err)
	}
	for n := 1; n < count; n++ {
		ok, err := registry.SetNX(ctx, claimKey(n), os.Getpid(), claimFor).Result()
		if err != nil {
			return "", nil, err
		}
		if !ok {
			continue
		}
		mine := *opt
		mine.DB = n
		if err := flush(ctx, &mine); err != nil {
			return "", nil, err
		}
		give := func() error {
			ctx := context.Background()
			if err := flush(ctx, &mine); err != nil {
				return err
			}
			registry := redis.NewClient(opt)
			defer registry.Close()
			return registry.Del(ctx, claimKey(n)).Err()
		}
		u, err := url.Parse(server)
		if err != nil {
			return "", nil, err
		}
		u.Path = "/" + strconv.Itoa(n)
		return u.String(), give, nil
	}
	return "", nil, fmt.Errorf("all %d databases are taken", count-1)
}

func flush(ctx context.Context, opt *redis.Options) error {
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	return rdb.FlushDB(ctx).Err()
}

// templateOf is the database that migrate was run on, made at the first call.
func templateOf(ctx context.Context, server string, migrate func(context.Context, string) error) (string, error) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	key := reflect.ValueOf(migrate).Pointer()
	if name, ok := shared.templates[key]; ok {
		return name, nil
	}
	name := "hongyan_template_" + strings.ToLower(rand.Text())
	if err := createDatabase(ctx, server, name, "template0"); err != nil {
		return "", err
	}
	if shared.templates == nil {
		shared.templates = map[uintptr]string{}
	}
	if err := migrate(ctx, withDatabase(server, name)); err != nil {
		return "", errors.Join(fmt.Errorf("migrate: %w", err), dropDatabase(ctx, server, name))
	}
	shared.templates[key] = name
	return name, nil
}

const objectInUse = "55006" // Postgres: the template has a session, perhaps of a migration that just ended

func createDatabase(ctx context.Context, server, name, template string) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	statement := "CREATE DATABASE " + pgx.Identifier{name}.Sanitize() + " TEMPLATE " + pgx.Identifier{template}.Sanitize()
	deadline := time.Now().Add(5 * time.Second)
	for {
		_, err := conn.Exec(ctx, statement)
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pgErr.Code != objectInUse || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func dropDatabase(ctx context.Context, server, name string) error {
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)")
	return err
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic("devstack: the database URL was good a moment ago: " + err.Error())
	}
	u.Path = "/" + name
	return u.String()
}
