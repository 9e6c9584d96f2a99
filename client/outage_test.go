package client_test

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/message"
)

// onOwnServers opens a client on servers that a test may kill.
func onOwnServers(t *testing.T, ledger bool) (*bundle, *devstack.Stack) {
	t.Helper()
	t.Parallel()
	stack, err := devstack.Start(t.Context(), devstack.Options{Redis: true, Postgres: ledger, Private: true, RedisAppendOnly: true, Log: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stack.Close(); err != nil {
			t.Error(err)
		}
	})
	o := client.Options{Redis: stack.RedisURL()}
	if ledger {
		o.Database = stack.DatabaseURL()
		if err := postgres.Migrate(t.Context(), o.Database); err != nil {
			t.Fatal(err)
		}
	}
	return open(t, o), stack
}

// fails enqueues in both ways and wants nothing to be accepted.
func (b *bundle) fails(m message.Message) {
	b.Helper()
	_, err := b.Enqueue(b.Context(), m)
	receipts := b.EnqueueBatch(b.Context(), []message.Message{m})
	for _, err := range []error{err, receipts[0].Err} {
		if !errors.Is(err, client.ErrUnavailable) && !errors.Is(err, client.ErrInDoubt) {
			b.Errorf("got %v, want ErrUnavailable or ErrInDoubt", err)
		}
	}
	if r := receipts[0]; !errors.Is(r.Err, client.ErrUnavailable) || !r.ID.IsZero() {
		b.Errorf("the second call: got %+v, want ErrUnavailable and no id", r)
	}
}

func TestARedisThatIsKilled(t *testing.T) {
	for _, ledger := range []bool{false, true} {
		t.Run(fmt.Sprintf("ledger %v", ledger), func(t *testing.T) {
			b, stack := onOwnServers(t, ledger)
			b.enqueue(template("oA", "first"))
			if err := stack.Redis().Kill(); err != nil {
				t.Fatal(err)
			}
			b.fails(template("oA", "second"))
			if ledger && b.rows("key = 'second'") > 1 {
				t.Error("a row was written twice")
			}
			if err := stack.Redis().Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			b.enqueue(template("oA", "second"))
			if ledger && b.rows("true") != 2 {
				t.Errorf("%d rows, want 2", b.rows("true"))
			}
		})
	}
}

func TestAPostgresThatIsKilled(t *testing.T) {
	b, stack := onOwnServers(t, true)
	b.enqueue(template("oA", "first"))
	if err := stack.Postgres().Kill(); err != nil {
		t.Fatal(err)
	}
	b.fails(template("oA", "second"))
	if _, queued := b.queued(); len(queued) != 1 {
		t.Errorf("%d messages queued, want the first alone", len(queued))
	}
	if err := stack.Postgres().Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := b.enqueue(template("oA", "second"))
	again := b.enqueue(template("oA", "second"))
	if !again.Duplicate || again.ID != r.ID || b.rows("true") != 2 {
		t.Errorf("got %+v, then %+v, %d rows; want one message", r, again, b.rows("true"))
	}
}

func TestNoRedisAtAll(t *testing.T) {
	t.Parallel()
	b := open(t, client.Options{Redis: "redis://127.0.0.1:1/0"})
	if _, err := b.Enqueue(t.Context(), template("oA", "")); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
}
