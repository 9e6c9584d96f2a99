package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/message"
)

// urgent measures how long an urgent message waits while bulk saturates a limit of 200 a second: from its enqueue
// to its arrival, less nothing, for the stub counts arrivals when it answers, after the API's latency.
func urgent(ctx context.Context, e *environment, _ int, r *Report) error {
	const (
		latency   = 20 * time.Millisecond
		perSecond = 200
	)
	count := 400
	if e.flags.Quick {
		count = 40
	}
	for _, s := range []struct {
		subject   string
		perSecond int
		beside    string
	}{
		{naive, perSecond, "bulk at 200/s"},
		{batches, perSecond, "bulk at 200/s"},
		{chunked, perSecond, "bulk at 200/s"},
		{chunked, 1_000_000, "full campaign rate"},
	} {
		if !e.flags.measures(s.subject) {
			continue
		}
		if err := e.reset(ctx, 0); err != nil {
			return err
		}
		waits, err := e.urgentWaits(ctx, s.subject, latency, s.perSecond, count)
		if err != nil {
			return fmt.Errorf("%s: %w", s.subject, err)
		}
		r.add("urgent p50 beyond API latency, "+s.beside+": "+s.subject, percentile(waits, 0.50), "ms")
		r.add("urgent p99 beyond API latency, "+s.beside+": "+s.subject, percentile(waits, 0.99), "ms")
	}
	return nil
}

func (e *environment) urgentWaits(ctx context.Context, subject string, latency time.Duration, perSecond, count int) ([]float64, error) {
	// The stub of this part lives here, so that both ends of a wait are read from one clock.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wechat := &stub{arrived: make(chan []byte, 1024)}
	wechat.latency.Store(int64(latency))
	go func() { _ = wechat.serve(ctx, l) }()
	here := *e
	here.url = "http://" + l.Addr().String()

	var mu sync.Mutex
	arrived := map[string]time.Time{}
	go func() {
		for {
			select {
			case b := <-wechat.arrived:
				if to := touser(b); bytes.HasPrefix(to, []byte("oURGENT")) {
					mu.Lock()
					arrived[string(to)] = time.Now()
					mu.Unlock()
				}
			case <-ctx.Done():
				return
			}
		}
	}()

	send, stop, err := here.saturate(ctx, subject, perSecond)
	if err != nil {
		return nil, err
	}
	defer stop()
	enqueued := make(map[string]time.Time, count)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := range count {
		<-tick.C
		to := fmt.Sprintf("oURGENT%021d", i)
		enqueued[to] = time.Now()
		if err := send(i, message.OpenID(to)); err != nil {
			return nil, err
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		done := len(arrived) == count
		mu.Unlock()
		if done {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d urgent messages arrived", len(arrived), count)
		}
	}
	waits := make([]float64, 0, count)
	for to, at := range enqueued {
		waits = append(waits, float64((arrived[to].Sub(at)-latency).Microseconds())/1000)
	}
	return waits, nil
}

// saturate starts a worker and gives it more bulk messages than the limit lets pass.
func (e *environment) saturate(ctx context.Context, subject string, perSecond int) (send func(int, message.OpenID) error, stop func(), err error) {
	const bulk = 20_000
	var worker *child
	if subject == naive {
		opt, err := asynq.ParseRedisURI(e.stack.RedisURL())
		if err != nil {
			return nil, nil, err
		}
		producer := asynq.NewClient(opt)
		send = func(i int, to message.OpenID) error {
			return enqueueNaiveOne(ctx, producer, bulk+i, "urgent", string(to))
		}
		if err := enqueueNaive(ctx, e.stack.RedisURL(), bulk); err != nil {
			return nil, nil, err
		}
		worker, err = spawn("naive", "--url", e.url, "--redis", e.stack.RedisURL(), "--database", e.stack.DatabaseURL(),
			"--senders", "64", "--per-second", strconv.Itoa(perSecond))
		if err != nil {
			return nil, nil, err
		}
	} else {
		producer, err := client.New(ctx, client.Options{Redis: e.stack.RedisURL()})
		if err != nil {
			return nil, nil, err
		}
		send = func(_ int, to message.OpenID) error {
			m := messages(1, false, message.Urgent)[0]
			m.To = to
			_, err := producer.Enqueue(ctx, m)
			return err
		}
		fill := func() error { return enqueueBatches(ctx, producer, messages(bulk, false, message.Bulk)) }
		if subject == chunked {
			fill = func() error { return e.runCampaign(ctx, 5*bulk) }
		}
		if err := fill(); err != nil {
			return nil, nil, err
		}
		path, err := e.configuration(64, perSecond)
		if err != nil {
			return nil, nil, err
		}
		if worker, err = spawn("worker", "--config", path); err != nil {
			return nil, nil, err
		}
	}
	if _, err := worker.line(); err != nil {
		worker.stop()
		return nil, nil, err
	}
	time.Sleep(2 * time.Second) // the campaign saturates the limit
	return send, worker.stop, nil
}

// touser finds the recipient in the body of a request.
func touser(b []byte) []byte {
	const field = `"touser":"`
	i := bytes.Index(b, []byte(field))
	if i < 0 {
		return nil
	}
	b = b[i+len(field):]
	return b[:max(0, bytes.IndexByte(b, '"'))]
}
