package report

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/ratelimit"
)

func TestUsedUpAt(t *testing.T) {
	day := time.Date(2026, 12, 1, 0, 0, 0, 0, time.FixedZone("CST", 8*3600))
	noon := day.Add(12 * time.Hour)
	for name, c := range map[string]struct {
		used, leased, left int64
		want               time.Time
	}{
		"at the pace of the morning, at six": {800, 100, 300, day.Add(18 * time.Hour)},
		"not today":                          {100, 0, 900, time.Time{}},
		"nothing was used":                   {0, 0, 1000, time.Time{}},
		"used up already":                    {1000, 0, 0, noon},
	} {
		got := UsedUpAt(ratelimit.Usage{Day: day, Used: c.used, Leased: c.leased, Left: c.left}, noon)
		if !got.Equal(c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
