package tasks

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestMain(m *testing.M) { devstack.Main(m) }

func connect(tb testing.TB, url string) redis.UniversalClient {
	tb.Helper()
	rdb, err := Redis(url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { rdb.Close() })
	return rdb
}

func newEnqueuer(tb testing.TB, rdb redis.UniversalClient) *Enqueuer {
	tb.Helper()
	e, err := NewEnqueuer(rdb)
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func put(t *testing.T, e *Enqueuer, parcels ...*message.Parcel) {
	t.Helper()
	for i, err := range e.Enqueue(t.Context(), parcels) {
		if err != nil {
			t.Fatalf("parcel %d: %v", i, err)
		}
	}
}

// singles makes n parcels of one message each.
func singles(n int) []*message.Parcel {
	parcels := make([]*message.Parcel, n)
	for i := range parcels {
		parcels[i] = parcelOf(templateMessage(i))
	}
	return parcels
}

// pending counts the tasks that wait in a queue.
func pending(t *testing.T, rdb redis.UniversalClient, queue string) int {
	t.Helper()
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetQueueInfo(queue)
	if err != nil {
		t.Fatal(err)
	}
	return info.Pending
}

func TestServerGetsWhatWasEnqueued(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	urgent := fullMessage()
	urgent.Lane = message.Urgent
	parcels := append(singles(3), parcelOf(templateMessages(100)...), parcelOf(urgent), parcelOf(massMessage(3)))
	put(t, newEnqueuer(t, rdb), parcels...)

	got := make(chan *message.Parcel)
	handler := asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		p, err := Decode(task)
		if err != nil {
			t.Error(err)
			return nil
		}
		got <- p
		return nil
	})
	for _, class := range Classes() {
		config := class.ServerConfig()
		config.LogLevel = asynq.FatalLevel
		server := asynq.NewServerFromRedisClient(rdb, config)
		if err := server.Start(handler); err != nil {
			t.Fatal(err)
		}
		defer server.Shutdown()
	}
	want := map[message.ID]*message.Parcel{}
	for _, p := range parcels {
		want[p.ID] = p
	}
	for range parcels {
		p := <-got
		if diff := cmp.Diff(want[p.ID], p); diff != "" {
			t.Errorf("parcel (-want +got):\n%s", diff)
		}
	}
}

func TestTaskCarriesOurOptions(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	p := parcelOf(templateMessage(1))
	put(t, newEnqueuer(t, rdb), p)
	info, err := asynq.NewInspectorFromRedisClient(rdb).GetTaskInfo(QueueOf(p.Kind, p.Lane, p.Account), p.ID.String())
	if err != nil {
		t.Fatal(err)
	}
	if info.Type != TypeSend || info.MaxRetry != maxRetry || info.Timeout != taskTimeout || info.Retention != 0 || !info.Deadline.IsZero() {
		t.Errorf("task = %+v", info)
	}
}

func TestParcelThatIsStillThereCountsAsPut(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	e := newEnqueuer(t, rdb)
	parcels := singles(10)
	put(t, e, parcels[:4]...)
	put(t, e, parcels...)
	if got := pending(t, rdb, "bulk:1"); got != 10 {
		t.Errorf("%d tasks, want 10", got)
	}
	if got := e.AlreadyThere(); got != 4 {
		t.Errorf("already there: %d, want 4", got)
	}
}

func TestRoundsAreSplitByCountAndWeight(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	parcels := singles(2*roundTasks + 1)
	for range 4 { // more than a round's bytes
		parcels = append(parcels, parcelOf(massMessage(20_000)))
	}
	put(t, newEnqueuer(t, rdb), parcels...)
	if got := pending(t, rdb, "bulk:1"); got != 2*roundTasks+1 {
		t.Errorf("%d light tasks, want %d", got, 2*roundTasks+1)
	}
	if got := pending(t, rdb, "mass"); got != 4 {
		t.Errorf("%d heavy tasks, want 4", got)
	}
}

func TestBadParcelFailsAlone(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	parcels := singles(3)
	parcels[1].Lane = "express"
	errs := newEnqueuer(t, rdb).Enqueue(t.Context(), parcels)
	if errs[0] != nil || errs[1] == nil || errs[2] != nil {
		t.Errorf("errors = %v, want one for the second", errs)
	}
	if got := pending(t, rdb, "bulk:1"); got != 2 {
		t.Errorf("%d tasks, want 2", got)
	}
}

func TestEnqueuerOutlivesTheLossOfRedis(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	// Its own server: scripts are forgotten and all databases emptied here.
	stack, err := devstack.Start(ctx, devstack.Options{Redis: true, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stack.Close() })
	rdb := connect(t, stack.RedisURL())
	e := newEnqueuer(t, rdb)
	put(t, e, singles(600)...)

	t.Run("forgotten scripts are brought along", func(t *testing.T) {
		if err := rdb.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		put(t, e, singles(600)...)
		if got := pending(t, rdb, "bulk:1"); got != 1200 {
			t.Errorf("%d tasks, want 1200", got)
		}
	})
	t.Run("an emptied server knows its queues again", func(t *testing.T) {
		if err := rdb.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
		put(t, e, singles(1)...)
		queues, err := asynq.NewInspectorFromRedisClient(rdb).Queues()
		if err != nil || !slices.Equal(queues, []string{"bulk:1"}) {
			t.Errorf("queues = %v, %v, want bulk:1", queues, err)
		}
	})
	t.Run("a frozen server is an error within seconds, and no loss", func(t *testing.T) {
		parcels := singles(5)
		if err := stack.Redis().Freeze(); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		started := time.Now()
		for _, err := range e.Enqueue(short, parcels) {
			if err == nil {
				t.Error("a frozen server took a parcel")
			}
		}
		if took := time.Since(started); took > 10*time.Second {
			t.Errorf("took %v", took)
		}
		if err := stack.Redis().Thaw(); err != nil {
			t.Fatal(err)
		}
		put(t, e, parcels...)
		if got := pending(t, rdb, "bulk:1"); got != 6 {
			t.Errorf("%d tasks, want 6", got)
		}
	})
	t.Run("a killed server is an error for each parcel", func(t *testing.T) {
		if err := stack.Redis().Kill(); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		for _, err := range e.Enqueue(short, singles(3)) {
			if err == nil {
				t.Error("a killed server took a parcel")
			}
		}
		if err := stack.Redis().Restart(ctx); err != nil {
			t.Fatal(err)
		}
		put(t, e, singles(3)...)
	})
}

func TestConcurrentCallersShareRounds(t *testing.T) {
	t.Parallel()
	rdb := connect(t, devstack.Redis(t))
	var rounds atomic.Int64
	rdb.AddHook(countPipelines{&rounds})
	e := newEnqueuer(t, rdb)
	const callers, each = 64, 20
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			for range each {
				if err := e.Enqueue(t.Context(), singles(1))[0]; err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if got := pending(t, rdb, "bulk:1"); got != callers*each {
		t.Errorf("%d tasks, want %d", got, callers*each)
	}
	if got := rounds.Load(); got > callers*each/2 {
		t.Errorf("%d rounds for %d calls: callers do not travel together", got, callers*each)
	}
}

type countPipelines struct{ n *atomic.Int64 }

func (countPipelines) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (countPipelines) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (h countPipelines) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.n.Add(1)
		return next(ctx, cmds)
	}
}

func TestCallersThatGaveUpAreNotSentFor(t *testing.T) {
	t.Parallel()
	e := newEnqueuer(t, nil)
	for i := range 3 * roundTasks {
		e.waiting = append(e.waiting, &call{bytes: 100, abandoned: i%3 != 0})
	}
	if got := len(e.nextRound()); got != roundTasks {
		t.Errorf("round of %d, want %d", got, roundTasks)
	}
	if got := len(e.nextRound()); got != 0 || len(e.waiting) != 0 {
		t.Errorf("second round of %d, %d still wait, want none", got, len(e.waiting))
	}
}

func TestCancelledEnqueueIsAnError(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range newEnqueuer(t, connect(t, devstack.Redis(t))).Enqueue(ctx, singles(2)) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	}
}

// Single parcels, as many callers at once would make them.
func BenchmarkEnqueue(b *testing.B) {
	rdb := connect(b, devstack.Redis(b))
	e := newEnqueuer(b, rdb)
	const batch = 1000
	parcels := singles(batch)
	n := 0
	for b.Loop() {
		b.StopTimer()
		for _, p := range parcels {
			p.ID = message.NewID(now)
		}
		if n++; n%50 == 0 {
			if err := rdb.FlushDB(b.Context()).Err(); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		for _, err := range e.Enqueue(b.Context(), parcels) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.N)*batch/b.Elapsed().Seconds(), "parcels/s")
}
