package gate

import (
	"math/rand/v2"
	"time"
)

// When an API counts as out of order: of the calls of span, at least callsToTrip, half failed. Fewer failures show it
// where no call had an answer (those that hang come back few at a time), and after a rest that it is still so.
const (
	span        = 10 * time.Second
	callsToTrip = 20
	callsAgain  = 5
)

// An API that is out of order rests for firstRest, then for twice as long each time up to longestRest, until it
// has worked for soundAfter.
const (
	firstRest   = 5 * time.Second
	longestRest = time.Minute
	soundAfter  = 2 * time.Minute
)

// A circuit counts what became of the calls of one API of one account. It knows no clock.
type circuit struct {
	counts [span / time.Second]count
	rest   time.Duration // the last one, without its jitter; zero: none yet
	until  time.Time     // its end
}

type count struct {
	second               int64
	calls, failed, sound int
}

// at is the count of now's second.
func (c *circuit) at(now time.Time) *count {
	second := now.Unix()
	n := &c.counts[second%int64(len(c.counts))]
	if n.second != second {
		*n = count{second: second}
	}
	return n
}

// failed notes a failure, and answers until when the API rests if this one was too many. What comes back of calls that
// were on their way when the rest began says nothing new.
func (c *circuit) failed(now time.Time) (until time.Time, trips bool) {
	if now.Before(c.until) {
		return time.Time{}, false
	}
	c.at(now).failed++
	var calls, failed, sound int
	for _, n := range c.counts {
		if now.Unix()-n.second < int64(len(c.counts)) {
			calls, failed, sound = calls+n.calls, failed+n.failed, sound+n.sound
		}
	}
	calls = max(calls, failed) // one that hung began before the span
	need := callsToTrip
	if c.shaky(now) || sound == 0 {
		need = callsAgain
	}
	if calls < need || 2*failed < calls {
		return time.Time{}, false
	}
	return c.pause(now), true
}

// shaky says whether the last rest is so near that a failure is likely its continuation.
func (c *circuit) shaky(now time.Time) bool { return c.rest > 0 && now.Before(c.until.Add(soundAfter)) }

// pause begins a rest, longer than the one before.
func (c *circuit) pause(now time.Time) time.Time {
	if c.shaky(now) {
		c.rest = min(2*c.rest, longestRest)
	} else {
		c.rest = firstRest
	}
	c.counts = [len(c.counts)]count{}
	c.until = now.Add(c.rest - rand.N(c.rest/5)) // pods do not come back all at once
	return c.until
}
