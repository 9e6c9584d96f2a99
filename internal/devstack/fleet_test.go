package devstack

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

func TestSentinelsPromoteAReplica(t *testing.T) {
	t.Parallel()
	f, err := StartSentinels(t.Context())
	do(t, err)
	t.Cleanup(func() { do(t, f.Close()) })
	password := f.URL()[strings.Index(f.URL(), "://:")+4 : strings.Index(f.URL(), "@")]
	var hosts []string
	for _, s := range f.Sentinels() {
		hosts = append(hosts, s.Addr())
	}
	rdb := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: masterName, SentinelAddrs: hosts, SentinelPassword: password, Password: password,
	})
	t.Cleanup(func() { rdb.Close() })
	ctx := t.Context()
	do(t, rdb.Set(ctx, "k", "v", 0).Err())
	if n := rdb.Wait(ctx, replicas, 10*time.Second).Val(); n != replicas {
		t.Fatalf("%d replicas have the write, want %d", n, replicas)
	}
	do(t, f.Servers()[0].Kill())
	do(t, until(ctx, "another server takes writes", func() (bool, error) {
		err := rdb.Set(ctx, "k2", "v", 0).Err()
		return err == nil, err
	}))
	if got := rdb.Get(ctx, "k").Val(); got != "v" {
		t.Errorf("the new master has %q, want v", got)
	}
}

func TestClusterSpreadsKeys(t *testing.T) {
	t.Parallel()
	f, err := StartCluster(t.Context())
	do(t, err)
	t.Cleanup(func() { do(t, f.Close()) })
	password := f.URL()[strings.Index(f.URL(), "://:")+4 : strings.Index(f.URL(), "@")]
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{f.Servers()[1].Addr()}, Password: password})
	t.Cleanup(func() { rdb.Close() })
	for _, key := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
		do(t, rdb.Set(t.Context(), key, key, 0).Err())
	}
	for _, s := range f.Servers() {
		one := redis.NewClient(&redis.Options{Addr: s.Addr(), Password: password})
		if n := one.DBSize(t.Context()).Val(); n == 0 {
			t.Errorf("%s holds no key", s.Addr())
		}
		one.Close()
	}
	if err := rdb.MSet(t.Context(), "a", 1, "b", 2).Err(); err == nil {
		t.Error("a command with keys of two slots is taken: this is no cluster")
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := startStack(t, Options{Redis: true, Postgres: true, NoFsync: true, TLS: true})
	conn, err := pgx.Connect(t.Context(), s.DatabaseURL())
	do(t, err)
	defer conn.Close(t.Context())
	var secure bool
	do(t, conn.QueryRow(t.Context(), "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").Scan(&secure))
	if !secure {
		t.Error("the session with Postgres is without TLS")
	}
	plain, _, _ := strings.Cut(strings.Replace(s.RedisURL(), "rediss://", "redis://", 1), "?")
	if err := redisClient(t, plain).Ping(t.Context()).Err(); err == nil {
		t.Error("Redis answers without TLS")
	}
}
