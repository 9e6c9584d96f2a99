package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/hibiken/asynq"
	"github.com/jackc/pgx/v5"

	"github.com/hongyan-dispatch/hongyan/client"
	"github.com/hongyan-dispatch/hongyan/internal/devstack"
	"github.com/hongyan-dispatch/hongyan/internal/postgres"
	"github.com/hongyan-dispatch/hongyan/internal/tasks"
	"github.com/hongyan-dispatch/hongyan/message"
)

func TestMain(m *testing.M) { devstack.Main(m) }

// A bundle is a client with stores of its own.
type bundle struct {
	*testing.T
	*client.Client
	options client.Options
}

func withoutLedger(t *testing.T) *bundle {
	t.Parallel()
	return open(t, client.Options{Redis: devstack.Redis(t)})
}

func withLedger(t *testing.T) *bundle {
	t.Parallel()
	return open(t, client.Options{Redis: devstack.Redis(t), Database: devstack.Postgres(t, postgres.Migrate)})
}

func open(t *testing.T, o client.Options) *bundle {
	t.Helper()
	o.Accounts = append(o.Accounts, client.Account{Name: "shop", AppID: "wx0000000000000001"})
	c, err := client.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &bundle{T: t, Client: c, options: o}
}

func (b *bundle) enqueue(m message.Message) client.Receipt {
	b.Helper()
	r, err := b.Enqueue(b.Context(), m)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// queued are the messages that stand in the queues.
func (b *bundle) queued() (parcels int, messages []*message.Message) {
	b.Helper()
	rdb, err := tasks.Redis(b.options.Redis)
	if err != nil {
		b.Fatal(err)
	}
	defer rdb.Close()
	inspector := asynq.NewInspectorFromRedisClient(rdb)
	for _, queue := range tasks.Queues() {
		list, err := inspector.ListPendingTasks(queue, asynq.PageSize(1000))
		if err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
			b.Fatal(err)
		}
		for _, info := range list {
			p, err := tasks.Decode(asynq.NewTask(info.Type, info.Payload))
			if err != nil {
				b.Fatal(err)
			}
			parcels++
			messages = append(messages, p.Messages...)
		}
	}
	return parcels, messages
}

// rows counts the ledger's messages that meet a condition.
func (b *bundle) rows(condition string, args ...any) (n int) {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), b.options.Database)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(b.Context())
	if err := conn.QueryRow(b.Context(), "SELECT count(*) FROM outcomes WHERE "+condition, args...).Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

func template(to, key string) message.Message {
	return message.Message{
		Account: "shop", Kind: message.Template, To: message.OpenID(to), Key: key,
		Body: json.RawMessage(`{"template_id":"order_paid","data":{"thing2":{"value":"云南小粒咖啡豆"}}}`),
	}
}

func massTo(n int, key string) message.Message {
	list := make([]message.OpenID, n)
	for i := range list {
		list[i] = message.OpenID(fmt.Sprintf("oLIST%023d", i))
	}
	return message.Message{
		Account: "shop", Kind: message.Mass, List: list, Key: key, Body: json.RawMessage(`{"msgtype":"text","text":{"content":"今晚上新"}}`),
	}
}
