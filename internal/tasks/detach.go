package tasks

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// Detach is a hook for the client given to asynq.NewServerFromRedisClient, and for no other: it lets
// commands run whose context was cancelled.
//
// asynq v0.25 and v0.26 write a finished task's end with a context that is cancelled when the first try
// returns. If that try fails, the tries after it can only fail, and about a minute later the finished
// task runs again. With the hook the next try succeeds.
type Detach struct{}

var _ redis.Hook = Detach{}

// DialHook changes nothing.
func (Detach) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook frees the command's context of its cancellation, not of a deadline that passed.
func (Detach) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return next(detached(ctx), cmd) }
}

// ProcessPipelineHook does the same for a pipeline.
func (Detach) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return next(detached(ctx), cmds) }
}

func detached(ctx context.Context) context.Context {
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.WithoutCancel(ctx)
	}
	return ctx
}
