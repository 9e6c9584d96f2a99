package ratelimit

import "time"

// The scripts know the time as microseconds since 1970 and a Beijing day (message.Day) by its number, which
// needs no calendar in Lua.
const (
	dayMicros     = 24 * 60 * 60 * 1_000_000
	beijingMicros = 8 * 60 * 60 * 1_000_000
)

func dayOf(micros int64) int64 {
	return (micros + beijingMicros) / dayMicros
}

// microsToMidnight is what is left of an instant's day.
func microsToMidnight(micros int64) int64 {
	return (dayOf(micros)+1)*dayMicros - (micros + beijingMicros)
}

// dateOf writes a day as 20261122.
func dateOf(day int64) string {
	return time.UnixMicro(day * dayMicros).UTC().Format("20060102")
}

// startOf is the instant at which a day begins.
func startOf(day int64) time.Time {
	return time.UnixMicro(day*dayMicros - beijingMicros)
}
