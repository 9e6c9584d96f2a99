// Package clock tells the time that all processes agree on: that of Postgres.
//
// Machines' clocks differ, sometimes by minutes, and what one process writes another one compares with its own time:
// when a parked message is due, until when a gate is closed, whether a user's window is open, when a task's lease is
// over. So a process follows the clock of the store that all of them share, and every time that is stored, or compared
// with a stored one, is told by [Now]. What only measures how long something takes stays with [time.Now], which has a
// monotonic reading; the two are never compared: see [Of].
//
// The offset is the process's, as the time itself is.
package clock

import (
	"sync/atomic"
	"time"
)

// Tolerated is by how much a clock may differ before it is corrected.
const Tolerated = 500 * time.Millisecond

// offset is what is added to this machine's time, in nanoseconds.
var offset atomic.Int64

// Now is the time that all processes agree on. It has no monotonic reading.
func Now() time.Time { return Of(time.Now()) }

// Of is the same instant that time.Now told of, as all processes know it.
func Of(local time.Time) time.Time { return local.Round(0).Add(Offset()) }

// Since is the time that has passed since an instant of [Now].
func Since(t time.Time) time.Duration { return Now().Sub(t) }

// Until is the time until an instant of [Now].
func Until(t time.Time) time.Duration { return t.Sub(Now()) }

// Offset is by how much this machine's clock is behind: zero while it is good enough.
func Offset() time.Duration { return time.Duration(offset.Load()) }

// Follow takes an answer to the question what time it is, which was asked and answered by this machine's clock, and
// says whether the offset changed. The answer was true at some instant between the two. A slow one leaves much in doubt, but
// what is out of doubt is corrected all the same.
func Follow(answer, asked, answered time.Time) bool {
	took := answered.Sub(asked)
	if took < 0 {
		return false
	}
	doubt := max(Tolerated, took/2)
	measured := answer.Sub(asked.Round(0).Add(took / 2))
	if (measured - Offset()).Abs() <= doubt {
		return false
	}
	if measured.Abs() <= doubt {
		measured = 0
	}
	offset.Store(int64(measured))
	return true
}
