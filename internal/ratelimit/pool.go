package ratelimit

import (
	"time"

	"golang.org/x/time/rate"
)

// pool is what one holder has in hand: day tokens and slots. A bucket has two: one that every lane may take
// from, and one for urgent alone, because its tokens may come from the urgent reserve and its slots from the
// reserved line. bucket.mu guards it.
type pool struct {
	holder string
	urgent bool
	lease  *lease
	runs   []run
	smooth *rate.Limiter

	asking   bool          // a call is under way: one at a time
	asked    time.Time     // when the last one left
	answered time.Time     // when the last one was answered
	interval time.Duration // of the slots that it told
	taken    int64         // slots taken since the last call that asked for some
	lastTake time.Time

	err      error // of the last call, which stands until
	errUntil time.Time
	noSlot   time.Time // no slot before
	dry      bool      // the last answer had no day token for us
	dryUntil time.Time // nobody holds one that may come back: refuse without asking until then
	retryAt  time.Time // somebody does: ask again then
	midnight time.Time
	freed    time.Time // when the tokens come free that are withheld since Redis started again
}

const (
	errorsStand  = 100 * time.Millisecond // so that a lost Redis is not asked for each message
	dryStands    = 250 * time.Millisecond // until another's Sync may have raised the limit
	retryEvery   = 100 * time.Millisecond // while other pods hold tokens that may come back
	noSlotStands = time.Second            // until the limits may have been changed
	smoothOver   = 20 * time.Millisecond
)

// lease is a holder's day. Tokens keep theirs, so that one spent after midnight is not booked on the new day.
type lease struct {
	day          int64
	seq          int64
	spent, acked int64
	heard        int64     // when acked was answered, by Redis' clock: by ours nobody knows how long a report was on its way
	free         int64     // tokens for the next to take
	inHand       int64     // taken, and neither spent nor given back yet
	renewed      time.Time // when the last answered report left
	ends         time.Time // midnight
}

// tokens are those that may be taken now. A lease that was not renewed has lapsed in Redis: its tokens were
// counted as used, and somebody else has the rest of the day.
func (l *lease) tokens(now time.Time) int64 {
	if now.Sub(l.renewed) >= leaseFor-2*time.Second || !now.Before(l.ends) {
		return 0
	}
	return l.free
}

// run is a block of slots. due is reckoned from when the answer came, so that no slot is used early, and
// dead from when the question left, so that none is used late.
type run struct {
	due, dead time.Time // of slot 0
	interval  time.Duration
	next, n   int64
	smooth    bool
}

func (r *run) dueAt(i int64) time.Time  { return r.due.Add(time.Duration(i) * r.interval) }
func (r *run) deadAt(i int64) time.Time { return r.dead.Add(time.Duration(i) * r.interval) }

// drop passes over the slots that are dead.
func (r *run) drop(now time.Time) {
	if late := now.Sub(r.deadAt(r.next)); late > 0 && r.next < r.n {
		r.next = min(r.n, r.next+1+int64(late/r.interval))
	}
}

// add takes in a block.
func (p *pool) add(g grant, sent, received time.Time) {
	if g.n == 0 {
		return
	}
	span := time.Duration(g.n) * g.interval
	p.runs = append(p.runs, run{
		due: received.Add(g.start), dead: sent.Add(g.start + slotLate), interval: g.interval, n: g.n,
		smooth: span > smoothOver,
	})
	// A pod that was held up has many slots due at once. It uses them at twice the pace, not all together;
	// their number keeps the limit, this keeps WeChat from seeing the bunch.
	p.smooth.SetLimit(2 * rate.Every(g.interval))
	p.smooth.SetBurst(max(1, int(smoothOver/g.interval)))
}

// slots counts those in hand, due now or later.
func (p *pool) slots(now time.Time) int64 {
	n := int64(0)
	live := p.runs[:0]
	for _, r := range p.runs {
		r.drop(now)
		if r.next < r.n {
			n += r.n - r.next
			live = append(live, r)
		}
	}
	p.runs = live
	return n
}

// slot takes the earliest slot if it is due, and returns the last instant at which it may be used. Else it
// says when to try again; never is the zero time.
func (p *pool) slot(now time.Time, hurry bool) (dead, at time.Time, ok bool) {
	best := -1
	for i := range p.runs {
		r := &p.runs[i]
		r.drop(now)
		if r.next < r.n && (best < 0 || r.dueAt(r.next).Before(p.runs[best].dueAt(p.runs[best].next))) {
			best = i
		}
	}
	if best < 0 {
		p.runs = p.runs[:0]
		return time.Time{}, time.Time{}, false
	}
	r := &p.runs[best]
	if due := r.dueAt(r.next); due.After(now) {
		return time.Time{}, due, false
	}
	if r.smooth && !p.smooth.AllowN(now, 1) && !hurry {
		missing := 1 - p.smooth.TokensAt(now)
		return time.Time{}, now.Add(time.Duration(missing / float64(p.smooth.Limit()) * float64(time.Second))), false
	}
	dead = r.deadAt(r.next)
	r.next++
	return dead, time.Time{}, true
}

// grant gives a slot, and a day token where one is needed.
func (p *pool) grant(now time.Time, token, hurry bool) (give, time.Time, bool) {
	if token && p.lease.tokens(now) == 0 {
		return give{}, time.Time{}, false
	}
	dead, at, ok := p.slot(now, hurry)
	if !ok {
		return give{}, at, false
	}
	p.taken++
	p.lastTake = now
	g := give{dead: dead}
	if token {
		p.lease.free--
		p.lease.inHand++
		g.lease = p.lease
	}
	return g, time.Time{}, true
}

// give is what a waiter gets.
type give struct {
	dead  time.Time
	lease *lease // nil: no day token was asked for
}

// turn begins a new day. What was taken on the old one stays with it.
func (p *pool) turn(day int64) {
	p.lease = &lease{day: day}
	p.dry, p.dryUntil = false, time.Time{}
}

// report is where the holder stands. Free tokens whose time is over are no longer held.
func (p *pool) report(now time.Time, giveBack bool) request {
	l := p.lease
	if giveBack || l.tokens(now) == 0 {
		l.free = 0
	}
	l.seq++
	return request{
		holder: p.holder, urgent: p.urgent,
		seq: l.seq, spent: l.spent, acked: l.acked, heard: l.heard, held: l.free + l.inHand, free: l.free,
	}
}
