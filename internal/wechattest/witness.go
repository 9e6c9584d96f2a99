package wechattest

import (
	"maps"
	"time"
)

// A witness counts arrivals and accepted sends by itself, from nothing but their times.
type witness struct {
	arrivals int64
	accepts  int64
	days     map[day]*dayCount
	today    *dayCount
	todayIs  day

	last    int64   // time of the latest arrival, in nanoseconds
	times   []int64 // a ring of the arrivals of the last 60 s; its length is a power of two
	next    uint64  // index of the next arrival
	first60 uint64  // of the oldest in the last 60 s
	first1  uint64  // of the oldest in the last second
	max60   int64
	max1    int64
}

type dayCount struct{ arrivals, accepts int64 }

func (w *witness) arrive(now time.Time) {
	w.arrivals++
	w.on(now).arrivals++
	t := now.UnixNano()
	if t < w.last-int64(time.Second) { // the clock was set back: other windows
		w.first60, w.first1 = w.next, w.next
	} else {
		t = max(t, w.last) // two arrivals that overtook each other on the way here
	}
	w.last = t
	if w.next-w.first60 == uint64(len(w.times)) {
		w.grow()
	}
	mask := uint64(len(w.times) - 1)
	w.times[w.next&mask] = t
	w.next++
	for w.times[w.first60&mask] <= t-int64(time.Minute) {
		w.first60++
	}
	w.first1 = max(w.first1, w.first60)
	for w.times[w.first1&mask] <= t-int64(time.Second) {
		w.first1++
	}
	w.max60 = max(w.max60, int64(w.next-w.first60))
	w.max1 = max(w.max1, int64(w.next-w.first1))
}

func (w *witness) grow() {
	bigger := make([]int64, max(64, 2*len(w.times)))
	for i := w.first60; i < w.next; i++ {
		bigger[i&uint64(len(bigger)-1)] = w.times[i&uint64(len(w.times)-1)]
	}
	w.times = bigger
}

func (w *witness) accept(now time.Time) {
	w.accepts++
	w.on(now).accepts++
}

func (w *witness) on(now time.Time) *dayCount {
	d := dayOf(now)
	if w.today != nil && w.todayIs == d {
		return w.today
	}
	if w.days == nil {
		w.days = map[day]*dayCount{}
	}
	if w.days[d] == nil {
		w.days[d] = &dayCount{}
	}
	w.today, w.todayIs = w.days[d], d
	return w.today
}

// Calls are the witness's own counts of one API of one account, apart from the quota that it enforces.
type Calls struct {
	Arrived  int64          `json:"arrived"`  // calls that count towards a quota: with a valid token, or token calls
	Accepted int64          `json:"accepted"` // sends that were accepted
	Struck   int64          `json:"struck"`   // calls that an injected fault answered or damaged
	Refused  map[int]int64  `json:"refused"`  // by errcode
	ByDay    map[string]Day `json:"by_day"`   // by Beijing day, 2006-01-02
	Max60s   int64          `json:"max_60s"`  // most arrivals in any 60 s
	Max1s    int64          `json:"max_1s"`   // most arrivals in any second
}

// A Day is one Beijing day's part of [Calls].
type Day struct {
	Arrived  int64 `json:"arrived"`
	Accepted int64 `json:"accepted"`
}

func (m *meter) calls() Calls {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := Calls{
		Arrived: m.seen.arrivals, Accepted: m.seen.accepts, Struck: m.struck,
		Refused: maps.Clone(m.refused), ByDay: map[string]Day{},
		Max60s: m.seen.max60, Max1s: m.seen.max1,
	}
	for d, n := range m.seen.days {
		c.ByDay[d.String()] = Day{n.arrivals, n.accepts}
	}
	return c
}
