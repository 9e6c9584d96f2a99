package ratelimit

import "time"

// beijing is Asia/Shanghai: UTC+8 without daylight saving since 1991. WeChat's day is taken to begin at its
// midnight; no page says so, everybody observes it.
var beijing = time.FixedZone("Asia/Shanghai", 8*60*60)

const dayMicros = 24 * 60 * 60 * 1_000_000

// dayOf is the Beijing day, as a number, of an instant in microseconds since 1970.
func dayOf(micros int64) int64 {
	return (micros + 8*60*60*1_000_000) / dayMicros
}

// microsToMidnight is the time left of an instant's Beijing day.
func microsToMidnight(micros int64) int64 {
	return (dayOf(micros)+1)*dayMicros - (micros + 8*60*60*1_000_000)
}

// dateOf writes a day as 20261122.
func dateOf(day int64) string {
	return time.Unix(day*24*60*60, 0).UTC().Format("20060102")
}
