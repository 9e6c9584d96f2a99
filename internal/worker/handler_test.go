package worker

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

var errAway = errors.New("store is away")

func TestParcel(t *testing.T) {
	t.Run("is acknowledged when each of its messages is settled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := parcelOf(4)
			want := map[message.ID]outcome.Outcome{
				p.Messages[0].ID: sent,
				p.Messages[1].ID: {Status: outcome.Parked, Reason: outcome.Quota, Until: time.Now().Add(time.Hour)},
				p.Messages[2].ID: {Status: outcome.Skipped, Reason: outcome.WindowClosed},
				p.Messages[3].ID: {Status: outcome.Unknown, Reason: outcome.InDoubt},
			}
			var h *Handler
			var b *book
			h, b = setup(decide(func(_ context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
				if a.Parcel != p.ID || a.Account.AppID != "wx1" || a.Now.IsZero() {
					t.Errorf("got %+v, want the parcel, its account and the time", a)
				}
				if a.Message.ID == p.Messages[2].ID {
					time.Sleep(10 * time.Second)
					if len(b.done) > 0 {
						t.Error("the parcel was done before its last message")
					}
				}
				return want[a.Message.ID], nil
			}))
			if err := h.ProcessTask(t.Context(), taskOf(t, p)); err != nil {
				t.Fatal(err)
			}
			if !maps.Equal(b.settled, want) {
				t.Errorf("settled %v, want %v", b.settled, want)
			}
			if !slices.Equal(b.done, []message.ID{p.ID}) {
				t.Errorf("parcels done: %v, want %s", b.done, p.ID)
			}
		})
	})

	for name, parcel := range map[string]*message.Parcel{"of one": parcelOf(1), "of many": parcelOf(5)} {
		t.Run(name+" comes back when one message could not be decided, and the others are settled", func(t *testing.T) {
			h, b := setup(decide(func(_ context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
				if a.Message.ID == parcel.Messages[0].ID {
					return outcome.Outcome{}, errAway
				}
				return sent, nil
			}))
			err := h.ProcessTask(t.Context(), taskOf(t, parcel))
			if !errors.Is(err, errAway) || errors.Is(err, asynq.SkipRetry) || errors.Is(err, asynq.RevokeTask) {
				t.Errorf("got %v, want the store's error, to be tried again", err)
			}
			if len(b.settled) != len(parcel.Messages)-1 || len(b.done) > 0 {
				t.Errorf("%d settled, parcels done %v", len(b.settled), b.done)
			}
		})

		t.Run(name+" comes back when one outcome could not be written, and the others are", func(t *testing.T) {
			h, b := setup(always(sent))
			b.fails[parcel.Messages[0].ID] = errAway
			if err := h.ProcessTask(t.Context(), taskOf(t, parcel)); !errors.Is(err, errAway) {
				t.Errorf("got %v, want the store's error", err)
			}
			if len(b.settled) != len(parcel.Messages)-1 || len(b.done) > 0 {
				t.Errorf("%d settled, parcels done %v", len(b.settled), b.done)
			}
		})
	}

	t.Run("with a message that is somebody else's is done, and that one is not written", func(t *testing.T) {
		p := parcelOf(2)
		h, b := setup(decide(func(_ context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
			if a.Message.ID == p.Messages[0].ID {
				a.Fate = pipeline.ClaimRefused
				return outcome.Outcome{}, nil
			}
			return sent, nil
		}))
		if err := h.ProcessTask(t.Context(), taskOf(t, p)); err != nil || len(b.done) != 1 {
			t.Errorf("got %v, parcels done %v", err, b.done)
		}
		if _, written := b.settled[p.Messages[0].ID]; written || len(b.settled) != 1 {
			t.Errorf("settled %v", b.settled)
		}
	})

	t.Run("runs its messages side by side", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := setup(decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
				time.Sleep(time.Second)
				return sent, nil
			}))
			var took []time.Duration
			h.Observe = func(_ *pipeline.Attempt, o outcome.Outcome, d time.Duration) { took = append(took, d) }
			start := time.Now()
			if err := h.ProcessTask(t.Context(), taskOf(t, parcelOf(1))); err != nil {
				t.Fatal(err)
			}
			h.Observe = nil
			if err := h.ProcessTask(t.Context(), taskOf(t, parcelOf(100))); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d != 2*time.Second || !slices.Equal(took, []time.Duration{time.Second}) {
				t.Errorf("took %v, observed %v: want a second each", d, took)
			}
		})
	})
}

func TestAccountThatIsNotConfigured(t *testing.T) {
	p := parcelOf(1)
	p.Account, p.Messages[0].Account = "gone", "gone"
	h, b := setup(decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
		t.Error("a message of an unknown account was sent on its way")
		return sent, nil
	}))
	if err := h.ProcessTask(t.Context(), taskOf(t, p)); err != nil {
		t.Fatal(err)
	}
	o := b.settled[p.Messages[0].ID]
	if o.Status != outcome.Failed || o.Reason != outcome.Invalid || !strings.Contains(o.ErrMsg, `"gone"`) || len(b.done) != 1 {
		t.Errorf("got %+v, parcels done %v: want failed, invalid, naming the account", o, b.done)
	}
}

func TestTaskThatCannotBecomeARow(t *testing.T) {
	old := parcelOf(1)
	old.Messages[0].ID = message.NewID(time.Now().Add(-25 * time.Hour))
	for name, task := range map[string]*asynq.Task{
		"bytes that are no parcel":          asynq.NewTask("message:send", []byte("hello")),
		"a type that nobody sends":          asynq.NewTask("mail:send", []byte("hello")),
		"an id that is older than a ledger": taskOf(t, old),
	} {
		t.Run(name+" is recorded, and then dropped", func(t *testing.T) {
			h, b := setup(always(sent))
			err := h.ProcessTask(t.Context(), task)
			if !errors.Is(err, asynq.RevokeTask) {
				t.Errorf("got %v, want the task revoked", err)
			}
			if len(b.rejected) != 1 || !strings.Contains(b.rejected[0], task.Type()+"|"+string(task.Payload())+"|task rejected") {
				t.Errorf("recorded %q, want the type, the payload and the reason", b.rejected)
			}
			if len(b.settled) > 0 || len(b.done) > 0 {
				t.Errorf("settled %v, done %v", b.settled, b.done)
			}
		})

		t.Run(name+" stays while it cannot be recorded", func(t *testing.T) {
			h, b := setup(always(sent))
			b.away = errAway
			if err := h.ProcessTask(t.Context(), task); !errors.Is(err, errAway) || errors.Is(err, asynq.RevokeTask) {
				t.Errorf("got %v, want the store's error and no revocation", err)
			}
		})
	}
}

// waits is a message that has no claim yet: it gives up when its context ends.
func waits(ctx context.Context) (outcome.Outcome, error) {
	<-ctx.Done()
	return outcome.Outcome{}, ctx.Err()
}

// onTheWire is a message that is claimed: it takes its time, whatever its context says.
func onTheWire(context.Context) (outcome.Outcome, error) {
	time.Sleep(8 * time.Second)
	return sent, nil
}

func TestDrain(t *testing.T) {
	t.Run("gives back what is not claimed, and finishes what is", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := parcelOf(3)
			h, b := setup(decide(func(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
				if a.Message.ID == p.Messages[1].ID {
					return onTheWire(ctx)
				}
				return waits(ctx)
			}))
			drain := make(chan struct{})
			h.Drain = drain
			start := time.Now()
			go func() { time.Sleep(time.Second); close(drain) }()
			err := h.ProcessTask(t.Context(), taskOf(t, p))
			if !errors.Is(err, ErrDraining) || isFailure(err) || retryDelay(3, err, nil) != 0 {
				t.Errorf("got %v, want a drain, which counts as no failure and comes back at once", err)
			}
			if _, ok := b.settled[p.Messages[1].ID]; !ok || len(b.settled) != 1 || len(b.done) > 0 {
				t.Errorf("settled %v, done %v: want the claimed message alone", b.settled, b.done)
			}
			if d := time.Since(start); d != 8*time.Second {
				t.Errorf("took %v, want as long as the call", d)
			}
		})
	})

	t.Run("starts nothing", func(t *testing.T) {
		h, b := setup(decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
			t.Error("a message was started")
			return sent, nil
		}))
		drain := make(chan struct{})
		close(drain)
		h.Drain = drain
		if err := h.ProcessTask(t.Context(), taskOf(t, parcelOf(2))); !errors.Is(err, ErrDraining) || len(b.settled) > 0 {
			t.Errorf("got %v, settled %v", err, b.settled)
		}
	})

	t.Run("is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, b := setup(decide(func(ctx context.Context, _ *pipeline.Attempt) (outcome.Outcome, error) { return onTheWire(ctx) }))
			task := taskOf(t, parcelOf(1))
			go func() { _ = h.ProcessTask(t.Context(), task) }()
			synctest.Wait()
			h.Wait()
			if len(b.settled) != 1 {
				t.Error("Wait returned before the message was settled")
			}
		})
	})
}

// asynq ends a handler's context when it has given up on the task: what is claimed goes on, and is settled.
func TestContextOfAsynqThatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := parcelOf(2)
		h, b := setup(decide(func(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
			if a.Message.ID == p.Messages[0].ID {
				return onTheWire(ctx)
			}
			return waits(ctx)
		}))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := h.ProcessTask(ctx, taskOf(t, p))
		if !errors.Is(err, context.DeadlineExceeded) || !isFailure(err) {
			t.Errorf("got %v, want the deadline, which counts as a failure", err)
		}
		if o := b.settled[p.Messages[0].ID]; o != sent || len(b.settled) != 1 {
			t.Errorf("settled %v, want the claimed message", b.settled)
		}
	})
}

func TestWhatCountsAsFailure(t *testing.T) {
	for err, want := range map[error]bool{
		errAway: false, ErrDraining: false, context.Canceled: false, asynq.ErrLeaseExpired: true, context.DeadlineExceeded: true,
	} {
		if got := isFailure(err); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
	if d := retryDelay(0, errAway, nil); d <= 0 {
		t.Errorf("a store that is away is tried again after %v", d)
	}
}
