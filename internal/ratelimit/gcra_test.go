package ratelimit

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestDaysAreBeijings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMicro(rapid.Int64Range(1_600_000_000_000_000, 4_000_000_000_000_000).Draw(t, "at"))
		day := dayOf(at.UnixMicro())
		if got, want := startOf(day), message.Day(at); !got.Equal(want) {
			t.Fatalf("%s: the day began at %s, want %s", at, got, want)
		}
		if got, want := dateOf(day), message.Beijing(at).Format("20060102"); got != want {
			t.Fatalf("%s: date %s, want %s", at, got, want)
		}
		if got, want := micros(microsToMidnight(at.UnixMicro())), message.NextDay(at).Sub(at); got != want {
			t.Fatalf("%s: %s to midnight, want %s", at, got, want)
		}
	})
}

// The arithmetic behind the minute: slots of two lines at their distances, each used up to burst late.
func TestNoMinuteHasMoreThanItsCalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		perMinute := rapid.Float64Range(1, 1e8).Draw(t, "per minute")
		l := Limits{PerSecond: perMinute / 60, UrgentPace: rapid.Float64Range(0, 1).Draw(t, "urgent")}
		open, reserved := l.intervals()
		most := (time.Minute+burst)/open + 1 // in a window that begins and ends with a slot
		if reserved > 0 {
			most += (time.Minute+burst)/reserved + 1
		}
		if allowed := math.Floor(perMinute + 1e-6); float64(most) > allowed {
			t.Fatalf("%d slots in 60.25 s, %g calls a minute", most, allowed)
		}
		if pace := time.Minute/open + time.Minute/max(reserved, 1)*time.Duration(min(reserved, 1)); float64(pace) < 0.9*math.Floor(perMinute)-3 {
			t.Fatalf("%d slots in 60 s, far below %g", pace, perMinute)
		}
	})
}

func TestNoWholeNumberOfCallsIsPassedByRounding(t *testing.T) {
	for perMinute := 1; perMinute <= 100_000; perMinute++ {
		open, _ := Limits{PerSecond: float64(perMinute) / 60}.intervals()
		if most := int((time.Minute+burst)/open) + 1; most > perMinute {
			t.Errorf("%d slots in 60.25 s, %d calls a minute", most, perMinute)
		}
	}
}

func TestUnsetPaceHasNoSlots(t *testing.T) {
	for _, p := range []float64{0, -1, math.NaN()} {
		if open, reserved := (Limits{PerSecond: p, UrgentPace: 0.2}).intervals(); open != 0 || reserved != 0 {
			t.Errorf("%v a second: slots every %s and %s, want none", p, open, reserved)
		}
	}
}
