package ratelimit

import (
	"context"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Token is the right to one call: on one Beijing day, at one instant. Whoever took it calls [Token.Ready]
// right before the wire and then exactly one of [Token.Spent] and [Token.Return]; a second call of either
// does nothing. It may be used by several goroutines, one after another.
type Token struct {
	b     *bucket
	lane  message.Lane
	lease *lease
	dead  time.Time // the slot is of no use after this
	done  bool      // b.mu
}

// readyWait bounds how long Ready waits for a fresh slot.
const readyWait = 400 * time.Millisecond

// Ready makes sure that the call may go out now. It returns at once unless the slot has gone stale, the pace
// was closed ([Quota.Slow]) or midnight has passed since Take; then it waits, before others of its lane, for a
// fresh slot, and after midnight for a token of the new day, at most a few hundred milliseconds. An error means
// that the call must not go out: [*Refused] says until when.
func (t *Token) Ready(ctx context.Context) error {
	now := time.Now()
	t.b.mu.Lock()
	newDay := !now.Before(t.lease.ends)
	if !now.After(t.dead) && !newDay && !now.Before(t.b.closed) {
		t.b.mu.Unlock()
		return nil
	}
	g, err := t.b.wait(ctx, now, t.lane, newDay, true, readyWait) // unlocks
	if err != nil {
		return err
	}
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	t.dead = g.dead
	if g.lease != nil {
		t.lease.inHand--
		t.lease = g.lease
	}
	return nil
}

// Spent says that the call was made: a connection was had, whatever became of it.
func (t *Token) Spent() {
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	if t.done {
		return
	}
	t.done = true
	t.lease.inHand--
	t.lease.spent++
}

// Return gives the day token back. Only if no connection was had: else WeChat may have counted the call.
func (t *Token) Return(context.Context) {
	now := time.Now()
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	if t.done {
		return
	}
	t.done = true
	t.lease.inHand--
	t.lease.free++
	t.b.step(now)
}
