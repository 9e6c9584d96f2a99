package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// goesOnWithin is how soon messages go again when what was broken is back.
const goesOnWithin = time.Minute

// again measures how long it takes until WeChat accepts the next message, and ends the fault.
func (r *rig) again(ctx context.Context, what string, mended func()) error {
	back := time.Now()
	err := r.goesOn(ctx, what, mended)
	if took := time.Since(back); took > goesOnWithin {
		r.finding("(a) %s after %v, want within %v", what, took.Round(time.Second), goesOnWithin)
	}
	return err
}

func (r *rig) goesOn(ctx context.Context, what string, mended func()) error {
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
	if err := r.flowing(ctx, 250); err != nil { // some users have been answered, and will be: see written
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
	defer r.broke(lossOfLeases, "")()
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
	if lost == 0 {
		r.finding("no lease was there to be lost: the scenario tests nothing")
	}
	return nil
}

const (
	lossOfLeases = "loss of leases"
	// backWithin is how soon a parcel without a lease has come back and is decided.
	backWithin = 3 * time.Minute
)

// cameBack says what came back too late.
func cameBack(ctx context.Context, r *rig) []string {
	var last time.Time
	if err := r.db.QueryRow(ctx, "SELECT max(finished_at) FROM message").Scan(&last); err != nil {
		return []string{err.Error()}
	}
	for _, f := range r.faults {
		if f.What == lossOfLeases {
			took := last.Sub(f.From)
			r.figure("all decided s", took)
			if took > backWithin {
				return []string{fmt.Sprintf("(a) the last message was decided %v after the leases were lost, want within %v", took.Round(time.Second), backWithin)}
			}
		}
	}
	return nil
}

// spentDay: the day was used to its end (that it was not overrun the simulator tells), and windows were asked for.
func spentDay(ctx context.Context, r *rig) (found []string) {
	calls := r.sim.Account(appID).Calls(wechattest.PathTemplate)
	r.figure("templates accepted", calls.Accepted)
	if allowed := r.plan.templatesPerDay(); calls.Accepted < allowed*95/100 { // the margin is a hundredth, and the last tokens may lie with two workers
		found = append(found, fmt.Sprintf("(e) %d template messages were accepted; the day allowed %d", calls.Accepted, allowed))
	}
	var used int
	if err := r.db.QueryRow(ctx, "SELECT count(*)::int FROM message WHERE reason = 'window_used'").Scan(&used); err != nil {
		return append(found, err.Error())
	}
	r.figure("windows used up", used)
	if used == 0 {
		found = append(found, "no user's window was used up: the scenario tests nothing")
	}
	return found
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

// Messages that are handed over while Postgres is away.
const (
	firstWhileAway = 40_000_000
	whileAway      = 400
)

func stopPostgres(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	mended := r.broke(outage, "")
	if err := r.stack.Postgres().Kill(); err != nil {
		return err
	}
	numbers := make([]int, whileAway)
	for i := range numbers {
		numbers[i] = firstWhileAway + i
	}
	if err := r.offer(ctx, r.handsOver, numbers); err != nil { // through Redis alone: workers have what they may not send
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

// refuseWrites lets Redis refuse to write: for want of memory, then as a replica.
func refuseWrites(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	for _, f := range []struct {
		what     string
		on, back []any
	}{
		{"OOM", []any{"CONFIG", "SET", "maxmemory", "1mb"}, []any{"CONFIG", "SET", "maxmemory", "0"}},
		{"READONLY", []any{"REPLICAOF", "127.0.0.1", "1"}, []any{"REPLICAOF", "NO", "ONE"}},
	} {
		mended := r.broke(f.what+" of Redis", "")
		if err := r.rdb.Do(ctx, f.on...).Err(); err != nil {
			return err
		}
		if err := pause(ctx, r.plan.outage); err != nil {
			return err
		}
		if err := r.rdb.Do(ctx, f.back...).Err(); err != nil {
			return err
		}
		if err := r.again(ctx, "after "+f.what, mended); err != nil {
			return err
		}
	}
	return nil
}

// slowLink delays what workers and Redis tell each other: by 200 ms, then by 3 s, which is longer than a call may take.
func slowLink(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	for _, by := range []time.Duration{200 * time.Millisecond, 3 * time.Second} {
		mended := r.broke("Redis answers after "+by.String(), "")
		r.link.Set(devstack.Weather{Delay: by / 2}) // there and back
		if err := pause(ctx, r.plan.outage); err != nil {
			return err
		}
		r.link.Set(devstack.Weather{})
		if err := r.again(ctx, "after "+by.String(), mended); err != nil {
			return err
		}
	}
	return nil
}

// blockPostgres locks the messages, then takes all of Postgres' sessions away.
func blockPostgres(ctx context.Context, r *rig) error {
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	mended := r.broke("lock on message", "")
	lock, err := r.db.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = lock.Exec(ctx, "LOCK TABLE message IN ACCESS EXCLUSIVE MODE")
	if err == nil {
		err = pause(ctx, 5*time.Second)
	}
	if err := errors.Join(err, lock.Rollback(ctx)); err != nil {
		return err
	}
	if err := r.again(ctx, "after the lock", mended); err != nil {
		return err
	}
	return r.takeSessions(ctx)
}

// takeSessions ends the sessions of others, and takes every one that Postgres has.
func (r *rig) takeSessions(ctx context.Context) error {
	mended := r.broke("no session of Postgres is free", "")
	var taken []*pgx.Conn
	for ends := time.Now().Add(r.plan.outage); time.Now().Before(ends); {
		if _, err := r.db.Exec(ctx, `
			SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE backend_type = 'client backend' AND application_name LIKE 'hongyan%'`); err != nil {
			return err
		}
		for { // until it has none
			c, err := pgx.Connect(ctx, r.stack.DatabaseURL())
			if err != nil {
				break
			}
			taken = append(taken, c)
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	r.figure("sessions taken", len(taken))
	for _, c := range taken {
		_ = c.Close(ctx)
	}
	return r.again(ctx, "after the sessions", mended)
}

// fillDisk moves the messages to a small disk of their own and fills it.
func fillDisk(ctx context.Context, r *rig) error {
	if !mayMount() {
		return errors.New("only root may mount the small disk that is to be full; leave this scenario out, or run it as root")
	}
	if err := r.flowing(ctx, 500); err != nil {
		return err
	}
	disk := filepath.Join(r.dir, "disk")
	if err := r.mountDisk(disk); err != nil {
		return err
	}
	if _, err := r.db.Exec(ctx, "CREATE TABLESPACE small LOCATION '"+disk+"'"); err != nil {
		return err
	}
	day := message.Beijing(time.Now()).Format("20060102")
	for _, table := range []string{"message", "message_body", "event"} {
		if _, err := r.db.Exec(ctx, fmt.Sprintf("ALTER TABLE %s_%s SET TABLESPACE small", table, day)); err != nil {
			return err
		}
	}
	mended := r.broke("full disk", "")
	file := filepath.Join(disk, "rest")
	if err := fill(file); err != nil {
		return err
	}
	err := pause(ctx, r.plan.outage)
	r.figure("offered again meanwhile", r.books.again())
	if err := errors.Join(err, os.Remove(file)); err != nil {
		return err
	}
	return r.again(ctx, "dispatch again", mended)
}

// mayMount says whether this process may mount such a disk.
func mayMount() bool {
	dir, err := os.MkdirTemp("", "hongyan-disk-")
	if err != nil {
		return false
	}
	defer os.Remove(dir)
	if syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m") != nil {
		return false
	}
	return syscall.Unmount(dir, 0) == nil
}

// mountDisk mounts a disk of 48 MiB, in memory, for Postgres' user.
func (r *rig) mountDisk(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=48m,mode=0700"); err != nil {
		return fmt.Errorf("mount a small disk: %w", err)
	}
	r.undo = append(r.undo, func() { _ = syscall.Unmount(dir, 0) })
	data, err := os.Stat(filepath.Join(r.dir, "servers", "postgres"))
	if err != nil {
		return err
	}
	owner := data.Sys().(*syscall.Stat_t)
	return os.Chown(dir, int(owner.Uid), int(owner.Gid))
}

// fill writes a file until its disk is full.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for size := 1 << 20; size >= 1<<12; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			return err
		}
	}
	return nil
}
