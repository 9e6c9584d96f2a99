package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/time/rate"
)

// naiveTask is the payload of the naive build: the whole message.
type naiveTask struct {
	N    int             `json:"n"`
	To   string          `json:"to"`
	Body json.RawMessage `json:"body"`
}

// runNaive is the worker that one would write in an afternoon: one task a message, one INSERT an outcome, a
// limiter in the process.
func runNaive(ctx context.Context, f childFlags) error {
	opt, err := asynq.ParseRedisURI(f.Redis)
	if err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(f.Database)
	if err != nil {
		return err
	}
	config.MaxConns = 16
	db, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer db.Close()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: f.Senders, MaxIdleConns: f.Senders}, Timeout: 10 * time.Second}
	limiter := rate.NewLimiter(rate.Limit(f.PerSecond), max(1, f.PerSecond/4))
	server := asynq.NewServer(opt, asynq.Config{
		Concurrency: f.Senders, Queues: map[string]int{"urgent": 6, "bulk": 1}, LogLevel: asynq.ErrorLevel,
	})
	err = server.Start(asynq.HandlerFunc(func(ctx context.Context, t *asynq.Task) error {
		var task naiveTask
		if err := json.Unmarshal(t.Payload(), &task); err != nil {
			return err
		}
		if err := limiter.Wait(ctx); err != nil {
			return err
		}
		var message map[string]any
		if err := json.Unmarshal(task.Body, &message); err != nil {
			return err
		}
		message["touser"] = task.To
		body, err := json.Marshal(message)
		if err != nil {
			return err
		}
		reply, err := client.Post(f.URL+sendPath, "application/json", bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		if err != nil {
			return err
		}
		var answer struct {
			ErrCode int   `json:"errcode"`
			MsgID   int64 `json:"msgid"`
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			return err
		}
		_, err = db.Exec(ctx, `INSERT INTO bench_outcome (campaign_id, n, openid, errcode, msgid, at) VALUES (1, $1, $2, $3, $4, now())`,
			task.N, task.To, answer.ErrCode, answer.MsgID)
		return err
	}))
	if err != nil {
		return err
	}
	fmt.Println("ready")
	<-ctx.Done()
	server.Shutdown()
	return nil
}

// enqueueNaive enqueues n tasks from 8 goroutines.
func enqueueNaive(ctx context.Context, redisURL string, n int) error {
	opt, err := asynq.ParseRedisURI(redisURL)
	if err != nil {
		return err
	}
	client := asynq.NewClient(opt)
	defer client.Close()
	return inParallel(8, n, func(i int) error { return enqueueNaiveOne(ctx, client, i, "bulk", string(openID(i))) })
}

func enqueueNaiveOne(ctx context.Context, client *asynq.Client, n int, queue, to string) error {
	payload, err := json.Marshal(naiveTask{N: n, To: to, Body: json.RawMessage(body)})
	if err != nil {
		return err
	}
	_, err = client.EnqueueContext(ctx, asynq.NewTask("send", payload), asynq.Queue(queue))
	return err
}

// inParallel calls f for 0..n-1 from several goroutines and answers with the first error.
func inParallel(goroutines, n int, f func(int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, goroutines)
	for range goroutines {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := f(i); err != nil {
					errs <- fmt.Errorf("message %d: %w", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
