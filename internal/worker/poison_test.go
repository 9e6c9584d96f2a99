package worker

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// A parcel that is back from three lost workers is not looked at again: many go on one by one, and one is dead.
func TestParcelThatLosesItsWorkers(t *testing.T) {
	rdb, err := tasks.Redis(devstack.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	enqueuer, err := tasks.NewEnqueuer(rdb)
	if err != nil {
		t.Fatal(err)
	}
	var looks atomic.Int32
	h, b := setup(decide(func(context.Context, *pipeline.Attempt) (outcome.Outcome, error) {
		looks.Add(1)
		return sent, nil
	}))
	effects := make(chan pipeline.Effects, 3)
	h.Observe = func(a *pipeline.Attempt, _ outcome.Outcome, _ time.Duration) { effects <- a.Effects }
	ended := make(chan struct{}, 2)
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{
		Queues: map[string]int{"normal": 1}, Concurrency: 2, LogLevel: asynq.FatalLevel, IsFailure: isFailure,
		TaskCheckInterval: 5 * time.Millisecond, DelayedTaskCheckInterval: 10 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return 0 },
	})
	err = server.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		if lost, _ := asynq.GetRetryCount(ctx); lost < maxLost {
			return asynq.ErrLeaseExpired
		}
		defer func() { ended <- struct{}{} }()
		return h.ProcessTask(ctx, task)
	}))
	if err != nil {
		t.Fatal(err)
	}
	many, one := parcelOf(2), parcelOf(1)
	for _, err := range enqueuer.Enqueue(t.Context(), []*message.Parcel{many, one}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	<-ended
	<-ended
	server.Shutdown()
	if n := looks.Load(); n > 0 {
		t.Errorf("%d messages went through the pipeline", n)
	}
	for _, m := range many.Messages {
		if o := b.settled[m.ID]; o.Status != outcome.Parked || o.Until.IsZero() || o.Until.After(time.Now()) {
			t.Errorf("of many: %+v, want parked, due now", o)
		}
	}
	if o := b.settled[one.Messages[0].ID]; o.Status != outcome.Dead || o.Reason != outcome.Poison {
		t.Errorf("the one: %+v, want dead: poison", o)
	}
	alone := 0
	for range 3 {
		if e := <-effects; e.Alone {
			alone++
		}
	}
	if alone != 2 || len(b.done) != 2 {
		t.Errorf("%d travel alone and %d parcels are done, want 2 and 2", alone, len(b.done))
	}
}
