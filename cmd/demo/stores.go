package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
)

// stores starts Postgres and Redis, or finds those that the environment names. Without a redis-server a small
// Redis in this process will do.
func (s *servers) stores(ctx context.Context, p *progress, inProcess bool) error {
	p.say("starting Postgres, Redis, a simulated WeChat, a worker and the server that WeChat calls back, in folders and on ports of their own")
	stack, err := devstack.Start(ctx, devstack.Options{Redis: !inProcess, Postgres: true})
	if errors.Is(err, devstack.ErrNoRedis) {
		inProcess = true
		stack, err = devstack.Start(ctx, devstack.Options{Postgres: true})
	}
	if err != nil {
		return err
	}
	s.later(stack.Close)
	s.redisURL, s.dbURL = stack.RedisURL(), stack.DatabaseURL()
	if s.redisInside = inProcess; inProcess {
		p.say("no redis-server: a small Redis in this process takes its place, and is slower")
		if err := s.redisInProcess(); err != nil {
			return err
		}
	}
	return s.wantEmpty(ctx, stack, inProcess)
}

// redisInProcess serves a miniredis. Its clock for what expires stands still unless somebody moves it.
func (s *servers) redisInProcess() error {
	m := miniredis.NewMiniRedis()
	password := rand.Text()
	m.RequireAuth(password)
	if err := m.Start(); err != nil {
		return fmt.Errorf("redis in this process: %w", err)
	}
	u := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: m.Addr(), Path: "/0"}
	s.redisURL = u.String()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				m.FastForward(now.Sub(last))
				last = now
			}
		}
	}()
	s.later(func() error {
		close(stop)
		<-stopped
		m.Close()
		return nil
	})
	return nil
}

// wantEmpty refuses servers of the environment that are in use: the demo's accounts and messages have no place in
// somebody's ledger.
func (s *servers) wantEmpty(ctx context.Context, stack *devstack.Stack, inProcess bool) error {
	if stack.Redis() == nil && !inProcess {
		o, err := redis.ParseURL(s.redisURL)
		if err != nil {
			return badInput("%s: %v", devstack.EnvRedis, err)
		}
		rdb := redis.NewClient(o)
		defer rdb.Close()
		if n, err := rdb.DBSize(ctx).Result(); err != nil {
			return fmt.Errorf("%s: %w", devstack.EnvRedis, err)
		} else if n > 0 {
			return badInput("%s names a Redis database with %d keys: the demo wants an empty one; unset the variable to get a private server",
				devstack.EnvRedis, n)
		}
	}
	if stack.Postgres() != nil {
		return nil
	}
	conn, err := pgx.Connect(ctx, s.dbURL)
	if err != nil {
		return fmt.Errorf("%s: %w", devstack.EnvDatabase, err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var tables int
	err = conn.QueryRow(ctx, `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", devstack.EnvDatabase, err)
	case tables > 0 && os.Getenv(devstack.EnvDatabase) != "":
		return badInput("%s names a database with %d tables: the demo wants an empty one; unset the variable to get a private server",
			devstack.EnvDatabase, tables)
	}
	return nil
}
