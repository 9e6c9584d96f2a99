package pipeline

import (
	"container/list"
	"context"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// Senders bounds what a pod has on the wire, and what it has claimed ahead of it. A few senders are kept for
// urgent messages, which also stand first in the line.
type Senders struct {
	wire  line // calls in flight
	ahead line // claims of messages with a client id: in flight, or next

	accounts int
	mu       sync.Mutex
	shares   map[message.AppID]*share
}

// claimsAhead is how many messages with a client id may be claimed beside those on the wire: one batch of the
// ledger, so that a commit carries many.
const claimsAhead = 256

// NewSenders makes n senders for that many accounts, of which a sixteenth (one at least, if n > 1, and eight at most) is
// kept for urgent messages: enough where calls hang, and what they cost a campaign is their share of the rate.
func NewSenders(n, accounts int) *Senders {
	return &Senders{
		wire: newLine(n, keptOf(n)), ahead: newLine(n+claimsAhead, keptOf(n)),
		accounts: accounts, shares: map[message.AppID]*share{},
	}
}

func keptOf(n int) int {
	if kept := min(n/16, 8); kept > 0 {
		return kept
	}
	return min(max(n-1, 0), 1)
}

// InHand is how many messages a pod with n senders should work on at a time: those on the wire, those claimed
// ahead, and as many again that are guarded or settled meanwhile.
func InHand(n int) int { return 3*n + claimsAhead }

// InFlight is how many calls are being made now.
func (s *Senders) InFlight() int { return s.wire.taken() }

// line is a semaphore with two queues: urgent ones are served first, and the last places are theirs alone.
type line struct {
	mu     *sync.Mutex
	size   int
	kept   int
	free   int
	urgent *list.List // of chan struct{}
	others *list.List
}

func newLine(size, kept int) line {
	return line{mu: new(sync.Mutex), size: size, kept: kept, free: size, urgent: list.New(), others: list.New()}
}

func (l *line) taken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size - l.free
}

// acquire waits for a place and answers with its release, which is called once.
func (l *line) acquire(ctx context.Context, lane message.Lane) (func(), error) {
	return l.acquireUnless(ctx, lane, nil)
}

// acquireUnless is acquire that gives up, with errStuck, where at some look every stuckAfter the line is stuck.
func (l *line) acquireUnless(ctx context.Context, lane message.Lane, stuck func() bool) (func(), error) {
	queue, floor := l.others, l.kept
	if lane == message.Urgent {
		queue, floor = l.urgent, 0
	}
	l.mu.Lock()
	if l.free > floor && queue.Len() == 0 {
		l.free--
		l.mu.Unlock()
		return l.release, nil
	}
	ready := make(chan struct{})
	place := queue.PushBack(ready)
	l.mu.Unlock()

	var look <-chan time.Time
	if stuck != nil {
		tick := time.NewTicker(stuckAfter)
		defer tick.Stop()
		look = tick.C
	}
	for {
		select {
		case <-ready:
			return l.release, nil
		case <-look:
			if stuck() {
				return nil, l.leave(queue, place, ready, errStuck)
			}
		case <-ctx.Done():
			return nil, l.leave(queue, place, ready, ctx.Err())
		}
	}
}

// leave leaves the queue, and answers with why.
func (l *line) leave(queue *list.List, place *list.Element, ready chan struct{}, why error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-ready: // given a place in the same instant: pass it on
		l.free++
		l.serve()
	default:
		queue.Remove(place)
	}
	return why
}

// resize changes the number of places; those that are taken stay taken.
func (l *line) resize(n, kept int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free, l.size, l.kept = l.free+n-l.size, n, kept
	l.serve()
}

func (l *line) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free++
	l.serve()
}

// serve gives the free places away; mu is held.
func (l *line) serve() {
	for l.free > 0 && l.urgent.Len() > 0 {
		l.free--
		close(l.urgent.Remove(l.urgent.Front()).(chan struct{}))
	}
	for l.free > l.kept && l.others.Len() > 0 {
		l.free--
		close(l.others.Remove(l.others.Front()).(chan struct{}))
	}
}
