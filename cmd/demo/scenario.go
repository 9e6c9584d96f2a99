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

// The numbers of the scenario: about 2,000 messages, beside the campaign.
const (
	orders        = 800
	handedOver    = 200
	notices       = 165
	unasked       = 5 // notices to users who did not subscribe
	replies       = 240
	chatty        = 5 // users who are to get more answers than their window allows
	answersEach   = 7
	silent        = 60 // users who did not act
	silentInstead = 40 // likewise, and the message has a fallback
	gone          = 3  // users who left without our knowing
	clickers      = 12 // of those who get replies: they click on the menu
	newFollowers  = 12 // likewise: they follow
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
	blocker                message.OpenID // blocks us, which only a receipt tells
	keyed, farewell        []message.Message

	errand *errand
	tour   *tour
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
		d.misfits, d.farewells, d.massSends, d.bulk, d.overAPI, d.conversations, d.again, d.campaign, d.settled, d.lookUp, d.receipts,
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

// let lets users do something, of which the account's callback is told, if it is told of such things at all.
func (d *director) let(account string, users []message.OpenID, a wechattest.Action) error {
	for _, u := range users {
		if err := d.at(account).Act(string(u), a); err != nil {
			return err
		}
	}
	return nil
}

// unnoticed is let, and the push is lost.
func (d *director) unnoticed(account string, users []message.OpenID, a wechattest.Action) error {
	lose := func(share float64) error {
		return d.at(account).Change(func(s *wechattest.Settings) { s.Callback.Actions.Lost = share })
	}
	if err := lose(1); err != nil {
		return err
	}
	if err := d.let(account, users, a); err != nil {
		return err
	}
	return lose(0)
}

// speak lets users write to the account; the last of them click on its menu and follow it instead.
func (d *director) speak(account string, users []message.OpenID) error {
	write := max(0, len(users)-clickers-newFollowers)
	if len(users) < replies/2 {
		write = len(users)
	}
	for i, u := range users {
		action := wechattest.Message
		switch {
		case i >= write+clickers:
			action = wechattest.Follow
		case i >= write:
			action = wechattest.Menu
		}
		if err := d.at(account).Act(string(u), action); err != nil {
			return err
		}
	}
	return nil
}

// told waits until the server has acknowledged what users did: then it is written.
func (d *director) told(ctx context.Context) error {
	return until(ctx, "for the callbacks of users", func(context.Context) (bool, error) {
		for _, p := range d.sim.Pushes(0) {
			if p.Fate == wechattest.Waiting && p.MsgID == 0 {
				return false, nil
			}
		}
		return true, nil
	})
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
