package campaign

import (
	"fmt"
	"time"
	_ "time/tzdata" // a campaign may name any zone, and the image has no zone database

	"github.com/hongyan-dispatch/hongyan/message"
)

// DefaultZone is the time zone of a campaign that names none.
const DefaultZone = "Asia/Shanghai"

// zone finds a time zone by its name. The machine's own ("Local") is none: pods must agree.
func zone(name string) (*time.Location, error) {
	switch name {
	case "", DefaultZone:
		return message.Beijing(time.Time{}).Location(), nil
	case "Local":
		return nil, fmt.Errorf("no time zone %q", name)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("no time zone %q", name)
	}
	return loc, nil
}

// zoneOf is the zone of a checked spec.
func zoneOf(name string) *time.Location {
	loc, err := zone(name)
	if err != nil {
		loc, _ = zone(DefaultZone)
	}
	return loc
}

// A wall is what a clock on the wall shows: a time of UTC that stands for the same digits in another zone. Its hours are
// all there, and each once.
type wall = time.Time

// onWall is what the clock of a zone shows at t.
func onWall(t time.Time, loc *time.Location) wall {
	t = t.In(loc)
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// instant is when the clock of a zone shows w. Where clocks are put back and show it twice, it is the first time; where
// they are put forward over it, it is the moment of that.
func instant(w wall, loc *time.Location) time.Time {
	t := time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), w.Nanosecond(), loc)
	start, end := t.ZoneBounds()
	switch shown := onWall(t, loc); {
	case shown.After(w):
		return start
	case shown.Before(w):
		return end
	}
	if start.IsZero() {
		return t
	}
	_, before := start.Add(-1).Zone()
	_, now := t.Zone()
	if first := t.Add(-time.Duration(before-now) * time.Second); first.Before(start) {
		return first
	}
	return t
}
