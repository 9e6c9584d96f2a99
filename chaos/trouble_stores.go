package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
)

// again measures how long it takes until WeChat accepts the next message, and ends the fault.
func (r *rig) again(ctx context.Context, what string, mended func()) error {
	back := time.Now()
	before := r.sim.AcceptedTotal()
	for r.sim.AcceptedTotal() == before && time.Since(back) < 2*time.Minute {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	mended()
	r.figure(what+" s", time.Since(back))
	return nil
}

func killRedis(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	mended := r.broke("kill -9 of Redis", "")
	if err := r.stack.Redis().Kill(); err != nil {
		return err
	}
	if err := pause(ctx, r.between(time.Second, 3*time.Second)); err != nil {
		return err
	}
	if err := r.stack.Redis().Restart(ctx); err != nil {
		return err
	}
	return r.again(ctx, "dispatch again", mended)
}

// cutRedis takes the last second of writes from Redis' file, as a loss of power does.
func cutRedis(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(r.dir, "servers", "redis", "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		return fmt.Errorf("append-only files %v: %w", files, err)
	}
	old, err := os.Stat(files[0])
	if err != nil {
		return err
	}
	if err := pause(ctx, time.Second); err != nil {
		return err
	}
	mended := r.broke("cut of Redis' last second", "")
	if err := r.stack.Redis().Kill(); err != nil {
		return err
	}
	now, err := os.Stat(files[0])
	if err != nil {
		return err
	}
	if err := os.Truncate(files[0], old.Size()); err != nil {
		return err
	}
	r.figure("bytes cut", now.Size()-old.Size())
	if err := r.stack.Redis().Restart(ctx); err != nil {
		return err
	}
	return r.again(ctx, "dispatch again", mended)
}

func flushRedis(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	mended := r.broke("FLUSHALL", "")
	if err := r.rdb.FlushAll(ctx).Err(); err != nil {
		return err
	}
	return r.again(ctx, "dispatch again", mended)
}

func freezeRedis(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	mended := r.broke("freeze of Redis", "")
	if err := r.stack.Redis().Freeze(); err != nil {
		return err
	}
	if err := pause(ctx, r.plan.outage); err != nil {
		return err
	}
	if err := r.stack.Redis().Thaw(); err != nil {
		return err
	}
	return r.again(ctx, "dispatch again", mended)
}

// loseLeases kills a worker and removes the leases of its parcels, by which asynq would find them.
func loseLeases(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	if err := r.crew.replace(r.crew.alive()[0]); err != nil {
		return err
	}
	keys, err := r.rdb.Keys(ctx, "asynq:*:lease").Result()
	if err != nil {
		return err
	}
	defer r.broke("loss of leases", "")()
	lost := int64(0)
	for _, key := range keys {
		n, err := r.rdb.ZCard(ctx, key).Result()
		if err != nil {
			return err
		}
		lost += n
		if err := r.rdb.Del(ctx, key).Err(); err != nil {
			return err
		}
	}
	r.figure("leases lost", lost)
	return nil
}

func killPostgres(ctx context.Context, r *rig) error {
	for i := range 2 {
		if err := r.flowing(ctx, 500+500*i); err != nil {
			return err
		}
		mended := r.broke("kill -9 of Postgres", "")
		if err := r.stack.Postgres().Kill(); err != nil {
			return err
		}
		if err := r.stack.Postgres().Restart(ctx); err != nil {
			return err
		}
		if err := r.again(ctx, fmt.Sprintf("dispatch again (%d)", i+1), mended); err != nil {
			return err
		}
	}
	return nil
}

const outage = "outage of Postgres"

func stopPostgres(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	mended := r.broke(outage, "")
	if err := r.stack.Postgres().Kill(); err != nil {
		return err
	}
	if err := pause(ctx, r.plan.outage); err != nil {
		return err
	}
	r.broke("Postgres is back", "")()
	if err := r.stack.Postgres().Restart(ctx); err != nil {
		return err
	}
	return r.again(ctx, "dispatch again", mended)
}

// oldestClaim is the age at which a worker gives a claim up instead of sending.
const oldestClaim = 5 * time.Second

// noSendsWithoutClaims: what was claimed before the outage may still go for a while; nothing else may.
func noSendsWithoutClaims(_ context.Context, r *rig) (found []string) {
	var from, to time.Time
	for _, f := range r.faults {
		switch f.What {
		case outage:
			from = f.From.Add(oldestClaim + time.Second)
		case "Postgres is back":
			to = f.From
		}
	}
	sends := 0
	r.sim.Accepts(0, func(a wechattest.Accept) bool {
		if a.At.After(from) && a.At.Before(to) {
			sends++
		}
		return true
	})
	if sends > 0 {
		found = append(found, fmt.Sprintf("(c) %d messages were sent while no claim could be committed", sends))
	}
	return found
}
