package gate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
)

// WeChatErrors is the reason of a gate that a [Breaker] closed.
const WeChatErrors = "wechat_errors"

// A probe of a resting API begins probeBefore the end of its rest, and is given probeFor.
const (
	probeBefore = 2 * time.Second
	probeFor    = 1500 * time.Millisecond
)

// A Breaker closes the gate of an API that does not answer, or answers with errors, so that messages wait behind it
// and use up neither attempts nor senders. The gate opens by itself; near the end of its rest each pod asks WeChat
// something harmless, and prolongs the rest where that fails. Its methods may be called concurrently.
type Breaker struct {
	board    *Board
	mu       sync.Mutex
	circuits map[key]*circuit
}

// NewBreaker makes a breaker of the board's gates.
func NewBreaker(b *Board) *Breaker {
	return &Breaker{board: b, circuits: map[key]*circuit{}}
}

// circuit finds or makes the key's; mu is held.
func (b *Breaker) circuit(k key) *circuit {
	c, ok := b.circuits[k]
	if !ok {
		c = new(circuit)
		b.circuits[k] = c
	}
	return c
}

// Calling counts a call that is about to be made.
func (b *Breaker) Calling(account, api string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.circuit(key{account, api}).at(now).calls++
}

// Answered counts a call that WeChat answered, whatever it said of the message.
func (b *Breaker) Answered(account, api string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.circuit(key{account, api}).at(now).sound++
}

// Failed counts a call that had no answer, or one that says WeChat is out of order. It answers true when the gate was
// closed for it.
func (b *Breaker) Failed(ctx context.Context, account, api, why string, now time.Time) (bool, error) {
	k := key{account, api}
	b.mu.Lock()
	until, trips := b.circuit(k).failed(now)
	b.mu.Unlock()
	if !trips {
		return false, nil
	}
	return true, b.shut(ctx, k, why, now, until)
}

// shut closes the gate, unless it is closed for longer already.
func (b *Breaker) shut(ctx context.Context, k key, why string, now, until time.Time) error {
	if g, shut := b.board.At(k.account, k.api); shut && (g.State == Broken || g.Until.After(until)) {
		return nil
	}
	return b.board.Close(ctx, Gate{Account: k.account, API: k.api, Reason: WeChatErrors, Detail: why, Since: now, Until: until})
}

// Run asks, near the end of each rest, whether WeChat answers again. It returns when the context ends.
func (b *Breaker) Run(ctx context.Context, ask func(ctx context.Context, account string) error, failed func(error)) error {
	tick := time.NewTicker(Every / 2)
	defer tick.Stop()
	asked := map[key]time.Time{} // for which end of a rest
	var asking sync.WaitGroup    // an account that hangs holds up no other's question
	defer asking.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			now := clock.Now()
			for _, g := range b.board.All() {
				k := key{g.Account, g.API}
				if g.State != Closed || g.Reason != WeChatErrors || asked[k].Equal(g.Until) || !now.Before(g.Until) || now.Before(g.Until.Add(-probeBefore)) {
					continue
				}
				asked[k] = g.Until
				asking.Go(func() {
					if err := b.probe(ctx, k, ask); err != nil && ctx.Err() == nil {
						failed(err)
					}
				})
			}
		}
	}
}

func (b *Breaker) probe(ctx context.Context, k key, ask func(ctx context.Context, account string) error) error {
	bounded, cancel := context.WithTimeout(ctx, probeFor)
	defer cancel()
	err := ask(bounded, k.account)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	now := clock.Now()
	b.mu.Lock()
	until := b.circuit(k).pause(now)
	b.mu.Unlock()
	if err := b.shut(ctx, k, err.Error(), now, until); err != nil {
		return fmt.Errorf("prolong the rest: %w", err)
	}
	return nil
}
