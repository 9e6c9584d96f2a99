package campaign

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestForecasts(t *testing.T) {
	now := moment(t, "2026-11-28T10:00:00+08:00") // a Saturday
	day := func(d int) time.Time { return time.Date(2026, 11, d, 0, 0, 0, 0, zoneOf("")) }
	for _, c := range []struct {
		name  string
		load  Load
		today bool
		done  string
		left  int64
		days  []int64 // from today
	}{
		{"nothing", Load{Left: 5}, true, "2026-11-28T10:00:00+08:00", 5, nil},
		{"an hour's", Load{Messages: 360_000, Left: 500_000, PerDay: 500_000, PerSecond: 100}, true, "2026-11-28T11:00:00+08:00", 140_000, []int64{360_000}},
		{"at its own pace", Load{Messages: 36_000, Left: 500_000, PerDay: 500_000, PerSecond: 100, Pace: 10}, true, "2026-11-28T11:00:00+08:00", 464_000, []int64{36_000}},
		{"slower than one a minute", Load{Messages: 3, Left: 10, PerDay: 10, Pace: 0.01}, true, "2026-11-28T10:05:00+08:00", 7, []int64{3}},
		{
			"more than today's quota",
			Load{Messages: 182_400, Left: 61_200, PerDay: 99_000, Reserve: 10_000, PerSecond: 100},
			false, "2026-11-30T00:07:02+08:00", 10_000,
			[]int64{51_200, 89_000, 42_200},
		},
		{"nothing is left today", Load{Messages: 10, Left: 0, PerDay: 100, PerSecond: 1}, false, "2026-11-29T00:00:10+08:00", 0, []int64{0, 10}},
		{
			"into the night",
			Load{Messages: 36_000, Left: 1e6, PerDay: 1e6, PerSecond: 1, Calendar: Calendar{From: "15:00", To: "08:00"}},
			false, "2026-11-29T13:00:00+08:00", 1e6 - 18_000,
			[]int64{18_000, 18_000},
		},
		{
			"no Sundays",
			Load{Messages: 100_000, Left: 1e6, PerDay: 1e6, PerSecond: 1, Calendar: Calendar{Closed: []string{"sun"}}},
			false, "2026-11-30T13:46:40+08:00", 1e6 - 50_400,
			[]int64{50_400, 0, 49_600},
		},
		{"never", Load{Messages: 1, Left: 10, Reserve: 10, PerDay: 10, PerSecond: 1}, false, "", 10, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Forecast(c.load, now)
			if want := c.done; o.Today != c.today || o.Left != c.left || want == "" != o.Done.IsZero() || want != "" && absolute(o.Done.Sub(moment(t, want))) > time.Second {
				t.Errorf("got %+v, want %v %s, %d left", o, c.today, want, c.left)
			}
			got := map[time.Time]int64{}
			for _, p := range o.Days {
				got[p.Day] = p.Messages
			}
			for i, want := range c.days {
				if n := got[day(28+i)]; n != want {
					t.Errorf("day %d: %d go, want %d", 28+i, n, want)
				}
			}
		})
	}
}

func absolute(d time.Duration) time.Duration { return max(d, -d) }

func TestForecastsKeepEveryLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := Load{
			Messages: rapid.Int64Range(1, 2_000_000).Draw(t, "messages"), Left: rapid.Int64Range(0, 100_000).Draw(t, "left"),
			PerDay: rapid.Int64Range(1, 100_000).Draw(t, "per day"), Reserve: rapid.Int64Range(0, 20_000).Draw(t, "reserve"),
			PerSecond: rapid.Float64Range(0, 200).Draw(t, "per second"), Pace: rapid.Float64Range(0, 50).Draw(t, "pace"),
			Calendar: rapid.SampledFrom([]Calendar{{}, {From: "22:00", To: "08:00"}, {Closed: []string{"sun", "2026-12-01"}}}).Draw(t, "calendar"),
		}
		now := time.Unix(rapid.Int64Range(1_796_000_000, 1_796_300_000).Draw(t, "now"), 0)
		o := Forecast(l, now)
		var total int64
		for i, p := range o.Days {
			quota := l.PerDay
			if p.Day.Equal(message.Day(now)) {
				quota = l.Left
			}
			open := p.To.Sub(p.From).Seconds()
			switch {
			case p.Messages <= 0 || p.Messages > quota-l.Reserve:
				t.Fatalf("%+v: %d go of %d", l, p.Messages, quota)
			case p.From.Before(now) || p.To.Before(p.From) || p.To.After(p.Day.Add(24*time.Hour)) || p.From.Before(p.Day):
				t.Fatalf("%+v: %+v is not within its day", l, p)
			case float64(p.Messages) > open*lesser(l.PerSecond, l.Pace)+1 && !math.IsInf(lesser(l.PerSecond, l.Pace), 1):
				t.Fatalf("%+v: %d in %.0f s", l, p.Messages, open)
			case i > 0 && !p.Day.After(o.Days[i-1].Day):
				t.Fatalf("%+v: days are out of order", l)
			}
			total += p.Messages
		}
		if o.Done.IsZero() != (total < l.Messages) || total > l.Messages {
			t.Fatalf("%+v: %d go, done %v", l, total, o.Done)
		}
	})
}
