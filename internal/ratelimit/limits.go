package ratelimit

import (
	"math"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Key names what WeChat counts by: an account and the path of an API.
type Key struct {
	App message.AppID
	API string // such as /cgi-bin/message/template/send
}

func (k Key) String() string { return string(k.App) + k.API }

// Limits are what one [Key] may do. What is not positive allows nothing: a limit that nobody set is closed.
type Limits struct {
	PerDay     int64   // calls a Beijing day, unless WeChat told another number ([Quota.Sync])
	PerSecond  float64 // calls a second; n a minute is n/60
	UrgentDay  float64 // share of the day that only urgent may use, 0 to 1
	UrgentPace float64 // share of the pace that only urgent may use, 0 to 1
	Margin     float64 // share of the day that nobody uses, because WeChat's counter is not exact
}

const (
	// burst is the time by which calls may bunch: in any window of T, at most T + burst of pace arrive.
	burst = 250 * time.Millisecond
	// slotLate is how long after its instant a slot may still be used. The rest of burst is left to the
	// way to WeChat, which is not equally long for every call.
	slotLate = 200 * time.Millisecond
	// credit is how far in the past a block of slots may begin: it gives back what a pod loses while it
	// asks for the next block. It is a part of slotLate, not beyond it.
	credit = 50 * time.Millisecond

	maxBlock = 200 // messages of one lease
	leaseFor = 30 * time.Second
	maxWaits = 30 * time.Second // the longest wait of one Take
)

// intervals are the distances of the slots on the two lines: open to all lanes, and reserved for urgent (0
// where there is none).
//
// WeChat counts by the minute. A call leaves at most burst after its slot, so the calls of any 60 s had
// their slots within 60.25 s: of those there must be no more than 60 × PerSecond. On one line of equal
// distances this is perMinute / 60.25 s; on two, each of which may have one slot more than its share,
// (perMinute - 1) / 60.25 s.
func (l Limits) intervals() (open, reserved time.Duration) {
	if !(l.PerSecond > 0) {
		return 0, 0
	}
	perMinute := 60 * l.PerSecond
	if whole := math.Floor(perMinute + 1e-9); whole >= 1 {
		perMinute = whole
	}
	span := (time.Minute + burst).Seconds()
	urgent := min(max(l.UrgentPace, 0), 0.95)
	if urgent*perMinute < 60 {
		// A reserved line of less than a slot a second would help nobody and cost the open one its -1.
		return every(perMinute / span), 0
	}
	rate := (perMinute - 1) / span
	return every(rate * (1 - urgent)), every(rate * urgent)
}

// every is the distance of slots at a rate per second, rounded up; the quotient is true to far less than a thousandth.
func every(rate float64) time.Duration {
	return time.Duration(math.Floor(1e9/rate+1e-3) + 1)
}

// ppm is a share as whole parts of a million, so that Lua and Go reckon alike.
func ppm(share float64) int64 {
	return int64(math.Round(min(max(share, 0), 1) * 1e6))
}
