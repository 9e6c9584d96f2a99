package main

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/report"
)

func TestForecast(t *testing.T) {
	now := time.Date(2026, 12, 1, 15, 0, 0, 0, time.FixedZone("CST", 8*3600))
	midnight := time.Date(2026, 12, 2, 0, 0, 0, 0, now.Location())
	for name, c := range map[string]struct {
		waiting    int64
		ours, left int64 // left at ours, and at WeChat; -1: it did not answer
		today      int64
		done       time.Time
	}{
		"nothing waits":                         {0, 900, 900, 0, time.Time{}},
		"all goes today":                        {300, 900, -1, 300, now.Add(30 * time.Second)},
		"WeChat's count is smaller":             {300, 900, 200, 100, midnight.Add(20 * time.Second)},
		"the urgent share is left":              {900, 900, 900, 800, midnight.Add(10 * time.Second)},
		"the day is used up":                    {50, 100, 100, 0, midnight.Add(5 * time.Second)},
		"more than two days' calls are waiting": {2500, 900, 900, 800, midnight.AddDate(0, 0, 1).Add(80 * time.Second)},
	} {
		v := quotaView{Ours: report.Quota{Limit: 1000, Left: c.ours, Pace: 10}}
		if c.left >= 0 {
			v.WeChat = &wechatView{Left: c.left}
		}
		f := forecastOf(c.waiting, v, 0.1, now)
		if f.Today != c.today || !f.DoneAt.Equal(c.done) {
			t.Errorf("%s: %d today, done at %v; want %d and %v", name, f.Today, f.DoneAt, c.today, c.done)
		}
	}
}
