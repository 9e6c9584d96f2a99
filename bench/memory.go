package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// memory measures what a queue of 100,000 messages holds: in Redis, and in a worker that dispatches it.
func memory(ctx context.Context, e *environment, _ int, r *Report) error {
	n := 100_000
	if e.flags.Quick {
		n /= 10
	}
	if err := e.reset(ctx, 0); err != nil {
		return err
	}
	idle, err := e.redisMemory(ctx)
	if err != nil {
		return err
	}
	c, err := client.New(ctx, client.Options{Redis: e.stack.RedisURL()})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := enqueueBatches(ctx, c, messages(n, false, message.Bulk)); err != nil {
		return err
	}
	full, err := e.redisMemory(ctx)
	if err != nil {
		return err
	}
	r.add("Redis bytes per queued message, batches", float64(full-idle)/float64(n), "bytes")

	// At 20 ms and 64 senders the worker is saturated: the most it ever has in hand.
	if _, err := e.ask("?latency=" + (20 * time.Millisecond).String()); err != nil {
		return err
	}
	path, err := e.configuration(64, 1_000_000)
	if err != nil {
		return err
	}
	worker, err := spawn("worker", "--config", path)
	if err != nil {
		return err
	}
	defer worker.stop()
	if _, err := worker.line(); err != nil {
		return err
	}
	if err := e.waitFor(ctx, n, `SELECT count(*) FROM message WHERE state = 'sent'`); err != nil {
		return err
	}
	r.add(fmt.Sprintf("worker peak RSS, %d messages queued", n), peakRSS(worker.pid()), "MiB")
	return nil
}

func (e *environment) redisMemory(ctx context.Context) (int64, error) {
	info, err := e.rdb.Info(ctx, "memory").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, "used_memory:"); ok {
			return strconv.ParseInt(strings.TrimSpace(rest), 10, 64)
		}
	}
	return 0, fmt.Errorf("redis tells no used_memory")
}
