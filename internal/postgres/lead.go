package postgres

import (
	"context"
	"hash/fnv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// leadEvery is how often a pod that does not lead asks whether it may, and one that leads whether it still does.
const leadEvery = time.Second

// Lead runs work in one process at a time, over all pods: in the one that holds an advisory lock of this name. The
// lock goes with its session, so a dead or frozen leader is followed within seconds. work's context ends when the session is
// lost. Lead returns when ctx ends.
func (s *Store) Lead(ctx context.Context, name string, work func(context.Context) error, failed func(error)) error {
	h := fnv.New64a()
	_, _ = h.Write([]byte("hongyan/" + name))
	lock := int64(h.Sum64())
	for ctx.Err() == nil {
		if err := s.leadOnce(ctx, lock, work); err != nil && ctx.Err() == nil {
			failed(err)
		}
		pause(ctx, leadEvery)
	}
	return nil
}

func (s *Store) leadOnce(ctx context.Context, lock int64, work func(context.Context) error) error {
	session, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer session.Release()
	var mine bool
	if err := session.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, lock).Scan(&mine); err != nil || !mine {
		return err
	}
	defer unlock(ctx, session, lock)
	// A frozen process keeps its session, and would keep the lock: Postgres ends a session that says nothing.
	if _, err := session.Exec(ctx, `SET idle_session_timeout = '10s'`); err != nil {
		return err
	}
	leading, resign := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- work(leading) }()
	tick := time.NewTicker(leadEvery)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			resign()
			return err
		case <-tick.C:
			if err := session.Ping(ctx); err != nil { // the lock went with the session
				resign()
				<-done
				return err
			}
		}
	}
}

// unlock gives the lock back while the session may go on in the pool.
func unlock(ctx context.Context, session *pgxpool.Conn, lock int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := session.Exec(ctx, `SELECT pg_advisory_unlock($1), set_config('idle_session_timeout', '0', false)`, lock); err != nil {
		_ = session.Conn().Close(ctx)
	}
}
