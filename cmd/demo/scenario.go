package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

// The numbers of the scenario: about 2,000 messages.
const (
	orders        = 1000
	handedOver    = 200
	notices       = 165
	unasked       = 5 // notices to users who did not subscribe
	replies       = 240
	chatty        = 5 // users who are to get more answers than their window allows
	answersEach   = 7
	silent        = 60 // users who did not act
	silentInstead = 40 // likewise, and the message has a fallback
	gone          = 3  // users who left without our knowing
	clubReplies   = 120
	clubSilent    = 20
	urgents       = 20
	regulars      = 80 // readers of every mass send
	newcomers     = 60 // readers of the fifth alone
)

// A director plays the scenario and remembers what was enqueued.
type director struct {
	*servers
	generator *generator
	progress  *progress

	produced map[message.ID]bool // accepted or handed over
	refused  atEnqueue
	kicks    int // times that the simulator made the token of shop invalid
	took     time.Duration

	// Who and what comes twice.
	blocked, left, readers []message.OpenID
	keyed                  []message.Message
}

// atEnqueue is what the producer was told at once.
type atEnqueue struct {
	Duplicates int `json:"duplicates"` // the same key and body: the first message's id came back
	Conflicts  int `json:"conflicts"`  // the same key, another body
}

// play enqueues everything, lets things go wrong on the way, and returns when all is decided.
func (d *director) play(ctx context.Context) error {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, playTime)
	defer cancel()
	d.produced = map[message.ID]bool{}
	for _, act := range []func(context.Context) error{
		d.misfits, d.massSends, d.bulk, d.conversations, d.interruptions, d.again, d.settled,
	} {
		if err := act(ctx); err != nil {
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not done after %v: %w", playTime, err)
			}
			return err
		}
	}
	d.took = time.Since(start)
	return nil
}

// at is an account of the simulator.
func (d *director) at(account string) *wechattest.Account { return d.sim.Account(appIDs[account]) }

// followers are new users who follow an account.
func (d *director) followers(account string, n int) []message.OpenID {
	users := d.generator.users(n)
	for _, u := range users {
		d.at(account).AddFollowers(string(u))
	}
	return users
}

// let lets users do something that only the simulator learns of.
func (d *director) let(account string, users []message.OpenID, a wechattest.Action) error {
	for _, u := range users {
		if err := d.at(account).Act(string(u), a); err != nil {
			return err
		}
	}
	return nil
}

// speak lets users write to the account, and reports it as a producer does that owns WeChat's callback.
func (d *director) speak(ctx context.Context, account string, users []message.OpenID) error {
	if err := d.let(account, users, wechattest.Message); err != nil {
		return err
	}
	now := time.Now()
	for _, u := range users {
		if err := d.producer.Event(ctx, client.Event{Account: account, OpenID: u, Type: client.Messaged, At: now}); err != nil {
			return fmt.Errorf("report an event: %w", err)
		}
	}
	return nil
}

// enqueue enqueues messages through a client and keeps account of the receipts.
func (d *director) enqueue(ctx context.Context, c *client.Client, all []message.Message) error {
	for i, r := range c.EnqueueBatch(ctx, all) {
		if err := d.note(r); err != nil {
			return fmt.Errorf("enqueue a %s message of %q: %w", all[i].Kind, all[i].Labels[actLabel], err)
		}
	}
	return nil
}

func (d *director) note(r client.Receipt) error {
	switch {
	case errors.Is(r.Err, client.ErrKeyConflict):
		d.refused.Conflicts++
	case r.Err != nil:
		return r.Err
	case r.Duplicate:
		d.refused.Duplicates++
	default:
		d.produced[r.ID] = true
		d.progress.produced(len(d.produced))
	}
	return nil
}

// inject lets the simulator misbehave; the function takes that back.
func (d *director) inject(faults ...wechattest.Fault) (heal func()) {
	ids := make([]int, len(faults))
	for i, f := range faults {
		ids[i] = d.sim.MustInject(f)
	}
	return func() { d.sim.Heal(ids...) }
}

// poll is how often the scenario looks whether something has come to pass.
const poll = 100 * time.Millisecond

// until waits for something that is looked for.
func until(ctx context.Context, what string, holds func(context.Context) (bool, error)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		ok, err := holds(ctx)
		if err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
}

// decided waits until the messages of the acts are decided.
func (d *director) decided(ctx context.Context, acts ...string) error {
	return until(ctx, fmt.Sprintf("for the outcomes of %q", acts), func(ctx context.Context) (bool, error) {
		return d.servers.decided(ctx, acts)
	})
}

// settled waits until every message is decided, or parked for longer than anybody wants to watch.
func (d *director) settled(ctx context.Context) error {
	return until(ctx, "for the last outcomes", func(ctx context.Context) (bool, error) {
		return d.servers.settled(ctx, len(d.produced))
	})
}
