package pipeline

import (
	"context"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A Pipeline is the list of stages that a message passes, in order.
type Pipeline []Stage

// New builds the pipeline. It reads as a sentence: a message is sent when all of these hold.
func New(d Deps) Pipeline {
	return Pipeline{
		notExpired(),
		notSuppressed(d.Recipients),
		gateOpen(d.Gates),
		hasAccessToken(d.Tokens, d.Gates),
		windowOpen(d.Windows),
		underMassCap(d.Caps),
		withinQuota(d.Quota),
		hasSender(d.Senders),
		claimed(d.Ledger),
		send(d),
	}
}

// A Stage decides one thing about a message. A zero outcome hands it to the next stage; any other ends the
// run. An error means that the stage could not decide.
type Stage struct {
	Name string
	Run  func(context.Context, *Attempt) (outcome.Outcome, error)
	// Undo gives back what Run took; nil if it takes nothing. It is called after a run that this stage let
	// pass, last stage first, and finds in Attempt.Fate how far the message came. It must not fail: what it
	// cannot give back lapses by itself.
	Undo func(context.Context, *Attempt)
}

// Run passes the attempt's message through the stages. The result is what must be written; see [Attempt.Claimed]
// for whether a claim is held, and [Attempt.Fate] for how far the message came. An error means that nothing
// was decided: the parcel comes back. Takes are settled in either case.
func (p Pipeline) Run(ctx context.Context, a *Attempt) (outcome.Outcome, error) {
	a.lasting = context.WithoutCancel(ctx)
	for i, stage := range p {
		o, err := stage.Run(ctx, a)
		if err != nil {
			p[:i].undo(a)
			return outcome.Outcome{}, fmt.Errorf("%s: %w", stage.Name, err)
		}
		if o.Decided() || a.Fate == ClaimRefused {
			a.Stage = stage.Name
			p[:i].undo(a)
			return o, nil
		}
	}
	return outcome.Outcome{}, fmt.Errorf("no stage decided about message %s", a.Message.ID)
}

func (p Pipeline) undo(a *Attempt) {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].Undo != nil {
			p[i].Undo(a.lasting, a)
		}
	}
}
