package mass_test

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/mass"
)

func TestCalendarIsBeijings(t *testing.T) {
	for _, c := range []struct {
		claim, at, day string
	}{
		{"the evening in UTC is tomorrow in Beijing", "2026-11-22T16:00:00Z", "2026-11-23"},
		{"a nanosecond before midnight is the old day", "2026-11-22T23:59:59.999999999+08:00", "2026-11-22"},
		{"midnight is the new day", "2026-11-23T00:00:00+08:00", "2026-11-23"},
		{"the 31st is the old month", "2026-08-31T23:59:59+08:00", "2026-08-31"},
		{"the 1st is the new month", "2026-09-01T00:00:00+08:00", "2026-09-01"},
		{"a leap year has a 29 February", "2028-02-28T16:00:00Z", "2028-02-29"},
		{"which March follows", "2028-02-29T16:00:00Z", "2028-03-01"},
		{"a common year has none", "2027-02-28T16:00:00Z", "2027-03-01"},
		{"the year ends", "2026-12-31T23:59:59+08:00", "2026-12-31"},
		{"and begins while it is still December in UTC", "2026-12-31T16:00:00Z", "2027-01-01"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			at := parse(t, c.at)
			if got := mass.DayOf(at).String(); got != c.day {
				t.Errorf("DayOf(%s) = %s, want %s", c.at, got, c.day)
			}
			if got, want := mass.MonthOf(at).String(), c.day[:7]; got != want {
				t.Errorf("MonthOf(%s) = %s, want %s", c.at, got, want)
			}
		})
	}
}

func TestDaysSortByTime(t *testing.T) {
	last := mass.Day(0)
	for at := parse(t, "2026-12-01T12:00:00+08:00"); at.Year() < 2029; at = at.AddDate(0, 0, 1) {
		day := mass.DayOf(at)
		if day <= last || day.Month() != mass.MonthOf(at) {
			t.Fatalf("%d of month %d follows %d", day, day.Month(), last)
		}
		last = day
	}
}

func TestNearBoundaryIsFiveSecondsEitherSide(t *testing.T) {
	midnight := parse(t, "2026-09-01T00:00:00+08:00")
	for _, c := range []struct {
		from time.Duration
		near bool
	}{
		{-5*time.Second - 1, false},
		{-5 * time.Second, true},
		{-1, true},
		{0, true},
		{5*time.Second - 1, true},
		{5 * time.Second, false},
		{12 * time.Hour, false},
	} {
		at := midnight.Add(c.from)
		if got := mass.NearBoundary(at); got != c.near {
			t.Errorf("%v from midnight: near %t, want %t", c.from, got, c.near)
		}
		want := at
		if c.near {
			want = midnight.Add(5 * time.Second)
		}
		if got := mass.PastBoundary(at); !got.Equal(want) {
			t.Errorf("%v from midnight: past the boundary at %s, want %s", c.from, got, want)
		}
	}
}

func parse(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}
