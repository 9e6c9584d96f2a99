package pipeline

import (
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

// claimsAhead is how many messages with a client id may be claimed beside those on the wire, so that a commit carries
// many: with half as many the processors wait, more are out of their caches when their turn comes.
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

// InHand is how many messages a pod with n senders should work on at a time: those on the wire, and those claimed
// ahead. What a campaign has sent is in nobody's hands while it is settled.
func InHand(n int) int { return n + claimsAhead }

// InFlight is how many calls are being made now.
func (s *Senders) InFlight() int { return s.wire.taken() }

// line is a semaphore with two queues: urgent ones are served first, and the last places are theirs alone.
type line struct {
	mu     *sync.Mutex
	size   int
	kept   int
	free   int
	urgent places
	others places
	unused *sync.Pool // of *place: in a busy pod nearly every message waits

	stuck   func() bool // optional: nobody should wait any longer
	watched bool        // the next look is set
}

// A place is what somebody waits for in a line.
type place struct {
	given      chan error // takes one: nil, or why it is refused
	next, prev *place
	waits      bool
}

// places are those that are waited for, in order.
type places struct {
	first, last *place
	n           int
}

func (q *places) push(p *place) {
	p.waits, p.next, p.prev = true, nil, q.last
	if q.last == nil {
		q.first = p
	} else {
		q.last.next = p
	}
	q.last = p
	q.n++
}

func (q *places) remove(p *place) {
	if p.prev == nil {
		q.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		q.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.waits, p.next, p.prev = false, nil, nil
	q.n--
}

// give gives the first place, or refuses it.
func (q *places) give(err error) {
	p := q.first
	q.remove(p)
	p.given <- err
}

func newLine(size, kept int) line {
	fresh := func() any { return &place{given: make(chan error, 1)} }
	return line{mu: new(sync.Mutex), size: size, kept: kept, free: size, unused: &sync.Pool{New: fresh}}
}

func (l *line) taken() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size - l.free
}

// acquire waits for a place; release gives it back. In a line that is stuck at some look,
// every stuckAfter, all that wait give up with errStuck.
func (l *line) acquire(ctx context.Context, lane message.Lane) error {
	queue, floor := &l.others, l.kept
	if lane == message.Urgent {
		queue, floor = &l.urgent, 0
	}
	l.mu.Lock()
	if l.free > floor && queue.n == 0 {
		l.free--
		l.mu.Unlock()
		return nil
	}
	p := l.unused.Get().(*place)
	defer l.unused.Put(p)
	queue.push(p)
	l.watch()
	l.mu.Unlock()

	gone := ctx.Done()
	if gone == nil { // a plain receive costs half of a select
		return <-p.given
	}
	select {
	case err := <-p.given:
		return err
	case <-gone:
		return l.leave(queue, p, ctx.Err())
	}
}

// leave leaves the queue, and answers with why.
func (l *line) leave(queue *places, p *place, why error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case p.waits:
		queue.remove(p)
	case <-p.given == nil: // given a place in the same instant: pass it on
		l.free++
		l.serve()
	}
	return why
}

// watch sets the next look at a line in which somebody waits; mu is held. One timer looks for all: in
// a busy pod nearly every message waits.
func (l *line) watch() {
	if l.stuck != nil && !l.watched && l.urgent.n+l.others.n > 0 {
		l.watched = true
		time.AfterFunc(stuckAfter, l.look)
	}
}

// look sends all away that wait in a line that is stuck.
func (l *line) look() {
	stuck := l.stuck()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, queue := range []*places{&l.urgent, &l.others} {
		for stuck && queue.n > 0 {
			queue.give(errStuck)
		}
	}
	l.watched = false
	l.watch()
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
	for l.free > 0 && l.urgent.n > 0 {
		l.free--
		l.urgent.give(nil)
	}
	for l.free > l.kept && l.others.n > 0 {
		l.free--
		l.others.give(nil)
	}
}
