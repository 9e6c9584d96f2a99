package client

import (
	"context"
	"fmt"
	"time"
)

// roundTime bounds one round of waiting calls: their own contexts end their waiting, not the others'.
const roundTime = 10 * time.Second

// A single is one call of Enqueue that waits for its round.
type single struct {
	entry *entry
	done  chan struct{}
}

// together puts calls that wait at the same time into one round: the first goes at once, and what comes while
// it is under way goes with the next. No timer, no added wait.
func (c *Client) together(ctx context.Context, e *entry) Receipt {
	if ctx.Err() != nil {
		return Receipt{Durability: c.Durability(), Err: fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))}
	}
	s := &single{entry: e, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, s)
	first := !c.flushing
	c.flushing = true
	c.mu.Unlock()
	if first {
		go c.flush()
	}
	select {
	case <-s.done:
		return e.receipt
	case <-ctx.Done():
		return Receipt{Durability: c.Durability(), Err: fmt.Errorf("%w: %w", ErrInDoubt, context.Cause(ctx))}
	}
}

// flush sends rounds until nobody waits.
func (c *Client) flush() {
	for {
		c.mu.Lock()
		n := min(len(c.waiting), roundSize)
		round := c.waiting[:n:n]
		c.waiting = c.waiting[n:]
		c.flushing = n > 0
		c.mu.Unlock()
		if n == 0 {
			return
		}
		entries := make([]*entry, n)
		for i, s := range round {
			entries[i] = s.entry
		}
		ctx, cancel := context.WithTimeout(context.Background(), roundTime)
		c.send(ctx, entries)
		cancel()
		for _, s := range round {
			close(s.done)
		}
	}
}
