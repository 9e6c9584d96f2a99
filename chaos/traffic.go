package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hibiken/asynq"
	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// books are what the producer was told.
type books struct {
	mu       sync.Mutex
	accepted map[int]message.Kind // by the message's own number
	retries  int                  // times that a message had to be offered again
}

func (b *books) write(n int, k message.Kind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.accepted == nil {
		b.accepted = map[int]message.Kind{}
	}
	b.accepted[n] = k
}

func (b *books) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.accepted)
}

// again is how often a message had to be offered again.
func (b *books) again() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.retries
}

const (
	perWindow = 7  // answers to one user whose window allows five
	massSends = 20 // of a scenario: WeChat allows 100 calls a day
	batch     = 50 // messages that are enqueued together
)

// user is an openid, a canary as well: whole ones stand in no log.
func user(n int) message.OpenID { return message.OpenID(fmt.Sprintf("oCHAOS%022d", n)) }

// compose is the n-th message of the scenario. Its content carries its number.
func (r *rig) compose(n int) message.Message {
	m := message.Message{Account: account, To: user(n), Lane: message.Normal, Key: fmt.Sprintf("m-%d", n)}
	text := fmt.Sprintf(`{"msgtype":"text","text":{"content":"您好 #%d#"}}`, n)
	notice := fmt.Sprintf(`{"template_id":"order_paid","data":{"thing2":{"value":"订单 #%d#"}}}`, n)
	every := max(100, r.plan.messages/massSends)
	k := n % 20
	switch {
	case r.plan.templates:
		k = 0
	case r.plan.customs:
		k = 11
	}
	switch {
	case n%every == every-1 && r.subject == hongyan && !r.plan.templates && !r.plan.customs:
		m.Kind, m.To, m.List, m.Body = message.Mass, "", []message.OpenID{user(10_000_000 + 2*n), user(10_000_001 + 2*n)}, json.RawMessage(text)
	case k < 11:
		m.Kind, m.Body = message.Template, json.RawMessage(notice)
	case k < 18:
		m.Kind, m.Body = message.Custom, json.RawMessage(text)
		if r.plan.windows {
			m.To = r.written(n)
		}
	default:
		m.Kind, m.Body = message.Subscribe, json.RawMessage(notice)
		r.sim.Account(appID).Permit(string(m.To), "order_paid", 3) // more than one: a second one must not be refused for that
	}
	if r.plan.clocks {
		r.timed(n, &m)
	}
	return m
}

// written is to whom the n-th message is an answer: seven go to one user. They are enqueued together, but where clocks
// are wrong, there to seven users one by one, so that a user is answered by several workers; and where Redis is struck to
// many users, so that whatever moment is forgotten, some have been answered before and will be after it.
func (r *rig) written(n int) message.OpenID {
	group := n / 20
	switch {
	case r.plan.clocks:
		group += n%20 - 11 - group%perWindow
	case r.plan.scarce:
		answer := group%atOnce*perWindow + n%20 - 11 // of those to the users of some groups
		group += answer%atOnce - group%atOnce
	}
	return user(20_000_000 + group)
}

// atOnce is how many users are answered in turn where Redis is struck: 3.7 s of the producer's work.
const atOnce = 28

// produce enqueues the plan's messages at its pace, each again until it is told that it is accepted.
func (r *rig) produce(ctx context.Context) error {
	if r.subject == naive {
		return r.produceNaive(ctx)
	}
	if r.plan.campaigns {
		return r.produceCampaigns(ctx)
	}
	if r.plan.servers > 0 {
		return r.produceOverHTTP(ctx)
	}
	began := time.Now()
	for from := 0; from < r.plan.messages; from += batch {
		due := began.Add(time.Duration(from) * time.Second / time.Duration(r.plan.perSecond))
		if err := pause(ctx, time.Until(due)); err != nil {
			return err
		}
		var numbers []int
		for n := from; n < min(from+batch, r.plan.messages); n++ {
			numbers = append(numbers, n)
		}
		if r.plan.windows {
			if err := r.open20(ctx, numbers); err != nil {
				return err
			}
		}
		by := r.producer
		if r.plan.handOver && (from/batch)%5 == 4 {
			by = r.handsOver
		}
		if err := r.offer(ctx, by, numbers); err != nil {
			return err
		}
		r.progress.say(r.name, "%d of %d messages accepted, %d sent, %d faults", r.books.count(), r.plan.messages, r.sim.AcceptedTotal(), r.broken())
	}
	return nil
}

func (r *rig) broken() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.faults)
}

// open20 lets the users write to whom customer-service messages will go.
func (r *rig) open20(ctx context.Context, numbers []int) error {
	for _, n := range numbers {
		switch {
		case n%20 != 0:
			continue
		case r.plan.scarce:
			for i := 0; n/20%atOnce == 0 && i < atOnce; i++ {
				if err := r.act(ctx, user(20_000_000+n/20+i), wechattest.Message); err != nil {
					return err
				}
			}
		case !r.plan.clocks:
			if err := r.act(ctx, r.written(n), wechattest.Message); err != nil {
				return err
			}
		case n/20%perWindow == 0: // the users of this group and the six after it: every other one has a short window
			for i := range perWindow {
				does := []wechattest.Action{wechattest.Message, wechattest.Menu}[i%2]
				if err := r.act(ctx, r.written(n+11+i), does); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// act lets a user do something, and tells of it.
func (r *rig) act(ctx context.Context, u message.OpenID, does wechattest.Action) error {
	if err := r.sim.Account(appID).Act(string(u), does); err != nil {
		return err
	}
	e := client.Event{Account: account, OpenID: u, Type: client.EventType(does), At: time.Now()}
	for r.producer.Event(ctx, e) != nil { // in any order and any number of times
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// An enqueuer is a client, of one kind or another.
type enqueuer interface {
	EnqueueBatch(ctx context.Context, messages []message.Message) []client.Receipt
}

func (r *rig) offer(ctx context.Context, by enqueuer, numbers []int) error {
	for len(numbers) > 0 {
		messages := make([]message.Message, len(numbers))
		for i, n := range numbers {
			messages[i] = r.compose(n)
		}
		var again []int
		for i, receipt := range by.EnqueueBatch(ctx, messages) {
			switch err := receipt.Err; {
			case err == nil:
				r.books.write(numbers[i], messages[i].Kind)
			case errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrInDoubt):
				again = append(again, numbers[i])
			default:
				return fmt.Errorf("enqueue message %d: %w", numbers[i], err)
			}
		}
		if numbers = again; len(again) == 0 {
			return nil
		}
		r.books.mu.Lock()
		r.books.retries += len(again)
		r.books.mu.Unlock()
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// httpProducers is how many producers speak HTTP at a time: half of them post single messages, half lines.
const httpProducers = 8

// produceOverHTTP enqueues the plan's messages at its pace, by many producers through the balancer.
func (r *rig) produceOverHTTP(ctx context.Context) error {
	began := time.Now()
	var next atomic.Int64
	var producers errgroup.Group
	const some = 5
	for i := range httpProducers {
		producers.Go(func() error {
			for {
				from := int(next.Add(some)) - some
				if from >= r.plan.messages {
					return nil
				}
				if err := pause(ctx, time.Until(began.Add(time.Duration(from)*time.Second/time.Duration(r.plan.perSecond)))); err != nil {
					return err
				}
				var numbers []int
				for n := from; n < min(from+some, r.plan.messages); n++ {
					numbers = append(numbers, n)
				}
				var by enqueuer = r.remote
				if i%2 == 0 {
					by = oneByOne{r.remote}
				}
				if err := r.offer(ctx, by, numbers); err != nil {
					return err
				}
				r.progress.say(r.name, "%d of %d messages accepted, %d sent", r.books.count(), r.plan.messages, r.sim.AcceptedTotal())
			}
		})
	}
	return producers.Wait()
}

// oneByOne posts each message in a request of its own.
type oneByOne struct{ *client.Remote }

func (o oneByOne) EnqueueBatch(ctx context.Context, messages []message.Message) []client.Receipt {
	receipts := make([]client.Receipt, len(messages))
	for i, m := range messages {
		receipts[i], _ = o.Enqueue(ctx, m) // the error stands in the receipt
	}
	return receipts
}

// produceNaive enqueues a task for each message.
func (r *rig) produceNaive(ctx context.Context) error {
	opt, err := asynq.ParseRedisURI(r.stack.RedisURL())
	if err != nil {
		return err
	}
	queue := asynq.NewClient(opt)
	defer queue.Close()
	began := time.Now()
	for n := 0; n < r.plan.messages; n++ {
		if err := pause(ctx, time.Until(began.Add(time.Duration(n)*time.Second/time.Duration(r.plan.perSecond)))); err != nil {
			return err
		}
		m := r.compose(n)
		payload, err := json.Marshal(naiveTask{N: n, Kind: m.Kind, To: m.To, Body: m.Body})
		if err != nil {
			return err
		}
		for {
			_, err := queue.EnqueueContext(ctx, asynq.NewTask("send", payload))
			if err == nil {
				break
			}
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return err
			}
		}
		r.books.write(n, m.Kind)
	}
	return nil
}
