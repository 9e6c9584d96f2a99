package devstack

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

func TestMain(m *testing.M) { Main(m) }

func startStack(t *testing.T, o Options) *Stack {
	t.Helper()
	o.Private = true
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	opt, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	opt.MaxRetries = -1
	opt.ReadTimeout = time.Second
	rdb := redis.NewClient(opt)
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

func do(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestRedis(t *testing.T) {
	t.Parallel()
	s := startStack(t, Options{Redis: true, RedisAppendOnly: true})
	rdb := redisClient(t, s.RedisURL())
	ctx := t.Context()

	t.Run("wants its password", func(t *testing.T) {
		if err := redisClient(t, "redis://"+s.Redis().Addr()).Ping(ctx).Err(); err == nil {
			t.Error("a client without password was let in")
		}
	})
	t.Run("is set not to evict", func(t *testing.T) {
		got, err := rdb.ConfigGet(ctx, "maxmemory-policy").Result()
		do(t, err)
		if got["maxmemory-policy"] != "noeviction" {
			t.Errorf("maxmemory-policy = %v, want noeviction", got)
		}
	})
	t.Run("keeps its data over a stop and a kill", func(t *testing.T) {
		do(t, rdb.Set(ctx, "k", "v", 0).Err())
		before := s.Redis().Addr()
		do(t, s.Redis().Restart(ctx))
		if got := rdb.Get(ctx, "k").Val(); got != "v" {
			t.Errorf("after stop: k = %q, want v", got)
		}
		do(t, s.Redis().Kill())
		if err := rdb.Ping(ctx).Err(); err == nil {
			t.Error("a killed server answers")
		}
		do(t, s.Redis().Restart(ctx))
		if got := rdb.Get(ctx, "k").Val(); got != "v" {
			t.Errorf("after kill: k = %q, want v", got)
		}
		if after := s.Redis().Addr(); after != before {
			t.Errorf("address %s after restart, want %s", after, before)
		}
	})
	t.Run("answers nobody while frozen", func(t *testing.T) {
		do(t, s.Redis().Freeze())
		if err := rdb.Ping(ctx).Err(); err == nil {
			t.Error("a frozen server answers")
		}
		do(t, s.Redis().Thaw())
		do(t, rdb.Ping(ctx).Err())
	})
	t.Run("can be stopped while frozen", func(t *testing.T) {
		do(t, s.Redis().Freeze())
		do(t, s.Redis().Restart(ctx))
		do(t, rdb.Ping(ctx).Err())
	})
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	s := startStack(t, Options{Postgres: true, PostgresSettings: map[string]string{"work_mem": "5MB"}})
	ctx := t.Context()
	connect := func() (*pgx.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		return pgx.Connect(ctx, s.DatabaseURL())
	}
	conn, err := connect()
	do(t, err)

	t.Run("is durable and set as asked", func(t *testing.T) {
		for name, want := range map[string]string{"fsync": "on", "work_mem": "5MB", "max_connections": "200"} {
			var got string
			do(t, conn.QueryRow(ctx, "SELECT current_setting($1)", name).Scan(&got))
			if got != want {
				t.Errorf("%s = %s, want %s", name, got, want)
			}
		}
	})
	t.Run("wants its password", func(t *testing.T) {
		if c, err := pgx.Connect(ctx, postgresURL(s.postgres.port, "wrong", "hongyan", nil)); err == nil {
			c.Close(ctx)
			t.Error("a client with a wrong password was let in")
		}
	})
	t.Run("keeps what was committed over a kill", func(t *testing.T) {
		_, err := conn.Exec(ctx, "CREATE TABLE kept AS SELECT 1 AS n")
		do(t, err)
		do(t, s.Postgres().Kill())
		if _, err := conn.Exec(ctx, "SELECT 1"); err == nil {
			t.Error("a killed server answers")
		}
		do(t, s.Postgres().Restart(ctx))
		conn, err = connect()
		do(t, err)
		var n int
		do(t, conn.QueryRow(ctx, "SELECT n FROM kept").Scan(&n))
	})
	t.Run("stands still while frozen, sessions too", func(t *testing.T) {
		do(t, s.Postgres().Freeze())
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		if _, err := conn.Exec(short, "SELECT 1"); err == nil {
			t.Error("a session of a frozen server answers")
		}
		if c, err := connect(); err == nil {
			c.Close(ctx)
			t.Error("a frozen server lets clients in")
		}
		do(t, s.Postgres().Thaw())
		c, err := connect()
		do(t, err)
		do(t, c.Close(ctx))
	})
}

func TestDirectoryIsKeptAndUsedAgain(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "kept-") // not t.TempDir: the servers' user cannot enter its parent
	do(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	o := Options{Dir: dir, Private: true, Redis: true, RedisAppendOnly: true}

	first, err := Start(t.Context(), o)
	do(t, err)
	do(t, redisClient(t, first.RedisURL()).Set(t.Context(), "k", "v", 0).Err())
	if _, err := Start(t.Context(), o); err == nil || !strings.Contains(err.Error(), "another stack") {
		t.Errorf("second stack in the same directory: %v, want refusal", err)
	}
	do(t, first.Close())

	second := startStack(t, o)
	if got := redisClient(t, second.RedisURL()).Get(t.Context(), "k").Val(); got != "v" {
		t.Errorf("k = %q in the second stack, want v", got)
	}
}

func TestCloseRemovesTheTemporaryDirectory(t *testing.T) {
	t.Parallel()
	s, err := Start(t.Context(), Options{Redis: true, Private: true})
	do(t, err)
	do(t, s.Close())
	do(t, s.Close())
	if _, err := os.Stat(s.dir.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory after close: %v, want none", err)
	}
}

func TestSweepRemovesWhatNobodyHolds(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	old := time.Now().Add(-2 * sweepAge)
	for _, name := range []string{"dead", "held", "young"} {
		path := filepath.Join(folder, directoryPrefix+name)
		if name == "held" {
			d, err := openDirectory(path)
			do(t, err)
			t.Cleanup(func() { do(t, d.close()) })
		} else {
			do(t, os.Mkdir(path, 0o700))
			do(t, os.WriteFile(filepath.Join(path, "lock"), nil, 0o600))
		}
		if name != "young" {
			do(t, os.Chtimes(path, old, old))
		}
	}
	sweep(folder)
	left, _ := filepath.Glob(filepath.Join(folder, "*"))
	if len(left) != 2 || strings.Contains(strings.Join(left, " "), "dead") {
		t.Errorf("left after sweep: %v, want held and young", left)
	}
}

func TestMissingProgramsAreNamed(t *testing.T) {
	for _, err := range []error{ErrNoRedis, ErrNoPostgres} {
		if !strings.Contains(err.Error(), "apt-get install") {
			t.Errorf("%v: does not say what to install", err)
		}
	}
	t.Setenv("PATH", t.TempDir())
	folders := redisFolders
	redisFolders = []string{t.TempDir()}
	t.Cleanup(func() { redisFolders = folders })
	if _, err := Start(t.Context(), Options{Redis: true, Private: true}); !errors.Is(err, ErrNoRedis) {
		t.Errorf("start without redis-server: %v, want ErrNoRedis", err)
	}
}

func TestEnvironmentIsUsedInsteadOfStarting(t *testing.T) {
	t.Setenv(EnvRedis, "redis://example.test/3")
	t.Setenv(EnvDatabase, "postgres://example.test/db")
	s, err := Start(t.Context(), Options{Redis: true, Postgres: true})
	do(t, err)
	defer s.Close()
	if s.RedisURL() != "redis://example.test/3" || s.DatabaseURL() != "postgres://example.test/db" || s.Redis() != nil || s.Postgres() != nil {
		t.Errorf("stack = %+v, want the servers of the environment", s)
	}
}

// A process that starts a server and is killed takes the server along. The test runs itself as that process.
func TestServersDieWithTheirParent(t *testing.T) {
	if dir := os.Getenv("DEVSTACK_TEST_PARENT"); dir != "" {
		s, err := Start(t.Context(), Options{Dir: dir, Redis: true, Postgres: true, NoFsync: true, Private: true})
		do(t, err)
		do(t, os.WriteFile(filepath.Join(dir, "url"), []byte(s.RedisURL()+"\n"+s.DatabaseURL()), 0o600))
		do(t, os.Rename(filepath.Join(dir, "url"), filepath.Join(dir, "ready")))
		select {} // until killed
	}
	t.Parallel()
	dir, err := os.MkdirTemp("", "parent-")
	do(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	parent := exec.Command(os.Args[0], "-test.run=^TestServersDieWithTheirParent$")
	parent.Env = append(os.Environ(), "DEVSTACK_TEST_PARENT="+dir)
	do(t, parent.Start())
	var urls string
	eventually(t, "the child's servers are ready", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "ready"))
		urls = string(b)
		return err == nil
	})
	redisURL, databaseURL, _ := strings.Cut(urls, "\n")
	rdb := redisClient(t, redisURL)
	do(t, rdb.Ping(t.Context()).Err())
	do(t, parent.Process.Kill())
	_ = parent.Wait()
	eventually(t, "Redis is gone", func() bool { return rdb.Ping(t.Context()).Err() != nil })
	eventually(t, "Postgres is gone", func() bool {
		conn, err := pgx.Connect(t.Context(), databaseURL)
		if err == nil {
			conn.Close(t.Context())
		}
		return err != nil
	})
}

func eventually(t *testing.T, claim string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", claim)
		}
	}
}
