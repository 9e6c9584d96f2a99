package tasks

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
)

func placeOf(p *message.Parcel) Place { return Place{QueueOf(p.Kind, p.Lane, p.Account), p.ID} }

func TestLookup(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	e, l := newEnqueuer(t, rdb), NewLookup(rdb)
	list := singles(5)
	archived, completed, stub := list[1], list[2], list[3] // the first waits, and the last is missing
	put(t, e, list[:4]...)
	places := make([]Place, len(list))
	for i, p := range list {
		places[i] = placeOf(p)
	}
	look := func() []bool {
		t.Helper()
		gone, err := l.Gone(t.Context(), places)
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	if got := look(); !slices.Equal(got, []bool{false, false, false, false, true}) {
		t.Fatalf("of parcels that wait, gone are %v", got)
	}

	if err := asynq.NewInspectorFromRedisClient(rdb).ArchiveTask(places[0].Queue, archived.ID.String()); err != nil {
		t.Fatal(err)
	}
	q := places[0]
	ctx := context.Background()
	for _, err := range []error{
		rdb.LRem(ctx, q.key("pending"), 0, completed.ID.String()).Err(), // what asynq's markAsComplete leaves
		rdb.HSet(ctx, placeOf(completed).task(), "state", "completed").Err(),
		rdb.ZAdd(ctx, q.key("completed"), z(completed, time.Now())).Err(),
		rdb.LRem(ctx, q.key("pending"), 0, stub.ID.String()).Err(), // an evicted hash, then dequeued
		rdb.Del(ctx, placeOf(stub).task()).Err(),
		rdb.HSet(ctx, placeOf(stub).task(), "state", "active").Err(),
		rdb.LPush(ctx, q.key("active"), stub.ID.String()).Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := look(); !slices.Equal(got, []bool{false, true, true, true, true}) {
		t.Fatalf("gone are %v", got)
	}
	if err := l.Forget(ctx, places); err != nil { // of all: one that is alive must not be harmed
		t.Fatal(err)
	}
	put(t, e, list...)
	if got := look(); slices.Contains(got, true) {
		t.Errorf("after they were put again, gone are %v", got)
	}
	for key, want := range map[string]int64{"archived": 0, "completed": 0} {
		if n, err := rdb.ZCard(ctx, q.key(key)).Result(); err != nil || n != want {
			t.Errorf("%s: %d, %v", key, n, err)
		}
	}
	if n := pending(t, rdb, q.Queue); n != 5 {
		t.Errorf("%d are pending, want each once", n)
	}
	if n, _ := rdb.LLen(ctx, q.key("active")).Result(); n != 0 {
		t.Errorf("%d are active", n)
	}
}

func TestLeaseIsGivenWhereThereIsNone(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	l, q := NewLookup(rdb), Place{Queue: "bulk:3"}
	ctx, now := t.Context(), time.Now()
	leased, orphan := parcelOf(templateMessage(1)), parcelOf(templateMessage(2))
	rdb.LPush(ctx, q.key("active"), leased.ID.String(), orphan.ID.String())
	rdb.ZAdd(ctx, q.key("lease"), z(leased, now.Add(20*time.Second)))
	for _, want := range []int64{1, 0} {
		if n, err := l.Lease(ctx, now); err != nil || n != want {
			t.Errorf("gave %d leases, %v; want %d", n, err, want)
		}
	}
	for p, want := range map[*message.Parcel]time.Time{leased: now.Add(20 * time.Second), orphan: now} {
		if at, err := rdb.ZScore(ctx, q.key("lease"), p.ID.String()).Result(); err != nil || int64(at) != want.Unix() {
			t.Errorf("a lease is over at %v, %v; want %d", at, err, want.Unix())
		}
	}
}

func TestForgot(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	l := NewLookup(rdb)
	ask := func(want bool, when string) {
		t.Helper()
		if got, err := l.Forgot(t.Context()); err != nil || got != want {
			t.Errorf("%s: %v, %v", when, got, err)
		}
	}
	ask(true, "at first")
	ask(false, "then")
	before := rdb.Get(t.Context(), markKey).Val()
	ask(false, "then")
	rdb.FlushDB(t.Context())
	ask(true, "after it was wiped")
	ask(false, "then")
	rdb.Set(t.Context(), markKey, before, 0)
	ask(true, "after it went back in time")
	if ttl := rdb.TTL(t.Context(), markKey).Val(); ttl <= 0 {
		t.Errorf("the mark stays for %v", ttl)
	}
}

func z(p *message.Parcel, at time.Time) redis.Z {
	return redis.Z{Score: float64(at.Unix()), Member: p.ID.String()}
}
