package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/internal/wechattest"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestKeysWithoutLedger(t *testing.T) {
	t.Parallel()
	f := newFleet(t, shop())
	f.start(3)
	first, other := template("shop", 1), template("shop", 2)
	first.Key, other.Key = "order-1-paid", "order-1-paid"
	one, another := f.handOver(), f.handOver()
	f.enqueueBy(one, first)
	f.await(30*time.Second, map[string]int{"sent": 1}, "true")
	f.enqueueBy(another, first, first)
	f.enqueueBy(one, other)
	f.await(30*time.Second, map[string]int{"sent": 1, "skipped duplicate": 2, "failed key_conflict": 1}, "true")
	f.accepts(wechattest.PathTemplate, 1)

	// At the same instant, over three workers.
	race := template("shop", 3)
	race.Key = "order-3-paid"
	for range 10 {
		f.enqueueBy(f.handOver(), race)
	}
	f.await(30*time.Second, map[string]int{"sent": 1, "skipped duplicate": 9}, "key = $1", race.Key)
	f.accepts(wechattest.PathTemplate, 2)
}

func TestBadTasks(t *testing.T) {
	t.Parallel()
	f := newFleet(t, shop())
	rdb, err := tasks.Redis(f.redis)
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	queue := asynq.NewClientFromRedisClient(rdb)
	f.start(2)
	for _, bad := range []*asynq.Task{
		asynq.NewTask(tasks.TypeSend, []byte("\x01garbage that no producer wrote")),
		asynq.NewTask(tasks.TypeSend, nil),
		asynq.NewTask("message:sned", []byte(`{"hello":"world"}`)),
	} {
		for _, q := range []string{"urgent", "normal", "bulk:3", "mass"} {
			if _, err := queue.EnqueueContext(t.Context(), bad, asynq.Queue(q)); err != nil {
				t.Fatal(err)
			}
		}
	}
	stranger := template("nobody", 1)
	f.enqueueBy(f.handOver(), stranger, template("shop", 2))
	eventually(t, 30*time.Second+comesBack, "12 rejected tasks", func() bool {
		return f.number("SELECT count(*)::int FROM rejected_task") == 12
	})
	f.await(30*time.Second, map[string]int{"sent": 1, "failed invalid": 1}, "true")
	if n := f.number("SELECT count(*)::int FROM rejected_task WHERE reason <> '' AND queue <> '' AND task <> '' AND type <> ''"); n != 12 {
		t.Errorf("%d rejected tasks say why, want 12", n)
	}
	f.nothingLeftInQueues()
}

// nothingLeftInQueues waits until the queues are empty, and checks that asynq archived nothing, and tries nothing again but what
// a dead worker had in hand, or nobody ever had: that it finds after one to two minutes. The ledger may have seen all of it ended
// long before.
func (f *fleet) nothingLeftInQueues() {
	f.Helper()
	rdb, err := tasks.Redis(f.redis)
	if err != nil {
		f.Fatal(err)
	}
	defer rdb.Close()
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	eventually(f, time.Minute+comesBack, "end of the queues", func() bool {
		queues, err := inspector.Queues()
		if err != nil {
			f.Fatal(err)
		}
		waiting := 0
		for _, q := range queues {
			info, err := inspector.GetQueueInfo(q)
			if err != nil {
				f.Fatal(err)
			}
			waiting += info.Pending + info.Active + info.Scheduled + info.Retry
			if info.Archived > 0 {
				f.Fatalf("asynq has archived %d tasks of queue %s, want none", info.Archived, q)
			}
			again, err := inspector.ListRetryTasks(q)
			if err != nil {
				f.Fatal(err)
			}
			for _, t := range again {
				if t.LastErr != asynq.ErrLeaseExpired.Error() {
					f.Fatalf("asynq tries task %s of queue %s again, for %q; want none but of the dead", t.ID, q, t.LastErr)
				}
			}
		}
		return waiting == 0
	})
}

// queued says what asynq has in its queues: where a test's messages are that have no outcome in time.
func (f *fleet) queued() string {
	rdb, err := tasks.Redis(f.redis)
	if err != nil {
		return err.Error()
	}
	defer rdb.Close()
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	queues, err := inspector.Queues()
	if err != nil {
		return err.Error()
	}
	var text strings.Builder
	for _, q := range queues {
		for _, list := range []func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
			inspector.ListPendingTasks, inspector.ListActiveTasks, inspector.ListScheduledTasks, inspector.ListRetryTasks, inspector.ListArchivedTasks,
		} {
			all, err := list(q, asynq.PageSize(1000))
			if err != nil {
				return err.Error()
			}
			for _, t := range all {
				fmt.Fprintf(&text, "task %s in queue %s is %s, retried %d times, last for %q, next at %v, orphaned %t\n", t.ID, q, t.State, t.Retried, t.LastErr, t.NextProcessAt, t.IsOrphaned)
			}
		}
	}
	return text.String()
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	f := newFleet(t, shop())
	later, over := template("shop", 1), template("shop", 2)
	later.NotBefore = time.Now().Add(15 * time.Second)
	over.ExpiresAt = time.Now().Add(time.Second)
	f.enqueue(later, over)
	eventually(t, 5*time.Second, "expiry", func() bool { return time.Now().After(over.ExpiresAt) })
	f.start(1)
	f.await(30*time.Second, map[string]int{"expired expired": 1, "parked not_before": 1}, "true")
	f.await(30*time.Second, map[string]int{"expired expired": 1, "sent": 1}, "true")
	if sent := f.sim.AllAccepts(); len(sent) != 1 || sent[0].At.Before(later.NotBefore.Add(-time.Second)) {
		t.Errorf("got sends %v, want one, not before %v", sent, later.NotBefore)
	}
}

// mixed is n messages of two kinds, to n users.
func mixed(n int) []message.Message {
	all := make([]message.Message, n)
	for i := range all {
		if i%4 == 0 {
			all[i] = custom("shop", i)
		} else {
			all[i] = template("shop", i)
		}
	}
	return all
}
