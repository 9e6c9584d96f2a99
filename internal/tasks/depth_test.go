package tasks

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
)

func TestDepths(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	e, l := newEnqueuer(t, rdb), NewLookup(rdb)
	look := func() Depth {
		t.Helper()
		all, err := l.Depths(t.Context(), time.Now().Add(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		if len(all) != len(Classes()) {
			t.Fatalf("%d classes, want %d", len(all), len(Classes()))
		}
		var sum Depth
		for _, d := range all {
			sum.Pending, sum.Retry, sum.Oldest = sum.Pending+d.Pending, sum.Retry+d.Retry, max(sum.Oldest, d.Oldest)
		}
		return sum
	}
	if got := look(); got != (Depth{}) {
		t.Errorf("empty queues: %+v", got)
	}
	list := singles(3)
	put(t, e, list...)
	p := placeOf(list[0])
	for _, err := range []error{ // what asynq's Retry leaves
		rdb.LRem(t.Context(), p.key("pending"), 0, p.ID.String()).Err(),
		rdb.ZAdd(t.Context(), p.key("retry"), z(list[0], time.Now())).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := look()
	if got.Oldest < time.Minute || got.Oldest > 10*time.Minute {
		t.Errorf("the oldest waits for %v, want about a minute", got.Oldest)
	}
	got.Oldest = 0
	if got != (Depth{Pending: 2, Retry: 1}) {
		t.Errorf("got %+v, want 2 pending and 1 that comes back", got)
	}
	_ = rdb.Close()
	if _, err := l.Depths(t.Context(), time.Now()); err == nil {
		t.Error("Redis is away, and nobody says so")
	}
}
