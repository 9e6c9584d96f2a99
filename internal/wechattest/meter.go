package wechattest

import (
	"sync"
	"time"
)

// A meter keeps what WeChat counts of one API of one account, and, apart from it, what the witness counts.
type meter struct {
	mu sync.Mutex

	// What WeChat counts: the day's quota and the calls of the running minute and second.
	today  day
	used   int64
	minute window
	second window

	// What the witness counts.
	seen    witness
	refused map[int]int64 // by errcode
	struck  int64         // calls that an injected fault answered
}

// A window is a fixed span of the clock: WeChat says "retry next minute".
type window struct {
	start int64
	n     int64
}

func (w *window) add(at, span, limit int64) bool {
	if start := at / span; start != w.start {
		w.start, w.n = start, 0
	}
	if limit > 0 && w.n >= limit {
		return false
	}
	w.n++
	return true
}

// withinRate counts a call into its minute and second.
func (m *meter) withinRate(l Limit, now time.Time) bool {
	if l.PerMinute == 0 && l.PerSecond == 0 {
		return true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.second.add(now.Unix(), 1, l.PerSecond) && m.minute.add(now.Unix(), 60, l.PerMinute)
}

// spend takes one call from the quota of the day.
func (m *meter) spend(perDay int64, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	if perDay > 0 && m.used >= perDay {
		return false
	}
	m.used++
	return true
}

// refund gives back what spend took on the same day.
func (m *meter) refund(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.turn(now); m.used > 0 {
		m.used--
	}
}

func (m *meter) usage(now time.Time) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	return m.used
}

func (m *meter) setUsed(n int64, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.turn(now)
	m.used = n
}

func (m *meter) turn(now time.Time) {
	if d := dayOf(now); d != m.today {
		m.today, m.used = d, 0
	}
}

func (m *meter) arrived(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen.arrive(now)
}

func (m *meter) accepted(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen.accept(now)
}

func (m *meter) answered(code int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refused == nil {
		m.refused = map[int]int64{}
	}
	m.refused[code]++
}

func (m *meter) damaged() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.struck++
}
