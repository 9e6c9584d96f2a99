package reconcile

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// maxDeaths is how many claims of a message may end with their pod's death; then it is not tried again.
const maxDeaths = 3

// Repeats says for how long, and how soon, a message is sent again that may have been sent.
type Repeats struct {
	For   time.Duration // from its first attempt; zero: never
	After time.Duration // from its last
}

// Always is a Repeats.For without an end.
const Always = time.Duration(math.MaxInt64)

// Decide says what becomes of a message whose pod is dead, with a note for its timeline. The message may have been
// sent, wherever its pod was: it goes on only as long as it may be repeated.
func Decide(l LeftBehind, r Repeats, now time.Time) (outcome.Outcome, string) {
	pod := "its worker " + l.Pod
	if l.Pod == "" {
		pod = "its worker"
	}
	again := max(0, r.After-l.Intent)
	switch {
	case l.Deaths >= maxDeaths:
		return outcome.Outcome{Status: outcome.Dead, Reason: outcome.Poison},
			fmt.Sprintf("%s fell silent, as %d before it did with this message; it may have been sent", pod, l.Deaths-1)
	case r.For == Always || l.Age+again < r.For:
		return outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff, Until: now.Add(again)},
			pod + " fell silent with it; it may have been sent, and may be sent again"
	}
	return outcome.Outcome{Status: outcome.Unknown, Reason: outcome.InDoubt}, pod + " fell silent with it; it may have been sent"
}

// A watch knows since when heartbeats can be trusted. A ledger that was away, or a pause of our own, makes every pod
// look dead for a moment. Every pod keeps one all its life: were it begun with each term, and leaders died often,
// nobody would ever have looked for long enough.
type watch struct {
	mu          sync.Mutex
	since, last time.Time
}

// steady is asked at each answer of the ledger's, and says whether it has answered for long enough that a pod which
// lives has said so.
func (w *watch) steady(now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.last) > hiccup {
		w.since = now
	}
	w.last = now
	return now.Sub(w.since) >= trustedAfter
}

// Watch looks at the ledger until the context ends.
func (r *Reconciler) Watch(ctx context.Context) error {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for {
		_, _ = r.trusted(ctx) // what it says is for those who resolve
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

// trusted says whether heartbeats can be trusted now. It judges when the ledger has answered, not when it was asked:
// one that stood still meanwhile has made everybody silent.
func (r *Reconciler) trusted(ctx context.Context) (bool, error) {
	if err := r.Store.Ping(ctx); err != nil {
		return false, err
	}
	return r.watch.steady(time.Now()), nil
}

// Resolve decides about what dead pods left, until the context ends. A pod that has not watched for long enough gives
// the lead away at once, to one that has.
func (r *Reconciler) Resolve(ctx context.Context) error {
	ticks := time.NewTicker(tick)
	defer ticks.Stop()
	for {
		if yes, err := r.trusted(ctx); err != nil || !yes {
			return err
		}
		if err := r.resolve(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticks.C:
		}
	}
}

func (r *Reconciler) resolve(ctx context.Context) error {
	found := map[string]int{}
	defer func() {
		for pod, n := range found {
			r.Log.Warn("a worker died with messages in hand; they are resolved", "worker", pod, "messages", n)
		}
	}()
	for {
		now := clock.Now()
		changed, batches, err := r.Store.ResolveLeftBehind(ctx, DeadAfter, func(l LeftBehind) (outcome.Outcome, string) {
			return Decide(l, r.Repeats(l.Account, l.Kind), now)
		})
		if err != nil {
			return err
		}
		for _, l := range changed {
			found[l.Pod]++
			r.count(ctx, l, now)
		}
		if batches == 0 {
			return nil
		}
	}
}

// count makes the user's window count an answer that may have gone: its slot would lapse.
func (r *Reconciler) count(ctx context.Context, l LeftBehind, now time.Time) {
	if l.Kind != message.Custom || l.To == "" {
		return
	}
	if err := r.Windows.Confirm(ctx, l.Account, l.To, l.ID, now.Add(-l.Intent)); err != nil {
		r.Log.Warn("count an answer that may have gone", "message_id", l.ID, "error", err)
	}
}
