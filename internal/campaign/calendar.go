package campaign

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Calendar says when messages may go, by the clock of a time zone. Quiet hours are from From up to, without, To, over
// midnight where To is the earlier; closed days are days without any message: a date (2026-10-01), dates
// (2026-10-01..2026-10-07) or a day of the week (sun).
type Calendar struct {
	From     string   `json:"from,omitempty"` // quiet from, such as 22:00
	To       string   `json:"to,omitempty"`   // quiet to
	Closed   []string `json:"closed,omitempty"`
	Timezone string   `json:"timezone,omitempty"` // empty: DefaultZone
}

// always says that messages may go at any time.
func (c Calendar) always() bool { return c.From == "" && c.To == "" && len(c.Closed) == 0 }

// longestClosed is how far ahead Opens looks for a day that is not closed.
const longestClosed = 400 * 24 * time.Hour

// Opens says whether messages may go now, and else when; zero: not in sight.
func (c Calendar) Opens(now time.Time) (time.Time, bool) {
	if c.always() {
		return time.Time{}, true
	}
	d := c.dial()
	if d.open(now) {
		return time.Time{}, true
	}
	for t := now; t.Sub(now) < longestClosed; {
		if t = d.next(t); d.open(t) {
			return t, false
		}
	}
	return time.Time{}, false
}

// A dial is a calendar that has been read.
type dial struct {
	loc      *time.Location
	from, to int // quiet, in minutes of the day
	weekdays [7]bool
	days     []span
}

// A span is some days of the wall's clock, the last included.
type span struct{ first, last wall }

// dial reads a checked calendar.
func (c Calendar) dial() dial {
	d := dial{loc: zoneOf(c.Timezone)}
	d.from, _ = clock(c.From)
	d.to, _ = clock(c.To)
	for _, text := range c.Closed {
		if day, ok := weekday(text); ok {
			d.weekdays[day] = true
		} else if days, err := daysOf(text); err == nil {
			d.days = append(d.days, days)
		}
	}
	return d
}

func (d dial) open(t time.Time) bool {
	w := onWall(t, d.loc)
	return !d.quiet(w) && !d.closed(w)
}

func (d dial) quiet(w wall) bool {
	minute := w.Hour()*60 + w.Minute()
	if d.from <= d.to {
		return d.from <= minute && minute < d.to
	}
	return d.from <= minute || minute < d.to
}

func (d dial) closed(w wall) bool {
	return d.weekdays[w.Weekday()] || slices.ContainsFunc(d.days, func(s span) bool {
		return !w.Before(s.first) && w.Before(s.last.AddDate(0, 0, 1))
	})
}

// next is an instant up to which it stays closed: the next day's beginning, or in quiet hours the next minute, since
// clocks may be changed in them.
func (d dial) next(t time.Time) time.Time {
	w := onWall(t, d.loc)
	if d.closed(w) {
		if day := instant(time.Date(w.Year(), w.Month(), w.Day()+1, 0, 0, 0, 0, time.UTC), d.loc); day.After(t) {
			return day
		}
	}
	return t.Add(time.Minute - time.Duration(w.Second())*time.Second - time.Duration(w.Nanosecond()))
}

// clock reads a time of the day as minutes; none is 0.
func clock(text string) (minutes int, err error) {
	if text == "" {
		return 0, nil
	}
	t, err := time.Parse("15:04", text)
	if err != nil {
		return 0, fmt.Errorf("want a time of the day such as %q", "22:00")
	}
	return t.Hour()*60 + t.Minute(), nil
}

// weekday reads a day of the week: sun, Sunday.
func weekday(text string) (time.Weekday, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if name := d.String(); strings.EqualFold(text, name) || strings.EqualFold(text, name[:3]) {
			return d, true
		}
	}
	return 0, false
}

// daysOf reads a date, or two with .. between them.
func daysOf(text string) (s span, err error) {
	first, last, ranged := strings.Cut(text, "..")
	if !ranged {
		last = first
	}
	if s.first, err = time.Parse(time.DateOnly, first); err == nil {
		s.last, err = time.Parse(time.DateOnly, last)
	}
	if err != nil || s.last.Before(s.first) {
		return s, fmt.Errorf("want a date such as 2026-10-01, two such as 2026-10-01..2026-10-07, or a day of the week such as sun")
	}
	return s, nil
}
