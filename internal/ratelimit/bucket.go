package ratelimit

import (
	"container/list"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

// bucket is one key in this pod: who waits, and what there is to give. There is no loop: step runs whenever
// something has changed (somebody came, an answer came, a slot is due).
type bucket struct {
	q   *Quota
	key Key

	mu     sync.Mutex
	idle   sync.Cond     // no call is under way in some pool
	lanes  [3]*list.List // of *waiter, most urgent first
	urgent *pool         // for urgent alone
	open   *pool         // for all
	closed time.Time     // nothing goes out before: WeChat said 45011
	timer  *time.Timer
	again  recount // after this pod has rebuilt the key; zero: none is to come
}

// A recount asks WeChat for its count of a day once more.
type recount struct {
	day       int64
	at, until time.Time
}

type waiter struct {
	lane     int
	token    bool // needs a day token, not only a slot
	came     time.Time
	deadline time.Time // a slot after this is of no use
	done     chan verdict
}

type verdict struct {
	give
	err error
}

const (
	// answerWait is how long a Take with little time of its own waits for Redis' answer.
	answerWait = 250 * time.Millisecond
	// returnWait is how long a Take waits for tokens that other pods hold and may give back.
	returnWait = 500 * time.Millisecond
)

func laneIndex(l message.Lane) int {
	switch l {
	case message.Urgent:
		return 0
	case message.Normal:
		return 1
	default:
		return 2
	}
}

// lines are the lanes whose waiting makes a pool ask.
func (b *bucket) lines(p *pool) []*list.List {
	if p.urgent {
		return b.lanes[:1]
	}
	return b.lanes[1:]
}

func (b *bucket) waiting(p *pool) bool {
	return slices.ContainsFunc(b.lines(p), func(line *list.List) bool { return line.Len() > 0 })
}

func (b *bucket) pool(lane int) *pool {
	if lane == 0 {
		return b.urgent
	}
	return b.open
}

// grant gives a lane what is due: urgent from its own pool, whose slots nobody else can use, or from
// everybody's.
func (b *bucket) grant(lane int, token bool, now time.Time) (g give, at time.Time, ok bool) {
	if now.Before(b.closed) {
		return give{}, b.closed, false
	}
	if lane > 0 {
		return b.open.grant(now, token, false)
	}
	if g, at, ok = b.urgent.grant(now, token, true); ok {
		return g, at, ok
	}
	g, openAt, ok := b.open.grant(now, token, true)
	return g, sooner(at, openAt), ok
}

// take is the short way: something is due and nobody is before us. b.mu is held.
func (b *bucket) take(lane int, now time.Time) (give, bool) {
	for _, before := range b.lanes[:lane+1] {
		if before.Len() > 0 {
			return give{}, false
		}
	}
	g, _, ok := b.grant(lane, true, now)
	return g, ok
}

// wait stands in line. It is called with b.mu held and unlocks it.
func (b *bucket) wait(ctx context.Context, now time.Time, l message.Lane, token, first bool, maxWait time.Duration) (give, error) {
	maxWait = min(max(maxWait, 0), maxWaits)
	w := &waiter{lane: laneIndex(l), token: token, came: now, deadline: now.Add(maxWait), done: make(chan verdict, 1)}
	if err := b.hopeless(w, now); err != nil {
		b.mu.Unlock()
		return give{}, err
	}
	line := b.lanes[w.lane]
	var place *list.Element
	if first {
		place = line.PushFront(w)
	} else {
		place = line.PushBack(w)
	}
	b.step(now)
	b.mu.Unlock()

	timer := time.NewTimer(max(maxWait, answerWait))
	defer timer.Stop()
	select {
	case v := <-w.done:
		return v.give, v.err
	case <-timer.C:
	case <-ctx.Done():
	}

	now = time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case v := <-w.done: // just now
		if v.err == nil && ctx.Err() != nil {
			b.giveBack(v.give, now)
			return give{}, ctx.Err()
		}
		return v.give, v.err
	default:
	}
	line.Remove(place)
	b.step(now) // those behind may have waited for us
	if err := ctx.Err(); err != nil {
		return give{}, err
	}
	return give{}, b.tooLate(w, now)
}

func (b *bucket) giveBack(g give, now time.Time) {
	if g.lease != nil {
		g.lease.inHand--
		g.lease.free++
	}
	b.step(now)
}

// hopeless refuses at once what is known to have no chance.
func (b *bucket) hopeless(w *waiter, now time.Time) error {
	p := b.pool(w.lane)
	switch {
	case b.closed.After(w.deadline):
		return refusedPace(b.closed)
	case now.Before(p.errUntil):
		return p.err
	case w.token && now.Before(p.dryUntil) && p.lease.tokens(now) == 0:
		return b.refusedQuota(p)
	case p.noSlot.After(w.deadline) && now.Sub(p.answered) < noSlotStands:
		return refusedPace(p.noSlot)
	}
	if at := now.Add(b.ahead(w.lane)); at.Add(-burst).After(w.deadline) {
		return refusedPace(at)
	}
	return nil
}

// ahead is the least time that those before a newcomer need, but for a bunch of burst.
func (b *bucket) ahead(lane int) time.Duration {
	n := 0
	for _, line := range b.lanes[:lane+1] {
		n += line.Len()
	}
	interval := b.open.interval
	if lane == 0 && (interval == 0 || b.urgent.interval < interval) {
		interval = b.urgent.interval
	}
	return time.Duration(n) * interval
}

// tooLate is what a waiter hears whose time is over.
func (b *bucket) tooLate(w *waiter, now time.Time) error {
	p := b.pool(w.lane)
	switch {
	case !p.answered.After(w.came) && p.asking:
		return ErrNoAnswer
	case w.token && p.dry:
		return b.refusedQuota(p)
	}
	return refusedPace(later(now.Add(b.ahead(w.lane)), p.noSlot))
}

func refusedPace(until time.Time) error {
	return &Refused{Until: until, Reason: outcome.Pace}
}

// refusedQuota sends to the next day, spread over a minute: no herd at midnight. Where the day's last tokens are only
// withheld, it sends to when they come free.
func (b *bucket) refusedQuota(p *pool) error {
	if !p.freed.IsZero() {
		return refusedPace(p.freed)
	}
	return &Refused{Until: p.midnight.Add(5*time.Second + rand.N(time.Minute)), Reason: outcome.Quota}
}

// step gives what is due to whoever is first, asks for what is missing, and sees to it that it runs again
// when the next slot is due. b.mu is held.
func (b *bucket) step(now time.Time) {
	var wake time.Time
	for i, line := range b.lanes {
		for e := line.Front(); e != nil; e = line.Front() {
			w := e.Value.(*waiter)
			g, at, ok := b.grant(i, w.token, now)
			if !ok {
				wake = sooner(wake, at)
				break
			}
			line.Remove(e)
			w.done <- verdict{give: g}
		}
	}
	wake = sooner(wake, b.ask(b.urgent, now))
	wake = sooner(wake, b.ask(b.open, now))
	if wake.IsZero() {
		return
	}
	if d := max(wake.Sub(now), 0); b.timer == nil {
		b.timer = time.AfterFunc(d, b.tick)
	} else {
		b.timer.Reset(d)
	}
}

func (b *bucket) tick() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.step(time.Now())
}

// ask asks Redis for a block if somebody waits and nothing is in hand. As no holder has more than one block
// at a time, a line is never given out further ahead than 250 ms (or, at a slow pace, a slot for each pod),
// however many wait: slots far ahead would find that those they were meant for have gone.
func (b *bucket) ask(p *pool, now time.Time) (wake time.Time) {
	need, bare := int64(0), int64(0)
	var last time.Time
	for _, line := range b.lines(p) {
		for e := line.Front(); e != nil; e = e.Next() {
			w := e.Value.(*waiter)
			need++
			if !w.token {
				bare++
			}
			last = later(last, w.deadline)
		}
	}
	if need == 0 || p.asking {
		return time.Time{}
	}
	if min(p.slots(now), p.lease.tokens(now)+bare) > 0 {
		return time.Time{}
	}
	if at := later(p.retryAt, b.closed); now.Before(at) {
		return at
	}
	want := need
	if now.Sub(p.asked) < 2*burst {
		want = max(want, 2*p.taken) // the pace of the last block is the best guess for the next
	}
	p.taken = 0
	p.asking = true
	r := p.report(now, false)
	r.want, r.bare, r.maxWait = min(want, maxBlock), bare, max(last.Sub(now), 0).Microseconds()
	go b.call(p, r)
	return time.Time{}
}

// refuse ends the waiting of those in a pool's lanes for whom there is a reason why.
func (b *bucket) refuse(p *pool, why func(*waiter) error) {
	for _, line := range b.lines(p) {
		for e := line.Front(); e != nil; {
			w, next := e.Value.(*waiter), e.Next()
			if err := why(w); err != nil {
				line.Remove(e)
				w.done <- verdict{err: err}
			}
			e = next
		}
	}
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
