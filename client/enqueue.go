package client

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

// enqueue sends the groups (a message, or the parts of one) on their way and fills in their receipts. Groups
// whose receipt has an error already are left out.
func (c *Client) enqueue(ctx context.Context, groups [][]*message.Message, receipts []Receipt) {
	var all []*message.Message
	owner := make(map[message.ID]int, len(groups))
	for i, group := range groups {
		if receipts[i].Err != nil {
			continue
		}
		for _, m := range group {
			owner[m.ID] = i
			all = append(all, m)
		}
	}
	if len(all) == 0 {
		return
	}
	parcels := tasks.Pack(all, time.Now())
	if c.ledger != nil {
		if err := c.accept(ctx, parcels, receipts, owner); err != nil {
			for _, m := range all {
				receipts[owner[m.ID]].Err = err
			}
			return
		}
		// What is in the ledger is accepted. If Redis is lost in this very moment, the workers put it there later.
		c.queue.Enqueue(ctx, queued(parcels))
		return
	}
	for i, err := range c.queue.Enqueue(ctx, parcels) {
		if err == nil {
			continue
		}
		for _, m := range parcels[i].Messages {
			receipts[owner[m.ID]].Err = fmt.Errorf("redis: not accepted: %w", err)
		}
	}
}

// accept commits the parcels in the ledger. Messages that their keys tell apart leave their parcels.
func (c *Client) accept(ctx context.Context, parcels []*message.Parcel, receipts []Receipt, owner map[message.ID]int) error {
	if err := c.rdb.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis: nothing was accepted: %w", err)
	}
	offered := make([]message.ID, 0, len(owner))
	for _, p := range parcels {
		for _, m := range p.Messages {
			offered = append(offered, m.ID)
		}
	}
	acceptances, err := c.ledger.Accept(ctx, parcels, time.Now())
	if err != nil {
		return fmt.Errorf("postgres: nothing was accepted: %w", err)
	}
	for i, a := range acceptances {
		r := &receipts[owner[offered[i]]]
		switch {
		case a.Conflict:
			r.Err = ErrKeyConflict
		case a.Duplicate:
			r.ID, r.Duplicate = a.ID, true
		}
	}
	return nil
}

// queued are the parcels that have messages to send now.
func queued(parcels []*message.Parcel) []*message.Parcel {
	var full []*message.Parcel
	for _, p := range parcels {
		if len(p.Messages) > 0 {
			full = append(full, p)
		}
	}
	return full
}

// split gives a message its id; a mass list over WeChat's 10,000 openids becomes one message per part, of
// near-equal size, joined by the first part's id.
func split(m *message.Message, now time.Time) []*message.Message {
	m.ID = message.NewID(now)
	sizes := mass.Parts(len(m.List))
	if m.Kind != message.Mass || len(sizes) < 2 {
		return []*message.Message{m}
	}
	parts := make([]*message.Message, 0, len(sizes))
	list := m.List
	for i, n := range sizes {
		part := *m
		part.List, list = list[:n:n], list[n:]
		if i > 0 {
			part.ID = message.NewID(now)
			part.Parent = m.ID
			if m.Key != "" { // a list that is enqueued again finds each of its parts
				part.Key = fmt.Sprintf("%s#%d", m.Key, i+1)
			}
		}
		parts = append(parts, &part)
	}
	return parts
}

// A single is one call of Enqueue that waits for its bunch.
type single struct {
	message *message.Message
	receipt Receipt
	done    chan struct{}
}

// together puts calls that wait at the same time into one round: the first goes at once, and what comes while
// it is under way goes with the next. No timer, no added wait.
func (c *Client) together(ctx context.Context, m *message.Message, r Receipt) (Receipt, error) {
	s := &single{message: m, receipt: r, done: make(chan struct{})}
	c.mu.Lock()
	c.waiting = append(c.waiting, s)
	if !c.flushing {
		c.flushing = true
		go c.flush()
	}
	c.mu.Unlock()
	select {
	case <-s.done:
		return s.receipt, s.receipt.Err
	case <-ctx.Done():
		return Receipt{}, fmt.Errorf("whether the message was accepted is not known (enqueue it again with the same key): %w", ctx.Err())
	}
}

// roundTime bounds one round of waiting calls: their own contexts end their waiting, not the others'.
const roundTime = 10 * time.Second

func (c *Client) flush() {
	for {
		c.mu.Lock()
		bunch := c.waiting
		c.waiting = nil
		if len(bunch) == 0 {
			c.flushing = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()

		groups := make([][]*message.Message, len(bunch))
		receipts := make([]Receipt, len(bunch))
		for i, s := range bunch {
			groups[i], receipts[i] = []*message.Message{s.message}, s.receipt
		}
		ctx, cancel := context.WithTimeout(context.Background(), roundTime)
		c.enqueue(ctx, groups, receipts)
		cancel()
		for i, s := range bunch {
			s.receipt = receipts[i]
			close(s.done)
		}
	}
}

// Status is what the ledger knows of a message. It needs a database.
func (c *Client) Status(ctx context.Context, id message.ID) (postgres.Status, error) {
	if c.ledger == nil {
		return postgres.Status{}, errNoLedger
	}
	return c.ledger.Status(ctx, id)
}

// Cancel ends a message that is not on the wire yet. It needs a database.
func (c *Client) Cancel(ctx context.Context, id message.ID) (postgres.CancelResult, error) {
	if c.ledger == nil {
		return postgres.CancelResult{}, errNoLedger
	}
	return c.ledger.Cancel(ctx, id, time.Now())
}

var errNoLedger = fmt.Errorf("no database is configured: set Options.Database (postgres.url)")
