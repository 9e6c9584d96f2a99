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

func TestRedisSetBackLearnsWhatWasSpentSince(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, beijing).UnixMicro()
	day := dayOf(now)
	open, _ := Limits{PerSecond: 1e6}.intervals()
	ask := func(c *core, seq, spent, acked, held int64) grant {
		g, err := c.lease(now, day, request{
			holder: "pod", seq: seq, spent: spent, acked: acked, held: held, want: 10,
			perDay: 1000, open: open.Nanoseconds(), rebuilt: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	var lived, setBack, forgot core
	for _, c := range []*core{&lived, &setBack} {
		ask(c, 1, 0, 0, 0)
	}
	ask(&lived, 2, 10, 0, 0)
	ask(&lived, 3, 20, 10, 0) // of which setBack, a replica that lagged, and forgot never heard
	for _, c := range []struct {
		claim string
		core  *core
		used  int64
	}{
		{"lived through it", &lived, 30},
		{"was set back", &setBack, 30},
		{"forgot all: only what was not answered yet", &forgot, 10},
	} {
		ask(c.core, 4, 30, 20, 0)
		if u, _ := c.core.usage(now, day); u.used != c.used {
			t.Errorf("%s: used %d, want %d", c.claim, u.used, c.used)
		}
	}
}
