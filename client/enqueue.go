package client

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

// A Receipt is what became of enqueueing one message.
type Receipt struct {
	ID         message.ID   // of the message; of the first one with this key, if Duplicate; zero after an error
	Parts      []message.ID // mass lists over WeChat's 10,000: the ids of all parts, ID first
	Approval   message.ID   // mass sends over HTTP that wait for a second key: the approval's id, while ID is zero
	Duplicate  bool         // the same message was enqueued before under the same key
	Durability Durability
	Err        error // why the message was not accepted; nil if it was
}

// Enqueue enqueues one message, in the normal lane unless it says otherwise. The error is that of the receipt.
// The message's body, list and labels must not be changed afterwards.
func (c *Client) Enqueue(ctx context.Context, m message.Message) (Receipt, error) {
	var e entry
	c.prepare(&e, m, false, clock.Now())
	switch {
	case e.receipt.Err != nil:
	case e.parts != nil:
		c.send(ctx, []*entry{&e})
	default:
		e.receipt = c.together(ctx, &e)
	}
	return e.receipt, e.receipt.Err
}

// roundSize bounds how many messages travel together, and roundsAtOnce how many such rounds of one batch are under
// way: while stores work on one, the next is prepared.
const (
	roundSize    = 1000
	roundsAtOnce = 2
)

// EnqueueBatch enqueues many messages, in the bulk lane unless they say otherwise. A message that is refused
// stops no other: see the receipts, which stand in the order of the messages.
func (c *Client) EnqueueBatch(ctx context.Context, messages []message.Message) []Receipt {
	receipts := make([]Receipt, len(messages))
	if len(messages) <= roundSize {
		c.round(ctx, messages, receipts)
		return receipts
	}
	var next atomic.Int64
	var wg sync.WaitGroup
	for range roundsAtOnce {
		wg.Go(func() {
			for {
				end := int(next.Add(roundSize))
				from := end - roundSize
				if from >= len(messages) {
					return
				}
				end = min(end, len(messages))
				c.round(ctx, messages[from:end], receipts[from:end])
			}
		})
	}
	wg.Wait()
	return receipts
}

// EnqueueAll enqueues up to [MaxAll] messages, all or none: where one is refused its receipt says why, and those of the
// others say [ErrNotAll]. In the bulk lane unless they say otherwise. It takes a ledger.
func (c *Client) EnqueueAll(ctx context.Context, messages []message.Message) []Receipt {
	receipts := make([]Receipt, len(messages))
	entries := make([]entry, len(messages))
	refused := c.ledger == nil || len(messages) > MaxAll
	now := clock.Now()
	for i := range messages {
		e := &entries[i]
		c.prepare(e, messages[i], true, now)
		switch {
		case c.ledger == nil:
			e.receipt.fail(ErrNoLedger)
		case len(messages) > MaxAll:
			e.receipt.fail(message.Invalid{{Rule: fmt.Sprintf("at most %d messages, all or none", MaxAll), Got: fmt.Sprint(len(messages))}})
		case e.parts != nil && len(messages) > 1:
			e.receipt.fail(message.Invalid{{Path: "to", Rule: "a list over 10,000 openids goes alone", Got: fmt.Sprint(len(e.message.List))}})
		}
		refused = refused || e.receipt.Err != nil
	}
	good := make([]*entry, len(entries))
	for i := range entries {
		good[i] = &entries[i]
		if refused && entries[i].receipt.Err == nil {
			entries[i].receipt.fail(ErrNotAll)
		}
	}
	if !refused && len(good) > 0 {
		c.sendAll(ctx, good)
	}
	for i := range entries {
		receipts[i] = entries[i].receipt
	}
	return receipts
}

// sendAll sends entries on their way, all or none.
func (c *Client) sendAll(ctx context.Context, entries []*entry) {
	if len(entries) == 1 {
		c.send(ctx, entries)
		return
	}
	if err := c.reach(ctx, time.Now()); err != nil {
		fail(entries, err)
		return
	}
	messages := make([]*message.Message, len(entries))
	owner := make(map[*message.Message]*entry, len(entries))
	for i, e := range entries {
		messages[i] = &e.message
		owner[messages[i]] = e
	}
	c.sendMessages(ctx, messages, true, func(m *message.Message) *Receipt { return &owner[m].receipt })
}

// MaxAll is how many messages [Client.EnqueueAll] takes.
const MaxAll = 1000

// round enqueues messages that travel together.
func (c *Client) round(ctx context.Context, messages []message.Message, receipts []Receipt) {
	now := clock.Now()
	entries := make([]entry, len(messages))
	var lists []*entry
	good := make([]*entry, 0, len(messages))
	for i := range messages {
		e := &entries[i]
		c.prepare(e, messages[i], true, now)
		switch {
		case e.receipt.Err != nil:
		case e.parts != nil:
			lists = append(lists, e)
		default:
			good = append(good, e)
		}
	}
	if len(good) > 0 {
		c.send(ctx, good)
	}
	for _, e := range lists {
		c.send(ctx, []*entry{e})
	}
	for i := range entries {
		receipts[i] = entries[i].receipt
	}
}

// An entry is a message on its way.
type entry struct {
	message message.Message
	parts   []*message.Message // of a long mass list
	receipt Receipt
}

// prepare copies a message into e, fills in its defaults, validates it, gives it its id and takes a long mass list
// apart.
func (c *Client) prepare(e *entry, m message.Message, batch bool, now time.Time) {
	e.message = m
	e.receipt = Receipt{Durability: c.Durability()}
	own := &e.message
	own.ID, own.Parent = message.ID{}, message.ID{}
	if m.Fallback != nil { // the caller's stays as it is
		fallback := *m.Fallback
		own.Fallback = &fallback
	}
	own.Defaults(batch)
	if err := c.rules.Validate(own, now); err != nil {
		e.receipt.Err = err
		return
	}
	account, err := c.account(m.Account)
	if err != nil {
		e.receipt.Err = err
		return
	}
	own.Account = account.Name
	own.ID = message.NewID(now)
	e.parts = split(own, now) // gives its first part's id to a long list
	e.receipt.ID = own.ID
	for _, p := range e.parts {
		e.receipt.Parts = append(e.receipt.Parts, p.ID)
	}
}

// send sends entries on their way and fills in their receipts. Parts of a list come alone.
func (c *Client) send(ctx context.Context, entries []*entry) {
	if ctx.Err() != nil {
		fail(entries, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx)))
		return
	}
	if err := c.reach(ctx, time.Now()); err != nil {
		fail(entries, err)
		return
	}
	if len(entries) == 1 && entries[0].parts != nil {
		c.sendParts(ctx, entries[0])
		return
	}
	messages := make([]*message.Message, len(entries))
	owner := make(map[*message.Message]*entry, len(entries))
	for i, e := range entries {
		messages[i] = &e.message
		owner[messages[i]] = e
	}
	c.sendMessages(ctx, messages, false, func(m *message.Message) *Receipt { return &owner[m].receipt })
}

// sendMessages makes parcels of messages, writes them into the ledger if there is one, and puts them into the queue.
// Those of all are accepted together or not at all.
func (c *Client) sendMessages(ctx context.Context, messages []*message.Message, all bool, receipt func(*message.Message) *Receipt) {
	parcels := tasks.Pack(messages, clock.Now())
	fault.At(fault.Offered, "")
	if c.ledger != nil {
		if err := c.accept(ctx, parcels, all, receipt); err != nil {
			for _, m := range messages {
				receipt(m).fail(err)
			}
			return
		}
		// What is in the ledger is accepted. If Redis is lost in this very moment, the workers put it there later.
		fault.At(fault.Accepted, "")
		if parcels = filled(parcels); len(parcels) > 0 {
			c.heed(c.queue.Enqueue(ctx, parcels))
		}
		fault.At(fault.Enqueued, "")
		return
	}
	errs := c.queue.Enqueue(ctx, parcels)
	c.heed(errs)
	fault.At(fault.Enqueued, "")
	for i, err := range errs {
		if err == nil {
			continue
		}
		for _, m := range parcels[i].Messages {
			receipt(m).fail(fmt.Errorf("%w: redis: %w", ErrInDoubt, err))
		}
	}
}

// heed notes whether Redis answered.
func (c *Client) heed(errs []error) {
	if errors.Join(errs...) != nil {
		c.heard.Store(0) // ask before the next message
		return
	}
	c.heard.Store(time.Now().UnixNano())
}

// accept commits parcels in the ledger. What is not to be queued leaves its parcel.
func (c *Client) accept(ctx context.Context, parcels []*message.Parcel, all bool, receipt func(*message.Message) *Receipt) error {
	var offered []*message.Message // Accept answers in this order
	for _, p := range parcels {
		offered = append(offered, p.Messages...)
	}
	accept := c.ledger.Accept
	if all {
		accept = c.ledger.AcceptAll
	}
	acceptances, err := accept(ctx, parcels, clock.Now())
	if err != nil {
		return fmt.Errorf("%w: postgres: %w", doubt(err), err)
	}
	none := all && slices.ContainsFunc(acceptances, func(a postgres.Acceptance) bool { return a.Err != nil || a.Conflict })
	for i, a := range acceptances {
		switch r := receipt(offered[i]); {
		case a.Err != nil:
			r.fail(a.Err)
		case a.Conflict:
			r.fail(ErrKeyConflict)
		case none:
			r.fail(ErrNotAll)
		case a.Duplicate:
			r.ID, r.Duplicate = a.ID, true
		}
	}
	return nil
}

// doubt says what an error of the ledger leaves open.
func doubt(err error) error {
	if errors.Is(err, postgres.ErrInDoubt) {
		return ErrInDoubt
	}
	return ErrUnavailable
}

func (r *Receipt) fail(err error) { *r = Receipt{Durability: r.Durability, Err: err} }

func fail(entries []*entry, err error) {
	for _, e := range entries {
		e.receipt.fail(err)
	}
}

// filled are the parcels that have messages to send now.
func filled(parcels []*message.Parcel) []*message.Parcel {
	full := parcels[:0:0]
	for _, p := range parcels {
		if len(p.Messages) > 0 {
			full = append(full, p)
		}
	}
	return full
}
