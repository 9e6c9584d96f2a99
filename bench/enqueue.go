package main

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// enqueue measures producers alone, with no worker running.
func enqueue(ctx context.Context, e *environment, rounds int, r *Report) error {
	ways := []struct {
		name    string
		ledger  bool
		keys    bool
		n       int
		enqueue func(context.Context, *client.Client, []message.Message) error
	}{
		{"enqueue one by one, 8 goroutines, no ledger", false, false, 60_000, enqueueSingles},
		{"enqueue by batch, no ledger", false, false, 200_000, enqueueBatches},
		{"enqueue by batch, ledger, no keys", true, false, 60_000, enqueueBatches},
		{"enqueue by batch, ledger and keys", true, true, 40_000, enqueueBatches},
		{"enqueue one by one, 64 goroutines, ledger and keys", true, true, 20_000, enqueueMany},
	}
	rates := make([][]float64, len(ways))
	for range rounds {
		for i, way := range ways {
			n := way.n
			if e.flags.Quick {
				n /= 10
			}
			if err := e.reset(ctx, 0); err != nil {
				return err
			}
			options := client.Options{Redis: e.stack.RedisURL()}
			if way.ledger {
				options.Database = e.stack.DatabaseURL()
			}
			c, err := client.New(ctx, options)
			if err != nil {
				return err
			}
			all := messages(n, way.keys, message.Bulk)
			start := time.Now()
			err = way.enqueue(ctx, c, all)
			took := time.Since(start)
			c.Close()
			if err != nil {
				return err
			}
			rates[i] = append(rates[i], float64(n)/took.Seconds())
		}
	}
	for i, way := range ways {
		r.add(way.name, median(rates[i]), "/s")
	}
	return nil
}

func enqueueMany(ctx context.Context, c *client.Client, all []message.Message) error {
	return inParallel(64, len(all), func(i int) error {
		_, err := c.Enqueue(ctx, all[i])
		return err
	})
}
