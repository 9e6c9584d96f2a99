package tasks

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A round is what travels to Redis in one pipeline.
const (
	roundTasks = 512
	roundBytes = 1 << 20
)

// asynqQueues is where asynq keeps the names of all queues.
const asynqQueues = "asynq:queues"

// An Enqueuer puts parcels into Redis, many in one round trip; asynq's own client takes one each. It may
// be used by several goroutines; what they enqueue at the same time travels together.
//
// It asks asynq's client what it would do, and then does that for many parcels at once: the client is
// given a connection that writes down its commands instead of sending them. So task and script stay
// asynq's own, whatever version of it is linked.
type Enqueuer struct {
	// Trace, optional, is told of each parcel that is about to go. It may give the parcel a Traceparent, and is told by what it
	// returns, if that is not nil, when the parcel has gone or not.
	Trace func(*message.Parcel) func(error)

	rdb          redis.UniversalClient
	script       *redis.Script // asynq's enqueue
	alreadyThere atomic.Int64

	mu      sync.Mutex
	waiting []*call // for the next round
	sending bool    // somebody is at it, and will send what waits
}

// NewEnqueuer makes an Enqueuer on a client, which stays the caller's to close. It talks to nobody yet.
func NewEnqueuer(rdb redis.UniversalClient) (*Enqueuer, error) {
	source, err := enqueueScript()
	if err != nil {
		return nil, fmt.Errorf("learn asynq's enqueue script: %w", err)
	}
	return &Enqueuer{rdb: rdb, script: redis.NewScript(source)}, nil
}

// Enqueue puts parcels into their queues and returns an error or nil for each, in their order. A parcel
// that is still there counts as put: its id is the task's, and it never changes. An error leaves open
// whether Redis has the parcel, unless it is about the parcel itself; to enqueue it again is safe.
func (e *Enqueuer) Enqueue(ctx context.Context, parcels []*message.Parcel) []error {
	if e.Trace == nil {
		return e.enqueue(ctx, len(parcels), func(i int) (*asynq.Task, error) { return Encode(parcels[i]) })
	}
	gone := make([]func(error), len(parcels))
	errs := e.enqueue(ctx, len(parcels), func(i int) (*asynq.Task, error) {
		gone[i] = e.Trace(parcels[i])
		return Encode(parcels[i])
	})
	for i, err := range errs {
		if gone[i] != nil {
			gone[i](err)
		}
	}
	return errs
}

// EnqueueChunks puts chunks into their queues, as Enqueue does parcels.
func (e *Enqueuer) EnqueueChunks(ctx context.Context, chunks []Chunk) []error {
	return e.enqueue(ctx, len(chunks), func(i int) (*asynq.Task, error) { return EncodeChunk(chunks[i]), nil })
}

func (e *Enqueuer) enqueue(ctx context.Context, n int, encode func(int) (*asynq.Task, error)) []error {
	errs := make([]error, n)
	var rec recorder
	client := asynq.NewClientFromRedisClient(&rec)
	places := make([]int, 0, n) // of the recorded calls' tasks
	for i := range n {
		task, err := encode(i)
		if err == nil {
			_, err = client.EnqueueContext(ctx, task)
		}
		if err != nil {
			errs[i] = fmt.Errorf("enqueue: %w", err)
			continue
		}
		rec.calls[len(rec.calls)-1].bytes = len(task.Payload())
		places = append(places, i)
	}
	e.wait(ctx, rec.calls)
	for n, c := range rec.calls {
		select {
		case <-c.done:
			errs[places[n]] = c.err
		default: // our caller's patience ended first
			errs[places[n]] = fmt.Errorf("enqueue: %w", context.Cause(ctx))
		}
	}
	return errs
}

// AlreadyThere counts the parcels that Redis had before they were enqueued.
func (e *Enqueuer) AlreadyThere() int64 { return e.alreadyThere.Load() }

// wait has the calls sent and returns when that is done, or ctx is.
func (e *Enqueuer) wait(ctx context.Context, calls []*call) {
	if len(calls) == 0 || ctx.Err() != nil {
		return
	}
	e.mu.Lock()
	e.waiting = append(e.waiting, calls...)
	if !e.sending {
		e.sending = true
		// Not under ctx: a round carries the parcels of several callers. The client's own timeouts and
		// its few retries bound it.
		go e.sendAll(context.WithoutCancel(ctx))
	}
	e.mu.Unlock()
	for _, c := range calls {
		select {
		case <-c.done:
		case <-ctx.Done():
			e.mu.Lock()
			for _, c := range calls {
				c.abandoned = true
			}
			e.mu.Unlock()
			return
		}
	}
}

// sendAll sends rounds until nobody waits.
func (e *Enqueuer) sendAll(ctx context.Context) {
	for {
		e.mu.Lock()
		round := e.nextRound()
		e.sending = len(round) > 0
		e.mu.Unlock()
		if len(round) == 0 {
			return
		}
		if unknown := e.send(ctx, round, e.script.EvalSha); len(unknown) > 0 {
			e.send(ctx, unknown, e.script.Eval) // Redis was restarted, or another one took over: bring the script along
		}
		for _, c := range round {
			close(c.done)
		}
	}
}

// nextRound takes the calls of the next round out of those that wait. While Redis is away, callers come
// and give up: what they left is dropped.
func (e *Enqueuer) nextRound() []*call {
	var round []*call
	bytes := 0
	for len(e.waiting) > 0 {
		c := e.waiting[0]
		if !c.abandoned {
			if bytes += c.bytes; len(round) == roundTasks || len(round) > 0 && bytes > roundBytes {
				return round
			}
			round = append(round, c)
		}
		e.waiting = e.waiting[1:]
	}
	e.waiting = nil // lets go of the array
	return round
}

type eval func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd

// send sends calls in one round trip, notes what became of each, and returns those whose script Redis
// does not know.
func (e *Enqueuer) send(ctx context.Context, calls []*call, run eval) (unknown []*call) {
	pipe := e.rdb.Pipeline()
	// asynq's client registers a queue once in its life. If Redis lost its data since, tasks are
	// processed all the same, but Inspector and asynqmon say that there is no such queue.
	queues := pipe.SAdd(ctx, asynqQueues, queuesOf(calls)...)
	cmds := make([]*redis.Cmd, len(calls))
	for i, c := range calls {
		cmds[i] = run(ctx, pipe, c.keys, c.args...)
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, c := range calls {
		put, err := cmds[i].Int64()
		switch {
		case err != nil:
			c.err = fmt.Errorf("enqueue: %w", err)
			if isNoScript(err) {
				unknown = append(unknown, c)
			}
		case queues.Err() != nil: // the task is there, but its queue may be nowhere to be seen
			c.err = fmt.Errorf("register queue: %w", queues.Err())
		default:
			c.err = nil
			e.alreadyThere.Add(1 - put)
		}
	}
	return unknown
}

func isNoScript(err error) bool {
	return errors.Is(err, redis.ErrNoScript) || redis.HasErrorPrefix(err, "NOSCRIPT")
}

// queuesOf reads the queues out of the calls' keys, asynq:{QUEUE}:….
func queuesOf(calls []*call) []any {
	var queues []any
	last := ""
	for _, c := range calls {
		_, name, _ := strings.Cut(c.keys[0], "{")
		name, _, _ = strings.Cut(name, "}")
		if name != last {
			queues = append(queues, name)
			last = name
		}
	}
	return queues
}
