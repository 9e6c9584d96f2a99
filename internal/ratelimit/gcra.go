package ratelimit

import "time"

// pace gives out slots: a generic cell rate algorithm with two lines. Slots of one line stand at equal
// distances and are given out in blocks, each block to one pod, the next block after it. Everybody may use
// the open line; urgent has the reserved one besides. So urgent waits behind no block of bulk, and has the
// whole pace where bulk is idle.
//
// (One line for all with a second, slower one that only bulk must satisfy would also keep the rates, but an
// urgent slot would then come after the block that bulk already has: 250 ms.)
//
// Times are microseconds of Redis' clock; distances nanoseconds, because 1,000,000/s is to be possible.
type pace struct {
	open, reserved int64 // the next free instant of each line
	closed         int64 // nothing before
	slow           int64 // thousandths of the pace at slowSince; 0: whole
	slowSince      int64
}

const (
	slowest     = 50 // thousandths
	slowStep    = 50 // thousandths
	slowStepDur = 10 * time.Second
	// farAhead (and a slot for each pod) is further than leases put the next free instant. One that lies
	// beyond was left by Redis' clock before it was set back; it is brought to burst from now, which is about
	// where the leases in use end. A clock set forward is not seen: slots that pods hold at that moment,
	// about 250 ms of pace, may be used beside new ones, once.
	farAhead = 5 * time.Second
)

// factor is the present share of the pace, in thousandths.
func (p *pace) factor(now int64) int64 {
	if p.slow == 0 {
		return 1000
	}
	steps := max(0, now-p.slowSince) / slowStepDur.Microseconds()
	return min(1000, p.slow+slowStep*steps)
}

// slowDown halves the pace and closes it until the next minute. Many calls are refused at once with 45011:
// while it is closed already, nothing more happens. It returns the instant of opening.
func (p *pace) slowDown(now int64) int64 {
	if p.closed > now && p.closed <= now+time.Minute.Microseconds() {
		return p.closed
	}
	p.slow = max(slowest, p.factor(now)/2)
	p.closed = (now/time.Minute.Microseconds() + 1) * time.Minute.Microseconds()
	p.slowSince = p.closed
	return p.closed
}

// slots is a block of them: n instants from start on, every interval.
type slots struct {
	reserved bool
	start    int64
	interval int64 // ns
	most     int64 // the block's largest n
}

// offer is the block that a lease would get now.
func (p *pace) offer(now int64, urgent bool, open, reserved, pods int64) slots {
	factor := p.factor(now)
	best := p.line(now, p.open, open, factor, pods)
	if !urgent || reserved == 0 {
		return best
	}
	other := p.line(now, p.reserved, reserved, factor, pods)
	other.reserved = true
	if max(other.start, now) < max(best.start, now) {
		return other
	}
	return best
}

func (p *pace) line(now, next, interval, factor, pods int64) slots {
	interval = ceilDiv(interval*1000, factor)
	if next > now+farAhead.Microseconds()+pods*ceilDiv(interval, 1000) {
		next = now + burst.Microseconds()
	}
	closed := p.closed
	if closed > now+time.Minute.Microseconds() {
		closed = now
	}
	return slots{
		start:    max(next, closed, now-credit.Microseconds()),
		interval: interval,
		most:     max(1, burst.Nanoseconds()/interval/pods),
	}
}

// take puts the line behind n slots of the block.
func (p *pace) take(s slots, n int64) {
	next := s.start + ceilDiv(n*s.interval, 1000)
	if s.reserved {
		p.reserved = next
	} else {
		p.open = next
	}
}

func ceilDiv(a, b int64) int64 { return (a + b - 1) / b }
