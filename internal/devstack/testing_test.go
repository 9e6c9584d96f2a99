package devstack

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

func TestRedisDatabasesAreApart(t *testing.T) {
	t.Parallel()
	a, b := Redis(t), Redis(t)
	if a == b {
		t.Fatalf("two calls gave %s", a)
	}
	do(t, redisClient(t, a).Set(t.Context(), "k", "v", 0).Err())
	if n := redisClient(t, b).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("a fresh database holds %d keys, want 0", n)
	}
	if err := redisClient(t, a).FlushAll(t.Context()).Err(); err == nil {
		t.Error("one test has emptied the databases of all")
	}
}

func TestRedisDatabaseIsEmptiedAndGivenBack(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("one test", func(t *testing.T) {
		url = Redis(t)
		do(t, redisClient(t, url).Set(t.Context(), "k", "v", 0).Err())
	})
	if n := redisClient(t, url).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("after its test the database holds %d keys, want 0", n)
	}
}

var migrations atomic.Int32

func migrateOnce(ctx context.Context, url string) error {
	migrations.Add(1)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE TABLE note (n int)")
	return err
}

func TestPostgresDatabasesAreClonesOfOneTemplate(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "b", "c"} {
		t.Run(name, func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), Postgres(t, migrateOnce))
			do(t, err)
			defer conn.Close(context.Background())
			var n int
			do(t, conn.QueryRow(t.Context(), "SELECT count(*) FROM note").Scan(&n))
			if n != 0 {
				t.Errorf("a fresh database has %d notes, want 0", n)
			}
			_, err = conn.Exec(t.Context(), "INSERT INTO note VALUES (1)")
			do(t, err)
		})
	}
	if got := migrations.Load(); got != 1 {
		t.Errorf("migrate ran %d times, want 1", got)
	}
}

func TestPostgresDatabaseIsDroppedWithOpenSessions(t *testing.T) {
	t.Parallel()
	var url string
	t.Run("one test", func(t *testing.T) {
		url = Postgres(t, nil)
		_, err := pgx.Connect(context.Background(), url) // left open, as by a failed test
		do(t, err)
	})
	if _, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("the database outlived its test")
	}
}
