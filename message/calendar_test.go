package message_test

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestDayIsBeijings(t *testing.T) {
	for _, c := range []struct{ claim, at, day, next string }{
		{"the evening in UTC is the next day in Beijing", "2026-11-22T16:00:00Z", "2026-11-22T16:00:00Z", "2026-11-23T16:00:00Z"},
		{"one nanosecond before midnight is the old day", "2026-11-22T15:59:59.999999999Z", "2026-11-21T16:00:00Z", "2026-11-22T16:00:00Z"},
		{"the 31st ends in the 1st", "2026-08-31T12:00:00+08:00", "2026-08-31T00:00:00+08:00", "2026-09-01T00:00:00+08:00"},
		{"a leap year has a 29 February", "2028-02-28T23:00:00+08:00", "2028-02-28T00:00:00+08:00", "2028-02-29T00:00:00+08:00"},
		{"the year ends in Beijing eight hours before UTC", "2026-12-31T16:00:00Z", "2027-01-01T00:00:00+08:00", "2027-01-02T00:00:00+08:00"},
	} {
		t.Run(c.claim, func(t *testing.T) {
			at := calendarTime(t, c.at)
			if got, want := message.Day(at), calendarTime(t, c.day); !got.Equal(want) {
				t.Errorf("Day(%s) = %s, want %s", c.at, got, want)
			}
			if got, want := message.NextDay(at), calendarTime(t, c.next); !got.Equal(want) {
				t.Errorf("NextDay(%s) = %s, want %s", c.at, got, want)
			}
		})
	}
}

func TestBeijingIsTheZoneDatabasesShanghai(t *testing.T) {
	shanghai, err := time.LoadLocation("Asia/Shanghai")
	if err != nil {
		t.Fatalf("load the zone: %v", err)
	}
	for at := calendarTime(t, "1992-01-01T00:00:00Z"); at.Year() < 2040; at = at.AddDate(0, 0, 17) {
		if got, want := message.Beijing(at).Format(time.DateTime), at.In(shanghai).Format(time.DateTime); got != want {
			t.Fatalf("Beijing(%s) reads %s, want %s", at, got, want)
		}
	}
}

func calendarTime(t *testing.T, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatalf("parse %q: %v", s, err)
	}
	return at
}
