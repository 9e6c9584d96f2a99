package tasks

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hongyan-dispatch/hongyan/message"
)

func TestQueueOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind message.Kind
		lane message.Lane
		want string
	}{
		{message.Template, message.Urgent, "urgent"},
		{message.Custom, message.Normal, "normal"},
		{message.Mass, message.Urgent, "mass"},
		{message.Mass, message.Bulk, "mass"},
		{message.Template, message.Bulk, "bulk:1"}, // pinned: a running fleet agrees on it
	} {
		if got := QueueOf(c.kind, c.lane, "shop"); got != c.want {
			t.Errorf("QueueOf(%s, %s) = %s, want %s", c.kind, c.lane, got, c.want)
		}
	}
}

func TestBulkAccountsSpreadOverTheShards(t *testing.T) {
	t.Parallel()
	seen := map[string]int{}
	for i := range 800 {
		seen[QueueOf(message.Template, message.Bulk, fmt.Sprintf("wx%016d", i))]++
	}
	if len(seen) != bulkShards {
		t.Errorf("800 accounts use %d shards, want %d", len(seen), bulkShards)
	}
	for queue, n := range seen {
		if n > 200 {
			t.Errorf("%s has %d of 800 accounts, want about 100", queue, n)
		}
	}
}

func TestEveryQueueIsServedByOneClass(t *testing.T) {
	t.Parallel()
	queues := Queues()
	if slices.Sort(queues); len(slices.Compact(slices.Clone(queues))) != len(queues) {
		t.Errorf("a queue is served twice: %v", queues)
	}
	for _, kind := range message.Kinds() {
		for _, lane := range message.Lanes() {
			if q := QueueOf(kind, lane, "shop"); !slices.Contains(queues, q) {
				t.Errorf("nobody serves %s", q)
			}
		}
	}
	for _, q := range queues {
		if strings.ContainsAny(q, "{}") {
			t.Errorf("queue %s has a brace: asynq's keys would fall into several slots", q)
		}
	}
	for _, c := range Classes() {
		config := c.ServerConfig()
		if len(config.Queues) != len(c.Queues) || config.Concurrency != c.Concurrency || config.TaskCheckInterval != c.Poll {
			t.Errorf("%s: config %+v does not follow the class", c.Name, config)
		}
		if config.ShutdownTimeout < 10*time.Second {
			t.Errorf("%s: shutdown timeout %v", c.Name, config.ShutdownTimeout)
		}
	}
}

func TestRetryDelayGrowsToFiveMinutes(t *testing.T) {
	t.Parallel()
	for tried, want := range map[int]time.Duration{-1: time.Second, 0: time.Second, 3: 8 * time.Second, 8: 256 * time.Second, 9: 5 * time.Minute, 1000: 5 * time.Minute} {
		for range 50 {
			if d := RetryDelay(tried, nil, nil); d < want/2 || d > want {
				t.Fatalf("RetryDelay(%d) = %v, want %v to %v", tried, d, want/2, want)
			}
		}
	}
}
