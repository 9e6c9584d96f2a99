package ratelimit

import (
	"errors"
	"time"
)

// A request is what a pod asks of the ledger and the pace in one call.
type request struct {
	holder string
	// where the holder stands
	seq   int64 // grows with every request of a day
	spent int64 // tokens spent this day, in all
	acked int64 // the spent that was answered last
	heard int64 // µs, by Redis' clock: when that was answered
	held  int64 // tokens neither spent nor given back, free among them
	// what it wants
	want    int64 // slots; 0 is a report only
	free    int64 // tokens at hand for them
	bare    int64 // of the slots, those that need no token, because it is held already
	maxWait int64 // µs; a later slot is of no use
	urgent  bool
	// the limits
	perDay         int64
	margin         int64 // ppm
	reserve        int64 // ppm
	open, reserved int64 // ns
	rebuilt        bool  // without: where nothing is known of the key, say so
}

// A grant is the answer. Times are distances from the instant of the decision.
type grant struct {
	tokens   int64
	n        int64         // slots
	start    time.Duration // of the first slot, or of the next free one where none is given; negative: late already
	interval time.Duration
	left     int64 // tokens that this lane may still lease
	leased   int64 // tokens that holders hold: they may come back
	midnight time.Duration
	freed    time.Duration // until what is withheld may be leased; 0: nothing is
	now      int64         // µs, by Redis' clock: the instant of the decision
}

// count is what WeChat tells of a day.
type count struct {
	limit   int64 // 0: not told
	used    int64
	mark    int64 // what was ours when it was asked
	rebuilt bool  // it was asked because the key was not known
}

var (
	errUnknown = errors.New("quota is not known")
	errOld     = errors.New("request is older than one already answered")
)

// otherDay is the answer to a request for a day that it is not.
type otherDay int64

func (d otherDay) Error() string { return "day is " + dateOf(int64(d)) }

// core is the whole of a key's state: in Go what the Lua scripts keep in Redis.
type core struct {
	known bool  // to this run of Redis: one that has started again may have gone back to an earlier moment
	limit int64 // what WeChat told; 0: nothing
	// of when the key was rebuilt
	since   int64
	careful int64 // what WeChat had counted
	pace    pace
	days    map[int64]*ledger
}

func (c *core) ledger(day int64) *ledger {
	if c.days == nil {
		c.days = map[int64]*ledger{}
	}
	if c.days[day] == nil {
		c.days[day] = &ledger{holders: map[string]*holding{}}
	}
	return c.days[day]
}

// lease is lease.lua.
func (c *core) lease(now, day int64, r request) (grant, error) {
	if today := dayOf(now); day != today {
		return grant{}, otherDay(today)
	}
	if !c.known && !r.rebuilt {
		return grant{}, errUnknown
	}
	c.known = true
	l := c.ledger(day)
	if h := l.holders[r.holder]; h != nil && r.seq <= h.seq {
		if r.seq < h.seq {
			return grant{}, errOld
		}
		return c.answer(now, l, h, r), nil
	}

	l.lapse(now)
	counted := c.careful > 0
	h := l.report(r, counted, counted && r.heard > c.since)
	h.tokens, h.n, h.slots = 0, 0, slots{start: now}
	if r.want > 0 {
		pods := l.pods(h)
		s := c.pace.offer(now, r.urgent, r.open, r.reserved, pods)
		h.slots = s
		if s.start-now <= r.maxWait {
			n := min(r.want, maxBlock, s.most)
			h.tokens = l.grant(n-r.free-r.bare, c.left(now, l, r), pods)
			h.n = min(n, h.tokens+r.free+r.bare)
		}
		if h.n > 0 {
			c.pace.take(s, h.n)
		}
		h.leased += h.tokens
		l.leased += h.tokens
	}
	h.until = 0
	if r.want > 0 || h.leased > 0 {
		h.until = now + leaseFor.Microseconds()
	}
	return c.answer(now, l, h, r), nil
}

func (c *core) left(now int64, l *ledger, r request) int64 {
	limit := c.perDay(r)
	return max(0, r.allowed(limit)-c.withheld(now, limit)-l.used-l.other-l.leased)
}

func (c *core) perDay(r request) int64 {
	if c.limit > 0 {
		return c.limit
	}
	return r.perDay
}

// withheld is for tokens that Redis has forgotten to have leased: until they are reported nothing is known of them, and
// for no longer than a lease. A tenth of the day is twice what [ledger.grant] gives to all together at a time; where
// Redis has lost everything, and calls are so slow that pods have more in hand, it may be more.
func (c *core) withheld(now, limit int64) int64 {
	if now < c.since || now >= c.since+leaseFor.Microseconds() {
		return 0
	}
	return min(c.careful, limit/10+16)
}

func (c *core) answer(now int64, l *ledger, h *holding, r request) grant {
	freed := int64(0)
	if c.withheld(now, c.perDay(r)) > 0 {
		freed = c.since + leaseFor.Microseconds() - now
	}
	return grant{
		tokens:   h.tokens,
		n:        h.n,
		start:    micros(h.slots.start - now),
		interval: time.Duration(h.slots.interval),
		left:     c.left(now, l, r),
		leased:   l.leased,
		midnight: micros(microsToMidnight(now)),
		freed:    micros(freed),
		now:      now,
	}
}

// mark is sync.lua before WeChat is asked.
func (c *core) mark(now, day int64) (int64, error) {
	if today := dayOf(now); day != today {
		return 0, otherDay(today)
	}
	if !c.known {
		return 0, errUnknown
	}
	return c.ledger(day).mark(), nil
}

// sync is sync.lua after it.
func (c *core) sync(now, day int64, w count) error {
	if today := dayOf(now); day != today {
		return otherDay(today)
	}
	switch {
	case c.known && w.rebuilt:
		return nil // by another pod, since
	case !c.known && !w.rebuilt:
		return errUnknown
	case w.rebuilt:
		c.ledger(day).rebuild(w.used)
		c.known, c.since, c.careful = true, now, w.used
	default:
		c.ledger(day).sync(w.used, w.mark)
	}
	if w.limit > 0 {
		c.limit = w.limit
	}
	return nil
}

// slow is slow.lua.
func (c *core) slow(now int64) time.Duration {
	return micros(c.pace.slowDown(now) - now)
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// usage is usage.lua.
func (c *core) usage(now, day int64) (book, error) {
	if today := dayOf(now); day != today {
		return book{}, otherDay(today)
	}
	l := c.ledger(day)
	return book{known: c.known, limit: c.limit, used: l.used + l.other, leased: l.leased, factor: c.pace.factor(now)}, nil
}
