package campaign

import (
	"errors"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// Schedule says when a campaign fires: at one time, or by a cron expression of five fields in a time zone (minute, hour,
// day of the month, month, day of the week). Where both days are given, either may come, as in every cron.
//
// Ticks are whole minutes by the zone's clock, and the same for whoever computes them. Where a zone puts its clocks
// forward, a tick in the hour that is left out comes at the moment of the change; where it puts them back, a tick comes
// the first time only.
type Schedule struct {
	Cron     string    `json:"cron,omitempty"`
	At       time.Time `json:"at,omitzero"`
	Timezone string    `json:"timezone,omitempty"` // empty: DefaultZone
	CatchUp  string    `json:"catch_up,omitempty"` // what is made up for of a cron's ticks that were missed; empty: CatchUpOnce
}

// What a campaign makes up for that was paused, or that no worker was there for, when its ticks came.
const (
	CatchUpSkip = "skip" // nothing: a tick that is later than lateBy is left out
	CatchUpOnce = "once" // the last of its missed ticks
	CatchUpAll  = "all"  // each of them, or the last maxCatchUp
)

const (
	// lateBy is how late a tick still is no missed one: workers are updated, and lead by turns.
	lateBy = 5 * time.Minute
	// maxCatchUp is a month of daily ticks.
	maxCatchUp = 31
)

// IsZero says that the campaign is started by hand.
func (s Schedule) IsZero() bool { return s.Cron == "" && s.At.IsZero() }

// Past says that there is no tick any more.
func (s Schedule) Past(now time.Time) bool { return !s.IsZero() && s.Next(now).IsZero() }

// Next is the first tick after an instant; zero: there is none.
func (s Schedule) Next(after time.Time) time.Time {
	if s.At.After(after) {
		return s.At
	}
	if s.Cron == "" {
		return time.Time{}
	}
	loc := zoneOf(s.Timezone)
	w := onWall(after, loc).Truncate(time.Minute)
	for {
		next, err := nextOnWall(s.Cron, w)
		if err != nil {
			return time.Time{}
		}
		if t := instant(next, loc); t.After(after) {
			return t
		}
		w = next // clocks were changed: this tick has been
	}
}

// errNever says that no day fits a cron expression, such as 30 February.
var errNever = errors.New("no such day in the next years")

// nextOnWall is the first tick of a cron expression behind a minute, on a clock that is never changed.
func nextOnWall(cron string, w wall) (wall, error) {
	next, err := gronx.NextTickAfter(cron, w, false)
	if err != nil {
		return wall{}, errNever
	}
	return next, nil
}

// Due are the ticks after last, up to now, that are to be fired, the oldest first.
func (s Schedule) Due(last, now time.Time) []time.Time {
	most := 1
	if s.CatchUp == CatchUpAll {
		most = maxCatchUp
	}
	due := s.newest(most, last, now)
	if s.Cron != "" && s.CatchUp == CatchUpSkip && len(due) > 0 && now.Sub(due[0]) > lateBy {
		return nil
	}
	return due
}

// newest are the last ticks after last, up to now, at most so many. It looks farther and farther back, since there may
// be a million.
func (s Schedule) newest(most int, last, now time.Time) (ticks []time.Time) {
	const day = 24 * time.Hour
	for _, back := range []time.Duration{time.Hour, day, 32 * day, 400 * day, 100 * 365 * day} {
		from := now.Add(-back)
		if from.Before(last) {
			from = last
		}
		ticks = ticks[:0]
		for t := s.Next(from); !t.IsZero() && !t.After(now); t = s.Next(t) {
			ticks = append(ticks, t)
		}
		if len(ticks) >= most || from.Equal(last) {
			break
		}
	}
	return ticks[max(0, len(ticks)-most):]
}

// checkCron says what is wrong with a cron expression, if anything.
func checkCron(cron string) error {
	const want = `want five fields: minute, hour, day of the month, month, day of the week, such as "0 10 * * 1" for Mondays at ten`
	if len(strings.Fields(cron)) != 5 || !gronx.IsValid(cron) {
		return errors.New(want)
	}
	if _, err := nextOnWall(cron, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		return err
	}
	return nil
}
