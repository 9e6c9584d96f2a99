package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// split makes of a mass list over WeChat's 10,000 openids one message per part, of near-equal size, joined by the
// first part's id, which becomes the whole list's. It returns nil for any other message.
func split(m *message.Message, now time.Time) []*message.Message {
	lists := mass.Split(m.List)
	if m.Kind != message.Mass || len(lists) < 2 {
		return nil
	}
	ids := make([]message.ID, len(lists)) // they go in the order of their ids
	for i := range ids {
		ids[i] = message.NewID(now)
	}
	slices.SortFunc(ids, func(a, b message.ID) int { return bytes.Compare(a[:], b[:]) })
	m.ID = ids[0]
	parts := make([]*message.Message, len(lists))
	for i, list := range lists {
		part := *m
		part.List = list
		if i > 0 {
			part.ID, part.Parent = ids[i], m.ID
			part.Key = partKey(m.Key, i+1)
		}
		parts[i] = &part
	}
	return parts
}

// partKey is the key of the n-th part: a list that is enqueued again finds each of its parts. No producer's key
// can be one, because of the no-break space, which a key must not have.
func partKey(key string, n int) string {
	if key == "" {
		return ""
	}
	return fmt.Sprintf("%s\u00a0#%d", key, n)
}

// sendParts sends the parts of one list on their way. They are accepted together, all or none. Where the list's key was
// used before they go one after another: where a part's key says that it is of another list, nothing behind it may go,
// and of a list that was cut short the parts that are missing go.
func (c *Client) sendParts(ctx context.Context, e *entry) {
	if e.message.Key == "" || c.ledger == nil {
		c.sendMessages(ctx, e.parts, true, func(*message.Message) *Receipt { return &e.receipt })
		return
	}
	if _, err := c.ledger.KeyHolder(ctx, e.message.Account, e.message.Key); errors.Is(err, postgres.ErrNotFound) {
		c.sendNewParts(ctx, e)
		return
	}
	receipt := e.receipt
	receipt.Duplicate = true
	for i, part := range e.parts {
		r := Receipt{ID: part.ID, Durability: receipt.Durability}
		c.sendMessages(ctx, []*message.Message{part}, false, func(*message.Message) *Receipt { return &r })
		if r.Err != nil {
			if i > 0 && !receipt.Duplicate {
				r.Err = fmt.Errorf("part %d of %d (those before it were accepted; enqueue the list again with the same key): %w",
					i+1, len(e.parts), r.Err)
			}
			e.receipt.fail(r.Err)
			return
		}
		receipt.Parts[i] = r.ID
		if i == 0 { // a part that was missing joins the first list's parts
			for _, later := range e.parts[1:] {
				later.Parent = r.ID
			}
		}
		receipt.Duplicate = receipt.Duplicate && r.Duplicate
	}
	receipt.ID = receipt.Parts[0]
	e.receipt = receipt
}

// sendNewParts sends the parts of a list whose key is free. Who is quicker with the same list makes all of them duplicates.
func (c *Client) sendNewParts(ctx context.Context, e *entry) {
	receipts := make(map[*message.Message]*Receipt, len(e.parts))
	for _, part := range e.parts {
		receipts[part] = &Receipt{ID: part.ID, Durability: e.receipt.Durability}
	}
	c.sendMessages(ctx, e.parts, true, func(m *message.Message) *Receipt { return receipts[m] })
	duplicate := true
	for i, part := range e.parts {
		r := receipts[part]
		if r.Err != nil && !errors.Is(r.Err, ErrNotAll) {
			e.receipt.fail(r.Err)
			return
		}
		e.receipt.Parts[i] = r.ID
		duplicate = duplicate && r.Duplicate
	}
	e.receipt.ID, e.receipt.Duplicate = e.receipt.Parts[0], duplicate
}
