package app

import (
	"context"
	"errors"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

// parts make messages of queued chunks of a mass send, one of each, and hand them over like a producer's. A message's id
// comes of the firing and its first recipient: who makes it again, after a death, finds that it is accepted.
func (r *campaignRows) parts(ctx context.Context, f postgres.OpenFiring, list []postgres.QueuedChunk) error {
	var errs []error
	for _, c := range list {
		errs = append(errs, r.part(ctx, f, c))
	}
	return errors.Join(errs...)
}

func (r *campaignRows) part(ctx context.Context, f postgres.OpenFiring, c postgres.QueuedChunk) error {
	to, err := r.store.MassPart(ctx, f, c)
	if err != nil {
		return err
	}
	now := clock.Now()
	m := f.Of.Spec.Mass(f.StartedAt, f.ID, to.First, to.List)
	m.Account = f.Of.Account
	parcels := tasks.Pack([]*message.Message{m}, now)
	accept := r.store.Accept
	if f.Of.State.Ended() {
		accept = r.store.AcceptCancelled
	}
	answers, err := accept(ctx, parcels, now)
	if err != nil {
		return err
	}
	if refused := answers[0].Err; refused != nil {
		return r.store.RefusePart(ctx, f, c, refused.Error())
	}
	if !f.Of.State.Ended() && len(parcels) > 0 && len(parcels[0].Messages) > 0 {
		_ = errors.Join(r.queue.Enqueue(ctx, parcels)...) // what Redis did not take is found in the outbox
	}
	return r.store.PartAccepted(ctx, c)
}
