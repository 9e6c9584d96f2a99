package worker

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"go.uber.org/goleak"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// Over a real queue: parcels of every class are taken; what cannot be decoded is recorded under its queue and id,
// and gone; a drain sees the claimed message to its outcome and puts the parcel back, as no failure of its own.
func TestServers(t *testing.T) {
	url := devstack.Redis(t)
	before := goleak.IgnoreCurrent()
	rdb, err := tasks.Redis(url)
	if err != nil {
		t.Fatal(err)
	}
	rdb.AddHook(tasks.Detach{})
	enqueuer, err := tasks.NewEnqueuer(rdb)
	if err != nil {
		t.Fatal(err)
	}
	queue := asynq.NewInspectorFromRedisClient(rdb)

	urgent, mixed := parcelOf(1), parcelOf(2)
	urgent.Lane, urgent.Messages[0].Lane = message.Urgent, message.Urgent
	waiting, claimed := make(chan struct{}), make(chan struct{})
	decided := make(chan message.ID, 3)
	finish := make(chan struct{})
	h, b := setup(decide(func(ctx context.Context, a *pipeline.Attempt) (outcome.Outcome, error) {
		switch a.Message.ID {
		case mixed.Messages[0].ID:
			close(waiting)
			return waits(ctx)
		case mixed.Messages[1].ID:
			close(claimed)
			<-finish
		}
		return sent, nil
	}))
	h.Observe = func(a *pipeline.Attempt, _ outcome.Outcome, _ time.Duration) { decided <- a.Message.ID }

	servers := NewServers(rdb, h, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- servers.Run(ctx) }()

	client := asynq.NewClientFromRedisClient(rdb)
	if _, err := client.Enqueue(asynq.NewTask(tasks.TypeSend, []byte("junk"), asynq.TaskID("bad-1"), asynq.Queue("urgent"))); err != nil {
		t.Fatal(err)
	}
	for _, err := range enqueuer.Enqueue(t.Context(), []*message.Parcel{urgent, mixed}) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := <-decided; got != urgent.Messages[0].ID {
		t.Errorf("decided %s, want the urgent message", got)
	}
	<-waiting
	<-claimed
	stop()
	<-h.Drain
	close(finish)
	if got := <-decided; got != mixed.Messages[1].ID {
		t.Errorf("decided %s, want the claimed message", got)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}

	if got := b.settled; len(got) != 2 || got[mixed.Messages[1].ID] != sent {
		t.Errorf("settled %v, want the urgent and the claimed message", got)
	}
	if len(b.rejected) != 1 || !strings.HasPrefix(b.rejected[0], "urgent|bad-1|message:send|junk|") {
		t.Errorf("recorded %q", b.rejected)
	}
	if _, err := queue.GetTaskInfo("urgent", "bad-1"); err == nil {
		t.Error("the task that was recorded is still there")
	}
	if _, err := queue.GetTaskInfo("urgent", urgent.ID.String()); err == nil {
		t.Error("the parcel that was acknowledged is still there")
	}
	info, err := queue.GetTaskInfo("normal", mixed.ID.String())
	if err != nil {
		t.Fatalf("the parcel that was given back: %v", err)
	}
	if info.State == asynq.TaskStateArchived || info.Retried != 0 {
		t.Errorf("the parcel that was given back is %v after %d failures", info.State, info.Retried)
	}

	_ = rdb.Close()
	goleak.VerifyNone(t, before)
}
