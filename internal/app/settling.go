package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// How many chunks of a firing are settled in a turn: about a second's work at most, so that firings take turns.
const (
	countAtOnce  = 200 // whose messages have ended, or may have
	cancelAtOnce = 40  // of a campaign that has ended
)

// settling are the open firings as their settler sees them.
type settling struct {
	store     *postgres.Store
	cancelled func(account string, kind message.Kind, n int) // optional
}

func (s settling) Settle(ctx context.Context) (more bool, err error) {
	open, err := s.store.OpenFirings(ctx)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, f := range open {
		again, err := s.settle(ctx, f)
		if err != nil {
			errs = append(errs, fmt.Errorf("firing %d: %w", f.ID, err)) // the others' turn is now
		}
		more = more || again
	}
	return more, errors.Join(errs...)
}

func (s settling) settle(ctx context.Context, f postgres.OpenFiring) (more bool, err error) {
	cancelled := 0
	if f.Of.State.Ended() && f.Of.Kind != message.Mass {
		messages := 0
		cancelled, messages, err = s.store.CancelWaiting(ctx, f, cancelAtOnce)
		if s.cancelled != nil && messages > 0 {
			s.cancelled(f.Of.Account, f.Of.Kind, messages)
		}
		if err != nil {
			return false, err
		}
	}
	closed, err := s.store.SettleChunks(ctx, f, countAtOnce)
	if err == nil {
		_, err = s.store.EndFiring(ctx, f)
	}
	return cancelled == cancelAtOnce || closed == countAtOnce, err
}
