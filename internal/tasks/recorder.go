package tasks

import (
	"context"
	"errors"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A call is one run of asynq's enqueue script.
type call struct {
	keys  []string
	args  []any
	bytes int // of the payload

	done      chan struct{} // closed when it was answered, or the way to Redis failed
	err       error         // read after done
	abandoned bool          // its caller gave up; guarded by the Enqueuer's mu
}

// A recorder stands in for Redis towards asynq's client: it writes down script calls and says that they
// went well. Any other command of an enqueue panics, as nil does; tests enqueue with the linked asynq.
type recorder struct {
	redis.UniversalClient

	calls []*call
}

// EvalSha records the call and answers as the script does when it has put a task.
func (r *recorder) EvalSha(ctx context.Context, _ string, keys []string, args ...any) *redis.Cmd {
	r.calls = append(r.calls, &call{keys: keys, args: args, done: make(chan struct{})})
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(int64(1))
	return cmd
}

// SAdd says that the queue is registered; the Enqueuer does it itself, with each round.
func (r *recorder) SAdd(ctx context.Context, _ string, _ ...any) *redis.IntCmd {
	return redis.NewIntCmd(ctx)
}

// enqueueScript is the source of asynq's enqueue script, which asynq shows to a Redis that does not know
// it yet.
func enqueueScript() (string, error) {
	var asker scriptAsker
	task := asynq.NewTask(TypeSend, nil, Options(&message.Parcel{ID: message.NewID(time.Now())})...)
	if _, err := asynq.NewClientFromRedisClient(&asker).Enqueue(task); err != nil {
		return "", err
	}
	if asker.source == "" {
		return "", errors.New("asynq ran no script")
	}
	return asker.source, nil
}

// A scriptAsker is a recorder that knows no script, and so is shown it.
type scriptAsker struct {
	recorder
	source string
}

// EvalSha answers as a Redis that was just started.
func (a *scriptAsker) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(redis.ErrNoScript)
	return cmd
}

// Eval keeps the script's source.
func (a *scriptAsker) Eval(ctx context.Context, script string, _ []string, _ ...any) *redis.Cmd {
	a.source = script
	cmd := redis.NewCmd(ctx)
	cmd.SetVal(int64(1))
	return cmd
}
