package app

import (
	"context"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// ledger is the pod's committer as the pipeline and the handler see it.
type ledger struct {
	store     *postgres.Store
	committer *postgres.Committer
	accounts  accounts
	refused   *refusals
	claimed   func(account string, kind message.Kind, granted bool) // optional
}

// Claim commits the intent to call WeChat. A mass send takes its caps in the same transaction.
func (l ledger) Claim(ctx context.Context, a *pipeline.Attempt) (pipeline.Claim, error) {
	c, err := l.claim(ctx, a)
	l.count(a, c, err)
	return c, err
}

// ClaimLater does so for a recipient of a chunk's run; then is called once, with the answer.
func (l ledger) ClaimLater(ctx context.Context, a *pipeline.Attempt, then func(pipeline.Claim, error)) {
	l.committer.ClaimRecipientLater(ctx, a.Message, a.Run.(*chunkRun).Chunk, func(granted postgres.Claim, err error) {
		var c pipeline.Claim
		if err == nil {
			c = claimOf(granted)
		}
		l.count(a, c, err)
		then(c, err)
	})
}

func (l ledger) count(a *pipeline.Attempt, c pipeline.Claim, err error) {
	if err == nil && l.claimed != nil {
		l.claimed(a.Account.Name, a.Message.Kind, !c.Refused)
	}
}

func (l ledger) claim(ctx context.Context, a *pipeline.Attempt) (pipeline.Claim, error) {
	if !fault.Has(fault.Claim) {
		return pipeline.Claim{Attempt: 1, Intent: time.Now(), FirstIntent: clock.Now()}, nil
	}
	if a.Message.Kind == message.Mass {
		return l.claimMass(ctx, a)
	}
	var c postgres.Claim
	var err error
	if run, ok := a.Run.(*chunkRun); ok {
		c, err = l.committer.ClaimRecipient(ctx, a.Message, run.Chunk)
	} else {
		c, err = l.committer.Claim(ctx, a.Message, a.Parcel)
	}
	if err != nil {
		return pipeline.Claim{}, err
	}
	return claimOf(c), nil
}

func claimOf(c postgres.Claim) pipeline.Claim {
	if !c.OK {
		return pipeline.Claim{Refused: true, Verdict: c.Verdict}
	}
	return pipeline.Claim{
		Number: c.Number, Attempt: int(c.Attempt), Doubt: c.Doubt, Held: c,
		FirstIntent: clock.Of(c.Asked.Add(c.FirstIntent.Sub(c.Intent))), Intent: c.Asked,
	}
}

// Settle writes the outcome under the attempt's claim, or as a verdict where it has none.
func (l ledger) Settle(ctx context.Context, a *pipeline.Attempt, o outcome.Outcome) (took bool, err error) {
	effects := postgres.Effects{Fallback: a.Effects.Fallback, Doubt: a.Effects.Doubt, Alone: a.Effects.Alone, Note: a.Effects.Note}
	if a.Effects.Suppress {
		effects.Suppress = &postgres.Suppression{OpenID: a.Message.To, TemplateID: a.Effects.TemplateID, ErrCode: o.ErrCode}
	}
	if c, held := a.Claimed(); held {
		took, err = l.committer.Settle(ctx, a.Message, c.Held.(postgres.Claim), o, effects)
	} else if run, ok := a.Run.(*chunkRun); ok {
		took, err = l.committer.VerdictOnRecipient(ctx, a.Message, run.Chunk, o, effects)
	} else {
		took, err = l.committer.Verdict(ctx, a.Message, a.Parcel, o, effects)
	}
	if err == nil && a.Effects.Suppress {
		l.refused.add(a.Message.Account, a.Message.To)
	}
	if err == nil && a.Effects.RefundMass {
		if _, err = l.store.RefundMass(ctx, a.Message.ID); err != nil {
			err = fmt.Errorf("refund mass caps: %w", err)
		}
	}
	return took, err
}

// SettleLater does so for a message that simply went out; then is called once, when that is written.
func (l ledger) SettleLater(ctx context.Context, a *pipeline.Attempt, o outcome.Outcome, then func(took bool, err error)) {
	c, _ := a.Claimed()
	l.committer.SettleLater(ctx, a.Message, c.Held.(postgres.Claim), o, postgres.Effects{}, then)
}

// ParcelDone says that every message of the parcel is terminal or parked.
func (l ledger) ParcelDone(_ context.Context, parcel message.ID) { l.committer.ParcelDone(parcel) }

// Reject records a task that cannot become a row.
func (l ledger) Reject(ctx context.Context, queue, task, kind string, payload []byte, reason string) error {
	return l.store.Reject(ctx, queue, task, kind, payload, reason)
}
