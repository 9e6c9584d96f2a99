package worker

import (
	"context"
	"errors"
	"sync"
)

// A Crew is a bounded number of goroutines that stay. They bound the messages in hand (more would only stand in
// line, cost memory, and let the slots grow stale that they were given), and keep the stacks that a call to WeChat
// has grown: growing them anew for each message cost a tenth of the worker's time.
type Crew struct {
	size int
	jobs chan func() // nil: go
	quit chan struct{}
	done sync.WaitGroup
}

var errDismissed = errors.New("the crew is dismissed")

// NewCrew starts a crew of n. Dismiss ends it.
func NewCrew(n int) *Crew {
	c := &Crew{size: n, jobs: make(chan func()), quit: make(chan struct{})}
	for range n {
		c.done.Go(c.work)
	}
	return c
}

func (c *Crew) work() {
	for job := range c.jobs {
		if job == nil {
			return
		}
		job()
	}
}

// do waits for a free hand and has it do the job.
func (c *Crew) do(ctx context.Context, job func()) error {
	select {
	case c.jobs <- job: // the usual case, which costs a fifth of the other
		return nil
	default:
	}
	select {
	case c.jobs <- job:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.quit:
		return errDismissed
	}
}

// now has somebody do the job at once: a free hand, or else one that is hired for it. A nil crew hires all.
func (c *Crew) now(job func()) {
	if c == nil {
		go job()
		return
	}
	select {
	case c.jobs <- job:
	default:
		go job()
	}
}

// Dismiss lets the crew go when their jobs in hand are done.
func (c *Crew) Dismiss() {
	close(c.quit)
	for range c.size {
		c.jobs <- nil
	}
	c.done.Wait()
}
