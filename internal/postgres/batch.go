package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A batch is what one transaction writes.
type batch struct {
	ops     []*op // in id order, an id once
	parcels []message.ID
}

// gather takes the next batch from the queue. An id that is in it already waits for the next. False: nothing to do.
func (c *Committer) gather() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.b.ops, c.b.parcels = c.b.ops[:0], nil
	if c.seen == nil {
		c.seen = make(map[message.ID]struct{}, c.o.MaxRows)
	}
	clear(c.seen)
	rest := c.queue[:0]
	rows, recipients := 0, 0 // whose claims make no rows; more would not stay in one of in_flight
	for i, o := range c.queue {
		if rows == c.o.MaxRows || recipients == c.o.MaxRows {
			rest = append(rest, c.queue[i:]...)
			break
		}
		if o.kind == opClaim && o.fate.Load() == left {
			continue // nobody waits for it, and nothing was written
		}
		if _, ok := c.seen[o.m.ID]; ok {
			rest = append(rest, o)
			continue
		}
		c.seen[o.m.ID] = struct{}{}
		c.b.ops = append(c.b.ops, o)
		if o.claimsRecipient() {
			recipients++
		} else {
			rows++
		}
	}
	clear(c.queue[len(rest):])
	c.queue = rest
	n := min(len(c.parcels), c.o.MaxRows)
	c.b.parcels, c.parcels = c.parcels[:n:n], c.parcels[n:]
	slices.SortFunc(c.b.ops, func(a, b *op) int { return bytes.Compare(a.m.ID[:], b.m.ID[:]) })
	for _, o := range c.b.ops {
		o.fresh = o.fresh || !c.rowsExpected || o.run != nil // a run's recipients have none
	}
	return len(c.b.ops) > 0 || len(c.b.parcels) > 0
}

// write brings the batch into the database, however often it must try, and answers its ops.
func (c *Committer) write(ctx context.Context, b batch) {
	unknown := false // was the last try's commit left unanswered
	insert := false  // do some rows exist, so that COPY is no way
	var began time.Time
	for try := 1; ; try++ {
		err := c.openSession(ctx)
		if err == nil {
			if !unknown { // else the claims may be as old as the first try
				c.number++
				began = time.Now()
			}
			t := &transaction{committer: c, batch: b, began: began, insert: insert}
			err = t.run(ctx)
			failed := failureOf(err)
			if failed == failureCommitted && unknown {
				// Until we know what it did, its number is the only way to ask.
				if err, failed = t.recall(ctx), failureNone; err != nil {
					failed = failureUnknown
				}
			}
			switch failed {
			case failureNone:
				if c.o.Committed != nil {
					c.o.Committed(len(b.ops), time.Since(began))
				}
				c.finish(t)
				return
			case failureRunLost:
				rest := c.withoutRun(b, err)
				if len(rest.ops) == len(b.ops) {
					c.split(ctx, b, err)
					return
				}
				if b = rest; len(b.ops)+len(b.parcels) == 0 {
					return
				}
				unknown = false
				continue
			case failureRow, failureCommitted:
				if t.copied > 0 && sqlState(err) == stateUniqueViolation {
					insert, unknown = true, false
					continue
				}
				c.split(ctx, b, err)
				return
			case failureAgain:
				unknown = false
			case failureUnknown:
				unknown = true
				c.closeSession()
			}
		}
		if c.o.Failed != nil {
			c.o.Failed(err, len(b.ops))
		}
		if !pause(ctx, backoff(try)) {
			c.refuse(b, fmt.Errorf("%w: %w", ErrStopped, err))
			return
		}
	}
}

// split tries the halves of a batch that the database refused, until the bad row stands alone.
func (c *Committer) split(ctx context.Context, b batch, err error) {
	if len(b.ops) < 2 {
		if failureOf(err) == failureRow {
			err = fmt.Errorf("%w: %w", ErrUnstorable, err)
		}
		c.refuse(b, err)
		return
	}
	if c.o.Failed != nil {
		c.o.Failed(err, len(b.ops))
	}
	half := len(b.ops) / 2
	c.write(ctx, batch{ops: b.ops[:half:half], parcels: b.parcels})
	c.write(ctx, batch{ops: b.ops[half:]})
}

// withoutRun answers the ops of a run that has lost its chunk, as the database says: what they did not change is the next
// run's. It returns the others.
func (c *Committer) withoutRun(b batch, err error) batch {
	lost := runLost(err)
	rest := make([]*op, 0, len(b.ops))
	for _, o := range b.ops {
		if o.run != nil && [...]int32{o.run.Firing, o.run.No, o.run.Fence} == lost {
			c.answer(o, nil)
		} else {
			rest = append(rest, o)
		}
	}
	b.ops = rest
	return b
}

func (c *Committer) refuse(b batch, err error) {
	for _, o := range b.ops {
		c.answer(o, err)
	}
}

// finish keeps the books after a commit and answers the ops.
func (c *Committer) finish(t *transaction) {
	asked, granted, others := false, 0, false
	for _, o := range t.ops {
		others = others || o.kind != opSettle && o.run == nil
		switch {
		case o.kind == opClaim:
			asked = true
			if o.claim.OK {
				granted++
			}
		case o.kind == opSettle && !o.late:
			if c.flights[o.claim.batch]--; c.flights[o.claim.batch] <= 0 {
				delete(c.flights, o.claim.batch)
			}
		}
	}
	c.landed = c.landed[:0]
	switch {
	case granted > 0:
		c.flights[c.number] = granted
	case asked:
		c.landed = append(c.landed, c.number)
	}
	if others { // a campaign's recipients say nothing about them
		c.rowsExpected = t.knownHits > 0 || 2*int(t.bodiesWritten) < t.fresh
	}
	for _, o := range t.ops {
		switch {
		case o.kind != opSettle && !o.fresh && !o.took: // no row, or decided: only the other way can tell
			o.fresh = true
			c.requeue(o)
		case o.kind == opSettle && !o.took && !o.late && !t.explicit:
			o.late = true // the claim was lost: the result goes into the timeline
			c.requeue(o)
		default:
			c.answer(o, nil)
		}
	}
}

// landing are the in_flight rows that this batch's settles make superfluous.
func (c *Committer) landing(ops []*op) []int64 {
	list := slices.Clone(c.landed)
	settles := map[int64]int{}
	for _, o := range ops {
		if o.kind == opSettle && !o.late {
			settles[o.claim.batch]++
		}
	}
	for b, n := range settles {
		if n >= c.flights[b] {
			list = append(list, b)
		}
	}
	return list
}

func (c *Committer) openSession(ctx context.Context) error {
	if c.session != nil && !c.session.broken {
		return nil
	}
	c.closeSession()
	if c.number == 0 {
		if err := c.store.pool.QueryRow(ctx, `SELECT batch FROM pod_batch WHERE pod = $1`, c.pod).Scan(&c.number); err != nil {
			return fmt.Errorf("read the pod's last batch: %w", err)
		}
	}
	s, err := c.store.openSession(ctx, committerStatements)
	if err != nil {
		return fmt.Errorf("open the committer's session: %w", err)
	}
	c.session = s
	return nil
}

func (c *Committer) closeSession() {
	if c.session != nil {
		c.session.close()
		c.session = nil
	}
}

// uncounted is 1 for waiting: it gives the attempt back.
func uncounted(o outcome.Outcome) int16 {
	if o.Status == outcome.Parked && o.Reason != outcome.Backoff {
		return 1
	}
	return 0
}
