package tasks

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// OneTime is a hook for the client given to asynq.NewServerFromRedisClient, and for no other: asynq tells when a lease
// is over, when a task is tried again, and which leases are over, by the clock of its own machine. One that is ten
// minutes ahead would take the tasks of all others from them, and where its process dies nobody would find its own for
// ten minutes. Offset is what is to be added to this machine's time.
type OneTime struct{ Offset func() time.Duration }

var _ redis.Hook = OneTime{}

// DialHook changes nothing.
func (OneTime) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook puts the times of a command right.
func (h OneTime) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if by := h.Offset(); by != 0 {
			shift(cmd.Args(), by)
		}
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook changes nothing: asynq's servers send no time in a pipeline.
func (OneTime) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// take are the ends of the keys of asynq's script that takes a task.
var take = []string{":pending", ":paused", ":active", ":lease"}

// timed are asynq's scripts to which times matter, by the ends of their keys ("*": any), with the places of the times
// among the arguments.
var timed = []struct {
	keys  []string
	times []int
}{
	{take, []int{0}},                                                             // with a lease until then
	{[]string{":lease"}, []int{0}},                                               // list leases that were over then
	{[]string{":retry", ":pending"}, []int{0, 2}},                                // put back what is due
	{[]string{":scheduled", ":pending"}, []int{0, 2}},                            // the same
	{[]string{"*", ":active", ":lease", ":retry", "*", "*", "*", "*"}, []int{2}}, // try again then
}

// shift adds to the times of a command that has any.
func shift(args []any, by time.Duration) {
	if len(args) < 3 {
		return
	}
	switch name, _ := args[0].(string); name {
	case "zadd": // extend leases: score and member in turn, after what is to exist
		if key, _ := args[1].(string); strings.HasSuffix(key, ":lease") {
			for i := 2; i < len(args); i++ {
				if score, ok := args[i].(float64); ok {
					args[i] = score + by.Round(time.Second).Seconds()
				}
			}
		}
	case "eval", "evalsha":
		n, _ := args[2].(int)
		if len(args) < 3+n {
			return
		}
		keys, rest := args[3:3+n], args[3+n:]
		for _, t := range timed {
			if slices.EqualFunc(t.keys, keys, endsIn) {
				for _, i := range t.times {
					later(rest, i, by)
				}
				return
			}
		}
	}
}

func endsIn(end string, key any) bool {
	text, ok := key.(string)
	return ok && (end == "*" || strings.HasSuffix(text, end))
}

// later moves a time in Unix seconds, or nanoseconds.
func later(args []any, i int, by time.Duration) {
	if i >= len(args) {
		return
	}
	at, ok := args[i].(int64)
	switch {
	case !ok:
	case at > 1e15:
		args[i] = at + by.Nanoseconds()
	default:
		args[i] = at + int64(by.Round(time.Second)/time.Second)
	}
}
