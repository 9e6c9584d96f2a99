package message

import "time"

// Beijing is the instant t on the clock by which WeChat counts days and months. WeChat's pages say "daily" and
// 自然月 without a zone; all that is known points to Beijing. China has kept +08:00 without summer time since
// 1991, so the zone is fixed here and needs no zone database on the machine.
func Beijing(t time.Time) time.Time { return t.In(beijing) }

var beijing = time.FixedZone("Asia/Shanghai", 8*60*60)

// Day is the Beijing midnight at which the day of t began.
func Day(t time.Time) time.Time {
	y, m, d := Beijing(t).Date()
	return time.Date(y, m, d, 0, 0, 0, 0, beijing)
}

// NextDay is the Beijing midnight at which the day of t ends.
func NextDay(t time.Time) time.Time {
	y, m, d := Beijing(t).Date()
	return time.Date(y, m, d+1, 0, 0, 0, 0, beijing)
}
