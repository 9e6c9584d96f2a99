package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// work sends letters of its own under a run of its own, without the end of the run.
func (h *Handler) work(ctx context.Context, s *shelf) error {
	r := &run{Handler: h, chunk: s.chunk, tally: map[string]int{}, after: context.WithoutCancel(ctx)}
	r.ctx, r.halt = context.WithCancelCause(ctx)
	return r.work(r.send)
}

func TestFewMessagesOfAFlowAreInHand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int32
		h, s, b := chunkOf(0, decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
			n := now.Add(1)
			for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
			}
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
			return sent, nil
		}))
		s.fresh = 40
		var wg sync.WaitGroup
		for range 2 { // two chunks of one flow
			wg.Go(func() {
				if err := h.work(t.Context(), s); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 4 || len(b.settled) != 80 {
			t.Errorf("at most %d were in hand, %d were settled, want 4 and 80", most.Load(), len(b.settled))
		}
	})
}

// Of many runs of a flow a few hand their letters out at a time.
func TestFewRunsOfAFlowHandOut(t *testing.T) {
	const n = runsAtATime + 2
	for _, tc := range []struct {
		name  string
		paced bool
		hangs bool // each call, until all have been looked at
		held  bool // each letter, by its pace, until then
		begun int32
	}{
		{"the others wait for their turn", false, false, true, runsAtATime},
		{"but not for calls that hang", false, true, false, n},
		{"a campaign with a pace of its own holds up nobody", true, false, true, n},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				looked := make(chan struct{})
				h, s, b := chunkOf(0, decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
					if tc.hangs {
						<-looked
					}
					return sent, nil
				}))
				var begun atomic.Int32
				s.fresh, s.chunk.Hand, s.chunk.Paced = 1, 100, tc.paced
				s.pace = func(context.Context) error {
					begun.Add(1)
					if tc.held {
						<-looked
					}
					return nil
				}
				var wg sync.WaitGroup
				for range n {
					wg.Go(func() {
						if err := h.work(t.Context(), s); err != nil {
							t.Error(err)
						}
					})
				}
				synctest.Wait()
				if got := begun.Load(); got != tc.begun {
					t.Errorf("%d runs have begun, want %d", got, tc.begun)
				}
				close(looked)
				wg.Wait()
				if begun.Load() != n || len(b.settled) != n {
					t.Errorf("%d runs, %d settled, want %d of each", begun.Load(), len(b.settled), n)
				}
			})
		})
	}
}

// A run that has no turn, or cannot read its recipients, leaves them all, and nothing behind.
func TestRunsThatDoNotBegin(t *testing.T) {
	// waiting is a chunk in a flow whose turns are all taken.
	waiting := func() (*Handler, *shelf) {
		h, s, _ := chunkOf(5, always(sent))
		f := &flow{hand: make(chan struct{}, 1), runs: make(chan struct{}, runsAtATime)}
		for range runsAtATime {
			f.runs <- struct{}{}
		}
		h.flows.Store(s.chunk.Flow, f)
		return h, s
	}
	for _, tc := range []struct {
		name  string
		ended string
		after time.Duration
		do    func(h *Handler, s *shelf, drain func())
	}{
		{"whose turn does not come", "given back", turnWait, func(*Handler, *shelf, func()) {}},
		{"whose campaign is paused", "given back", keepEvery, func(_ *Handler, s *shelf, _ func()) { s.say(campaign.Paused) }},
		{"that another worker was given", "", keepEvery, func(_ *Handler, s *shelf, _ func()) { s.say("") }},
		{"whose worker drains", "given back", 0, func(_ *Handler, _ *shelf, drain func()) { drain() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, s := waiting()
				start := time.Now()
				ctx, drain := context.WithCancel(t.Context())
				go tc.do(h, s, drain)
				if err := s.run(ctx, h); err != nil {
					t.Fatal(err)
				}
				s.want(t, tc.ended, nil)
				if took, kept := time.Since(start), int(tc.after/keepEvery); took != tc.after || s.kept < kept-1 || s.kept > kept || s.hold != (Hold{}) {
					t.Errorf("after %v, kept %d times, hold %v, want %v and %d times", took, s.kept, s.hold, tc.after, kept)
				}
			})
		})
	}
	t.Run("whose recipients cannot be read", func(t *testing.T) {
		h, s, _ := chunkOf(5, always(sent))
		s.trouble = errors.New("ledger is away")
		for range runsAtATime + 1 { // each gives its turn back
			if err := s.run(t.Context(), h); err != nil {
				t.Fatal(err)
			}
		}
		if s.ended[runsAtATime] != "given back" || s.tally != nil || s.hold.Reason != "ledger is away" {
			t.Errorf("%v with tally %v and hold %v", s.ended, s.tally, s.hold)
		}
	})
	t.Run("a panic takes neither the turn nor the lease with it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, s, _ := chunkOf(1, always(sent))
			s.pace = func(context.Context) error { panic("a fault of ours") }
			for range runsAtATime + 1 {
				func() {
					defer func() { _ = recover() }() // as asynq does
					_ = s.run(t.Context(), h)
				}()
			}
			kept := s.kept
			time.Sleep(time.Minute) // of the bubble
			if s.kept != kept {
				t.Errorf("the chunk was kept %d times more", s.kept-kept)
			}
		})
	})
}
