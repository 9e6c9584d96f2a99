package tasks

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
)

// asked counts the questions for a task that reach Redis, by queue.
type asked struct {
	mu sync.Mutex
	of map[string]int
}

func (*asked) DialHook(next redis.DialHook) redis.DialHook { return next }
func (*asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if queue := takesFrom(cmd.Args()); queue != "" && (err == nil || errors.Is(err, redis.Nil)) { // no script that Redis does not know yet
			a.mu.Lock()
			a.of[queue]++
			a.mu.Unlock()
		}
		return err
	}
}

// Where one bulk queue is full, the empty ones are left in peace; what comes into one of them is taken all the same.
func TestRest(t *testing.T) {
	t.Parallel()
	url := devstack.Redis(t)
	plain, rdb := connect(t, url), connect(t, url)
	list := singles(60)
	for i, p := range list {
		p.Lane, p.Account = message.Bulk, "shop"
		if i == len(list)-1 {
			for p.Account = "a"; QueueOf(p.Kind, p.Lane, p.Account) == QueueOf(p.Kind, p.Lane, "shop"); p.Account += "a" {
			}
		}
		for _, m := range p.Messages {
			m.Lane, m.Account = p.Lane, p.Account
		}
	}
	full, last := list[:len(list)-1], list[len(list)-1]
	put(t, newEnqueuer(t, plain), full...)

	counted := &asked{of: map[string]int{}}
	rdb.AddHook(new(Rest))
	rdb.AddHook(counted)
	class := Classes()[2]
	config := class.ServerConfig()
	config.LogLevel = asynq.FatalLevel
	server := asynq.NewServerFromRedisClient(rdb, config)
	ran := make(chan string, len(list))
	began := time.Now()
	err := server.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		ran <- id
		return nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer server.Shutdown()
	taken := func() string {
		select {
		case id := <-ran:
			return id
		case <-time.After(10 * time.Second):
			t.Fatal("no task was taken for 10 s")
			return ""
		}
	}
	for range full {
		taken()
	}
	counted.mu.Lock()
	if len(counted.of) < 2 {
		t.Errorf("questions by queue: %v, want some of empty ones: are asynq's scripts still known?", counted.of)
	}
	most := 1 + int(time.Since(began)/restFor)
	for queue, n := range counted.of {
		if queue != "asynq:{"+QueueOf(message.Template, message.Bulk, "shop")+"}:pending" && n > most {
			t.Errorf("%s is empty, and was asked %d times, want at most %d", queue, n, most)
		}
	}
	counted.mu.Unlock()
	put(t, newEnqueuer(t, plain), last)
	if id := taken(); id != last.ID.String() {
		t.Errorf("%s was taken, want %s", id, last.ID)
	}
}
