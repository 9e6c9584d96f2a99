package tasks

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
)

// failOnce lets the first script fail that names the task's key once it is armed: asynq's write that the
// task is done.
type failOnce struct {
	key   string
	armed atomic.Bool
}

func (*failOnce) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*failOnce) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h *failOnce) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "evalsha" && slices.Contains(cmd.Args(), any(h.key)) && h.armed.CompareAndSwap(true, false) {
			err := errors.New("the wire was cut")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}

// asynq tries again what failed at the end of a task every 5 s, and once when it shuts down; the test
// takes the short way. Where the second test fails asynq has mended its fault, and Detach can go.
func TestDetachLetsAsynqTryAgain(t *testing.T) {
	t.Parallel()
	if left := activeAfterFailedEnd(t, Detach{}); left != 0 {
		t.Errorf("%d tasks are still marked as running, want 0", left)
	}
}

func TestWithoutDetachAsynqLeavesAFinishedTaskRunning(t *testing.T) {
	t.Parallel()
	if left := activeAfterFailedEnd(t, nil); left != 1 {
		t.Errorf("%d tasks are marked as running, want 1: is asynq mended?", left)
	}
}

// activeAfterFailedEnd runs a task whose end cannot be written at the first try, and counts the tasks
// that Redis then believes to be running.
func activeAfterFailedEnd(t *testing.T, hook redis.Hook) int {
	url := devstack.Redis(t)
	plain, rdb := connect(t, url), connect(t, url)
	p := parcelOf(templateMessage(1))
	put(t, newEnqueuer(t, plain), p)
	queue := QueueOf(p.Kind, p.Lane, p.Account)

	cut := &failOnce{key: "asynq:{" + queue + "}:t:" + p.ID.String()}
	if hook != nil {
		rdb.AddHook(hook)
	}
	rdb.AddHook(cut)
	server := asynq.NewServerFromRedisClient(rdb, asynq.Config{Queues: map[string]int{queue: 1}, LogLevel: asynq.FatalLevel})
	ran := make(chan struct{})
	err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		cut.armed.Store(true)
		close(ran)
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	<-ran
	server.Shutdown()
	if cut.armed.Load() {
		t.Fatal("the write of the task's end was not seen")
	}
	active, err := plain.LLen(t.Context(), "asynq:{"+queue+"}:active").Result()
	if err != nil {
		t.Fatal(err)
	}
	return int(active)
}
