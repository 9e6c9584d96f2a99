package worker

import (
	"fmt"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// An errand is a run's way with one letter, to its outcome. All that is known on the way stands in one place: a campaign's
// messages are many, and what is made for each costs.
type errand struct {
	*run
	attempt pipeline.Attempt
	start   time.Time
	done    func()

	unclaimed error           // why the claim could not be asked for
	outcome   outcome.Outcome // that is being written
}

// errands are those that ended as nearly all do (see [errand.settled]), to be used again.
var errands = sync.Pool{New: func() any { return new(errand) }}

func (r *run) errand(l Letter, done func()) *errand {
	e := errands.Get().(*errand)
	start := time.Now()
	*e = errand{run: r, start: start, done: done, attempt: pipeline.Attempt{
		Message: l.Message, Run: r.chunk.Held, Now: clock.Of(start), Patience: patience,
	}}
	return e
}

// send sends one letter, unless the run is halted first. Where a claim may be had ahead of a sender the letter is taken as far
// as that here and now, and the crew does the rest: nobody waits for the commit.
func (r *run) send(l Letter, done func()) {
	e := r.errand(l, done)
	if l.Err != nil || l.Skip.Decided() || !r.chunk.Kind.HasClientID() || !fault.Has(fault.Claim) {
		spared := l // which is no cost of all others
		e.hire(func() { e.whole(spared) })
		return
	}
	o, ended, err := e.take()
	if ended || err != nil {
		e.hire(func() { e.decided(o, err) })
		return
	}
	r.Ledger.ClaimLater(r.after, &e.attempt, e.claimed)
}

// cancel writes down that a letter will not be sent.
func (r *run) cancel(l Letter, done func()) {
	e := r.errand(l, done)
	e.hire(func() { e.settle(outcome.Outcome{Status: outcome.Cancelled, Reason: outcome.ReasonCancelled}) })
}

// hire has the crew do a job of the errand, its last.
func (e *errand) hire(job func()) {
	work := func() { defer e.done(); job() }
	if e.Crew == nil {
		go work()
	} else if err := e.Crew.do(e.ctx, work); err != nil {
		e.leave(1)
		e.done()
	}
}

func (e *errand) take() (outcome.Outcome, bool, error) {
	if o := e.address(&e.attempt); o.Decided() {
		return o, true, nil
	}
	return e.Pipeline.Take(e.ctx, &e.attempt)
}

// claimed is told the answer to the claim, and must not block.
func (e *errand) claimed(c pipeline.Claim, err error) {
	if e.unclaimed = err; err == nil {
		e.attempt.Answer(c)
	}
	e.Crew.now(e.sendClaimed)
}

func (e *errand) sendClaimed() {
	defer e.done() // read now: at the end the errand may be another's
	o, err := e.Pipeline.Send(&e.attempt, e.unclaimed)
	e.decided(o, err)
}

// whole is an errand from the first guard to the outcome.
func (e *errand) whole(l Letter) {
	switch {
	case l.Err != nil:
		e.settle(outcome.Outcome{Status: outcome.Failed, Reason: outcome.Invalid, ErrMsg: l.Err.Error()})
	case e.ctx.Err() != nil:
		e.leave(1)
	case l.Skip.Decided():
		e.settle(l.Skip)
	default:
		e.decided(e.decide(e.ctx, &e.attempt))
	}
}

// decided does with the letter as was decided.
func (e *errand) decided(o outcome.Outcome, err error) {
	_, claimed := e.attempt.Claimed()
	switch {
	case err != nil:
		e.leave(1)
		e.fail(err)
	case e.attempt.Fate == pipeline.ClaimRefused: // another run's
		e.leaveOpen()
	case o.Status == outcome.Parked && !claimed: // and so would all behind it be
		e.wait(o)
	default:
		e.settle(o)
	}
}

// settle writes an outcome, and counts it. Where WeChat would refuse the message if it came again, its sender does not wait
// for that: a crash costs nothing.
func (e *errand) settle(o outcome.Outcome) {
	e.outcome = o
	a := &e.attempt
	_, claimed := a.Claimed()
	if plain := o == (outcome.Outcome{Status: outcome.Sent, MsgID: o.MsgID}) && a.Effects == (pipeline.Effects{}); !plain ||
		!claimed || !a.Message.Kind.HasClientID() || !fault.Has(fault.SettleFirst) {
		e.written(e.Handler.settle(e.after, a, o))
		return
	}
	a.Settling = clock.Now()
	e.settling.Add(1)
	e.Ledger.SettleLater(e.after, a, o, e.settled)
}

// settled is told whether the outcome took effect, or why it could not be written. It ends the errand, perhaps before those
// who asked for it have returned: nobody reads anything of an errand after SettleLater.
func (e *errand) settled(took bool, err error) {
	fault.At(fault.Settled, string(e.attempt.Message.Kind))
	e.written(took, err)
	r := e.run
	errands.Put(e)
	r.settling.Done()
}

// written counts an outcome that was written, or halts the run where it could not be. What took no effect is somebody
// else's to end, and to count.
func (e *errand) written(took bool, err error) {
	o := e.outcome
	if err != nil {
		e.leave(1)
		e.fail(fmt.Errorf("settle %s: %w", e.attempt.Message.ID, err))
		return
	}
	if e.Observe != nil {
		e.Observe(&e.attempt, o, time.Since(e.start))
	}
	if took {
		e.count(o)
	} else {
		e.leaveOpen()
	}
	if reason := e.watch.note(e.chunk.Campaign, e.chunk.StopAt, o); reason != "" {
		if err := e.Chunks.Stop(e.after, e.chunk, reason); err == nil {
			e.haltAll()
		}
	}
}
