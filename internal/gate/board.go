package gate

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/clock"
	"github.com/hongyan-dispatch/hongyan/message"
)

// Every is how often a pod reads the gates: half of the second within which all pods know of a change.
const Every = 500 * time.Millisecond

// freshEnough is the age up to which a mirror may refuse without looking again, where no probe can have been let pass.
const freshEnough = 50 * time.Millisecond

// ProbeEvery is the time between two probes of a broken gate, over all pods.
const ProbeEvery = time.Minute

// A State says whether calls may pass.
type State string

// The states of a gate.
const (
	Open   State = "open"
	Closed State = "closed" // until a time
	Broken State = "broken" // until WeChat accepts the account again
)

// A Gate stands before one API of one account. API "" is the account itself: before all of its APIs.
type Gate struct {
	Account string
	API     string
	State   State
	Reason  string // one word, such as quota or refused_account
	ErrCode int    // WeChat's code, if it closed the gate
	Detail  string // WeChat's words, with the IP where it named one
	Since   time.Time
	Until   time.Time  // Closed: when it opens
	Probe   message.ID // Broken: the message that may pass
}

// ByOperator is the reason of a gate that a person closed.
const ByOperator = "operator"

// Opens is when a message behind the gate is worth another look.
func (g Gate) Opens(now time.Time) time.Time {
	if g.State == Closed {
		return g.Until
	}
	return now.Add(ProbeEvery)
}

// Store keeps the gates; all methods may be called concurrently.
type Store interface {
	Gates(ctx context.Context) ([]Gate, error) // those that are not open
	// SetGate writes the gate, but where another stands: see Gate.stands. It keeps Since where the state does not change.
	SetGate(ctx context.Context, g Gate) error
	// OpenGate opens a gate that is broken, and no other.
	OpenGate(ctx context.Context, account, api string) error
	// ClaimProbe answers true to one caller in each ProbeEvery.
	ClaimProbe(ctx context.Context, account, api string, every time.Duration) (bool, error)
}

// A Board mirrors the gates in this pod. Its methods may be called concurrently.
type Board struct {
	store Store

	reading sync.Mutex // one reader of the store at a time
	writing sync.Mutex // one writer of the mirror at a time
	mirror  atomic.Pointer[mirror]
}

// mirror is what the pod knows of the gates; it is replaced, never changed, so that looking takes no lock.
type mirror struct {
	shut map[key]Gate
	at   time.Time // when the store was read; zero: never
}

type key struct{ account, api string }

// NewBoard makes a board; it knows nothing until Run or the first Look has read the gates.
func NewBoard(s Store) *Board {
	b := &Board{store: s}
	b.mirror.Store(&mirror{})
	return b
}

// Run mirrors the gates until the context ends.
func (b *Board) Run(ctx context.Context, failed func(error)) error {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		if err := b.read(ctx, 0); err != nil && ctx.Err() == nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Look answers with the gate that stands in the way of this message; ok is true when none does. Behind a broken API every
// look reads anew: the message may be the probe that another pod has let pass just now, and the next is a minute away.
func (b *Board) Look(ctx context.Context, account, api string, id message.ID, now time.Time) (g Gate, ok bool, err error) {
	if g, ok = b.look(account, api, id, now); ok && !b.mirror.Load().at.IsZero() {
		return g, true, nil
	}
	age := freshEnough
	if g.State == Broken && g.API != "" {
		age = 0
	}
	if err := b.read(ctx, age); err != nil {
		return Gate{}, false, err
	}
	g, ok = b.look(account, api, id, now)
	return g, ok, nil
}

func (b *Board) look(account, api string, id message.ID, now time.Time) (Gate, bool) {
	known := b.mirror.Load().shut
	if len(known) == 0 {
		return Gate{}, true
	}
	for _, k := range [...]key{{account, ""}, {account, api}} {
		g, shut := known[k]
		switch {
		case !shut, g.State == Closed && !now.Before(g.Until), g.State == Broken && g.Probe == id && !id.IsZero():
		default:
			return g, false
		}
	}
	return Gate{}, true
}

// read renews the mirror unless it is younger than age.
func (b *Board) read(ctx context.Context, age time.Duration) error {
	asked := time.Now()
	b.reading.Lock()
	defer b.reading.Unlock()
	if at := b.mirror.Load().at; !at.IsZero() && at.After(asked.Add(-age)) {
		return nil // somebody read it meanwhile
	}
	start := time.Now()
	gates, err := b.store.Gates(ctx)
	if err != nil {
		return fmt.Errorf("read gates: %w", err)
	}
	shut := make(map[key]Gate, len(gates))
	for _, g := range gates {
		shut[key{g.Account, g.API}] = g
	}
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mirror.Store(&mirror{shut: shut, at: start})
	return nil
}

// note changes one gate in the mirror.
func (b *Board) note(change func(shut map[key]Gate)) {
	b.writing.Lock()
	defer b.writing.Unlock()
	old := b.mirror.Load()
	changed := maps.Clone(old.shut)
	if changed == nil {
		changed = map[key]Gate{}
	}
	change(changed)
	b.mirror.Store(&mirror{shut: changed, at: old.at})
}

// All lists the gates that are not open, as mirrored.
func (b *Board) All() []Gate {
	return slices.Collect(maps.Values(b.mirror.Load().shut))
}

// At is the gate itself, as mirrored; false when it is open.
func (b *Board) At(account, api string) (Gate, bool) {
	g, shut := b.mirror.Load().shut[key{account, api}]
	return g, shut
}

// Close shuts the gate until a time; Break until WeChat accepts the account again. Both act on this pod at
// once and on the others within a second.
func (b *Board) Close(ctx context.Context, g Gate) error {
	g.State = Closed
	_, err := b.set(ctx, g)
	return err
}

// Break marks the account, or one API of it, as refused by WeChat. It says whether that is news: to one of all who are
// refused at the same time, and not again before the gate opens or WeChat gives another reason.
func (b *Board) Break(ctx context.Context, g Gate) (news bool, err error) {
	g.State = Broken
	return b.set(ctx, g)
}

// set changes the gate unless that is known already: a burst of equal refusals costs one write.
func (b *Board) set(ctx context.Context, g Gate) (news bool, err error) {
	k := key{g.Account, g.API}
	if before, was := b.mirror.Load().shut[k]; was && before.covers(g) {
		return false, nil
	}
	b.note(func(shut map[key]Gate) {
		before, was := shut[k]
		was = was && (before.State == Broken || clock.Now().Before(before.Until))
		if news = !was || !before.covers(g) && !before.stands(g); !news {
			return
		}
		if was && before.State == g.State {
			g.Since = before.Since
		}
		shut[k] = g
	})
	if !news {
		return false, nil
	}
	if err := b.store.SetGate(ctx, g); err != nil {
		return true, fmt.Errorf("close gate of %s %s: %w", g.Account, g.API, err)
	}
	return true, nil
}

// covers says whether a gate that stands like g makes no difference to another refusal.
func (g Gate) covers(next Gate) bool {
	return g.State == next.State && g.ErrCode == next.ErrCode && !next.Until.After(g.Until)
}

// stands says whether a gate that is shut like g, now, stays what it is when something else would shut it: a broken one is
// not made merely closed, of two closings the one that ends later stands, and what a person closed no refusal breaks: a
// probe would open it.
func (g Gate) stands(next Gate) bool {
	switch {
	case next.State == Closed:
		return g.State == Broken || g.Until.After(next.Until)
	case g.State == Closed:
		return g.Reason == ByOperator
	}
	return false
}

// Passed reports a call that WeChat did not refuse for the account's sake: what was broken is mended.
func (b *Board) Passed(ctx context.Context, account, api string) error {
	for _, k := range [...]key{{account, ""}, {account, api}} {
		g, shut := b.mirror.Load().shut[k]
		if shut && g.State == Broken && clock.Since(g.Since) > Every {
			if err := b.Open(ctx, account, k.api); err != nil {
				return err
			}
		}
	}
	return nil
}

// Open opens the gate that was broken. One that somebody closed since stays so, and the mirror is told by its next look.
func (b *Board) Open(ctx context.Context, account, api string) error {
	if err := b.store.OpenGate(ctx, account, api); err != nil {
		return fmt.Errorf("open gate of %s %s: %w", account, api, err)
	}
	b.note(func(shut map[key]Gate) { delete(shut, key{account, api}) })
	return nil
}
