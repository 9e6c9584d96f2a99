package mass

import (
	"fmt"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Day is a day of Beijing's calendar, as 20261231: it sorts by time, and people can read it in a table.
type Day int32

// A Month is a month of Beijing's calendar, as 202612.
type Month int32

// DayOf is the day by which WeChat counts a send at t.
func DayOf(t time.Time) Day {
	y, m, d := message.Beijing(t).Date()
	return Day(y*10_000 + int(m)*100 + d)
}

// MonthOf is the month by which WeChat counts a send at t.
func MonthOf(t time.Time) Month { return DayOf(t).Month() }

// Month is the month of the day.
func (d Day) Month() Month { return Month(d / 100) }

// String is the day as 2026-12-31.
func (d Day) String() string { return fmt.Sprintf("%s-%02d", d.Month(), d%100) }

// String is the month as 2026-12.
func (m Month) String() string { return fmt.Sprintf("%04d-%02d", m/100, m%100) }

// near is how close to midnight our day and WeChat's may differ.
const near = 5 * time.Second

// NearBoundary says whether t is so close to Beijing's midnight that WeChat may count it by the other day, or month.
func NearBoundary(t time.Time) bool { return PastBoundary(t).After(t) }

// PastBoundary is the first instant from t on that is not near a boundary.
func PastBoundary(t time.Time) time.Time {
	for _, midnight := range [...]time.Time{message.Day(t), message.NextDay(t)} {
		if past := midnight.Add(near); t.Before(past) && !t.Before(midnight.Add(-near)) {
			return past
		}
	}
	return t
}
