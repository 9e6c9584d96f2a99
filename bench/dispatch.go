package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A cell is one setting of the dispatch benchmark.
type cell struct {
	latency time.Duration
	senders int
	n       map[string]int // messages of a run, by subject: some five seconds' worth
}

var cells = []cell{
	{0, 64, map[string]int{limitOurs: 300_000, limitNet: 200_000, limitLean: 300_000, naive: 20_000, batches: 200_000, chunked: 400_000, singles: 30_000}},
	{0, 256, map[string]int{limitOurs: 300_000, limitNet: 200_000, limitLean: 300_000, naive: 20_000, batches: 200_000, chunked: 400_000, singles: 30_000}},
	{20 * time.Millisecond, 64, map[string]int{limitOurs: 9_000, limitNet: 9_000, limitLean: 9_000, naive: 4_000, batches: 24_000, chunked: 24_000, singles: 8_000}},
	{20 * time.Millisecond, 256, map[string]int{limitOurs: 30_000, limitNet: 24_000, limitLean: 30_000, naive: 4_000, batches: 80_000, chunked: 80_000, singles: 10_000}},
}

// The subjects of the dispatch benchmark.
const (
	limitOurs = "limit (our client)"
	limitNet  = "limit (net/http)"
	limitLean = "limit (fasthttp)"
	naive     = "naive"
	batches   = "hongyan, batches"
	chunked   = "hongyan, campaign"
	singles   = "hongyan, one by one"
)

var subjects = []string{limitOurs, limitNet, limitLean, naive, batches, chunked, singles}

// dispatch measures messages a second end to end: from the first enqueue to the last outcome.
func dispatch(ctx context.Context, e *environment, rounds int, r *Report) error {
	for _, c := range cells[:min(e.flags.Cells, len(cells))] {
		if e.flags.Latency >= 0 && c.latency != e.flags.Latency {
			continue
		}
		row := map[string][]Run{}
		for round := range rounds {
			for _, subject := range subjects {
				if !e.flags.measures(subject) {
					continue
				}
				n := c.n[subject]
				if e.flags.Quick {
					n /= 10
				}
				run, err := e.measure(ctx, subject, c, n)
				if err != nil {
					return fmt.Errorf("%s, latency %v, %d senders, round %d: %w", subject, c.latency, c.senders, round+1, err)
				}
				row[subject] = append(row[subject], run)
				fmt.Fprintf(os.Stderr, "round %d/%d  %4v  C=%-3d  %-20s %8.0f/s\n", round+1, rounds, c.latency, c.senders, subject, run.Rate)
			}
		}
		r.Dispatch = append(r.Dispatch, Cell{Latency: c.latency.String(), Senders: c.senders, Subjects: summarise(row)})
	}
	return nil
}

func (e *environment) measure(ctx context.Context, subject string, c cell, n int) (Run, error) {
	if err := e.reset(ctx, c.latency); err != nil {
		return Run{}, err
	}
	switch subject {
	case limitOurs, limitNet, limitLean:
		return e.measureLimit(c, n, subject)
	case naive:
		return e.measureWorker(ctx, n, `SELECT count(*) FROM bench_outcome`, func() error {
			return enqueueNaive(ctx, e.stack.RedisURL(), n)
		}, "naive", "--url", e.url, "--redis", e.stack.RedisURL(), "--database", e.stack.DatabaseURL(),
			"--senders", strconv.Itoa(c.senders), "--per-second", "1000000")
	}
	path, err := e.configuration(c.senders, 1_000_000)
	if err != nil {
		return Run{}, err
	}
	if subject == chunked {
		return e.measureCampaign(ctx, n, path)
	}
	// Without a ledger, like naive: durable with the worker's first write.
	producer, err := client.New(ctx, client.Options{Redis: e.stack.RedisURL()})
	if err != nil {
		return Run{}, err
	}
	defer producer.Close()
	all := messages(n, false, message.Bulk)
	enqueueAll := func() error { return enqueueBatches(ctx, producer, all) }
	if subject == singles {
		enqueueAll = func() error { return enqueueSingles(ctx, producer, all) }
	}
	return e.measureWorker(ctx, n, `SELECT count(*) FROM message WHERE state = 'sent'`, enqueueAll, "worker", "--config", path, "--cpu-profile", e.flags.Profile)
}

func (e *environment) measureLimit(c cell, n int, subject string) (Run, error) {
	child, err := spawn("limit", "--client", subject, "--url", e.url, "--database", e.stack.DatabaseURL(),
		"--senders", strconv.Itoa(c.senders), "--n", strconv.Itoa(n))
	if err != nil {
		return Run{}, err
	}
	defer child.stop()
	if _, err := child.line(); err != nil {
		return Run{}, err
	}
	before, start := e.usage(child.pid()), time.Now()
	child.proceed()
	if _, err := child.line(); err != nil {
		return Run{}, err
	}
	return newRun(n, time.Since(start), before, e.usage(child.pid()), peakRSS(child.pid())), nil
}

func (e *environment) measureWorker(ctx context.Context, n int, count string, enqueue func() error, role string, args ...string) (Run, error) {
	worker, err := e.spawnWorker(role, args...)
	if err != nil {
		return Run{}, err
	}
	defer worker.stop()
	if _, err := worker.line(); err != nil {
		return Run{}, err
	}
	before, start := e.usage(worker.pid()), time.Now()
	if err := enqueue(); err != nil {
		return Run{}, err
	}
	if err := e.waitFor(ctx, n, count); err != nil {
		return Run{}, err
	}
	return newRun(n, time.Since(start), before, e.usage(worker.pid()), peakRSS(worker.pid())), nil
}

func (e *environment) spawnWorker(role string, args ...string) (*child, error) {
	if e.program == "" {
		return spawn(role, args...)
	}
	return spawnFrom(e.program, []string{"HONGYAN_FAULT_WITHOUT=" + string(e.without)}, role, args...)
}

func enqueueBatches(ctx context.Context, c *client.Client, all []message.Message) error {
	const round = 2000
	for len(all) > 0 {
		n := min(round, len(all))
		for _, r := range c.EnqueueBatch(ctx, all[:n]) {
			if r.Err != nil {
				return r.Err
			}
		}
		all = all[n:]
	}
	return nil
}

// enqueueSingles makes one call a message, from 8 goroutines.
func enqueueSingles(ctx context.Context, c *client.Client, all []message.Message) error {
	return inParallel(8, len(all), func(i int) error {
		_, err := c.Enqueue(ctx, all[i])
		return err
	})
}

func (f flags) measures(subject string) bool {
	for _, part := range f.Subjects {
		if strings.Contains(subject, part) {
			return true
		}
	}
	return len(f.Subjects) == 0
}
