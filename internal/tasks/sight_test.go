package tasks

import (
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
)

func TestSee(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	e, l := newEnqueuer(t, rdb), NewLookup(rdb)
	list := singles(3)
	put(t, e, list[:2]...)
	see := func(i int) Sight {
		t.Helper()
		s, err := l.See(t.Context(), placeOf(list[i]))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if got, want := see(0), (Sight{State: "pending", Queued: 2}); got != want {
		t.Errorf("a parcel that waits: %+v, want %+v", got, want)
	}
	if got, want := see(2), (Sight{Queued: 2}); got != want {
		t.Errorf("a parcel that is nowhere: %+v, want %+v", got, want)
	}
	// What asynq's Retry leaves.
	at := time.Now().Add(time.Minute).Truncate(time.Second)
	p := placeOf(list[0])
	for _, err := range []error{
		rdb.LRem(t.Context(), p.key("pending"), 0, p.ID.String()).Err(),
		rdb.HSet(t.Context(), p.task(), "state", "retry").Err(),
		rdb.ZAdd(t.Context(), p.key("retry"), z(list[0], at)).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := see(0); got.State != "retry" || !got.Next.Equal(at) || got.Queued != 1 {
		t.Errorf("a parcel that came back: %+v, want it to go on at %v", got, at)
	}
	_ = rdb.Close()
	if _, err := l.See(t.Context(), p); err == nil {
		t.Error("Redis is away, and nobody says so")
	}
}
