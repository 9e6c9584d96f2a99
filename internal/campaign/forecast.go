package campaign

import (
	"math"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

// A Load is a firing and the limits that it must fit into.
type Load struct {
	Messages  int64    // to be sent
	Left      int64    // of today's quota, the margin taken off
	PerDay    int64    // the quota of each later day, likewise; 0: none
	Reserve   int64    // of a day's quota, kept for urgent messages
	PerSecond float64  // the account's pace for campaigns; 0: none
	Pace      float64  // the campaign's own; 0: none
	Calendar  Calendar //
}

// An Outlook is what a forecast says.
type Outlook struct {
	Today bool      // all of it goes before Beijing's midnight
	Done  time.Time // when the last one goes; zero: not within a year
	Days  []Portion // the days on which some go
	Left  int64     // of today's quota, with the reserve, when the day's part is sent
}

// A Portion is what goes on one of WeChat's days.
type Portion struct {
	Day      time.Time // the Beijing midnight at which it begins
	From, To time.Time // the first and the last
	Messages int64
}

// farthest is how far a forecast looks.
const farthest = 366 * 24 * time.Hour

// Forecast says when a load that starts now is sent, if nothing else sends, and all goes well. It goes minute by minute
// as the feeder does: quiet hours and closed days are those of the campaign, a day's quota is Beijing's.
func Forecast(l Load, now time.Time) Outlook {
	o := Outlook{Left: l.Left}
	if l.Messages <= 0 {
		o.Today, o.Done = true, now
		return o
	}
	now = message.Beijing(now)
	perSecond := lesser(l.PerSecond, l.Pace)
	left, quota, due := l.Messages, max(0, l.Left-l.Reserve), 0.0
	today := message.Day(now)
	day, dial, always := today, l.Calendar.dial(), l.Calendar.always()
	for t := now; t.Sub(now) < farthest; {
		if d := message.Day(t); !d.Equal(day) {
			day, quota, due = d, max(0, l.PerDay-l.Reserve), 0
		}
		next := t.Truncate(time.Minute).Add(time.Minute)
		open := always || dial.open(t)
		if open && quota > 0 {
			due += perSecond * next.Sub(t).Seconds()
			n := min(left, quota, whole(due))
			if n > 0 {
				end := t.Add(lasts(n, perSecond, next.Sub(t)))
				o.add(day, t, end, n)
				left, quota, due = left-n, quota-n, due-float64(n)
			}
			if left == 0 {
				last := o.Days[len(o.Days)-1]
				o.Done, o.Today = last.To, last.Day.Equal(today)
				break
			}
		}
		if quota == 0 { // nothing more goes today
			next = message.NextDay(t)
		}
		t = next
	}
	if len(o.Days) > 0 && o.Days[0].Day.Equal(today) {
		o.Left -= o.Days[0].Messages
	}
	return o
}

// lesser is the lower of two paces, of which 0 is none.
func lesser(a, b float64) float64 {
	switch {
	case a <= 0 && b <= 0:
		return math.Inf(1)
	case a <= 0:
		return b
	case b <= 0:
		return a
	}
	return min(a, b)
}

// whole is how many whole messages are due.
func whole(due float64) int64 {
	if due >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(due + 1e-9)
}

// lasts is how long n messages of a minute take.
func lasts(n int64, perSecond float64, most time.Duration) time.Duration {
	return min(most, time.Duration(float64(n)/perSecond*float64(time.Second)))
}

func (o *Outlook) add(day, from, to time.Time, n int64) {
	if last := len(o.Days) - 1; last >= 0 && o.Days[last].Day.Equal(day) {
		o.Days[last].To = to
		o.Days[last].Messages += n
		return
	}
	o.Days = append(o.Days, Portion{Day: day, From: from, To: to, Messages: n})
}
