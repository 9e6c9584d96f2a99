package client

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
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

// sendParts sends the parts of one list on their way. Without keys they are accepted together. Parts with keys go
// one after another: where a part's key says that it is of another list, nothing behind it may go, and of a list
// that was cut short the parts that are missing go.
func (c *Client) sendParts(ctx context.Context, e *entry) {
	if e.message.Key == "" || c.ledger == nil {
		c.sendMessages(ctx, e.parts, false, func(*message.Message) *Receipt { return &e.receipt })
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
