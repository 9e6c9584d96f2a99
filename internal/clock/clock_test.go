package clock

import (
	"testing"
	"time"
)

// Not parallel: the offset is the process's.
func TestFollow(t *testing.T) {
	t.Cleanup(func() { offset.Store(0) })
	for _, c := range []struct {
		name    string
		off     time.Duration // of the answer, from the middle of asking
		took    time.Duration
		changed bool
		want    time.Duration
	}{
		{"a good clock", 100 * time.Millisecond, 4 * time.Millisecond, false, 0},
		{"ten minutes behind", 10 * time.Minute, 4 * time.Millisecond, true, 10 * time.Minute},
		{"still behind, and a little more", 10*time.Minute + 300*time.Millisecond, 4 * time.Millisecond, false, 10 * time.Minute},
		{"an answer that was so long on its way that it leaves this in doubt", 10*time.Minute + 9*time.Second, 20 * time.Second, false, 10 * time.Minute},
		{"one that was as long, and leaves this out of doubt", -time.Hour, 20 * time.Second, true, -time.Hour},
		{"a clock that was put back while it was asked", time.Hour, -time.Second, false, -time.Hour},
		{"ten minutes ahead", -10 * time.Minute, 4 * time.Millisecond, true, -10 * time.Minute},
		{"put right, as a slow answer says", 3 * time.Second, 8 * time.Second, true, 0},
		{"three seconds behind, as a quick one says", 3 * time.Second, 4 * time.Millisecond, true, 3 * time.Second},
		{"put right", 200 * time.Millisecond, 4 * time.Millisecond, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			asked := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
			got := Follow(asked.Add(c.took/2+c.off), asked, asked.Add(c.took))
			if got != c.changed || Offset() != c.want {
				t.Errorf("changed %v, offset %v; want %v, %v", got, Offset(), c.changed, c.want)
			}
		})
	}
}

func TestNowIsTheOffsetAway(t *testing.T) {
	t.Cleanup(func() { offset.Store(0) })
	offset.Store(int64(-10 * time.Minute))
	local := time.Now()
	if got := Of(local).Sub(local.Round(0)); got != -10*time.Minute {
		t.Errorf("%v away, want -10m", got)
	}
	if d := Since(Of(local)); d < 0 || d > time.Minute {
		t.Errorf("%v since now", d)
	}
	if d := Until(Of(local).Add(time.Hour)); d > time.Hour || d < 59*time.Minute {
		t.Errorf("%v until an hour from now", d)
	}
}
