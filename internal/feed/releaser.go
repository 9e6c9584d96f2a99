package feed

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/internal/gate"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Tick is how often due messages are looked for.
const Tick = 200 * time.Millisecond

// maxPerTick bounds what one account and kind releases at once, whatever its pace.
const maxPerTick = 2000

// A Flow is one account's messages of one kind, which share an API and so a gate and a pace.
type Flow struct {
	Account   string
	Kind      message.Kind
	API       string
	PerSecond float64
}

func (f Flow) carries(p *message.Parcel) bool { return p.Account == f.Account && p.Kind == f.Kind }

// A Budget is how many due messages of a flow may be released now.
type Budget struct {
	Flow
	N int
}

// A Stock is an account's messages of one kind.
type Stock struct {
	Account string
	Kind    message.Kind
}

// Store turns due rows into parcels.
type Store interface {
	// Due lists the stocks that have messages due.
	Due(ctx context.Context, now time.Time) ([]Stock, error)
	// Release moves at most the budgets' numbers of due rows, urgent ones first, from parked to accepted, and
	// answers with the parcels that carry them. Rows that expired meanwhile end.
	Release(ctx context.Context, budgets []Budget, now time.Time) ([]*message.Parcel, error)
}

// Gates says what may be released.
type Gates interface {
	Admit(ctx context.Context, account, api string, now time.Time) (gate.Admission, error)
	LetPass(ctx context.Context, account, api string, id message.ID) error
}

// Queue takes parcels; a parcel that is there already is no error.
type Queue interface {
	Enqueue(ctx context.Context, parcels []*message.Parcel) []error
}

// A Releaser makes parcels of parked messages that are due.
type Releaser struct {
	Store Store
	Gates Gates
	Queue Queue
	Flows func() []Flow // all of them; asked each tick
	Log   *slog.Logger

	carry   map[Flow]float64
	last    time.Time
	waiting []*message.Parcel // released, but Redis was away
}

// Run releases until the context ends. It is called by the pod that leads.
func (r *Releaser) Run(ctx context.Context) error {
	r.carry, r.last = map[Flow]float64{}, clock.Now()
	tick := time.NewTicker(Tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := r.release(ctx, clock.Now()); err != nil && ctx.Err() == nil {
			r.Log.Warn("release parked messages", "error", err)
		}
	}
}

func (r *Releaser) release(ctx context.Context, now time.Time) error {
	waiting := r.waiting // the outbox has them too: nothing is lost if this pod dies first
	r.waiting = nil
	late := r.enqueue(ctx, waiting)
	due, err := r.Store.Due(ctx, now)
	if err != nil {
		return errors.Join(late, fmt.Errorf("look for due messages: %w", err))
	}
	budgets, probes, err := r.budgets(ctx, due, now)
	if err != nil || len(budgets)+len(probes) == 0 {
		return errors.Join(late, err)
	}
	parcels, err := r.Store.Release(ctx, append(budgets, probes...), now)
	if err != nil {
		return errors.Join(late, fmt.Errorf("release: %w", err))
	}
	for _, p := range parcels {
		for _, probe := range probes {
			if probe.carries(p) && len(p.Messages) > 0 {
				if err := r.Gates.LetPass(ctx, probe.Account, probe.API, p.Messages[0].ID); err != nil {
					r.Log.Warn("let a probe pass", "account", probe.Account, "error", err)
				}
			}
		}
	}
	return errors.Join(late, r.enqueue(ctx, parcels))
}

// budgets is, of what is due, each open flow's share of the time since the last tick; probes are single messages for broken gates.
// A flow whose parcels wait for Redis gets none: what cannot be enqueued holds up its own flow and no other.
func (r *Releaser) budgets(ctx context.Context, due []Stock, now time.Time) (budgets, probes []Budget, err error) {
	elapsed := min(max(now.Sub(r.last), 0), time.Second).Seconds() // a clock that is put right says nothing
	r.last = now
	for _, flow := range r.Flows() {
		if !slices.Contains(due, Stock{flow.Account, flow.Kind}) || slices.ContainsFunc(r.waiting, flow.carries) {
			continue // nothing to ask the gates for: a broken one has one probe a minute to give
		}
		admitted, err := r.Gates.Admit(ctx, flow.Account, flow.API, now)
		if err != nil {
			return nil, nil, err
		}
		switch admitted {
		case gate.OneProbe:
			probes = append(probes, Budget{Flow: flow, N: 1})
		case gate.Freely:
			whole, rest := math.Modf(r.carry[flow] + flow.PerSecond*elapsed)
			r.carry[flow] = rest // what is over maxPerTick is not made up for
			if n := int(min(whole, maxPerTick)); n > 0 {
				budgets = append(budgets, Budget{Flow: flow, N: n})
			}
		}
	}
	return budgets, probes, nil
}

// enqueue puts parcels into the queue, and keeps those that it could not put.
func (r *Releaser) enqueue(ctx context.Context, parcels []*message.Parcel) error {
	if len(parcels) == 0 {
		return nil
	}
	var failed int
	var first error
	for i, err := range r.Queue.Enqueue(ctx, parcels) {
		if err != nil {
			r.waiting = append(r.waiting, parcels[i])
			failed++
			first = cmp.Or(first, err)
		}
	}
	if first != nil {
		return fmt.Errorf("enqueue %d released parcels: %w", failed, first)
	}
	return nil
}
