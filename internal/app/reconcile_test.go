package app

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/pipeline"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/reconcile"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/window"
	"github.com/hongyan-dispatch/hongyan/message"
	"github.com/hongyan-dispatch/hongyan/outcome"
)

func TestMain(m *testing.M) { devstack.Main(m) }

// A ward is a ledger and a Redis with a reconciler that looks after them.
type ward struct {
	testing.TB
	store    *postgres.Store
	db       *pgxpool.Pool
	rdb      redis.UniversalClient
	enqueuer *tasks.Enqueuer
	healer   *reconcile.Reconciler
}

func newWard(tb testing.TB) *ward {
	tb.Helper()
	url := devstack.Postgres(tb, postgres.Migrate)
	store, err := postgres.Open(tb.Context(), url, postgres.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(store.Close)
	db, err := pgxpool.New(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(db.Close)
	rdb, err := tasks.Redis(devstack.Redis(tb))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { rdb.Close() })
	enqueuer, err := tasks.NewEnqueuer(rdb)
	if err != nil {
		tb.Fatal(err)
	}
	shop := &account{pipeline: pipeline.Account{Name: "shop", AppID: "wxshop"}}
	shop.Name, shop.AppID = "shop", "wxshop"
	all := accounts{"shop": shop, "wxshop": shop}
	return &ward{tb, store, db, rdb, enqueuer, &reconcile.Reconciler{
		Store: ledgerRows{store}, Lookup: tasks.NewLookup(rdb), Queue: enqueuer,
		Windows: answered{window.New(rdb, func(message.AppID) window.Rules { return window.DefaultRules() }), all},
		Repeats: all.repeats, Retention: 24 * time.Hour, Log: slog.New(slog.DiscardHandler),
	}}
}

// accept writes down parcels of n messages, as if that were some seconds ago.
func (w *ward) accept(kind message.Kind, parcels, n int) []*message.Parcel {
	w.Helper()
	list := make([]*message.Parcel, parcels)
	for i := range list {
		p := &message.Parcel{ID: message.NewID(time.Now()), Account: "shop", Kind: kind, Lane: message.Normal}
		for j := range n {
			p.Messages = append(p.Messages, &message.Message{
				ID: message.NewID(time.Now()), Account: "shop", Kind: kind, Lane: message.Normal,
				To: message.OpenID(fmt.Sprintf("oUser%07d-%03d", i, j)), Body: json.RawMessage(`{"a":1}`),
			})
		}
		list[i] = p
	}
	for rest := list; len(rest) > 0; {
		k := min(1000, len(rest))
		if _, err := w.store.Accept(w.Context(), rest[:k], time.Now()); err != nil {
			w.Fatal(err)
		}
		rest = rest[k:]
	}
	w.exec(`UPDATE parcel SET created_at = created_at - interval '6 seconds'`)
	return list
}

func (w *ward) exec(sql string) {
	w.Helper()
	if _, err := w.db.Exec(w.Context(), sql); err != nil {
		w.Fatal(err)
	}
}

func (w *ward) enqueue(list []*message.Parcel) {
	w.Helper()
	for _, err := range w.enqueuer.Enqueue(w.Context(), list) {
		if err != nil {
			w.Fatal(err)
		}
	}
}

// heal runs the reconciler until done says so.
func (w *ward) heal(what string, done func() bool) time.Duration {
	w.Helper()
	ctx, stop := context.WithCancel(w.Context())
	var loops errgroup.Group
	loops.Go(func() error { return w.healer.Watch(ctx) })
	loops.Go(func() error { return w.store.Lead(ctx, "resolver", w.healer.Resolve, func(err error) { w.Log(err) }) })
	loops.Go(func() error { return w.healer.Run(ctx) })
	defer func() { stop(); _ = loops.Wait() }()
	return w.wait(what, done)
}

func (w *ward) wait(what string, done func() bool) time.Duration {
	w.Helper()
	start := time.Now()
	for tick := time.NewTicker(20 * time.Millisecond); !done(); <-tick.C {
		if time.Since(start) > 60*time.Second {
			w.Fatalf("after a minute still not %s", what)
		}
	}
	return time.Since(start)
}

func (w *ward) pending() int { return int(w.rdb.LLen(w.Context(), "asynq:{normal}:pending").Val()) }

func (w *ward) scripts() int {
	n := 0
	for line := range strings.Lines(w.rdb.Info(w.Context(), "commandstats").Val()) {
		if strings.HasPrefix(line, "cmdstat_evalsha:") || strings.HasPrefix(line, "cmdstat_eval:") {
			_, rest, _ := strings.Cut(line, "calls=")
			var calls int
			_, _ = fmt.Sscanf(rest, "%d", &calls)
			n += calls
		}
	}
	return n
}

func TestParcelsComeBack(t *testing.T) {
	t.Run("that were never enqueued, and those that Redis loses later, within seconds, each once", func(t *testing.T) {
		w := newWard(t)
		w.accept(message.Template, 300, 2)
		w.heal("in the queue", func() bool { return w.pending() == 300 })
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = w.healer.Run(ctx) }()
		defer func() { stop(); <-ended }()
		for round := range 2 {
			w.wait("marked", func() bool { return w.rdb.Exists(ctx, "hongyan:reconcile:mark").Val() == 1 })
			w.rdb.FlushDB(ctx)
			if took := w.wait("back after a loss", func() bool { return w.pending() == 300 }); took > 10*time.Second {
				t.Errorf("round %d: back after %v", round, took)
			}
		}
		ids := map[string]bool{}
		for _, id := range w.rdb.LRange(ctx, "asynq:{normal}:pending", 0, -1).Val() {
			ids[id] = true
		}
		if len(ids) != 300 {
			t.Errorf("%d ids wait, want 300", len(ids))
		}
	})
	t.Run("that are archived or kept as completed", func(t *testing.T) {
		w := newWard(t)
		list := w.accept(message.Template, 2, 1)
		w.enqueue(list)
		if err := asynq.NewInspectorFromRedisClient(w.rdb).ArchiveTask("normal", list[0].ID.String()); err != nil {
			t.Fatal(err)
		}
		key := "asynq:{normal}:t:" + list[1].ID.String()
		w.rdb.LRem(t.Context(), "asynq:{normal}:pending", 0, list[1].ID.String())
		w.rdb.HSet(t.Context(), key, "state", "completed")
		w.rdb.ZAdd(t.Context(), "asynq:{normal}:completed", redis.Z{Score: 1e12, Member: list[1].ID.String()})
		w.heal("pending again", func() bool { return w.pending() == 2 })
	})
	t.Run("with what is still accepted; what was decided is not sent twice", func(t *testing.T) {
		w := newWard(t)
		list := w.accept(message.Template, 1, 2)
		c, _ := w.pod(t)
		p := list[0]
		claim, err := c.Claim(t.Context(), p.Messages[0], p.ID)
		if err != nil || !claim.OK {
			t.Fatal(claim, err)
		}
		w.heal("in the queue", func() bool { return w.pending() == 1 })
		// Both are asked for, by the parcel that was made anew and by an old copy of it.
		if again, err := c.Claim(t.Context(), p.Messages[0], p.ID); err != nil || again.OK {
			t.Errorf("claimed twice: %+v, %v", again, err)
		}
		if first, err := c.Claim(t.Context(), p.Messages[1], p.ID); err != nil || !first.OK {
			t.Errorf("got %+v, %v", first, err)
		}
		if again, err := c.Claim(t.Context(), p.Messages[1], p.ID); err != nil || again.OK {
			t.Errorf("claimed twice: %+v, %v", again, err)
		}
	})
}

func TestAHealthyBacklogIsLeftAlone(t *testing.T) {
	parcels := 100_000
	if testing.Short() {
		parcels = 10_000
	}
	w := newWard(t)
	w.enqueue(w.accept(message.Template, parcels, 1))
	before := w.scripts()
	looked := &counting{Lookup: w.healer.Lookup.(*tasks.Lookup)}
	w.healer.Lookup = looked
	took := w.heal("looked at", func() bool { return looked.leased.Load() })
	// One script for each queue's leases, and none that enqueues.
	if n := w.scripts() - before; n > len(tasks.Queues()) {
		t.Errorf("%d scripts ran over a backlog that is well", n)
	}
	if got := w.pending(); got != parcels {
		t.Errorf("%d wait, want %d", got, parcels)
	}
	t.Logf("%d parcels were looked up in %v", parcels, took)
}

// pod starts a worker's committer.
func (w *ward) pod(t *testing.T) (*postgres.Committer, postgres.Pod) {
	t.Helper()
	pod, err := w.store.StartPod(t.Context(), "tea", "test")
	if err != nil {
		t.Fatal(err)
	}
	c := w.store.NewCommitter(pod.ID, postgres.CommitterOptions{})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = c.Run(ctx) }()
	t.Cleanup(func() { stop(); <-ended })
	return c, pod
}

// Claimed, and the pod dies: what can be repeated goes on, everything else is unknown, all within 30 s.
func TestMessagesOfADeadPodAreResolvedByKind(t *testing.T) {
	t.Parallel()
	w := newWard(t)
	c, _ := w.pod(t)
	lives, other := w.pod(t)
	want := map[message.ID]outcome.Status{}
	var custom message.ID
	var user message.OpenID
	for _, kind := range []message.Kind{message.Template, message.Custom, message.Subscribe} {
		for _, p := range w.accept(kind, 1, 1) {
			m := p.Messages[0]
			if claim, err := c.Claim(t.Context(), m, p.ID); err != nil || !claim.OK {
				t.Fatal(claim, err)
			}
			want[m.ID] = outcome.Unknown
			switch kind {
			case message.Template:
				want[m.ID] = outcome.Parked
			case message.Custom:
				custom, user = m.ID, m.To
			}
		}
	}
	alive := w.accept(message.Custom, 1, 1)[0]
	if claim, err := lives.Claim(t.Context(), alive.Messages[0], alive.ID); err != nil || !claim.OK {
		t.Fatal(claim, err)
	}
	ledger := window.New(w.rdb, func(message.AppID) window.Rules { return window.DefaultRules() })
	if err := ledger.Event(t.Context(), "wxshop", user, "message", time.Now().Add(-time.Minute), time.Now()); err != nil {
		t.Fatal(err)
	}
	state := func(id message.ID) outcome.Status {
		s, err := w.store.Status(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return s.State
	}
	took := w.heal("resolved", func() bool {
		if err := other.Beat(t.Context()); err != nil {
			t.Fatal(err)
		}
		for id, s := range want {
			if state(id) != s {
				return false
			}
		}
		return true
	})
	if took > 30*time.Second {
		t.Errorf("resolved after %v", took)
	}
	if s := state(alive.Messages[0].ID); s != outcome.Sending {
		t.Errorf("the message of a pod that lives is %s", s)
	}
	w.heal("counted", func() bool { // right after the outcome is committed
		v, err := ledger.Look(t.Context(), "wxshop", user, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return len(v.Buckets) == 1 && v.Buckets[0].Used == 1
	})
	if v, err := ledger.Reserve(t.Context(), "wxshop", user, custom, time.Now()); err != nil || !v.Held {
		t.Errorf("the answer that may have gone is not counted as its message's: %+v, %v", v, err)
	}
}

// counting is a Lookup that knows when the first look at everything is over.
type counting struct {
	*tasks.Lookup
	leased atomic.Bool
}

func (c *counting) Lease(ctx context.Context, now time.Time) (int64, error) {
	defer c.leased.Store(true)
	return c.Lookup.Lease(ctx, now)
}
