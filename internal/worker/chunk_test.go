package worker

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/internal/campaign"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A shelf is a ledger with one chunk.
type shelf struct {
	chunk   *Chunk
	letters []Letter
	fresh   int   // not 0: as many letters of its own for each run
	trouble error // of Letters
	pace    func(ctx context.Context) error

	mu    sync.Mutex
	state campaign.State // as Keep tells it
	taken int
	kept  int
	ended []string
	tally map[string]int
	hold  Hold
	stop  string
}

func (s *shelf) Take(_ context.Context, firing, no int32) (*Chunk, error) {
	if firing != 3 || no != 4 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	return s.chunk, nil
}

func (s *shelf) Letters(context.Context, *Chunk) (int, iter.Seq[Letter], error) {
	if s.fresh > 0 {
		return s.fresh, slices.Values(lettersOf(s.fresh)), s.trouble
	}
	return len(s.letters), slices.Values(s.letters), s.trouble
}

func (s *shelf) Pace(ctx context.Context, _ *Chunk) error {
	if s.pace != nil {
		return s.pace(ctx)
	}
	return nil
}

func (s *shelf) Keep(context.Context, *Chunk) (campaign.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept++
	return s.state, nil
}

func (s *shelf) GiveBack(ctx context.Context, _ *Chunk, h Hold) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.hold = append(s.ended, "given back"), h
	return ctx.Err()
}

func (s *shelf) End(ctx context.Context, _ *Chunk, tally map[string]int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended, s.tally = append(s.ended, "ended"), tally
	return ctx.Err()
}

func (s *shelf) Stop(_ context.Context, _ *Chunk, reason string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop = reason
	return nil
}

func (s *shelf) say(state campaign.State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

// chunkOf is a handler with a chunk of n letters before it.
func chunkOf(n int, p Pipeline) (*Handler, *shelf, *book) {
	h, b := setup(p)
	s := &shelf{state: campaign.Running, chunk: &Chunk{
		Campaign: message.NewID(time.Now()), Kind: message.Subscribe, State: campaign.Running, First: true, Flow: "shop subscribe", Hand: 4, StopAt: 0.3,
	}}
	s.letters = lettersOf(n)
	h.Chunks = s
	return h, s, b
}

func lettersOf(n int) []Letter {
	list := make([]Letter, n)
	for i, m := range parcelOf(n).Messages {
		list[i].Message = m
	}
	return list
}

func (s *shelf) run(ctx context.Context, h *Handler) error {
	return h.ProcessTask(ctx, tasks.EncodeChunk(tasks.Chunk{Firing: 3, No: 4, Account: "shop", Kind: message.Template}))
}

func (s *shelf) want(t *testing.T, ended string, tally map[string]int) {
	t.Helper()
	if got := strings.Join(s.ended, ", "); got != ended || !maps.Equal(s.tally, tally) {
		t.Errorf("the run %s with tally %v, want %s with %v", got, s.tally, ended, tally)
	}
}

func TestChunks(t *testing.T) {
	t.Run("a failed recipient does not fail its chunk", func(t *testing.T) {
		h, s, b := chunkOf(5, always(sent))
		s.letters[1].Err = errors.New("value 2 is missing")
		s.letters[1].Body = nil
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", map[string]int{"sent": 4, "failed invalid": 1})
		if o := b.settled[s.letters[1].ID]; o.Reason != outcome.Invalid || o.ErrMsg != "value 2 is missing" || len(b.settled) != 5 {
			t.Errorf("settled %v", b.settled)
		}
	})
	t.Run("who is spared, or in another campaign's hands, is not sent to, and takes no pace", func(t *testing.T) {
		h, s, b := chunkOf(4, always(sent))
		s.letters[1].Skip = outcome.Outcome{Status: outcome.Skipped, Reason: outcome.FrequencyCap}
		s.letters[2].Later = true
		paced := 0
		s.pace = func(context.Context) error { paced++; return nil }
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "given back", nil)
		if o := b.settled[s.letters[1].ID]; len(b.settled) != 3 || o.Reason != outcome.FrequencyCap || paced != 2 {
			t.Errorf("settled %v, %d took their pace", b.settled, paced)
		}
	})
	t.Run("what has expired takes no pace", func(t *testing.T) {
		h, s, b := chunkOf(3, decide(func(_ context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
			if a.Message.ExpiresAt.Before(a.Now) {
				return outcome.Outcome{Status: outcome.Expired, Reason: outcome.ReasonExpired}, nil
			}
			return sent, nil
		}))
		s.letters[0].ExpiresAt = time.Now().Add(time.Hour)
		s.letters[1].ExpiresAt, s.letters[2].ExpiresAt = time.Now().Add(-time.Second), time.Now().Add(-time.Hour)
		paced := 0
		s.pace = func(context.Context) error { paced++; return nil }
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", map[string]int{"sent": 1, "expired expired": 2})
		if len(b.settled) != 3 || paced != 1 {
			t.Errorf("settled %v, %d took their pace", b.settled, paced)
		}
	})
	t.Run("what has not ended, or is somebody else's, is counted later", func(t *testing.T) {
		h, s, b := chunkOf(2, decide(func(_ context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
			a.Fate = pipeline.ClaimRefused
			return outcome.Outcome{}, nil
		}))
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", nil)
		if len(b.settled) > 0 {
			t.Errorf("settled %v", b.settled)
		}
	})
	t.Run("a second run leaves the counting to the ledger", func(t *testing.T) {
		h, s, _ := chunkOf(2, always(sent))
		s.chunk.First = false
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", nil)
	})
	t.Run("what a guard would park stays with the chunk, and the campaign waits", func(t *testing.T) {
		until := time.Now().Add(time.Hour)
		var ran atomic.Int32
		h, s, b := chunkOf(50, decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
			if ran.Add(1) == 1 {
				return sent, nil
			}
			return outcome.Outcome{Status: outcome.Parked, Reason: outcome.Quota, Until: until}, nil
		}))
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "given back", nil)
		if len(b.settled) != 1 || s.hold != (Hold{Reason: "quota", Until: until}) {
			t.Errorf("settled %v, hold %v", b.settled, s.hold)
		}
		if n := ran.Load(); n > 1+2*int32(s.chunk.Hand) {
			t.Errorf("%d messages met the empty quota, want no more than were in hand", n)
		}
	})
	t.Run("an error halts the run, and the campaign rests", func(t *testing.T) {
		h, s, b := chunkOf(50, decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
			return outcome.Outcome{}, errors.New("ledger is away")
		}))
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "given back", nil)
		if s.hold.Reason != "ledger is away" || time.Until(s.hold.Until) <= 0 || len(b.settled) > 0 {
			t.Errorf("hold %v, settled %v", s.hold, b.settled)
		}
	})
	t.Run("an outcome that cannot be written leaves the recipient to the next run", func(t *testing.T) {
		h, s, b := chunkOf(3, always(sent))
		b.fails[s.letters[2].ID] = errors.New("ledger is away")
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "given back", nil)
	})
	t.Run("a campaign that does not run any more gets its chunk back untouched", func(t *testing.T) {
		for _, state := range []campaign.State{campaign.Paused, campaign.Throttled, campaign.Parked} {
			h, s, b := chunkOf(3, always(sent))
			s.chunk.State = state
			if err := s.run(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			s.want(t, "given back", nil)
			if len(b.settled) > 0 {
				t.Errorf("%s: settled %v", state, b.settled)
			}
		}
	})
	t.Run("a cancelled campaign's recipients are settled so", func(t *testing.T) {
		h, s, _ := chunkOf(3, decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
			t.Error("a message of a cancelled campaign ran")
			return sent, nil
		}))
		s.chunk.State, s.state = campaign.Cancelled, campaign.Cancelled
		if err := s.run(t.Context(), h); err != nil {
			t.Fatal(err)
		}
		s.want(t, "ended", map[string]int{"cancelled cancelled": 3})
	})
	t.Run("a chunk that somebody else has is left alone", func(t *testing.T) {
		h, s, _ := chunkOf(3, always(sent))
		if err := h.ProcessTask(t.Context(), tasks.EncodeChunk(tasks.Chunk{Firing: 3, No: 5, Kind: message.Template})); err != nil {
			t.Fatal(err)
		}
		s.want(t, "", nil)
	})
	t.Run("a task that names no chunk is kept for people", func(t *testing.T) {
		h, _, b := chunkOf(0, always(sent))
		err := h.ProcessTask(t.Context(), asynq.NewTask(tasks.TypeChunk, []byte("x")))
		if !errors.Is(err, asynq.RevokeTask) || len(b.rejected) != 1 {
			t.Errorf("%v, rejected %v", err, b.rejected)
		}
	})
}

// halts runs a chunk whose messages wait until their run is halted, and says how many did not.
func halts(t *testing.T, halt func(h *Handler, s *shelf, drain chan struct{})) (*shelf, *book) {
	t.Helper()
	h, s, b := chunkOf(50, decide(func(ctx context.Context, _ *pipeline.Attempt) (outcome.Outcome, error) { return waits(ctx) }))
	drain := make(chan struct{})
	h.Drain = drain
	go halt(h, s, drain)
	if err := s.run(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if len(b.settled) > 0 {
		t.Errorf("settled %v", b.settled)
	}
	return s, b
}

func TestChunksStop(t *testing.T) {
	t.Run("within two seconds of a pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			s, _ := halts(t, func(_ *Handler, s *shelf, _ chan struct{}) { s.say(campaign.Paused) })
			s.want(t, "given back", nil)
			if took := time.Since(start); took > 2*time.Second || s.hold != (Hold{}) {
				t.Errorf("after %v, hold %v", took, s.hold)
			}
		})
	})
	t.Run("together, when the first of them sees the pause", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			second := make(chan error)
			halts(t, func(h *Handler, s *shelf, _ chan struct{}) {
				time.Sleep(keepEvery - 10*time.Millisecond)
				go func() { second <- s.run(t.Context(), h) }()
				time.Sleep(5 * time.Millisecond)
				s.say(campaign.Paused)
			})
			if err := <-second; err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took > keepEvery {
				t.Errorf("after %v", took)
			}
		})
	})
	t.Run("when they were given to another worker, and write nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s, _ := halts(t, func(_ *Handler, s *shelf, _ chan struct{}) { s.say("") })
			s.want(t, "", nil)
		})
	})
	t.Run("at once when the pod drains", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			s, _ := halts(t, func(_ *Handler, _ *shelf, drain chan struct{}) { close(drain) })
			s.want(t, "given back", nil)
			if took := time.Since(start); took > 0 || s.hold != (Hold{}) {
				t.Errorf("after %v, hold %v", took, s.hold)
			}
		})
	})
	t.Run("after their slice of time, between messages", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, s, b := chunkOf(100, always(sent))
			s.pace = func(context.Context) error { time.Sleep(time.Second); return nil }
			if err := s.run(t.Context(), h); err != nil {
				t.Fatal(err)
			}
			s.want(t, "given back", nil)
			if n := len(b.settled); n < 10 || n > 12 {
				t.Errorf("%d were sent in 10 s at one a second", n)
			}
		})
	})
}

// A run that waits for calls that hang sees each second that its campaign was cancelled, and leaves those alone that see to that.
func TestRunsThatKnowGoOn(t *testing.T) {
	h, s, _ := chunkOf(0, always(sent))
	begin := func(campaign message.ID, state campaign.State) *run {
		r := &run{Handler: h, chunk: &Chunk{Campaign: campaign, State: state}}
		r.ctx, r.halt = context.WithCancelCause(t.Context())
		h.runs.Store(r, nil)
		return r
	}
	hangs, beside := begin(s.chunk.Campaign, campaign.Running), begin(s.chunk.Campaign, campaign.Running)
	cancels, elsewhere := begin(s.chunk.Campaign, campaign.Cancelled), begin(message.ID{1}, campaign.Running)
	hangs.haltAll()
	for what, r := range map[string]*run{"the run": hangs, "one beside it": beside} {
		if r.ctx.Err() == nil {
			t.Errorf("%s goes on", what)
		}
	}
	for what, r := range map[string]*run{"one that cancels": cancels, "another campaign's": elsewhere} {
		if r.ctx.Err() != nil {
			t.Errorf("%s was halted", what)
		}
	}
}

func TestACampaignThatFailsStops(t *testing.T) {
	refused := outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRequest, ErrCode: 47003}
	h, s, b := chunkOf(500, always(refused))
	if err := s.run(t.Context(), h); err != nil {
		t.Fatal(err)
	}
	if want := "100 of the last 100 messages ended failed refused_request (47003)"; s.stop != want {
		t.Errorf("stopped for %q, want %q", s.stop, want)
	}
	if n := len(b.settled); n < watchFrom || n > watchFrom+2*s.chunk.Hand {
		t.Errorf("%d were sent before it stopped, want %d and what was in hand", n, watchFrom)
	}
	s.want(t, "given back", nil)
}

func TestTheWatchLooksBackOnAThousand(t *testing.T) {
	refused := outcome.Outcome{Status: outcome.Failed, Reason: outcome.RefusedRecipient, ErrCode: 43004}
	later := outcome.Outcome{Status: outcome.Parked, Reason: outcome.Backoff}
	for _, tc := range []struct {
		name   string
		stopAt float64
		pass   func(i int) outcome.Outcome
		at     int // the pass that stops it; 0: none
	}{
		{"one in four is under 0.3", 0.3, func(i int) outcome.Outcome {
			if i%4 == 0 {
				return refused
			}
			return sent
		}, 0},
		{"one in two is over it, as soon as there are enough", 0.3, func(i int) outcome.Outcome {
			if i%2 == 0 {
				return refused
			}
			return sent
		}, watchFrom + 1},
		{"each class for itself", 0.3, func(i int) outcome.Outcome {
			return []outcome.Outcome{refused, later, sent, sent}[i%4]
		}, 0},
		{"attempts that will be repeated count", 0.3, func(int) outcome.Outcome { return later }, watchFrom},
		{"1 is never", 1, func(int) outcome.Outcome { return refused }, 0},
		{"a bad end after a good beginning", 0.3, func(i int) outcome.Outcome {
			if i == 0 || i >= 3000 {
				return refused
			}
			return sent
		}, 3301},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var w watch
			id := message.NewID(time.Now())
			at := 0
			for i := range 5000 {
				if w.note(id, tc.stopAt, tc.pass(i)) != "" {
					at = i + 1
					break
				}
			}
			if at != tc.at {
				t.Errorf("stopped by pass %d, want %d", at, tc.at)
			}
		})
	}
}
