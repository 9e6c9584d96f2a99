package main

import (
	"context"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

type cancelCommand struct {
	ID string `arg:"" help:"The message's id."`
}

func (*cancelCommand) Help() string {
	return `A message that is being sent, or has ended, stays what it is. One that was handed over without a database has no row
until a worker takes it, and cannot be cancelled before.

Example:

  enqueue cancel 0198c0de-0000-7000-8000-000000000001`
}

// Run cancels the message.
func (c *cancelCommand) Run(ctx context.Context, s *session) error {
	id, err := message.ParseID(c.ID)
	if err != nil {
		return refuse("%w", err)
	}
	store, err := s.ledger(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	r, err := store.Cancel(ctx, id)
	if err != nil {
		return ledgerError(err, id)
	}
	if r.State != outcome.Cancelled {
		return fmt.Errorf("%s: not cancelled: it is %s", id, r.State)
	}
	return s.print(map[string]any{"id": id, "status": r.State}, "cancelled %s", id)
}
