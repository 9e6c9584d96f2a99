package worker

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Template messages are taken as far as their claims by the run itself, and sent when these are committed.
func TestChunksClaimedAhead(t *testing.T) {
	ahead := func(n int, p inParts) (*Handler, *shelf, *book) {
		h, s, b := chunkOf(n, p)
		s.chunk.Kind = message.Template
		h.Crew = NewCrew(2)
		t.Cleanup(h.Crew.Dismiss)
		return h, s, b
	}
	says := func(o outcome.Outcome) func(*pipeline.Attempt, error) (outcome.Outcome, error) {
		return func(_ *pipeline.Attempt, err error) (outcome.Outcome, error) { return o, err }
	}
	t.Run("each is claimed and sent once, no more at a time than its account lets go", func(t *testing.T) {
		var now, most atomic.Int32
		h, s, b := ahead(200, inParts{send: func(a *pipeline.Attempt, err error) (outcome.Outcome, error) {
			n := now.Add(1)
			defer now.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			if _, claimed := a.Claimed(); !claimed {
				t.Error("sent without a claim")
			}
			return sent, err
		}})
		s.letters[7].Skip = outcome.Outcome{Status: outcome.Skipped, Reason: outcome.FrequencyCap}
		s.letters[8].Err = errors.New("value 2 is missing")
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", map[string]int{"sent": 198, "skipped frequency_cap": 1, "failed invalid": 1})
		if len(b.claimed) != 198 || len(b.settled) != 200 || most.Load() > int32(s.chunk.Hand) {
			t.Errorf("%d claims, %d settled, %d at a time, want 198, 200 and %d", len(b.claimed), len(b.settled), most.Load(), s.chunk.Hand)
		}
	})
	t.Run("what a guard ends is not claimed", func(t *testing.T) {
		h, s, b := ahead(2, inParts{send: says(sent), take: func(_ context.Context, a *pipeline.Attempt) (outcome.Outcome, bool, error) {
			if a.Message.To == "o1" {
				return outcome.Outcome{Status: outcome.Skipped, Reason: outcome.Suppressed}, true, nil
			}
			return outcome.Outcome{}, false, nil
		}})
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", map[string]int{"sent": 1, "skipped suppressed": 1})
		if len(b.claimed) != 1 {
			t.Errorf("%d claims, want 1", len(b.claimed))
		}
	})
	t.Run("a guard that would park halts the run", func(t *testing.T) {
		until := time.Now().Add(time.Hour)
		h, s, b := ahead(50, inParts{send: says(sent), take: func(context.Context, *pipeline.Attempt) (outcome.Outcome, bool, error) {
			return outcome.Outcome{Status: outcome.Parked, Reason: outcome.Quota, Until: until}, true, nil
		}})
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "given back", nil)
		if len(b.claimed)+len(b.settled) > 0 || s.hold != (Hold{Reason: "quota", Until: until}) {
			t.Errorf("%d claims, settled %v, hold %v", len(b.claimed), b.settled, s.hold)
		}
	})
	t.Run("a claim that cannot be written leaves the recipient, and the campaign rests", func(t *testing.T) {
		h, s, b := ahead(50, inParts{send: says(sent)})
		b.unclaimed = errors.New("ledger is away")
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "given back", nil)
		if s.hold.Reason != "ledger is away" || len(b.settled) > 0 {
			t.Errorf("hold %v, settled %v", s.hold, b.settled)
		}
	})
	t.Run("an outcome that cannot be written leaves the recipient to the next run", func(t *testing.T) {
		h, s, b := ahead(3, inParts{send: says(sent)})
		b.fails[s.letters[2].ID] = errors.New("ledger is away")
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "given back", nil)
	})
	t.Run("an outcome that somebody else has written is not counted", func(t *testing.T) {
		for _, p := range []inParts{
			{send: says(sent)},
			{send: says(outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient})}, // which is waited for
		} {
			h, s, b := ahead(3, p)
			b.lost[s.letters[1].ID] = true
			if err := s.run(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			s.want(t, "ended", nil)
		}
	})
	t.Run("claims that are refused are another run's", func(t *testing.T) {
		h, s, b := ahead(2, inParts{send: func(a *pipeline.Attempt, err error) (outcome.Outcome, error) {
			a.Fate = pipeline.ClaimRefused
			return outcome.Outcome{}, err
		}})
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", nil)
		if len(b.settled) > 0 {
			t.Errorf("settled %v", b.settled)
		}
	})
	t.Run("a crew that is busy holds up nobody whose claim is committed", func(t *testing.T) {
		h, s, _ := ahead(2, inParts{send: says(sent)})
		free := make(chan struct{})
		for range 2 {
			if err := h.Crew.do(t.Context(), func() { <-free }); err != nil {
				t.Fatal(err)
			}
		}
		defer close(free)
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", map[string]int{"sent": 2})
	})
}
