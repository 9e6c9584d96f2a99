package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestFewMessagesOfAFlowAreInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		h, s, _ := chunkOf(40, decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
			return sent, nil
		}))
		var wg sync.WaitGroup
		for range 2 { // two chunks of one flow
			wg.Go(func() {
				if err := h.work(t.Context(), s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 4 {
			t.Errorf("at most %d were in hand, want 4", most.Load())
		}
	})
}

// Of many runs of a flow a few hand their letters out at a time; what hangs holds up none of the others.
func TestFewRunsOfAFlowHandOut(t *testing.T) {
	const n = runsAtATime + 2
	type runs struct {
		h       *Handler
		s       *shelf
		b       *book
		reading atomic.Int32 // runs that have read their recipients
		pace    chan struct{}
		errs    [n]error
		wg      sync.WaitGroup
	}
	// started starts the runs; their letters go as the pace lets them.
	started := func(t *testing.T, ctx context.Context, p Pipeline, set func(s *shelf)) *runs {
		r := &runs{pace: make(chan struct{})}
		r.h, r.s, r.b = chunkOf(1, p)
		r.s.chunk.Hand = 100
		r.s.pace = func(ctx context.Context) error {
			r.reading.Add(1)
			select {
			case <-r.pace:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if set != nil {
			set(r.s)
		}
		for i := range n {
			r.wg.Go(func() { r.errs[i] = r.h.work(ctx, r.s) })
		}
		synctest.Wait()
		return r
	}
	count := func(errs [n]error, want error) (n int) {
		for _, err := range errs {
			if errors.Is(err, want) {
				n++
			}
		}
		return n
	}
	t.Run("the others wait for their turn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := started(t, t.Context(), always(sent), nil)
			if got := r.reading.Load(); got != runsAtATime {
				t.Errorf("%d runs have begun, want %d", got, runsAtATime)
			}
			close(r.pace)
			r.wg.Wait()
			if r.errs != [n]error{} || r.reading.Load() != n {
				t.Errorf("%v, %d runs", r.errs, r.reading.Load())
			}
		})
	})
	t.Run("for no longer than a slice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := started(t, t.Context(), always(sent), nil)
			time.Sleep(slice)
			synctest.Wait()
			close(r.pace)
			r.wg.Wait()
			if got := count(r.errs, errNoTurn); got != n-runsAtATime {
				t.Errorf("%d runs had no turn, want %d: %v", got, n-runsAtATime, r.errs)
			}
		})
	})
	t.Run("or until the worker drains", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, drain := context.WithCancel(t.Context())
			r := started(t, ctx, always(sent), nil)
			drain()
			r.wg.Wait() // for all of them, at once
			if n := len(r.b.settled); n > 0 {
				t.Errorf("%d were sent", n)
			}
		})
	})
	t.Run("a campaign with a pace of its own holds up nobody", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := started(t, t.Context(), always(sent), func(s *shelf) { s.chunk.Paced = true })
			if got := r.reading.Load(); got != n {
				t.Errorf("%d runs have begun, want %d", got, n)
			}
			close(r.pace)
			r.wg.Wait()
		})
	})
	t.Run("nor do calls that hang", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			hang := make(chan struct{})
			r := started(t, t.Context(), decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
				<-hang
				return sent, nil
			}), nil)
			close(r.pace)
			synctest.Wait()
			if got := r.reading.Load(); got != n {
				t.Errorf("%d runs have begun, want %d", got, n)
			}
			close(hang)
			r.wg.Wait()
		})
	})
	t.Run("recipients that cannot be read give the turn back", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			away := errors.New("ledger is away")
			r := started(t, t.Context(), always(sent), func(s *shelf) { s.trouble = away })
			r.wg.Wait()
			if got := count(r.errs, away); got != n {
				t.Errorf("%d runs could not read, want %d: %v", got, n, r.errs)
			}
		})
	})
}

// work sends the shelf's letters under a run of their own, without its end.
func (h *Handler) work(ctx context.Context, s *shelf) error {
	r := &run{Handler: h, chunk: s.chunk, tally: map[string]int{}, after: context.WithoutCancel(ctx)}
	r.ctx, r.halt = context.WithCancelCause(ctx)
	return r.work(r.send)
}
