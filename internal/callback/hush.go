package callback

import (
	"sync"
	"time"
)

// hushEvery is how often the log hears of one matter.
const hushEvery = time.Second

// A hush lets a matter into the log once in a while and counts how often it was left out: strangers, and an outage, must not
// fill a disk. Matters are few: no part of a request may be one.
type hush struct {
	mu   sync.Mutex
	last map[matter]*said
}

type matter struct{ account, what string }

type said struct {
	at   time.Time
	left int // out, since then
}

// let says whether the log is to hear of it now, and how often it has not since it last did.
func (h *hush) let(account, what string, now time.Time) (left int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := matter{account, what}
	s := h.last[m]
	switch {
	case s == nil:
		if h.last == nil {
			h.last = map[matter]*said{}
		}
		h.last[m] = &said{at: now}
		return 0, true
	case now.Sub(s.at) < hushEvery:
		s.left++
		return 0, false
	}
	left = s.left
	*s = said{at: now}
	return left, true
}
