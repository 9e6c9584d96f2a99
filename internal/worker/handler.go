package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/fault"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// ErrDraining returns a parcel to the queue because this pod is shutting down. It counts as no failure.
var ErrDraining = errors.New("draining")

// Pipeline decides about one message.
type Pipeline interface {
	Run(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, error)
	// Take and Send are a Run in two parts, for who asks for the claim by himself, between them.
	Take(ctx context.Context, a *pipeline.Attempt) (o outcome.Outcome, ended bool, err error)
	Send(a *pipeline.Attempt, err error) (outcome.Outcome, error)
}

// Ledger writes what was decided.
type Ledger interface {
	// Settle writes the outcome of the attempt: under its claim if it holds one, else as a verdict that only
	// writes over an accepted message. What it does not change (took is false) is somebody else's.
	Settle(ctx context.Context, a *pipeline.Attempt, o outcome.Outcome) (took bool, err error)
	// ClaimLater asks for the claim of a recipient of a run ([pipeline.Attempt.Run]), and SettleLater is Settle for a message
	// that simply went out. Neither waits: then is called once, with the answer, and must not block.
	ClaimLater(ctx context.Context, a *pipeline.Attempt, then func(pipeline.Claim, error))
	SettleLater(ctx context.Context, a *pipeline.Attempt, o outcome.Outcome, then func(took bool, err error))
	// ParcelDone says that every message of the parcel is terminal or parked.
	ParcelDone(ctx context.Context, parcel message.ID)
	// Reject records a task that cannot become a row.
	Reject(ctx context.Context, queue, task, kind string, payload []byte, reason string) error
}

// Accounts finds an account by its name or AppID.
type Accounts interface {
	Account(nameOrAppID string) (*pipeline.Account, pipeline.WeChat, bool)
}

// A Handler processes parcels and chunks. It may be used by several servers at once.
type Handler struct {
	Pipeline  Pipeline
	Ledger    Ledger
	Accounts  Accounts
	Chunks    Chunks
	Retention time.Duration // ids older than this are refused
	Observe   func(a *pipeline.Attempt, o outcome.Outcome, took time.Duration)

	Drain <-chan struct{} // when closed, what is not claimed is given back, and what is claimed is seen to its outcome

	Crew *Crew // works on messages that are not urgent; nil: any number at once

	inHand sync.WaitGroup // also counts parcels that asynq has given up on
	flows  sync.Map       // *flow, by their names
	runs   sync.Map       // *run: the chunks under way
	watch  watch
}

// Wait returns when no parcel is in hand.
func (h *Handler) Wait() { h.inHand.Wait() }

func (h *Handler) draining() bool {
	select {
	case <-h.Drain:
		return true
	default:
		return false
	}
}

// ProcessTask sees one parcel or chunk through.
func (h *Handler) ProcessTask(ctx context.Context, t *asynq.Task) error {
	h.inHand.Add(1)
	defer h.inHand.Done()
	// Not through asynq's own context: when that ends, asynq frees the slot and waits for nobody.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-h.Drain:
			cancel()
		case <-ctx.Done():
		}
	}()

	if t.Type() == tasks.TypeChunk {
		return h.chunk(ctx, t)
	}
	parcel, err := tasks.Decode(t)
	if err == nil {
		err = tasks.Check(parcel, clock.Now(), h.Retention)
	}
	if err != nil {
		return h.reject(ctx, t, err)
	}
	fault.At(fault.Dequeued, string(parcel.Kind))
	see := h.each
	if lost, _ := asynq.GetRetryCount(ctx); lost >= maxLost {
		see = h.separate
	}
	if err := see(ctx, parcel); err != nil {
		return err // at least one fate could not be written: the parcel comes back
	}
	h.Ledger.ParcelDone(ctx, parcel.ID)
	return nil
}

// reject records a task that no worker can send, and drops it.
func (h *Handler) reject(ctx context.Context, t *asynq.Task, why error) error {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	if err := h.Ledger.Reject(ctx, queue, id, t.Type(), t.Payload(), why.Error()); err != nil {
		return fmt.Errorf("record rejected task: %w", err)
	}
	return fmt.Errorf("decode %s: %w: %w", t.Type(), why, asynq.RevokeTask)
}

// each runs the parcel's messages side by side; they wait for tokens and senders in line, urgent ones first. The
// answer is the first error.
func (h *Handler) each(ctx context.Context, parcel *message.Parcel) error {
	var (
		wg    sync.WaitGroup
		once  sync.Once
		first error
	)
	for _, m := range parcel.Messages {
		wg.Add(1)
		job := func() {
			defer wg.Done()
			if err := h.one(ctx, parcel, m); err != nil {
				once.Do(func() { first = err })
			}
		}
		if h.Crew == nil || parcel.Lane == message.Urgent {
			go job() // urgent messages wait behind nobody
		} else if err := h.Crew.do(ctx, job); err != nil {
			wg.Done()
			once.Do(func() { first = h.cut(err) })
		}
	}
	wg.Wait()
	return first
}

// cut is what a run that was cut short returns.
func (h *Handler) cut(err error) error {
	if h.draining() {
		return ErrDraining
	}
	return err
}

func (h *Handler) one(ctx context.Context, parcel *message.Parcel, m *message.Message) error {
	if h.draining() {
		return ErrDraining
	}
	start := time.Now()
	a := &pipeline.Attempt{Message: m, Parcel: parcel.ID, Traceparent: parcel.Traceparent, Now: clock.Of(start)}
	o, err := h.decide(ctx, a)
	if err != nil {
		return h.cut(err)
	}
	if a.Fate != pipeline.ClaimRefused {
		if _, err := h.settle(context.WithoutCancel(ctx), a, o); err != nil {
			return fmt.Errorf("settle %s: %w", m.ID, err)
		}
	}
	if h.Observe != nil {
		h.Observe(a, o, time.Since(start))
	}
	return nil
}

// settle writes the outcome, before the parcel may be acknowledged.
func (h *Handler) settle(ctx context.Context, a *pipeline.Attempt, o outcome.Outcome) (took bool, err error) {
	a.Settling = clock.Now()
	if !fault.Has(fault.SettleFirst) {
		time.AfterFunc(fault.Lag, func() { _, _ = h.Ledger.Settle(ctx, a, o) })
		return true, nil
	}
	took, err = h.Ledger.Settle(ctx, a, o)
	fault.At(fault.Settled, string(a.Message.Kind))
	return took, err
}

func (h *Handler) decide(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
	if o := h.address(a); o.Decided() {
		return o, nil
	}
	return h.Pipeline.Run(ctx, a)
}

// address gives the attempt its account, or says that there is none.
func (h *Handler) address(a *pipeline.Attempt) outcome.Outcome {
	account, client, known := h.Accounts.Account(a.Message.Account)
	if !known {
		return outcome.Outcome{
			Status: outcome.Failed, Reason: outcome.Invalid,
			ErrMsg: fmt.Sprintf("account %q is not in this worker's configuration", a.Message.Account),
		}
	}
	a.Account, a.Client = account, client
	return outcome.Outcome{}
}
