package pipeline

import (
	"context"
	"fmt"

	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A Pipeline is the list of stages that a message passes, in order.
type Pipeline []Stage

// New builds the pipeline. It reads as a sentence: a message is sent when all of these hold. The last two are the claim and
// the call.
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
	o, ended, err := p.through(ctx, a, 0, len(p))
	if err == nil && !ended {
		err = fmt.Errorf("no stage decided about message %s", a.Message.ID)
	}
	return o, err
}

// Take is the first part of a Run for who asks for the claim by himself: the stages before it. Where the message is to be
// claimed, ended is false, and Send must follow with what came of that.
func (p Pipeline) Take(ctx context.Context, a *Attempt) (o outcome.Outcome, ended bool, err error) {
	a.lasting = context.WithoutCancel(ctx)
	claim := len(p) - 2
	if o, ended, err = p.through(ctx, a, 0, claim); ended || err != nil {
		return o, ended, err
	}
	return p.pass(a, claim, worthClaiming(a), nil)
}

// Send is the second part: the answer to the claim ([Attempt.Answer], or the error in its stead), and the call if it was granted.
func (p Pipeline) Send(a *Attempt, err error) (outcome.Outcome, error) {
	claim := len(p) - 2
	var o outcome.Outcome
	if err == nil {
		o = a.answered()
	}
	o, ended, err := p.pass(a, claim, o, err)
	if !ended && err == nil {
		o, _, err = p.through(a.lasting, a, claim+1, len(p))
	}
	return o, err
}

// through runs some of the stages; ended says that one of them has ended the run.
func (p Pipeline) through(ctx context.Context, a *Attempt, from, to int) (o outcome.Outcome, ended bool, err error) {
	for i := from; i < to; i++ {
		o, err := p[i].Run(ctx, a)
		if err == nil && !o.Decided() && a.Fate != ClaimRefused {
			continue // as nearly all do
		}
		return p.pass(a, i, o, err)
	}
	return outcome.Outcome{}, false, nil
}

// pass says whether a stage's answer ends the run, and undoes then what the stages before it took.
func (p Pipeline) pass(a *Attempt, i int, o outcome.Outcome, err error) (_ outcome.Outcome, ended bool, _ error) {
	if err != nil {
		p[:i].undo(a)
		return outcome.Outcome{}, false, fmt.Errorf("%s: %w", p[i].Name, err)
	}
	if o.Decided() || a.Fate == ClaimRefused {
		a.Stage = p[i].Name
		p[:i].undo(a)
		return o, true, nil
	}
	return o, false, nil
}

func (p Pipeline) undo(a *Attempt) {
	for i := len(p) - 1; i >= 0; i-- {
		if p[i].Undo != nil {
			p[i].Undo(a.lasting, a)
		}
	}
}
