package postgres

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is how long to wait after the try-th failure in a row: 5 ms, doubling up to 2 s, with full jitter.
func backoff(try int) time.Duration {
	most := min(5*time.Millisecond<<min(try-1, 20), 2*time.Second)
	return 1 + rand.N(most)
}

// pause waits; false means that ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
