package reconcile

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Times of the loops.
const (
	tick = time.Second
	// SettleIn is how old a parcel is when it is first looked for: its producer writes it down, then enqueues it.
	SettleIn = 5 * time.Second
	// wholeEvery is how often all of the outbox is looked up.
	wholeEvery = time.Minute
	// wholeShare keeps looks at a long backlog to a tenth of the time.
	wholeShare = 10
	// DeadAfter is the silence after which a pod counts as dead.
	DeadAfter = 15 * time.Second
	// trustedAfter is how long the ledger has answered before silence counts: pods that live have beaten twice since.
	trustedAfter = 8 * time.Second
	// hiccup is a pause between two looks after which heartbeats say nothing: the ledger was away, or we were.
	hiccup = 5 * time.Second
)

// A Waiting parcel stands in the outbox: a queue should have it.
type Waiting struct {
	ID      message.ID
	Account string
	Kind    message.Kind
	Lane    message.Lane
}

// LeftBehind is a message that a silent pod has claimed and not settled.
type LeftBehind struct {
	ID      message.ID
	Account string
	Kind    message.Kind
	To      message.OpenID
	Pod     string
	Doubt   bool          // an earlier attempt may have left, too
	Deaths  int           // claims that ended with their pod, this one included
	Age     time.Duration // since the first attempt that may have left
	Intent  time.Duration // since this one
}

// Store is the ledger.
type Store interface {
	Ping(ctx context.Context) error
	// Outbox is a page of parcels between two ids, exclusive, that are at least that old, in the order of their ids.
	Outbox(ctx context.Context, after, before message.ID, age time.Duration, limit int) ([]Waiting, error)
	// Rebuild makes parcels anew of what is still accepted in them. One with nothing left is done, and forgotten.
	Rebuild(ctx context.Context, list []Waiting) ([]*message.Parcel, error)
	// ResolveLeftBehind lets decide say, with a note for the timeline, what becomes of some of the messages of pods
	// silent for that long. No batches: none are left.
	ResolveLeftBehind(ctx context.Context, silent time.Duration, decide func(LeftBehind) (outcome.Outcome, string)) (changed []LeftBehind, batches int, err error)
	// JoinReceipts looks for the messages of at most limit receipts, and says how many it looked at. An error may come with
	// an answer: receipts that could not be joined hold up no others.
	JoinReceipts(ctx context.Context, now time.Time, limit int) (joined []Joined, looked int, err error)
}

// Lookup looks after the parcels in Redis.
type Lookup interface {
	Gone(ctx context.Context, places []tasks.Place) ([]bool, error)
	Forget(ctx context.Context, places []tasks.Place) error
	Lease(ctx context.Context, now time.Time) (int64, error)
	Forgot(ctx context.Context) (bool, error)
}

// Queue takes parcels; a parcel that is there already is no error.
type Queue interface {
	Enqueue(ctx context.Context, parcels []*message.Parcel) []error
}

// Windows counts answers to users.
type Windows interface {
	// Confirm makes an answer count that may have been sent.
	Confirm(ctx context.Context, account string, user message.OpenID, id message.ID, at time.Time) error
}

// A Reconciler heals. Its Watch is called by every pod, its Run and its Resolve by the pod that leads them, which need
// not be the same.
type Reconciler struct {
	Store     Store
	Lookup    Lookup
	Queue     Queue
	Windows   Windows
	Repeats   func(account string, kind message.Kind) Repeats
	Retention time.Duration // messages older than this cannot be queued
	Joined    func(Joined)  // optional: told of each receipt that found its message
	Log       *slog.Logger

	watch watch
}

// Run looks after queued parcels and receipts until the context ends. A new term begins with a new memory.
func (r *Reconciler) Run(ctx context.Context) error {
	var loops errgroup.Group
	var outbox outbox
	loops.Go(func() error {
		r.every(ctx, "look after queued parcels", func() error { return r.sweep(ctx, &outbox, clock.Now()) })
		return nil
	})
	loops.Go(func() error {
		r.every(ctx, "join receipts", func() error { return r.join(ctx) })
		return nil
	})
	return loops.Wait()
}

func (r *Reconciler) every(ctx context.Context, what string, do func() error) {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for {
		if err := do(); err != nil && ctx.Err() == nil {
			r.Log.Warn(what, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}
