package wechattest

import (
	"sync/atomic"
	"time"
)

// Beijing is the zone of WeChat's days and months. China has no daylight saving time.
var Beijing = time.FixedZone("Asia/Shanghai", 8*60*60)

// A Clock is the simulator's time. The zero Clock shows real time; it is safe for concurrent use.
type Clock struct {
	set atomic.Pointer[setting]
}

type setting struct {
	shown  time.Time // what the clock showed
	at     time.Time // when it showed that, in real time
	frozen bool
}

// Now is the time that the clock shows.
func (c *Clock) Now() time.Time {
	s := c.set.Load()
	switch {
	case s == nil:
		return time.Now()
	case s.frozen:
		return s.shown
	default:
		return s.shown.Add(time.Since(s.at))
	}
}

// Set makes the clock show t and run on from there, unless it is frozen.
func (c *Clock) Set(t time.Time) {
	s := c.set.Load()
	c.set.Store(&setting{shown: t, at: time.Now(), frozen: s != nil && s.frozen})
}

// Advance moves the clock forward by d; a frozen clock stays frozen.
func (c *Clock) Advance(d time.Duration) { c.Set(c.Now().Add(d)) }

// Freeze stops the clock at t.
func (c *Clock) Freeze(t time.Time) { c.set.Store(&setting{shown: t, at: time.Now(), frozen: true}) }

// Run lets a frozen clock run on from what it shows.
func (c *Clock) Run() { c.set.Store(&setting{shown: c.Now(), at: time.Now()}) }

// Real makes the clock show real time again.
func (c *Clock) Real() { c.set.Store(nil) }

func (c *Clock) isReal() bool { return c.set.Load() == nil }

// A day is a calendar day in Beijing, counted from 1970-01-01.
type day int32

func dayOf(t time.Time) day {
	const seconds = 24 * 60 * 60
	return day((t.Unix() + 8*60*60) / seconds)
}

// String is the day as 2006-01-02.
func (d day) String() string {
	return time.Unix(int64(d)*24*60*60, 0).UTC().Format(time.DateOnly)
}

// A month is a calendar month in Beijing, counted from January of the year 0.
type month int32

func monthOf(t time.Time) month {
	y, m, _ := t.In(Beijing).Date()
	return month(y*12 + int(m) - 1)
}
