package campaign

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestCalendars(t *testing.T) {
	night := Calendar{From: "22:00", To: "08:00"}
	for _, c := range []struct {
		name     string
		calendar Calendar
		now      string
		opens    string // empty: it is open
	}{
		{"none", Calendar{}, "2026-11-28T03:00:00+08:00", ""},
		{"at noon", night, "2026-11-28T12:00:00+08:00", ""},
		{"the last minute", night, "2026-11-28T21:59:59+08:00", ""},
		{"from is quiet", night, "2026-11-28T22:00:00+08:00", "2026-11-29T08:00:00+08:00"},
		{"behind midnight", night, "2026-11-29T03:30:10.5+08:00", "2026-11-29T08:00:00+08:00"},
		{"to is not", night, "2026-11-29T08:00:00+08:00", ""},
		{"in the day", Calendar{From: "12:00", To: "13:30"}, "2026-11-29T12:10:00+08:00", "2026-11-29T13:30:00+08:00"},
		{"until midnight", Calendar{From: "20:00", To: "00:00"}, "2026-11-29T20:10:00+08:00", "2026-11-30T00:00:00+08:00"},
		{"by another clock", Calendar{From: "22:00", To: "08:00", Timezone: "America/New_York"}, "2026-11-28T12:00:00Z", "2026-11-28T13:00:00Z"},
		{"a closed day", Calendar{Closed: []string{"2026-11-28"}}, "2026-11-28T12:00:00+08:00", "2026-11-29T00:00:00+08:00"},
		{"closed days and a quiet night", Calendar{From: "22:00", To: "08:00", Closed: []string{"2027-02-05..2027-02-11", "sun", "Saturday"}}, "2027-02-05T09:00:00+08:00", "2027-02-12T08:00:00+08:00"},
		{"quiet into a closed day", Calendar{From: "22:00", To: "08:00", Closed: []string{"sun"}}, "2026-11-28T23:00:00+08:00", "2026-11-30T08:00:00+08:00"},
		{"clocks are put forward in quiet hours", Calendar{From: "01:00", To: "02:30", Timezone: "America/New_York"}, "2026-03-08T06:10:00Z", "2026-03-08T07:00:00Z"},
		{"and put back", Calendar{From: "01:00", To: "02:30", Timezone: "America/New_York"}, "2026-11-01T05:10:00Z", "2026-11-01T07:30:00Z"},
		{"a day without its midnight", Calendar{Closed: []string{"2026-03-28"}, Timezone: "Asia/Beirut"}, "2026-03-28T10:00:00Z", "2026-03-28T22:00:00Z"},
	} {
		opens, open := c.calendar.Opens(moment(t, c.now))
		if open != (c.opens == "") || c.opens != "" && !opens.Equal(moment(t, c.opens)) {
			t.Errorf("%s: got %v, %v; want %q", c.name, opens, open, c.opens)
		}
	}
	if opens, open := (Calendar{Closed: []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}}).Opens(time.Now()); open || !opens.IsZero() {
		t.Errorf("closed for ever: %v, %v", opens, open)
	}
}

// TestCalendarsMinuteByMinute asks an oracle that knows no calendar: it goes from minute to minute, and reads off the wall.
func TestCalendarsMinuteByMinute(t *testing.T) {
	hhmm := func(minute int) string { return fmt.Sprintf("%02d:%02d", minute/60, minute%60) }
	zones := []string{"", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"}
	rapid.Check(t, func(t *rapid.T) {
		from, to := rapid.IntRange(0, 1439).Draw(t, "from"), rapid.IntRange(0, 1439).Draw(t, "to")
		if from == to {
			to = (from + 1) % 1440
		}
		c := Calendar{From: hhmm(from), To: hhmm(to), Timezone: rapid.SampledFrom(zones).Draw(t, "zone")}
		loc := zoneOf(c.Timezone)
		now := time.Unix(rapid.Int64Range(1_772_600_000, 1_793_700_000).Draw(t, "now"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanoseconds"))
		var dates []string
		for range rapid.IntRange(0, 3).Draw(t, "dates") {
			dates = append(dates, now.In(loc).AddDate(0, 0, rapid.IntRange(0, 3).Draw(t, "ahead")).Format(time.DateOnly))
		}
		day := rapid.SampledFrom(append([]string{""}, "Sunday", "Monday", "Saturday")).Draw(t, "weekday")
		c.Closed = slices.Clone(dates)
		if day != "" {
			c.Closed = append(c.Closed, day)
		}
		open := func(at time.Time) bool {
			at = at.In(loc)
			minute := at.Hour()*60 + at.Minute()
			quiet := from <= minute && minute < to
			if from > to {
				quiet = !(to <= minute && minute < from)
			}
			return !quiet && !slices.Contains(dates, at.Format(time.DateOnly)) && at.Weekday().String() != day
		}
		got, isOpen := c.Opens(now)
		if isOpen != open(now) {
			t.Fatalf("%+v at %v: open is %v", c, now, isOpen)
		}
		if isOpen {
			return
		}
		want := now.Truncate(time.Minute).Add(time.Minute)
		for !open(want) {
			want = want.Add(time.Minute)
		}
		if !got.Equal(want) {
			t.Fatalf("%+v at %v: opens at %v, want %v", c, now, got, want)
		}
	})
}

func BenchmarkOpens(b *testing.B) {
	c := Calendar{From: "22:00", To: "08:00", Closed: []string{"sun", "2026-11-28"}}
	now := time.Date(2026, 11, 27, 14, 0, 0, 0, time.UTC)
	for b.Loop() {
		c.Opens(now)
	}
}
